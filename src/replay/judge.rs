//! One record under one policy.

use super::facts::Readings;
use crate::addr::{Authority, Host, Path, PathError, Port, check_query};
use crate::policy::explain::{Reason, Said};
use crate::policy::{Ask, Body, Client, Code, Intent, Partial, Policy, Possible, Process, Scheme};
use crate::record::LineScheme;
use crate::traffic::read::{Facts, Recorded, Seen};
use std::sync::Arc;

/// A policy that judges records.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    ignores_process: bool,
}

/// What would become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Now {
    /// A rule allows it.
    Allow,
    /// Let through by `enforcement: audit`.
    Audit,
    /// A deny rule, or a request that is refused for how it is written.
    Deny,
    /// Nothing allows it, nothing forbids it.
    Unknown,
    /// A fact is missing that would decide.
    Undecidable,
}

/// The same, with its reason. Texts are safe for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What would become of it.
    pub now: Now,
    /// A code of `policy-schema/codes.md`; of what is undecidable the missing fact.
    pub code: &'static str,
    /// The rule that decides, or the nearest miss.
    pub rule: Option<String>,
    /// One sentence without the period; empty where the rule says all.
    pub detail: String,
}

impl Now {
    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
            Self::Undecidable => "undecidable",
        }
    }
}

impl Judge {
    /// `ignores_process`: the sandbox says `identity: ignore`, so that a process that can't be
    /// seen, or that the record does not say, counts as any.
    pub fn new(policy: Policy, ignores_process: bool) -> Self {
        Self { policy, ignores_process }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What would become of it. A record without a host is refused as one.
    pub fn judge(&self, record: &Recorded<'_>) -> Outcome {
        match self.possible(record) {
            Ok(Possible::Certain(reason)) => Outcome::certain(reason),
            Ok(Possible::Open(missing)) => Outcome {
                now: Now::Undecidable,
                code: missing.as_str(),
                rule: None,
                detail: missing.sentence().to_owned(),
            },
            Err(code) => Outcome {
                now: Now::Deny,
                code: code.as_str(),
                rule: None,
                detail: code.meaning().trim().trim_end_matches('.').to_owned(),
            },
        }
    }

    /// `Err`: how the request is written, no gateway judges it.
    fn possible(&self, record: &Recorded<'_>) -> Result<Possible, Code> {
        let host = Host::recorded(&record.host).map_err(|_| Code::BadHost)?;
        let target = Authority { host, port: Port::new(record.port).ok_or(Code::BadHost)? };
        let (client, whole_process) = self.client(&record.process);
        let facts = Readings::of(record);
        let asked = |scheme, ask| Partial {
            intent: Intent { client: &client, scheme, target: &target, ask },
            whole_process,
            graphql: facts.graphql(),
            rpc: facts.rpc(),
            // One that was refused for its body had one, of which the record says nothing.
            has_body: matches!(record.facts, Facts::Whole { .. })
                || record.code.as_deref() == Some(Code::BodyNotUnderstood.as_str()),
        };
        let scheme = match record.scheme {
            LineScheme::Http => Scheme::Http,
            LineScheme::Https => Scheme::Https,
            LineScheme::Tcp => Scheme::Tcp,
        };
        let (Some(method), Some(path)) = (&record.method, &record.path) else {
            let bytes = asked(Scheme::Tcp, Ask::Bytes);
            // Refused as what is neither TLS nor HTTP: that it was looked into is known.
            let looked_into = record.code.as_deref() == Some(Code::ProtocolNotAllowed.as_str());
            return Ok(match looked_into {
                true => self.policy.judge_partial(&bytes),
                false => self.policy.judge_partial_tunnel(&bytes),
            });
        };
        if method.eq_ignore_ascii_case("TRACE") || method.eq_ignore_ascii_case("CONNECT") {
            return Err(Code::MethodRefused);
        }
        let path = Path::parse(path).map_err(code)?;
        let query = record.query.as_deref();
        query.map_or(Ok(()), check_query).map_err(code)?;
        let websocket = record.websocket;
        let ask = Ask::Request { method, path: &path, query, websocket, body: Body::Unread };
        Ok(self.policy.judge_partial(&asked(scheme, ask)))
    }

    /// The client, and whether it is known whole.
    fn client(&self, seen: &Seen<'_>) -> (Client, bool) {
        let process = |binary: &str, ancestors: Vec<Box<str>>| {
            Client::Seen(Arc::new(Process {
                pid: 0,
                binary: binary.into(),
                ancestors: ancestors.into(),
            }))
        };
        match seen {
            Seen::Unsaid | Seen::Unseen if self.ignores_process => (Client::Ignored, true),
            Seen::Unsaid => (Client::Unseen, false),
            Seen::Unseen => (Client::Unseen, true),
            Seen::Whole(binary, names) => {
                (process(binary, names.iter().map(Into::into).collect()), true)
            }
            Seen::Partly(binary, names) => {
                (process(binary, names.iter().map(Into::into).collect()), false)
            }
        }
    }
}

impl Outcome {
    fn certain(reason: Reason) -> Self {
        Self {
            now: match reason.verdict {
                Said::Allow => Now::Allow,
                Said::Audit => Now::Audit,
                Said::Deny => Now::Deny,
                Said::Unknown => Now::Unknown,
            },
            code: reason.code.as_str(),
            rule: reason.rule,
            detail: reason.detail,
        }
    }
}

/// The code with which a gateway refuses such a path or query.
fn code(error: PathError) -> Code {
    match error {
        PathError::DotSegment => Code::DotSegment,
        PathError::Control => Code::ControlByte,
        PathError::NonAscii => Code::NonAscii,
        PathError::Fragment => Code::Fragment,
        PathError::BadEscape => Code::BadEscape,
        PathError::Backslash => Code::Backslash,
        PathError::NotAbsolute => Code::BadTarget,
    }
}
