//! Risk notes: what an operator would want pointed out about a request before answering.
//!
//! Computed from the request and from what the house knows; never blocking, and no note is no
//! promise. Pure: no I/O, no clock. Invariants: a note never quotes a secret; its text is
//! printable ASCII (`Shown`); the notes come gravest first, each code once.

mod entropy;
mod formats;
mod lookalike;

use crate::addr::{Class, Host, Port, Shown, classify};
use crate::catalog::{Service, service};
use crate::policy::Scheme;
use serde::Serialize;

/// Uploads above this are noted.
pub const LARGE_UPLOAD: u64 = 100 * 1024;
/// Characters of a path, a query key or a header's name in a text.
const SHOWN: usize = 48;

pub use formats::redact;

/// One thing to point out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The stable code.
    pub code: NoteCode,
    /// One sentence for people: printable ASCII, no secret in it.
    pub text: String,
}

macro_rules! note_codes {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// The kinds of notes, gravest first: `Ord` is that order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum NoteCode { $($(#[doc = $doc])+ $name,)+ }

        impl NoteCode {
            /// Every code, gravest first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

note_codes! {
    /// A value that the gateway knows as a credential stands in the request.
    KnownSecret;
    /// Something written like a token or a private key stands in the request.
    TokenFormat;
    /// The address, or the name, belongs to an inside network or to nobody.
    PrivateAddress;
    /// The host looks like one that a rule allows, and is another.
    LookAlike;
    /// The host keeps what anybody posts.
    PasteService;
    /// The host shows a stranger what is sent to it.
    WebhookService;
    /// The host lends its name to a machine anywhere.
    TunnelService;
    /// A placeholder for a credential stands in the request.
    Placeholder;
    /// More than 100 KiB go up.
    LargeUpload;
    /// The path, the query or the host name holds what looks like encoded bytes.
    HighEntropy;
    /// Only the beginning of the body was seen.
    BodyUnseen;
    /// The host serves models, and is reached past `inference.local`.
    BypassesInference;
    /// What flows through cannot be seen.
    Opaque;
    /// The host is an address without a name.
    IpLiteral;
    /// The host has letters outside ASCII.
    Idn;
    /// Nothing went to this host before today.
    NewHost;
}

/// What is asked, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The scheme inside whatever tunnel the client opened.
    pub scheme: Scheme,
    /// The host.
    pub host: &'a Host,
    /// The port.
    pub port: Port,
    /// The method; empty where there is none (`opaque`).
    pub method: &'a str,
    /// The canonical path; empty where there is none.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    /// Bytes of the body, if the client said or sent so many.
    pub upload: Option<u64>,
    /// Names and values of the headers.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The first bytes of the body.
    pub body: &'a [u8],
    /// Whether more of the body follows than was read.
    pub longer: bool,
    /// Whether only host and port are known: a raw tunnel, or TLS that is not ended here.
    pub opaque: bool,
}

/// What the house knows beside the request.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Hosts that rules allow; of a wildcard the domain below which it stands.
    pub allowed: &'a [Host],
    /// Whether nothing went to the host before today.
    pub first_seen_today: bool,
    /// Finds a credential that the gateway knows in some bytes, and says its name.
    pub secret: &'a dyn Fn(&[u8]) -> Option<String>,
}

/// The notes on `asked`, gravest first, each code at most once.
pub fn notes(asked: &Asked<'_>, known: &Known<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    inside(asked, known, &mut notes);
    place(asked, &mut notes);
    if let Some(text) = lookalike::note(asked.host, known.allowed) {
        notes.push(Note { code: NoteCode::LookAlike, text });
    }
    if let Some(size) = asked.upload.filter(|size| *size > LARGE_UPLOAD) {
        let text = format!("uploads {} KiB", size.div_ceil(1024));
        notes.push(Note { code: NoteCode::LargeUpload, text });
    }
    if let Some(place) = encoded(asked) {
        let text = format!("{place} holds what looks like encoded bytes");
        notes.push(Note { code: NoteCode::HighEntropy, text });
    }
    if asked.longer {
        let text = match asked.body.len() {
            0 => "nothing of the body was seen".to_owned(),
            seen => format!("only the first {seen} bytes of the body were seen"),
        };
        notes.push(Note { code: NoteCode::BodyUnseen, text });
    }
    if asked.opaque {
        let text = "only host and port are known: what flows through cannot be seen".to_owned();
        notes.push(Note { code: NoteCode::Opaque, text });
    }
    if known.first_seen_today {
        let text = format!("nothing went to {} before today", Shown::host(asked.host).limit(SHOWN));
        notes.push(Note { code: NoteCode::NewHost, text });
    }
    notes.sort_by_key(|note| note.code);
    notes
}

/// What the host itself says: an address, a service, letters outside ASCII.
fn place(asked: &Asked<'_>, notes: &mut Vec<Note>) {
    let host = Shown::host(asked.host).limit(SHOWN);
    match asked.host {
        Host::Ip(ip) => {
            notes.push(note(NoteCode::IpLiteral, format!("{ip} is an address, not a name")));
            if let Some(what) = inner_class(classify(*ip)) {
                notes.push(note(NoteCode::PrivateAddress, format!("{ip} is {what}")));
            }
        }
        Host::Name(name) => {
            if inner_name(name.as_str()) {
                let text = format!("{host} is a name of an inside network");
                notes.push(note(NoteCode::PrivateAddress, text));
            }
            if name.as_str().split('.').any(|label| label.starts_with("xn--")) {
                let text = format!("letters outside ASCII: {host}");
                notes.push(note(NoteCode::Idn, text));
            }
        }
    }
    if let Some(service) = service(asked.host) {
        let (code, what) = match service {
            Service::Paste => (NoteCode::PasteService, "keeps what anybody posts"),
            Service::Webhook => (NoteCode::WebhookService, "shows a stranger what is sent to it"),
            Service::Tunnel => (NoteCode::TunnelService, "lends its name to a machine anywhere"),
            Service::Inference => {
                (NoteCode::BypassesInference, "serves models: this goes past inference.local")
            }
        };
        notes.push(note(code, format!("{host} {what}")));
    }
}

fn note(code: NoteCode, text: String) -> Note {
    Note { code, text }
}

/// What an address is that the public internet does not route.
fn inner_class(class: Class) -> Option<&'static str> {
    Some(match class {
        Class::Public => return None,
        Class::Loopback => "this machine itself",
        Class::LinkLocal => "a link-local address, where clouds keep their metadata",
        Class::Unspecified => "an unspecified address, which often means this machine",
        Class::Private => "a private address",
        Class::SharedNat => "a provider's inner address",
        Class::UniqueLocal => "a private IPv6 address",
        Class::Multicast => "a multicast address",
        Class::Broadcast => "a broadcast address",
        Class::Reserved => "a reserved address that nothing should answer at",
    })
}

/// Names that never leave a machine or a network (RFC 6761, RFC 6762, RFC 8375, ICANN's
/// `.internal`), and names without a dot.
fn inner_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    !name.contains('.')
        || matches!(last, "localhost" | "local" | "internal" | "intranet" | "lan" | "corp")
        || name.ends_with(".home.arpa")
}

/// Secrets, tokens and placeholders anywhere in the request; the gravest place of each.
fn inside(asked: &Asked<'_>, known: &Known<'_>, notes: &mut Vec<Note>) {
    let clear = match asked.scheme {
        Scheme::Http => ", and goes out unencrypted",
        Scheme::Https | Scheme::Tcp => "",
    };
    let mut found = Found::default();
    for (place, bytes) in places(asked) {
        formats::readings(bytes, &mut |reading| {
            if found.secret.is_none() {
                let name = (known.secret)(reading);
                found.secret = name.map(|name| {
                    let name = Shown::new(&name).limit(SHOWN);
                    format!("the credential {name} stands in {place}{clear}")
                });
            }
            if found.token.is_none() {
                let what = formats::token(reading);
                found.token = what.map(|what| format!("{what} stands in {place}{clear}"));
            }
            if found.placeholder.is_none() {
                found.placeholder = formats::placeholder(reading).map(|key| {
                    let key = Shown::new(&key).limit(SHOWN);
                    format!("the placeholder of {key} stands in {place}")
                });
            }
        });
    }
    for (code, text) in [
        (NoteCode::KnownSecret, found.secret),
        (NoteCode::TokenFormat, found.token),
        (NoteCode::Placeholder, found.placeholder),
    ] {
        notes.extend(text.map(|text| Note { code, text }));
    }
}

#[derive(Default)]
struct Found {
    secret: Option<String>,
    token: Option<String>,
    placeholder: Option<String>,
}

/// Every place where a secret may stand, with what it is called.
fn places<'a>(asked: &Asked<'a>) -> impl Iterator<Item = (String, &'a [u8])> {
    let query = asked.query.map(|query| ("the query".to_owned(), query.as_bytes()));
    let headers = asked
        .headers
        .iter()
        .map(|(name, value)| (format!("the header {}", Shown::new(name).limit(SHOWN)), *value));
    [("the path".to_owned(), asked.path.as_bytes())]
        .into_iter()
        .chain(query)
        .chain(headers)
        .chain([("the body".to_owned(), asked.body)])
}

/// The place that holds what looks like encoded bytes.
fn encoded(asked: &Asked<'_>) -> Option<&'static str> {
    if entropy::in_path(asked.path) {
        return Some("the path");
    }
    if asked.query.is_some_and(entropy::in_query) {
        return Some("the query");
    }
    let name = asked.host.name()?.as_str();
    entropy::in_name(name).then_some("the host name")
}

#[cfg(test)]
mod tests;
