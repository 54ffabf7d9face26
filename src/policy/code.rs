//! Every reason that Portcullis gives, as one enum: it stands in records, in refusals, in
//! `policy explain`. `policy-schema/codes.md` is printed from it by a test.

/// The closed set of `error` values in a refusal, each with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A deny rule, or nothing allows it and nobody is asked. 403.
    PolicyDenied,
    /// Asked, not held. 403.
    ApprovalRequired,
    /// The operator said no. 403.
    ApprovalDenied,
    /// Nobody answered in time. 403 with `retry-after`.
    ApprovalTimeout,
    /// The queue of questions is full. 429.
    QueueFull,
    /// The address guard. 403.
    AddressRefused,
    /// A placeholder sent where it is not bound. 403.
    PlaceholderMisuse,
    /// CONNECT, SNI and Host disagree. 421.
    NameMismatch,
    /// Not well-formed. 400.
    MalformedRequest,
    /// A limit: 413 for a body, 429 for a rate or a count.
    LimitExceeded,
    /// A credential's source failed. 502.
    CredentialUnavailable,
    /// Upstream TLS does not verify. 502.
    UpstreamTls,
    /// Nothing answers, or the name does not resolve. 502.
    UpstreamUnreachable,
    /// A deadline passed. 504.
    UpstreamTimeout,
    /// What came back is not HTTP. 502.
    UpstreamProtocol,
    /// `inference.local` does not serve that. 404.
    InferenceRoute,
    /// The client was too slow. 408.
    RequestTimeout,
    /// TRACE, or CONNECT inside a tunnel. 405.
    MethodRefused,
    /// The gateway would reach itself. 508.
    Loop,
    /// The traffic record can't be written. 503.
    RecordFailure,
    /// The gateway is stopping. 503.
    Draining,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $error:ident, $status:literal;)+) => {
        /// The stable reason code of a verdict or a failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable spelling.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)+ } }

            /// The `error` that a client sees with this code; `None` where nothing is refused.
            pub const fn error(self) -> Option<ErrorKind> { codes!(@error self $($name $error)+) }

            /// The HTTP status that goes with it (200 where nothing is refused or cut off).
            pub const fn status(self) -> u16 { match self { $(Self::$name => $status,)+ } }

            /// The meaning, as in `policy-schema/codes.md`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
    (@error $self:ident $($name:ident $error:ident)+) => {
        match $self { $(Code::$name => codes!(@kind $error),)+ }
    };
    (@kind None) => { None };
    (@kind $error:ident) => { Some(ErrorKind::$error) };
}

codes! {
    /// A rule or grant allows it.
    Allowed = "allowed", None, 200;
    /// Nothing allows it, but the endpoint is `enforcement: audit`.
    Audited = "audited", None, 200;
    /// A deny rule matched.
    DeniedByRule = "denied_by_rule", PolicyDenied, 403;
    /// No rule names the host.
    HostUnknown = "host_unknown", PolicyDenied, 403;
    /// The host is known on another port.
    PortNotAllowed = "port_not_allowed", PolicyDenied, 403;
    /// The host is known for another process.
    ProcessNotAllowed = "process_not_allowed", PolicyDenied, 403;
    /// The host is known for some processes, and this one can't be seen.
    ProcessUnknown = "process_unknown", PolicyDenied, 403;
    /// No rule of the host allows the path.
    PathNotAllowed = "path_not_allowed", PolicyDenied, 403;
    /// The path is allowed for other methods.
    MethodNotAllowed = "method_not_allowed", PolicyDenied, 403;
    /// Method and path are allowed with another query.
    QueryNotAllowed = "query_not_allowed", PolicyDenied, 403;
    /// The bytes are neither TLS nor HTTP, and no `tcp` endpoint allows them.
    ProtocolNotAllowed = "protocol_not_allowed", PolicyDenied, 403;
    /// A GraphQL operation or root field that no rule allows.
    OperationNotAllowed = "operation_not_allowed", PolicyDenied, 403;
    /// A persisted GraphQL query that the policy does not know.
    PersistedQueryUnknown = "persisted_query_unknown", PolicyDenied, 403;
    /// A JSON-RPC or MCP method that no rule allows.
    RpcMethodNotAllowed = "rpc_method_not_allowed", PolicyDenied, 403;
    /// An MCP tool that no rule allows.
    ToolNotAllowed = "tool_not_allowed", PolicyDenied, 403;
    /// A WebSocket message that no rule allows.
    MessageNotAllowed = "message_not_allowed", PolicyDenied, 403;
    /// A body that is not what the endpoint's protocol says.
    BodyNotUnderstood = "body_not_understood", PolicyDenied, 403;
    /// `%2F` in a path, and the endpoint does not say `allow_encoded_slash`.
    EncodedSlash = "encoded_slash", MalformedRequest, 400;
    /// A dot segment in the path, in any spelling.
    DotSegment = "dot_segment", MalformedRequest, 400;
    /// A control byte in the path.
    ControlByte = "control_byte", MalformedRequest, 400;
    /// A raw byte outside ASCII in the path or query.
    NonAscii = "non_ascii", MalformedRequest, 400;
    /// A fragment in the request target.
    Fragment = "fragment", MalformedRequest, 400;
    /// A `%` without two hex digits.
    BadEscape = "bad_escape", MalformedRequest, 400;
    /// A backslash in the path, in any spelling.
    Backslash = "backslash", MalformedRequest, 400;
    /// A request target that is neither absolute-form nor what the entrance takes.
    BadTarget = "bad_target", MalformedRequest, 400;
    /// A host that is not a canonical name or address.
    BadHost = "bad_host", MalformedRequest, 400;
    /// No `Host`.
    MissingHost = "missing_host", MalformedRequest, 400;
    /// More than one `Host`.
    SecondHost = "second_host", MalformedRequest, 400;
    /// Framing that two parsers could read differently.
    BadFraming = "bad_framing", MalformedRequest, 400;
    /// A head that is not HTTP.
    MalformedHead = "malformed_head", MalformedRequest, 400;
    /// A head over the limit.
    HeadTooLarge = "head_too_large", MalformedRequest, 431;
    /// A SOCKS request that is not well-formed.
    BadSocks = "bad_socks", MalformedRequest, 400;
    /// A first TLS record that is not a ClientHello.
    BadClientHello = "bad_client_hello", MalformedRequest, 400;
    /// A WebSocket frame that is not well-formed.
    BadFrame = "bad_frame", MalformedRequest, 400;
    /// The TLS handshake with the client failed.
    ClientTls = "client_tls", MalformedRequest, 400;
    /// The client does not trust the gateway's CA.
    ClientDistrustsCa = "client_distrusts_ca", MalformedRequest, 400;
    /// The `Host` or `:authority` is another than the tunnel's.
    HostMismatch = "host_mismatch", NameMismatch, 421;
    /// The SNI is another than the tunnel's.
    SniMismatch = "sni_mismatch", NameMismatch, 421;
    /// A raw TLS tunnel whose real name is encrypted.
    EncryptedClientHello = "encrypted_client_hello", NameMismatch, 421;
    /// A method that is never forwarded.
    MethodRefused = "method_refused", MethodRefused, 405;
    /// The name resolves to an address that is refused, or the literal is one.
    AddressRefused = "address_refused", AddressRefused, 403;
    /// The address is one of the gateway's own listeners.
    OwnAddress = "own_address", Loop, 508;
    /// The request came through this gateway before.
    Loop = "loop", Loop, 508;
    /// A placeholder that is not bound to the host, or not to this part of a request.
    PlaceholderMisuse = "placeholder_misuse", PlaceholderMisuse, 403;
    /// A body over the limit.
    BodyTooLarge = "body_too_large", LimitExceeded, 413;
    /// A body that must be read to judge is over the limit.
    JudgedBodyTooLarge = "judged_body_too_large", LimitExceeded, 413;
    /// A body in which placeholders are looked for, or that is signed, is over the limit.
    RewrittenBodyTooLarge = "rewritten_body_too_large", LimitExceeded, 413;
    /// Too many connections from the sandbox.
    TooManyConnections = "too_many_connections", LimitExceeded, 429;
    /// Too many requests a second from the sandbox.
    TooManyRequests = "too_many_requests", LimitExceeded, 429;
    /// The sandbox's upload for the day is used up.
    UploadLimit = "upload_limit", LimitExceeded, 429;
    /// What the sandbox's other requests hold leaves no room for what must be held of this one.
    NoRoom = "no_room", LimitExceeded, 429;
    /// Too many distinct names under one wildcard a minute.
    TooManyNames = "too_many_names", LimitExceeded, 429;
    /// A credential has no value, or may not go over this connection.
    CredentialUnavailable = "credential_unavailable", CredentialUnavailable, 502;
    /// The name does not resolve.
    NameNotFound = "name_not_found", UpstreamUnreachable, 502;
    /// The resolver failed.
    DnsFailed = "dns_failed", UpstreamUnreachable, 502;
    /// No address took the connection.
    ConnectFailed = "connect_failed", UpstreamUnreachable, 502;
    /// The parent proxy refused.
    ParentRefused = "parent_refused", UpstreamUnreachable, 502;
    /// No address took the connection in time.
    ConnectTimeout = "connect_timeout", UpstreamTimeout, 504;
    /// No byte of the response came in time.
    FirstByteTimeout = "first_byte_timeout", UpstreamTimeout, 504;
    /// The stream stood still too long.
    IdleTimeout = "idle_timeout", UpstreamTimeout, 504;
    /// The whole request took longer than `timeout.total`.
    TotalTimeout = "total_timeout", UpstreamTimeout, 504;
    /// The origin's certificate is for another name.
    TlsWrongHost = "tls_wrong_host", UpstreamTls, 502;
    /// The origin's certificate has expired or is not valid yet.
    TlsExpired = "tls_expired", UpstreamTls, 502;
    /// The origin's certificate is from nobody we trust.
    TlsUnknownIssuer = "tls_unknown_issuer", UpstreamTls, 502;
    /// The origin's certificate is revoked by the operator's CRL.
    TlsRevoked = "tls_revoked", UpstreamTls, 502;
    /// The TLS handshake with the origin failed.
    TlsFailed = "tls_failed", UpstreamTls, 502;
    /// The origin closed or reset the connection.
    UpstreamClosed = "upstream_closed", UpstreamProtocol, 502;
    /// What the origin sent is not HTTP.
    UpstreamProtocol = "upstream_protocol", UpstreamProtocol, 502;
    /// gRPC needs h2, and the origin does not speak it.
    GrpcNeedsH2 = "grpc_needs_h2", UpstreamProtocol, 502;
    /// The origin switched protocols without being asked, or to another.
    BadUpgrade = "bad_upgrade", UpstreamProtocol, 502;
    /// The client's head did not come in time.
    HeaderTimeout = "header_timeout", RequestTimeout, 408;
    /// The client's body did not come in time.
    BodyTimeout = "body_timeout", RequestTimeout, 408;
    /// The client left.
    // One that has said its end alone may still read: what was not served is never a success.
    ClientGone = "client_gone", MalformedRequest, 400;
    /// A reload, a revoked grant or a new policy ended it.
    PolicyChanged = "policy_changed", PolicyDenied, 403;
    /// The traffic record can't be written.
    RecordFailure = "record_failure", RecordFailure, 503;
    /// The gateway is stopping.
    Draining = "draining", Draining, 503;
    /// The gateway stopped before it ended (found at the next start).
    Interrupted = "interrupted", None, 200;
    /// `inference.local` does not serve that, or the sandbox has no route there.
    NotServed = "not_served", InferenceRoute, 404;
    /// No route of `inference.local` takes the model.
    ModelUnknown = "model_unknown", InferenceRoute, 404;
    /// The route takes listed models, and this is none of them.
    ModelNotAllowed = "model_not_allowed", InferenceRoute, 404;
    /// The route's provider does not speak the shape of the request.
    WrongShape = "wrong_shape", InferenceRoute, 404;
    /// A call whose body does not say, in one way, which model it asks.
    BadModelCall = "bad_model_call", MalformedRequest, 400;
    /// A call whose body is larger than the gateway reads.
    ModelCallTooLarge = "model_call_too_large", LimitExceeded, 413;
    /// The sandbox's tokens for the day are used up.
    TokenBudget = "token_budget", LimitExceeded, 429;
    /// What is left of the sandbox's tokens for the day is held by its calls under way.
    TokensHeld = "tokens_held", LimitExceeded, 429;
    /// Too many model calls from the sandbox within a minute.
    CallBudget = "call_budget", LimitExceeded, 429;
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}
