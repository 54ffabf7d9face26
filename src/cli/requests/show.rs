//! An entry, whole: everything that an answer should know.

use crate::cli::words::{asks, distance, maybe, plural, process, shown, told, word};
use crate::control::wire::{Body, Request};
use std::fmt::{Display, Write};

/// Everything that is known of an entry, as text.
pub(in crate::cli) fn whole(request: &Request) -> String {
    let mut out = Facts(String::new());
    out.line(&shown(&request.request), &asks(request));
    out.fact("state", word(request.state));
    out.fact("sandbox", shown(&request.sandbox));
    out.fact("kind", word(request.kind));
    out.fact("process", from(request));
    if let Some(unicode) = &request.unicode {
        out.fact("host", format!("{} ({})", shown(&request.host), shown(unicode)));
    }
    let asked = format!(
        "{}, first {} ago, last {} ago; {} held",
        plural(request.count, "time"),
        distance(&request.first_seen),
        distance(&request.last_seen),
        request.held
    );
    out.fact("asked", asked);
    out.fact("why", format!("{} ({})", told(&request.detail), shown(&request.code)));
    if let Some(nearest) = &request.nearest {
        out.fact("nearest", shown(nearest));
    }
    for note in &request.risk {
        out.fact("risk", format!("{} ({})", told(&note.text), shown(&note.code)));
    }
    for fact in &request.facts {
        out.fact("says", shown(fact));
    }
    if let Some(words) = &request.agent_reason {
        out.fact("agent", format!("\"{}\" (its own words)", shown(words)));
    }
    for (name, value) in &request.headers {
        out.fact("header", format!("{}: {}", shown(name), shown(value)));
    }
    if let Some(body) = &request.body {
        out.fact("body", length(body));
        body.preview.lines().for_each(|line| out.fact("", shown(line)));
    }
    if !request.variants.is_empty() {
        let variants: Vec<String> = request.variants.iter().map(|r| shown(r)).collect();
        out.fact("beside", format!("{} differ in query or body alone", variants.join(", ")));
    }
    answered(request, &mut out);
    out.fact("digest", shown(&request.digest));
    out.0
}

fn from(request: &Request) -> String {
    let Some(client) = &request.client else { return process(None) };
    let mut chain = vec![format!("{} ({})", shown(&client.binary), client.pid)];
    chain.extend(client.ancestors.iter().map(|ancestor| shown(ancestor)));
    chain.join(" < ")
}

fn length(body: &Body) -> String {
    let kind = body.content_type.as_deref().map_or_else(|| "no type".to_owned(), shown);
    let length = body.length.map_or_else(|| "unknown length".to_owned(), |n| format!("{n} bytes"));
    let waits = if body.waits { ", the client waits to send it" } else { "" };
    let longer = if body.longer { ", more follows" } else { "" };
    format!("{kind}, {length}, {} seen{longer}{waits}", body.seen)
}

fn answered(request: &Request, out: &mut Facts) {
    let Some(decided) = &request.decision else {
        let widest = request.proposal.path.as_deref();
        if let Some(path) = widest {
            let methods = request.proposal.methods.join(",");
            let what = format!("{} {}", shown(&methods), shown(path));
            let also = request.proposal.also;
            out.fact("wider", format!("--breadth path: {what} (and {also} other pending)"));
        }
        return;
    };
    let what = format!(
        "{} {} by {} via {}, {} ago",
        word(decided.decision),
        word(decided.scope),
        shown(&decided.by),
        shown(&decided.via),
        distance(&decided.at)
    );
    out.fact("answer", what);
    for (name, value) in
        [("reason", &decided.reason), ("grant", &decided.grant), ("file", &decided.file)]
    {
        if value.is_some() {
            out.fact(name, maybe(value.as_deref()));
        }
    }
}

/// Lines of a name and what it is.
struct Facts(String);

impl Facts {
    fn line(&mut self, name: &str, what: &str) {
        writeln!(self.0, "{name} {what}").expect("a String takes every text");
    }

    fn fact(&mut self, name: &str, what: impl Display) {
        writeln!(self.0, "  {name:8} {what}").expect("a String takes every text");
    }
}
