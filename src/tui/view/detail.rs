//! Everything about one request.

use super::target;
use crate::addr::Shown;
use crate::control::wire::{Body, Kind, Request};
use crate::tui::clock;
use crate::tui::model::{Detail, Model};
use crate::tui::queue::Entry;
use crate::tui::strip::{Strip, cell};
use crate::tui::theme::Tone;

/// The width of the labels.
const LABEL: usize = 10;

/// What changes by the second stands in the title.
pub(super) fn title(model: &Model, detail: &Detail, width: usize) -> Strip {
    let number = detail.number;
    let mut line = Strip::of(Tone::Strong, number.to_string());
    let entry = model.queue.get(number);
    match entry {
        _ if detail.gone => line.push(Tone::Bad, " waits no longer · Esc back"),
        None => line.push(Tone::Bad, " waits no longer · Esc back"),
        Some(entry) => {
            let held = entry.request.held;
            match entry.until {
                Some(until) if held > 0 => {
                    let clients = if held == 1 { "client" } else { "clients" };
                    let left = clock::left(until - model.now.wall);
                    line.push(Tone::Good, format!(" · {held} {clients} held for {left}"));
                }
                _ => line.push(Tone::Faint, " · nobody is held"),
            }
            if entry.request.count > 1 {
                line.push(Tone::Plain, format!(" · asked {} times", entry.request.count));
            }
            if model.sent.contains(&number) {
                line.push(Tone::Faint, " · being answered…");
            }
        }
    }
    line.cut(width)
}

/// The page.
pub(in crate::tui) fn lines(entry: &Entry, model: &Model, width: u16) -> Vec<Strip> {
    let mut page = Sheet { lines: Vec::new(), width: usize::from(width) };
    let request = &entry.request;
    page.what(entry);
    page.risks(request);
    page.who(request);
    page.why(request);
    page.when(request, model);
    page.message(request);
    page.cover(request);
    page.lines
}

struct Sheet {
    lines: Vec<Strip>,
    width: usize,
}

impl Sheet {
    /// A label and what it labels, which wraps beside it.
    fn row(&mut self, label: &str, value: Strip) {
        let mut line = Strip::of(Tone::Faint, cell(label, LABEL));
        line.append(value);
        self.lines.extend(line.wrap(self.width, LABEL));
    }

    fn shown(&mut self, label: &str, tone: Tone, text: &str) {
        self.row(label, Strip::of(tone, Shown::new(text).to_string()));
    }

    fn heading(&mut self, text: &str) {
        self.lines.push(Strip::new());
        self.lines.push(Strip::of(Tone::Strong, text));
    }

    /// Foreign text line by line, each made visible.
    fn text(&mut self, tone: Tone, text: &str) {
        for line in text.trim_end_matches('\n').split('\n') {
            let line = Strip::of(Tone::Plain, "  ").shown(tone, line);
            self.lines.extend(line.wrap(self.width, 2));
        }
    }

    fn what(&mut self, entry: &Entry) {
        let request = &entry.request;
        let kind = match request.kind {
            Kind::Http => "an HTTP request",
            Kind::Websocket => "a WebSocket",
            Kind::Grpc => "a gRPC call",
            Kind::Graphql => "a GraphQL request",
            Kind::Rpc => "a JSON-RPC or MCP call",
            Kind::Tcp => "raw bytes: what goes through them can't be seen",
            Kind::Opaque => {
                "TLS of a client that does not trust our CA: nothing inside can be seen"
            }
            Kind::Ahead => "asked ahead by the agent: nothing was sent yet",
        };
        let method = Strip::of(Tone::Strong, target::method(request)).then(Tone::Plain, " ");
        let mut wants = method;
        wants.append(target::url(entry));
        self.row("wants", wants);
        let mut is = Strip::of(Tone::Plain, kind);
        if request.scheme == "http" {
            is.push(Tone::Doubtful, ", not encrypted");
        }
        self.row("is", is);
        self.row("host", Strip::of(Tone::Strong, target::authority(entry, usize::MAX)));
        for fact in &request.facts {
            self.shown("", Tone::Plain, fact);
        }
        if let Some(reason) = &request.agent_reason {
            let said = Strip::of(Tone::Faint, "(its own words, not to be believed) ");
            self.row("agent", said.shown(Tone::Agent, reason));
        }
    }

    fn risks(&mut self, request: &Request) {
        for (at, note) in request.risk.iter().enumerate() {
            let label = if at == 0 { "risk" } else { "" };
            let text = Strip::of(Tone::Doubtful, "! ").told(Tone::Doubtful, &note.text);
            self.row(
                label,
                text.then(Tone::Faint, " (").shown(Tone::Faint, &note.code).then(Tone::Faint, ")"),
            );
        }
    }

    fn who(&mut self, request: &Request) {
        self.shown("sandbox", Tone::Plain, &request.sandbox);
        let Some(client) = &request.client else {
            self.row("process", Strip::of(Tone::Doubtful, "can't be seen"));
            return;
        };
        let mut process = Strip::new().shown(Tone::Strong, &client.binary);
        process.push(Tone::Faint, format!(" (pid {})", client.pid));
        self.row("process", process);
        for ancestor in &client.ancestors {
            self.row("", Strip::of(Tone::Faint, "of ").shown(Tone::Plain, ancestor));
        }
    }

    fn why(&mut self, request: &Request) {
        let why = Strip::new().told(Tone::Plain, &request.detail);
        self.row(
            "why",
            why.then(Tone::Faint, " (").shown(Tone::Faint, &request.code).then(Tone::Faint, ")"),
        );
        if let Some(nearest) = &request.nearest {
            self.shown("nearest", Tone::Plain, nearest);
        }
    }

    fn when(&mut self, request: &Request, model: &Model) {
        let local = |text: &str| match clock::parse(text) {
            Some(at) => clock::moment(at, model.now.wall, &model.setting.zone),
            None => Shown::new(text).limit(40).to_string(),
        };
        let (first, last) = (local(&request.first_seen), local(&request.last_seen));
        let mut times = format!("first {first}");
        if last != first {
            times.push_str(&format!(", last {last}"));
        }
        times.push_str(&format!("; the entry stays until {}", local(&request.expires)));
        self.row("asked", Strip::of(Tone::Plain, times));
        if !request.variants.is_empty() {
            let others = Strip::new().shown(Tone::Plain, &request.variants.join(", "));
            self.row("others", others.then(Tone::Faint, " differ in query or body alone"));
        }
    }

    fn message(&mut self, request: &Request) {
        if !request.headers.is_empty() {
            self.heading("header (secrets masked)");
            for (name, value) in &request.headers {
                let line = Strip::of(Tone::Plain, "  ").shown(Tone::Faint, name);
                let line = line.then(Tone::Faint, ": ").shown(Tone::Plain, value);
                self.lines.extend(line.wrap(self.width, 4));
            }
        }
        let Some(body) = &request.body else { return };
        self.heading(&format!("body: {}", of_body(body)));
        if body.waits {
            self.text(Tone::Faint, "The client waits for 100 Continue: nothing was read.");
        } else if !body.preview.is_empty() {
            self.text(Tone::Plain, &body.preview);
        }
        if body.longer {
            let rest = match body.unseen {
                Some(unseen) => format!("{unseen} bytes more follow that were not read."),
                None => "More follows that was not read.".to_owned(),
            };
            self.text(Tone::Doubtful, &rest);
        }
    }

    fn cover(&mut self, request: &Request) {
        let proposal = &request.proposal;
        self.heading("p, approving for good, would write");
        self.text(Tone::Plain, &proposal.yaml);
        let Some(path) = &proposal.path else { return };
        self.heading("Tab widens an answer to");
        let methods = proposal.methods.join(", ");
        let line = Strip::of(Tone::Plain, "  ").shown(Tone::Plain, &methods).then(Tone::Plain, " ");
        let others = format!(" (and {} others that wait)", proposal.also);
        let line = line.shown(Tone::Plain, path).then(Tone::Faint, others);
        self.lines.extend(line.wrap(self.width, 4));
    }
}

/// `application/json, 512 bytes`.
pub(super) fn of_body(body: &Body) -> String {
    let kind = body.content_type.as_deref().unwrap_or("no content type");
    let length = match body.length {
        Some(length) => format!("{length} bytes"),
        None if body.longer => format!("more than {} bytes", body.seen),
        None => format!("{} bytes", body.seen),
    };
    format!("{}, {length}", Shown::new(kind).limit(80))
}
