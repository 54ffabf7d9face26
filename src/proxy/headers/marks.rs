//! What a head asks for, told by the names of its fields.

use super::{OWN_PREFIX, binds, is_grpc};
use http::{HeaderMap, header};

/// What the names of a head's fields ask for, found in one pass: most heads ask for little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks(u32);

impl Marks {
    /// The fields of [`HOP_BY_HOP`], each the bit of its place.
    pub(super) const HOP: u32 = 0xff;
    /// `Transfer-Encoding`, one of them.
    pub(super) const CODINGS: u32 = 1 << 5;
    /// A field that says how the body is framed or awaited.
    pub(super) const FRAMING: u32 = 1 << 8;
    /// `TE`.
    pub(super) const TE: u32 = 1 << 9;
    /// A method in disguise, which would be judged as another than the origin acts on, or a field
    /// that makes an origin act on another path than was judged.
    pub(super) const DISGUISE: u32 = 1 << 10;
    /// The gateway's own namespace.
    pub(super) const OWN: u32 = 1 << 11;
    /// A cookie.
    pub(super) const COOKIE: u32 = 1 << 12;
    /// What else is between a client and its proxy (`Proxy-Authentication-Info`), or takes a server's own
    /// proxy for it (`Proxy`, which CGI makes `HTTP_PROXY`).
    pub(super) const PROXY: u32 = 1 << 13;
    /// What the body is.
    pub(super) const TYPE: u32 = 1 << 14;
    /// `WWW-Authenticate`.
    pub(super) const CHALLENGE: u32 = 1 << 15;
    /// `Authorization`.
    pub(super) const AUTHORIZATION: u32 = 1 << 16;
    /// What the body is, read: gRPC, whose answers must be gRPC too. Of no name.
    pub(super) const GRPC: u32 = 1 << 17;
    /// `Authorization`, read: it authenticates the connection. Of no name.
    pub(super) const BOUND: u32 = 1 << 18;

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |marks, name| marks | Self::name(name.as_str())))
    }

    pub(super) fn has(self, marks: u32) -> bool {
        self.0 & marks != 0
    }

    /// Whether there is a `Transfer-Encoding`.
    pub(crate) fn codings(self) -> bool {
        self.has(Self::CODINGS)
    }

    /// Whether there is a `WWW-Authenticate`.
    pub(crate) fn challenge(self) -> bool {
        self.has(Self::CHALLENGE)
    }

    /// With what the values say of those fields whose names alone say too little.
    pub(super) fn read(mut self, headers: &HeaderMap) -> Self {
        if self.has(Self::TYPE) && is_grpc(headers) {
            self.0 |= Self::GRPC;
        }
        if self.has(Self::AUTHORIZATION) && binds(headers, &header::AUTHORIZATION) {
            self.0 |= Self::BOUND;
        }
        self
    }

    /// What a name asks for where `_` is read as `-`: of that only what is in disguise, or the
    /// gateway's own.
    #[cold]
    fn name_dashed(name: &str) -> u32 {
        let dashed = name.replace('_', "-");
        let kept = Self::name(&dashed) & (Self::DISGUISE | Self::OWN);
        if is_proxys(&dashed) { kept | Self::PROXY } else { kept }
    }

    pub(super) fn name(name: &str) -> u32 {
        // None of those below begins with another letter, in either spelling.
        let first = name.as_bytes().first();
        if !matches!(first, Some(b'a' | b'c' | b'e' | b'h' | b'k' | b'p' | b't'..=b'x')) {
            return 0;
        }
        match name {
            "connection" => 1,
            "keep-alive" => 1 << 1,
            "proxy-connection" => 1 << 2,
            "proxy-authenticate" => 1 << 3,
            "proxy-authorization" => 1 << 4,
            "transfer-encoding" => Self::CODINGS | Self::FRAMING,
            "upgrade" => 1 << 6,
            "http2-settings" => 1 << 7,
            "content-length" | "expect" => Self::FRAMING,
            "content-type" => Self::TYPE,
            "www-authenticate" => Self::CHALLENGE,
            "authorization" => Self::AUTHORIZATION,
            "te" => Self::TE,
            "cookie" => Self::COOKIE,
            "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-http-verb"
            | "x-original-method"
            | "x-forwarded-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-forwarded-uri"
            | "x-rewrite-url" => Self::DISGUISE,
            _ if name.starts_with(OWN_PREFIX) => Self::OWN,
            _ if is_proxys(name) => Self::PROXY,
            // To CGI and its heirs the two are one.
            _ if name.contains('_') => Self::name_dashed(name),
            _ => 0,
        }
    }
}

/// Whether a field is between a client and its proxy. `Proxy-Status` is for whoever reads the answer
/// (RFC 9209).
fn is_proxys(name: &str) -> bool {
    let rest = name.strip_prefix("proxy");
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('-') && rest != "-status"))
}
