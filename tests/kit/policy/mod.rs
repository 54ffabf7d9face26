//! What the policy tests share: a policy from YAML, and requests against it in one line.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file is a crate and uses its part"
)]

use portcullis::addr::{Authority, Path, Port};
use portcullis::policy::{
    Ask, Body, Client, Code, Document, GraphqlKind, GraphqlOperation, Intent, Layer, Permit,
    Policy, Process, RpcCall, Scheme, Verdict,
};
use std::sync::Arc;

/// The entries of one file, indented by nobody: `version: 1` and the map are added.
pub fn layer(entries: &str) -> Layer {
    let indented: String = entries.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("version: 1\nnetwork_policies:\n{indented}");
    let document = Document::parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"));
    Layer { document, source: "test.yaml".into(), deny_only: false }
}

pub fn policy(entries: &str) -> Policy {
    Policy::compile(&[layer(entries)], 7).unwrap()
}

/// One endpoint on `x.test:443`: its other keys, in flow style.
pub fn endpoint(rest: &str) -> Policy {
    policy(&format!("e: {{ endpoints: [ {{ host: x.test, port: 443, {rest} }} ] }}"))
}

pub fn target(text: &str) -> Authority {
    Authority::parse(text, Some(Port::HTTPS)).unwrap()
}

pub fn seen(binary: &str, ancestors: &[&str]) -> Client {
    let ancestors = ancestors.iter().map(|a| (*a).into()).collect();
    Client::Seen(Arc::new(Process { pid: 1, binary: binary.into(), ancestors }))
}

/// What is asked; `x.test:443` by an unseen client unless said otherwise.
#[derive(Clone)]
pub struct Asked<'a> {
    pub client: Client,
    pub target: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub websocket: bool,
    pub body: Body<'a>,
}

pub fn ask<'a>(method: &'a str, path: &'a str) -> Asked<'a> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    Asked {
        client: Client::Unseen,
        target: "x.test:443",
        method,
        path,
        query,
        websocket: false,
        body: Body::Unread,
    }
}

impl<'a> Asked<'a> {
    pub fn on(self, target: &'a str) -> Self {
        Self { target, ..self }
    }
    pub fn by(self, client: Client) -> Self {
        Self { client, ..self }
    }
    pub fn body(self, body: Body<'a>) -> Self {
        Self { body, ..self }
    }
    pub fn handshake(self) -> Self {
        Self { websocket: true, ..self }
    }

    pub fn with<T>(&self, then: impl FnOnce(&Intent<'_>) -> T) -> T {
        let path = Path::parse(self.path).unwrap();
        let target = target(self.target);
        let ask = match self.method {
            "BYTES" => Ask::Bytes,
            "MESSAGE" => Ask::Message { path: &path, query: self.query, body: self.body },
            method => Ask::Request {
                method,
                path: &path,
                query: self.query,
                websocket: self.websocket,
                body: self.body,
            },
        };
        let scheme = Scheme::Https;
        then(&Intent { client: &self.client, scheme, target: &target, ask })
    }

    pub fn judged(&self, policy: &Policy) -> Verdict {
        self.with(|intent| policy.judge(intent))
    }

    /// `allow RULE`, `audit RULE`, `deny CODE RULE`, `unknown CODE NEAREST`.
    pub fn says(&self, policy: &Policy) -> String {
        match self.judged(policy) {
            Verdict::Allow(permit) => format!("allow {}", permit.rule()),
            Verdict::Audit(permit) => format!("audit {}", permit.rule()),
            Verdict::Deny(denial) => {
                format!("deny {} {}", denial.code.as_str(), denial.rule.as_deref().unwrap_or("-"))
            }
            Verdict::Unknown(question) => {
                let nearest = question.nearest.as_deref().unwrap_or("-");
                format!("unknown {} {nearest}", question.code.as_str())
            }
        }
    }

    /// The sentence of a refusal.
    pub fn detail(&self, policy: &Policy) -> String {
        match self.judged(policy) {
            Verdict::Allow(_) | Verdict::Audit(_) => panic!("it passes"),
            Verdict::Deny(denial) => denial.detail,
            Verdict::Unknown(question) => question.detail,
        }
    }

    pub fn permit(&self, policy: &Policy) -> Permit {
        match self.judged(policy) {
            Verdict::Allow(permit) | Verdict::Audit(permit) => permit,
            refused => panic!("{refused:?}"),
        }
    }

    pub fn passes(&self, policy: &Policy) -> bool {
        matches!(self.judged(policy), Verdict::Allow(_) | Verdict::Audit(_))
    }

    pub fn code(&self, policy: &Policy) -> Code {
        match self.judged(policy) {
            Verdict::Allow(permit) | Verdict::Audit(permit) => permit.code(),
            Verdict::Deny(denial) => denial.code,
            Verdict::Unknown(question) => question.code,
        }
    }
}

pub fn operation(kind: GraphqlKind, fields: &[&str]) -> GraphqlOperation {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    GraphqlOperation { kind: Some(kind), name: None, fields, persisted: None }
}

pub fn persisted(hash: &str) -> GraphqlOperation {
    GraphqlOperation { kind: None, name: None, fields: vec![], persisted: Some(hash.to_owned()) }
}

pub fn call(method: &str) -> RpcCall {
    RpcCall { method: Some(method.to_owned()), tool: None, id: None }
}

pub fn tool(name: &str) -> RpcCall {
    RpcCall { tool: Some(name.to_owned()), ..call("tools/call") }
}
