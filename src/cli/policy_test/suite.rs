//! What a test file says, and whether a policy does it.

use crate::addr::{Path, Shown};
use crate::cli::policy::Url;
use crate::policy::body::{NO_POST, graphql, rpc};
use crate::policy::document::At;
use crate::policy::{
    Ask, Body, BodyProtocol, BodySource, Client, Intent, Policy, Process, Scheme, Verdict,
};
use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Tests of a policy.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tests of a Portcullis policy")]
pub(in crate::cli) struct Suite {
    /// Always 1.
    version: At<u32>,
    /// The policy files, from where this file lies. Without them and without `presets`: of
    /// NAME.tests.yaml it is NAME.yaml.
    #[serde(default)]
    pub(super) policy: Vec<String>,
    /// Presets, as NAME or NAME=read-write.
    #[serde(default)]
    pub(super) presets: Vec<String>,
    /// The cases.
    tests: Vec<At<Case>>,
}

/// One request, and what is to become of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it is called; the request when absent.
    #[serde(default)]
    name: Option<String>,
    /// What is asked.
    request: Request,
    /// What the policy says to it.
    expect: Expect,
    /// The rule that decides: `github/endpoints[0]/rules[2]`. Of what is unknown, the nearest.
    #[serde(default)]
    rule: Option<String>,
    /// The code, as in `policy explain`.
    #[serde(default)]
    code: Option<String>,
}

/// A request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Request {
    /// The method; GET when absent.
    #[serde(default)]
    method: Option<String>,
    /// http, https, ws, wss, or tcp://HOST:PORT for raw bytes.
    url: String,
    /// The executable that asks; a process that can't be seen when absent.
    #[serde(default)]
    binary: Option<String>,
    /// The executables of its ancestors, the parent first.
    #[serde(default)]
    ancestors: Vec<String>,
    /// The body, where a rule looks into it: JSON.
    #[serde(default)]
    body: Option<String>,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expect {
    /// A rule allows it.
    Allow,
    /// It is let through with `enforcement: audit`.
    Audit,
    /// A deny rule matches, or it is refused for how it is written.
    Deny,
    /// Nothing allows it and nothing forbids it.
    Unknown,
}

/// What became of a case. Texts are safe for a terminal.
pub(super) struct Outcome {
    pub(super) name: String,
    pub(super) line: u32,
    expect: Expect,
    expect_rule: Option<String>,
    expect_code: Option<String>,
    pub(super) verdict: Expect,
    pub(super) code: &'static str,
    pub(super) rule: Option<String>,
    pub(super) detail: String,
}

impl Suite {
    /// Reads a test file. `file` is its name in errors, safe for a terminal.
    pub(super) fn parse(text: &str, file: &str) -> anyhow::Result<Self> {
        let options = serde_saphyr::options! { with_snippet: false };
        let suite: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location();
            let place = place.map(|p| format!(":{}:{}", p.line(), p.column()));
            let off = serde_saphyr::render_options! { snippets: serde_saphyr::SnippetMode::Off };
            let rendered = error.without_snippet().render_with_options(off);
            let message = rendered.split(" at line ").next().unwrap_or(&rendered);
            anyhow::anyhow!(
                "{file}{}: {}\n  fix: portcullis schema policy-tests says what may stand there",
                place.unwrap_or_default(),
                Shown::new(message)
            )
        })?;
        if *suite.version != 1 {
            let At { line, column, .. } = suite.version;
            bail!("{file}:{line}:{column}: `version` is always 1\n  fix: write `version: 1`");
        }
        if suite.tests.is_empty() {
            bail!("{file}: no tests in it\n  fix: add cases below `tests:`");
        }
        Ok(suite)
    }

    /// Asks the policy about every case.
    pub(super) fn run(&self, policy: &Policy, file: &str) -> anyhow::Result<Vec<Outcome>> {
        let one = |case: &At<Case>| {
            let place = || format!("{file}:{}:{}", case.line, case.column);
            case.run(policy, case.line).with_context(place)
        };
        self.tests.iter().map(one).collect()
    }
}

impl Case {
    fn run(&self, policy: &Policy, line: u32) -> anyhow::Result<Outcome> {
        let request = &self.request;
        let method = request.method.as_deref().unwrap_or("GET");
        let url = Url::parse(&request.url)?;
        http::Method::from_bytes(method.as_bytes())
            .with_context(|| format!("`{}` is not a method", Shown::new(method)))?;
        let path = Path::parse(url.path).with_context(|| Shown::new(&request.url).to_string())?;
        let client = request.client()?;
        let (websocket, query) = (url.websocket, url.query);
        let ask = |body| match url.scheme {
            Scheme::Tcp => Ask::Bytes,
            Scheme::Http | Scheme::Https => {
                Ask::Request { method, path: &path, query, websocket, body }
            }
        };
        let asked = |ask| Intent { client: &client, scheme: url.scheme, target: &url.target, ask };
        let facts = request.facts(policy, &asked(ask(Body::Unread)), query);
        let verdict = policy.judge(&asked(ask(facts.body())));
        let name = self.name.clone().unwrap_or_else(|| format!("{method} {}", request.url));
        Ok(self.outcome(&verdict, Shown::new(&name).to_string(), line))
    }

    fn outcome(&self, verdict: &Verdict, name: String, line: u32) -> Outcome {
        let shown = |rule: &str| Some(Shown::new(rule).to_string());
        let none = String::new();
        let (verdict, code, rule, detail) = match verdict {
            Verdict::Allow(permit) => (Expect::Allow, permit.code(), shown(permit.rule()), none),
            Verdict::Audit(permit) => (Expect::Audit, permit.code(), shown(permit.rule()), none),
            Verdict::Deny(denial) => {
                let rule = denial.rule.as_deref().and_then(shown);
                (Expect::Deny, denial.code, rule, denial.detail.clone())
            }
            Verdict::Unknown(question) => {
                let rule = question.nearest.as_deref().and_then(shown);
                (Expect::Unknown, question.code, rule, question.detail.clone())
            }
        };
        let safe = |text: &Option<String>| text.as_deref().and_then(shown);
        Outcome {
            name,
            line,
            expect: self.expect,
            expect_rule: safe(&self.rule),
            expect_code: safe(&self.code),
            verdict,
            code: code.as_str(),
            rule,
            detail,
        }
    }
}

/// A body as the gateway would have read it.
enum Facts {
    Unread,
    Invalid(&'static str),
    Graphql(Vec<crate::policy::GraphqlOperation>),
    Rpc(Vec<crate::policy::RpcCall>),
}

impl Facts {
    fn body(&self) -> Body<'_> {
        match self {
            Self::Unread => Body::Unread,
            Self::Invalid(why) => Body::Invalid(why),
            Self::Graphql(operations) => Body::Graphql(operations),
            Self::Rpc(calls) => Body::Rpc(calls),
        }
    }
}

impl Request {
    fn client(&self) -> anyhow::Result<Client> {
        let Some(binary) = &self.binary else {
            if !self.ancestors.is_empty() {
                bail!("`ancestors` without `binary`\n  fix: name the executable that asks");
            }
            return Ok(Client::Unseen);
        };
        Ok(Client::Seen(Arc::new(Process {
            pid: 0,
            binary: binary.as_str().into(),
            ancestors: self.ancestors.iter().map(|ancestor| ancestor.as_str().into()).collect(),
        })))
    }

    /// What the policy would see of the body: only what a rule of it looks for.
    fn facts(&self, policy: &Policy, intent: &Intent<'_>, query: Option<&str>) -> Facts {
        let Some(need) = policy.body_need(intent) else { return Facts::Unread };
        let body = self.body.as_deref().unwrap_or_default().as_bytes();
        let read = match (need.protocol, need.source) {
            (BodyProtocol::Graphql, BodySource::Query) => {
                graphql::from_get(query).map(Facts::Graphql)
            }
            (BodyProtocol::Graphql, BodySource::Body) => {
                graphql::from_post(Some("application/json"), body, query).map(Facts::Graphql)
            }
            (BodyProtocol::Rpc { .. }, BodySource::Body | BodySource::Query) => {
                rpc::calls(body).map(Facts::Rpc)
            }
            (BodyProtocol::Graphql | BodyProtocol::Rpc { .. }, BodySource::Nowhere) => {
                if body.is_empty() { Ok(Facts::Unread) } else { Err(NO_POST) }
            }
        };
        read.unwrap_or_else(Facts::Invalid)
    }
}

impl Outcome {
    /// Whether the policy says what the case expects.
    pub(super) fn holds(&self) -> bool {
        self.expect == self.verdict
            && self.expect_rule.as_ref().is_none_or(|rule| self.rule.as_ref() == Some(rule))
            && self.expect_code.as_ref().is_none_or(|code| *code == self.code)
    }

    /// What the case expects, in words.
    pub(super) fn expected(&self) -> String {
        let by = self.expect_rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        let code = self.expect_code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        format!("{}{by}{code}", self.expect.as_str())
    }

    /// What the policy says, in words.
    pub(super) fn said(&self) -> String {
        let by = self.rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        let why = if self.detail.is_empty() { String::new() } else { format!(": {}", self.detail) };
        format!("{}{by} ({}){why}", self.verdict.as_str(), self.code)
    }
}

impl Expect {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Unknown => "unknown",
        }
    }
}
