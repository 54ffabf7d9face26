//! A [`Record`] as its JSON line.
//!
//! Written by hand, because it is written for every request: key order and shape are those of
//! [`RecordLine`](super::RecordLine), and a test holds the two together. Keys that do not apply
//! are left out; only `request` and `client` are `null` instead.

use super::text::{ip, json, millis, number, string, time};
use super::{Facts, ModelCall, Record, Timings, mask};
use crate::addr::Host;
use crate::policy::{Approval, Client, Scheme};

impl Record {
    /// Appends the line and its newline to `out`. `repeat` is how many requests the line stands
    /// for: 1, unless identical refusals were counted.
    pub fn write_line(&self, repeat: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"v\":1,\"time\":\"");
        time(self.time, out);
        out.extend_from_slice(b"\",\"id\":\"");
        out.extend_from_slice(&self.id.encode());
        match self.request {
            Some(request) => {
                out.extend_from_slice(b"\",\"request\":\"r");
                number(request, out);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"\",\"request\":null"),
        }
        out.extend_from_slice(b",\"sandbox\":");
        string(&self.sandbox, out);
        client(&self.client, out);
        self.write_target(out);
        self.write_verdict(out);
        timings(&self.ms, out);
        out.extend_from_slice(b",\"policy\":\"sha256:");
        out.extend_from_slice(&self.policy.encode());
        out.push(b'"');
        if let Some(facts) = &self.facts {
            write_facts(facts, out);
        }
        if let Some(call) = &self.call {
            write_call(call, out);
        }
        if self.websocket {
            out.extend_from_slice(b",\"websocket\":true");
        }
        if repeat > 1 {
            out.extend_from_slice(b",\"repeat\":");
            number(repeat, out);
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_target(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.scheme {
            Scheme::Http => b",\"scheme\":\"http\"".as_slice(),
            Scheme::Https => b",\"scheme\":\"https\"",
            Scheme::Tcp => b",\"scheme\":\"tcp\"",
        });
        if let Some(version) = self.http {
            word(b",\"http\":\"", version.as_str(), out);
        }
        if let Some(host) = &self.host {
            out.extend_from_slice(b",\"host\":\"");
            match host {
                Host::Name(name) => out.extend_from_slice(name.as_str().as_bytes()),
                Host::Ip(address) => ip(*address, out),
            }
            out.push(b'"');
        }
        if let Some(port) = self.port {
            out.extend_from_slice(b",\"port\":");
            number(port.get().into(), out);
        }
        if let Some(method) = &self.method {
            out.extend_from_slice(b",\"method\":");
            string(method.as_str(), out);
        }
        if let Some(target) = &self.target {
            out.extend_from_slice(b",\"path\":");
            string(target.path(), out);
            if let Some(query) = target.query() {
                out.extend_from_slice(b",\"query\":");
                string(&mask::query(query), out);
            }
        }
    }

    fn write_verdict(&self, out: &mut Vec<u8>) {
        word(b",\"verdict\":\"", self.verdict.as_str(), out);
        word(b",\"code\":\"", self.code.as_str(), out);
        if let Some(rule) = &self.rule {
            out.extend_from_slice(b",\"rule\":");
            string(rule, out);
        }
        word(b",\"outcome\":\"", self.outcome.as_str(), out);
        word(b",\"by\":\"", &self.by.text(), out);
        if let Some(approval) = &self.approval {
            write_approval(approval, out);
        }
        out.extend_from_slice(if self.sent { b",\"sent\":true" } else { b",\"sent\":false" });
        let paid = self.call.as_ref().and_then(|call| call.credential.as_ref());
        if let Some(credential) = self.credential.as_ref().or(paid) {
            out.extend_from_slice(b",\"credential\":");
            string(credential, out);
        }
        if let Some(address) = self.address {
            out.extend_from_slice(b",\"address\":\"");
            ip(address, out);
            out.push(b'"');
        }
        if let Some(status) = self.status {
            out.extend_from_slice(b",\"status\":");
            number(status.into(), out);
        }
        out.extend_from_slice(b",\"upload\":");
        number(self.upload, out);
        out.extend_from_slice(b",\"download\":");
        number(self.download, out);
    }
}

/// A key, as far as the quote before its value, and a value that is known to need no escape.
fn word(key: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn write_approval(approval: &Approval, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"approval\":{\"decision\":\"");
    out.extend_from_slice(approval.decision.as_str().as_bytes());
    out.extend_from_slice(b"\",\"scope\":\"");
    out.extend_from_slice(approval.scope.as_str().as_bytes());
    out.extend_from_slice(b"\",\"by\":");
    string(&approval.by, out);
    out.extend_from_slice(b",\"uid\":");
    number(approval.uid.into(), out);
    out.extend_from_slice(b",\"via\":");
    string(&approval.via, out);
    out.extend_from_slice(b",\"at\":\"");
    time(approval.at, out);
    out.push(b'"');
    if let Some(reason) = &approval.reason {
        out.extend_from_slice(b",\"reason\":");
        string(reason, out);
    }
    out.push(b'}');
}

fn client(client: &Client, out: &mut Vec<u8>) {
    let process = match client {
        Client::Seen(process) => process,
        Client::Unseen | Client::Ignored => {
            return out.extend_from_slice(b",\"client\":null");
        }
    };
    out.extend_from_slice(b",\"client\":{\"binary\":");
    string(&process.binary, out);
    out.extend_from_slice(b",\"ancestors\":[");
    for (i, ancestor) in process.ancestors.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        string(ancestor, out);
    }
    out.extend_from_slice(b"],\"pid\":");
    number(process.pid.into(), out);
    out.push(b'}');
}

fn timings(ms: &Timings, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"ms\":{\"judge\":");
    millis(ms.judge, out);
    out.extend_from_slice(b",\"held\":");
    millis(ms.held, out);
    out.extend_from_slice(b",\"connect\":");
    millis(ms.connect, out);
    if let Some(first_byte) = ms.first_byte {
        out.extend_from_slice(b",\"first_byte\":");
        millis(first_byte, out);
    }
    out.extend_from_slice(b",\"total\":");
    millis(ms.total, out);
    out.push(b'}');
}

fn write_call(call: &ModelCall, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"route\":");
    string(&call.route, out);
    if let Some(model) = &call.model {
        out.extend_from_slice(b",\"model\":");
        string(model, out);
    }
    if let Some(tokens) = &call.tokens {
        out.extend_from_slice(b",\"tokens\":{\"input\":");
        number(tokens.input, out);
        out.extend_from_slice(b",\"output\":");
        number(tokens.output, out);
        if tokens.estimated {
            out.extend_from_slice(b",\"estimated\":true");
        }
        out.push(b'}');
    }
    if let Some(ttft) = call.ttft {
        out.extend_from_slice(b",\"ttft\":");
        millis(ttft, out);
    }
}

fn write_facts(facts: &Facts, out: &mut Vec<u8>) {
    match facts {
        Facts::Graphql(operations) => {
            out.extend_from_slice(b",\"graphql\":");
            json(operations, out);
        }
        Facts::Rpc(calls) => {
            out.extend_from_slice(b",\"rpc\":[");
            for (i, (method, tool)) in calls.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b",{\"method\":" } else { b"{\"method\":" });
                string(method, out);
                if let Some(tool) = tool {
                    out.extend_from_slice(b",\"tool\":");
                    string(tool, out);
                }
                out.push(b'}');
            }
            out.push(b']');
        }
    }
}
