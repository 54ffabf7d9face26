//! What the tests of approval share: gateways that hold, clients that wait, and the operator's
//! side of the control socket as raw HTTP.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part of the kit")]

use crate::common::{Gateway, PATIENCE, Setup, limits, read_all, wait_for};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Clients are held for twenty seconds, whoever listens.
pub(crate) const HOLD: &str = "approval: { mode: hold, timeout: 20s, unattended: 20s }";

/// A gateway that knows `known.test` alone, and holds what it does not know.
pub(crate) fn holding() -> Setup {
    asking(HOLD)
}

/// The same with another way of asking.
pub(crate) fn asking(approval: &str) -> Setup {
    Setup::policy(KNOWN).sandbox(&format!("    {approval}\n"))
}

/// The policy of [`holding`].
pub(crate) const KNOWN: &str = "  known:\n    endpoints:\n      - { host: known.test, port: 443, protocol: rest, access: full }";

/// The operator.
pub(crate) struct Control(PathBuf);

impl Control {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self(gateway.state().join("control.sock"))
    }

    /// One call: status and body.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let text = String::from_utf8(read_all(&mut stream)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}")))
    }

    /// What stands at a path that is there.
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The entries that wait, oldest first.
    pub(crate) fn pending(&self) -> Vec<Value> {
        self.get("/v1/requests?state=pending").as_array().unwrap().clone()
    }

    /// Waits until exactly `count` entries wait.
    pub(crate) fn waits(&self, count: usize) -> Vec<Value> {
        wait_for(PATIENCE, || Some(self.pending()).filter(|all| all.len() == count))
    }

    /// Waits until one entry waits, and `held` clients at it.
    pub(crate) fn one(&self, held: u64) -> Value {
        wait_for(PATIENCE, || {
            let mut all = self.pending();
            (all.len() == 1 && all[0]["held"] == held).then(|| all.remove(0))
        })
    }

    /// The entry with this path that waits.
    pub(crate) fn about(&self, path: &str) -> Value {
        wait_for(PATIENCE, || self.pending().into_iter().find(|entry| entry["path"] == path))
    }

    /// The entry as it is now.
    pub(crate) fn again(&self, entry: &Value) -> Value {
        self.get(&format!("/v1/requests/{}", name(entry)))
    }

    /// Answers an entry as it was shown; `more` keys of the decision.
    pub(crate) fn decide(&self, entry: &Value, word: &str, more: &Value) -> (u16, Value) {
        let mut decision = json!({ "decision": word, "digest": entry["digest"] });
        for (key, value) in more.as_object().unwrap() {
            decision[key] = value.clone();
        }
        let path = format!("/v1/requests/{}/decision", name(entry));
        self.call("POST", &path, Some(&decision))
    }

    /// Approves it, and is not refused.
    pub(crate) fn approve(&self, entry: &Value, more: &Value) -> Value {
        let (status, body) = self.decide(entry, "approve", more);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Denies it, and is not refused.
    pub(crate) fn deny(&self, entry: &Value, more: &Value) -> Value {
        let (status, body) = self.decide(entry, "deny", more);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Takes an answer back.
    pub(crate) fn undo(&self, entry: &Value) -> Value {
        let (status, body) =
            self.call("DELETE", &format!("/v1/requests/{}/decision", name(entry)), None);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Grants ahead.
    pub(crate) fn grant(&self, ask: &Value) -> Value {
        let (status, body) = self.call("POST", "/v1/grants", Some(ask));
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Takes a grant back.
    pub(crate) fn revoke(&self, grant: &str) {
        let (status, body) = self.call("DELETE", &format!("/v1/grants/{grant}"), None);
        assert_eq!(status, 200, "{body}");
    }

    /// How one sandbox does.
    pub(crate) fn sandbox(&self, name: &str) -> Value {
        self.get(&format!("/v1/sandboxes/{name}"))
    }

    /// Waits until a sandbox holds this many clients.
    pub(crate) fn holds(&self, sandbox: &str, held: u64) {
        wait_for(PATIENCE, || (self.sandbox(sandbox)["held"] == held).then_some(()));
    }

    /// A stream of events that somebody reads who can answer; dropping it leaves.
    pub(crate) fn attend(&self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /v1/events?attend=true HTTP/1.1\r\nHost: portcullis\r\n\r\n").unwrap();
        wait_for(PATIENCE, || (self.get("/v1/status")["attended"] == 1).then_some(()));
        stream
    }
}

/// The number of an entry: `r1`.
pub(crate) fn name(entry: &Value) -> &str {
    entry["request"].as_str().unwrap()
}

/// Sends a request in absolute-form on a connection of its own and does not wait.
pub(crate) fn send(gateway: &Gateway, method: &str, port: u16, path: &str) -> TcpStream {
    send_with(gateway, method, &format!("origin.test:{port}"), path, "\r\n")
}

/// The same with any authority, and the rest of the head with the body.
pub(crate) fn send_with(
    gateway: &Gateway,
    method: &str,
    authority: &str,
    path: &str,
    rest: &str,
) -> TcpStream {
    send_at(gateway.proxy, method, authority, path, rest)
}

/// The same at one of several listeners.
pub(crate) fn send_at(
    at: std::net::SocketAddr,
    method: &str,
    authority: &str,
    path: &str,
    rest: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    limits(&stream);
    let head = format!("{method} http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(rest.as_bytes()).unwrap();
    stream
}

/// The rest of a head with a body.
pub(crate) fn body(kind: &str, text: &str) -> String {
    format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// The status of the answer that comes, and its body.
pub(crate) fn answer(stream: &mut impl std::io::Read) -> (u16, Vec<u8>) {
    let (head, body) = crate::common::read_response(stream);
    (status(&head), body)
}

/// The status of a head.
pub(crate) fn status(head: &str) -> u16 {
    let code = head.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {head:?}"));
    code.parse().unwrap()
}

/// The `error` and the number of the entry of a refusal.
pub(crate) fn refused(body: &[u8]) -> (String, String) {
    let problem = crate::common::problem(body);
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    (text("error"), text("request"))
}

/// Waits for the record of the request on this path, and gives it.
pub(crate) fn record_on(gateway: &Gateway, path: &str) -> Value {
    wait_for(PATIENCE, || {
        gateway.records_now("default").into_iter().find(|record| record["path"] == path)
    })
}
