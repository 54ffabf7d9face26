//! What wants to leave, as it is shown to the operator, and what makes two of them the same.

use crate::policy::{
    Answer, Client, Cover, Fingerprint, OwnedAsk, OwnedBody, OwnedIntent, Policy, Question,
    TunnelVerdict, Verdict, What,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// What kind of thing asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request.
    Http,
    /// A WebSocket handshake.
    Websocket,
    /// A gRPC call.
    Grpc,
    /// A GraphQL request.
    Graphql,
    /// JSON-RPC or MCP.
    Rpc,
    /// Raw bytes.
    Tcp,
    /// TLS that can't be ended.
    Opaque,
    /// Asked ahead by the agent: nothing was sent.
    Ahead,
}

/// The first bytes of a body.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    /// What was read, at most 64 KiB.
    pub bytes: Bytes,
    /// Whether anything follows.
    pub longer: bool,
    /// The client waits for `100 Continue`: nothing was read.
    pub waits: bool,
}

/// What wants to leave.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What kind of thing it is.
    pub kind: Kind,
    /// What is to be judged.
    pub intent: OwnedIntent,
    /// Header fields, secrets masked, as they are shown.
    pub headers: Vec<(String, String)>,
    /// What tells its body from another.
    pub body: Fingerprint,
    /// The first bytes of its body.
    pub preview: Preview,
    /// What the body says, in a few words.
    pub facts: Vec<String>,
    /// Why no rule allowed it.
    pub question: Question,
    /// Whether a rule names the host.
    pub known_host: bool,
    /// The digest of the policy that was asked.
    pub policy: [u8; 32],
    /// The agent's own words.
    pub reason: Option<String>,
}

/// What makes two askers the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) [u8; 32]);

impl Asked {
    /// The executable that asks; `None` where it can't be seen.
    pub fn binary(&self) -> Option<&str> {
        binary(&self.intent.client)
    }

    /// Method, path and query of a request.
    pub fn request(&self) -> Option<(&str, &str, Option<&str>)> {
        match &self.intent.ask {
            OwnedAsk::Request { method, path, query, .. } => {
                Some((method, path.as_str(), query.as_deref()))
            }
            OwnedAsk::Bytes | OwnedAsk::Opaque => None,
        }
    }

    /// How much its head makes of what is shown, in bytes, as far as that is as long as its client likes. Path
    /// and query stand in the proposal, its rule and the question too.
    pub(super) fn head_len(&self) -> usize {
        const TIMES: usize = 8;
        let line = self.request().map_or(0, |(method, path, query)| {
            TIMES * (method.len() + path.len() + query.map_or(0, str::len))
        });
        let field = |(name, value): &(String, String)| name.len() + value.len();
        line + self.headers.iter().map(field).sum::<usize>()
    }

    /// What the body says, where a rule needed it.
    pub fn says(&self) -> Option<&OwnedBody> {
        match &self.intent.ask {
            OwnedAsk::Request { body, .. } => body.as_ref(),
            OwnedAsk::Bytes | OwnedAsk::Opaque => None,
        }
    }

    /// Whether it is a WebSocket handshake.
    pub fn websocket(&self) -> bool {
        matches!(self.intent.ask, OwnedAsk::Request { websocket: true, .. })
    }

    /// Exactly what was shown, as an answer covers it.
    pub(super) fn exact(&self) -> What {
        match &self.intent.ask {
            OwnedAsk::Bytes => What::Bytes,
            OwnedAsk::Opaque => What::Opaque,
            OwnedAsk::Request { method, path, query, websocket, .. } => What::Exact {
                websocket: *websocket,
                method: method.clone(),
                path: path.as_str().to_owned(),
                query: query.clone(),
                body: self.body.clone(),
            },
        }
    }

    /// What an answer about exactly this, by this process, covers.
    pub fn covering_exactly(&self) -> Cover {
        self.cover(self.exact(), false)
    }

    /// An answer about `what`, for this process or any.
    pub(super) fn cover(&self, what: What, any_process: bool) -> Cover {
        let target = &self.intent.target;
        Cover {
            binary: self.binary().filter(|_| !any_process).map(Into::into),
            scheme: self.intent.scheme,
            host: target.host.to_string(),
            port: target.port.get(),
            what,
        }
    }

    /// Whether the rules of `policy` alone say of exactly this what was answered.
    pub fn answered_by(&self, policy: &Policy, answer: Answer) -> bool {
        let says = match self.intent.intent() {
            Some(intent) => match policy.judge(&intent) {
                Verdict::Allow(_) | Verdict::Audit(_) => Some(Answer::Approve),
                Verdict::Deny(_) => Some(Answer::Deny),
                Verdict::Unknown(_) => None,
            },
            None => match policy.judge_tunnel(&self.intent.client, &self.intent.target) {
                TunnelVerdict::Relay(_) => Some(Answer::Approve),
                TunnelVerdict::Deny(_) => Some(Answer::Deny),
                TunnelVerdict::Inspect | TunnelVerdict::Unknown(_) => None,
            },
        };
        says == Some(answer)
    }

    /// What makes it the same as another: all that is judged, and the body as far as it was read.
    pub(super) fn key(&self) -> Key {
        Key(hash(|field| {
            self.place(field);
            field(self.request().and_then(|(_, _, query)| query).unwrap_or("\0").as_bytes());
            field(self.body.content_type.as_deref().unwrap_or("\0").as_bytes());
            field(self.body.digest.as_bytes());
            field(&[u8::from(self.body.longer)]);
            field(&self.body.length.unwrap_or(u64::MAX).to_be_bytes());
        }))
    }

    /// What entries share that differ in query or body alone.
    pub(super) fn group(&self) -> Key {
        Key(hash(|field| self.place(field)))
    }

    fn place(&self, field: &mut dyn FnMut(&[u8])) {
        let target = &self.intent.target;
        let (method, path, _) = self.request().unwrap_or_default();
        field(self.binary().unwrap_or("\0").as_bytes());
        field(&[match &self.intent.ask {
            // However it is asked: ahead, too.
            OwnedAsk::Request { websocket, .. } => u8::from(*websocket),
            OwnedAsk::Bytes => 2,
            // Never merged with anything that could be seen into.
            OwnedAsk::Opaque => 3,
        }]);
        field(&[self.intent.scheme as u8]);
        field(target.to_string().as_bytes());
        field(method.to_ascii_uppercase().as_bytes());
        field(path.as_bytes());
    }

    /// The digest of all that is shown of entry `number`, and of the policy that asked: a decision
    /// carries it back (I8). `answers` is how often it was answered before and waits on.
    pub(super) fn digest(&self, number: u64, answers: u64) -> String {
        let digest = hash(|field| {
            field(&number.to_be_bytes());
            field(&answers.to_be_bytes());
            field(&self.key().0);
            for (name, value) in &self.headers {
                field(name.as_bytes());
                field(value.as_bytes());
            }
            for fact in &self.facts {
                field(fact.as_bytes());
            }
            field(self.question.code.as_str().as_bytes());
            field(self.question.detail.as_bytes());
            field(self.question.nearest.as_deref().unwrap_or("\0").as_bytes());
            field(self.reason.as_deref().unwrap_or("\0").as_bytes());
            field(&self.policy);
        });
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The executable of a client; `None` where it can't be seen.
pub(super) fn binary(client: &Client) -> Option<&str> {
    match client {
        Client::Seen(process) => Some(&process.binary),
        Client::Unseen | Client::Ignored => None,
    }
}

/// A digest over fields, each behind its length.
fn hash(fields: impl FnOnce(&mut dyn FnMut(&[u8]))) -> [u8; 32] {
    let mut hasher = Sha256::new();
    fields(&mut |field| {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field);
    });
    hasher.finalize().into()
}
