//! Things that a sandbox might ask for.

use portcullis::control::wire::*;

/// An entry whose fields are plain.
pub fn request(number: u64, method: &str, host: &str, path: &str) -> Request {
    let method = (!method.is_empty()).then(|| method.to_owned());
    let path = (!path.is_empty()).then(|| path.to_owned());
    let proposed = path.as_ref().map(|_| "/repos/*/*".to_owned());
    Request {
        request: format!("r{number}"),
        state: State::Pending,
        sandbox: "agent".into(),
        kind: if method.is_some() { Kind::Http } else { Kind::Tcp },
        client: Some(Client {
            binary: "/usr/bin/curl".into(),
            ancestors: vec!["/usr/bin/bash".into(), "/opt/agent/bin/agent".into()],
            pid: 812,
        }),
        scheme: if method.is_some() { "https".into() } else { "tcp".into() },
        host: host.into(),
        unicode: None,
        port: 443,
        proposal: Proposal {
            methods: method.clone().into_iter().collect(),
            path: proposed,
            also: 2,
            also_host: 3,
            yaml: format!(
                "network_policies:\n  approved_{number}:\n    endpoints:\n      - host: {host}\n        \
                 port: 443\n        protocol: rest\n"
            ),
        },
        method,
        path,
        query: None,
        headers: Vec::new(),
        body: None,
        facts: Vec::new(),
        count: 1,
        held: 0,
        first_seen: "2026-11-24T09:59:56.000Z".into(),
        last_seen: "2026-11-24T09:59:56.000Z".into(),
        held_until: None,
        expires: "2026-11-25T09:59:56.000Z".into(),
        code: "host_unknown".into(),
        detail: format!("no rule names {host}"),
        nearest: None,
        risk: Vec::new(),
        variants: Vec::new(),
        agent_reason: None,
        digest: format!("sha256:{number}"),
        decision: None,
    }
}

fn note(code: &str, text: &str) -> Note {
    Note { code: code.into(), text: text.into() }
}

/// Eight entries, plain and odd.
pub fn requests() -> Vec<Request> {
    let mut issues = request(41, "GET", "api.github.com", "/repos/acme/widget/issues");
    issues.query = Some("state=open&page=2".into());
    issues.held = 2;
    issues.count = 3;
    issues.held_until = Some("2026-11-24T10:00:52.000Z".into());
    issues.headers = vec![
        ("user-agent".into(), "curl/8.14.1".into()),
        ("authorization".into(), "***".into()),
        ("accept".into(), "application/vnd.github+json".into()),
    ];
    issues.nearest = Some("github/endpoints[0]".into());
    issues.variants = vec!["r48".into()];

    let mut upload = request(42, "POST", "paste.example.net", "/api/v1/upload");
    upload.client = Some(Client { binary: "/usr/bin/node".into(), ancestors: vec![], pid: 901 });
    upload.held = 1;
    upload.held_until = Some("2026-11-24T10:00:07.000Z".into());
    upload.risk = vec![
        note(
            "paste_service",
            "paste.example.net is a service that shows to anyone what it is sent",
        ),
        note("upload_large", "it uploads 131072 bytes"),
    ];
    upload.body = Some(Body {
        content_type: Some("application/json".into()),
        length: Some(131_072),
        preview: "{\"title\":\"notes\",\n \"text\":\"caf\u{e9} \u{202e}evil\"".into(),
        seen: 65_536,
        unseen: Some(65_536),
        longer: true,
        waits: false,
    });
    upload.agent_reason = Some("I need to \u{1b}[2Jshare the log. The operator agreed.".into());

    let wheel = request(
        43,
        "GET",
        "files.pythonhosted.org",
        "/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/six-1.16.0-py2.py3-none-any.whl",
    );

    let mut idn = request(44, "GET", "xn--bcher-kva.de", "/");
    idn.unicode = Some("b\u{fc}cher.de".into());
    idn.risk = vec![note("idn", "the name is not ASCII: xn--bcher-kva.de")];

    let mut raw = request(45, "", "db.internal.example.co.uk", "");
    raw.port = 5432;
    raw.client = None;

    let chain = "login.github.com.session.a8f3e1.accounts.verify.token.evil.co.uk";
    let mut alike = request(46, "GET", chain, "/oauth/authorize");
    alike.risk =
        vec![note("lookalike", "it begins as github.com, which is allowed, and is evil.co.uk")];

    let mut odd = request(47, "GET", "example.com", "/a\u{1b}[31m\u{200b}\u{202e}b");
    odd.scheme = "http".into();
    odd.port = 80;
    odd.sandbox = "ci".into();

    let mut call = request(48, "POST", "mcp.example.com", "/mcp");
    call.kind = Kind::Rpc;
    call.facts = vec!["tools/call search_issues".into()];
    call.port = 8443;
    vec![issues, upload, wheel, idn, raw, alike, odd, call]
}

/// `count` entries of one sandbox.
pub fn many(count: u64) -> Vec<Request> {
    let one = |number: u64| {
        request(
            number,
            "GET",
            &format!("host{}.example.com", number % 97),
            &format!("/v1/items/{number}"),
        )
    };
    (1..=count).map(one).collect()
}

pub fn sandbox(name: &str) -> SandboxStatus {
    SandboxStatus {
        name: name.into(),
        listeners: vec!["127.0.0.1:3128".into(), "unix:/run/portcullis/agent.sock".into()],
        tier: "restricted".into(),
        presets: vec!["pypi".into(), "github=read-only".into()],
        mode: "hold".into(),
        connections: 3,
        held: 2,
        pending: 7,
        dropped: 0,
        grants: 1,
        requests: Requests { passed: 1034, refused: 22, failed: 1 },
        policy: "sha256:9f2c64".into(),
        runtime: 0,
        pinned: None,
        rejected: None,
    }
}

pub fn status() -> Status {
    let mut ci = sandbox("ci");
    ci.rejected = Some("policy.yaml:12: unknown key `hots`; did you mean `host`?".into());
    ci.pinned = Some(3);
    ci.runtime = 2;
    Status {
        version: "0.1.0".into(),
        uptime: 3723,
        started: "2026-11-24T08:57:57.000Z".into(),
        pid: 4711,
        policy: [("agent".into(), "sha256:9f2c64".into())].into(),
        held: 2,
        pending: 8,
        connections: 6,
        state_dir: "/home/ana/.local/state/portcullis".into(),
        config: None,
        recording: true,
        observe: false,
        attended: 1,
        warnings: Vec::new(),
        notes: Vec::new(),
        sandboxes: vec![sandbox("agent"), ci],
    }
}

/// What one may have behind `inference.local`: two routes, one of them in trouble.
pub fn inference(sandbox: &str) -> Inference {
    let mut out = Inference {
        sandbox: sandbox.into(),
        name: None,
        source: "none".into(),
        routes: Vec::new(),
        aliases: [].into(),
        spent_today: 0,
        today: InferenceDay::default(),
        tokens_per_day: None,
        requests_per_minute: None,
        usage: Vec::new(),
    };
    if sandbox != "agent" {
        return out;
    }
    let route = |name: &str, provider: &str, endpoint: &str| InferenceRoute {
        name: name.into(),
        matches: None,
        provider: provider.into(),
        endpoint: endpoint.into(),
        credential: None,
        key: None,
        key_error: None,
        models: Vec::new(),
        fallback: Vec::new(),
        settings: vec!["OPENAI_BASE_URL=https://inference.local/v1".into()],
        errors: 0,
        last_error: None,
    };
    let mut paid = route("main[0]", "openai", "https://api.openai.com/v1");
    paid.matches = Some("gpt-*".into());
    paid.models = vec!["gpt-5".into(), "gpt-5-mini".into()];
    paid.fallback = vec!["main[2]".into()];
    paid.credential = Some("openai".into());
    paid.key = Some(CredentialState::Available);
    paid.errors = 3;
    paid.last_error = Some(InferenceFailure {
        at: "2026-11-24T09:56:00.000Z".into(),
        text: "the provider answered 503 Service Unavailable".into(),
    });
    let own = route("main[2]", "vllm", "http://127.0.0.1:8000/v1");
    let mut late = route("main[1]", "anthropic", "https://api.anthropic.com");
    late.matches = Some("claude-*".into());
    late.credential = Some("anthropic".into());
    late.key = Some(CredentialState::Failing);
    late.key_error = Some(CredentialFailure {
        at: "2026-11-24T09:59:30.000Z".into(),
        text: "/run/keys/anthropic: not found".into(),
    });
    out.name = Some("main".into());
    out.source = "config".into();
    out.routes = vec![paid, late, own];
    out.aliases =
        [("fast", "gpt-5-mini"), ("smart", "gpt-5")].map(|(a, b)| (a.into(), b.into())).into();
    out.today = InferenceDay { requests: 12, failed: 1, input: 1203, output: 840 };
    out.spent_today = 2043;
    out.tokens_per_day = Some(10_000);
    out.requests_per_minute = Some(60);
    out
}

pub fn grants() -> Vec<Grant> {
    let grant = |id: &str, covers: &str| Grant {
        grant: id.into(),
        sandbox: "agent".into(),
        decision: Verdict::Approve,
        covers: covers.into(),
        breadth: None,
        binary: Some("/usr/bin/curl".into()),
        made: "2026-11-24T09:40:00.000Z".into(),
        expires: Some("2026-11-24T21:40:00.000Z".into()),
        by: "ana".into(),
        request: Some("r17".into()),
        reason: None,
        used: 12,
    };
    let mut no = grant("g9", "POST https://telemetry.example.com/**");
    no.decision = Verdict::Deny;
    no.binary = None;
    no.expires = None;
    no.request = None;
    no.reason = Some("no telemetry".into());
    vec![grant("g7", "GET https://api.github.com/repos/*/* with any query and body"), no]
}

pub fn policy(sandbox: &str) -> EffectivePolicy {
    let entry = |name: &str, source: &str, yaml: &str| PolicyEntry {
        name: name.into(),
        source: source.into(),
        yaml: yaml.into(),
        deny_only: false,
    };
    EffectivePolicy {
        sandbox: sandbox.into(),
        policy: "sha256:9f2c64".into(),
        version: 4,
        pinned: None,
        entries: vec![
            entry(
                "pypi",
                "preset:pypi",
                "endpoints:\n  - host: pypi.org\n    port: 443\n  - host: files.pythonhosted.org\n    port: 443\n",
            ),
            entry(
                "github",
                "policy.yaml",
                "endpoints:\n  - host: api.github.com\n    port: 443\n    protocol: rest\n    access: read-only\n",
            ),
            entry(
                "approved_12",
                "approved",
                "# ana, 2026-11-24, r12\nendpoints:\n  - host: crates.io\n    port: 443\n",
            ),
        ],
    }
}

pub fn row(at: u32, method: &str, host: &str, path: &str, outcome: &str) -> Row {
    let passed = outcome == "passed";
    Row {
        time: format!("2026-11-24T10:{:02}:{:02}.000Z", at / 60 % 60, at % 60),
        id: format!("01JD{at}"),
        sandbox: "agent".into(),
        binary: Some("/usr/bin/curl".into()),
        verdict: if passed { "allow".into() } else { "unknown".into() },
        outcome: outcome.into(),
        code: if passed { "allowed".into() } else { "method_not_allowed".into() },
        by: "policy".into(),
        rule: None,
        scheme: "https".into(),
        method: Some(method.into()),
        host: Some(host.into()),
        port: Some(443),
        path: Some(path.into()),
        status: Some(if passed { 200 } else { 403 }),
        upload: 0,
        download: 5120,
        total_ms: 90.2,
        request: None,
        repeat: None,
    }
}

pub fn batch() -> Batch {
    let mut refused = row(4, "POST", "api.github.com", "/repos/acme/widget/issues", "refused");
    refused.repeat = Some(250);
    let mut failed = row(5, "GET", "registry.npmjs.org", "/left-pad", "failed");
    failed.code = "upstream_timeout".into();
    failed.status = Some(504);
    let chain = "login.github.com.session.a8f3e1.accounts.verify.token.evil.co.uk";
    Batch {
        counts: Requests { passed: 4900, refused: 98, failed: 2 },
        rows: vec![
            row(1, "GET", "pypi.org", "/simple/six/", "passed"),
            row(
                2,
                "GET",
                "files.pythonhosted.org",
                "/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d/six-1.16.0.whl",
                "passed",
            ),
            row(3, "GET", "api.github.com", "/repos/acme/widget", "passed"),
            refused,
            failed,
            row(6, "GET", chain, "/oauth/authorize", "refused"),
        ],
        missed: 4994,
    }
}
