//! `inference.local`: what is asked reaches the provider with the operator's key and nothing else
//! of the agent's, and what comes back is the provider's, counted.

use crate::common::{self, Gateway};
use crate::inference_kit::{
    self, Did, KEY, PLACEHOLDER, Provider, begin, call, chat_body, chunk, gateway, got, whole,
};
use serde_json::json;
use std::io::Write;

fn openai(provider: &Provider) -> String {
    format!("    provider: openai\n    endpoint: {}\n    credential: key\n", provider.https("/v1"))
}

#[test]
fn a_chat_goes_up_with_the_operators_key_and_is_recorded_with_what_it_cost() {
    let provider = Provider::tls();
    let gateway = gateway(&openai(&provider));
    let body = "{ \"model\":\"gpt-5\",\n  \"messages\": [], \"x_unknown\": 1.0e2, \"seed\":12345678901234567890 }";
    let got = call(&gateway, "POST", "/v1/chat/completions", "", body);
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(got.json()["choices"][0]["message"]["content"], "It is sunny.");
    let ask = provider.last();
    assert_eq!(ask.target, "/v1/chat/completions");
    assert_eq!(ask.body, body, "the body is unaltered");
    assert_eq!(ask.field("authorization").unwrap(), format!("Bearer {KEY}"));
    let record = gateway.record(1);
    assert_eq!(record["host"], "inference.local");
    assert_eq!(record["verdict"], "allow");
    assert_eq!(record["rule"], "inference/main[0]");
    assert_eq!(record["route"], "main[0]");
    assert_eq!(record["model"], "gpt-5");
    assert_eq!(record["credential"], "key");
    assert_eq!(record["tokens"], json!({"input":11,"output":7}));
    assert_eq!(record["outcome"], "passed");
    assert!(record["ttft"].as_f64().unwrap() > 0.0);
    assert!(!record.to_string().contains(KEY));
}

#[test]
fn it_is_served_inside_a_tunnel_on_both_versions_of_http_without_any_dns() {
    let provider = Provider::tls();
    let gateway = gateway(&openai(&provider));
    let mut tls = gateway.tls("inference.local:443", "inference.local", &["http/1.1"]);
    let body = chat_body("gpt-5", false);
    write!(
        tls,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: inference.local\r\n\
         Authorization: Bearer {PLACEHOLDER}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    assert_eq!(got(&mut tls).status, 200);
    let record = gateway.record(1);
    assert_eq!((&record["scheme"], &record["address"]), (&json!("https"), &json!("127.0.0.1")));
    assert_eq!(provider.asks().len(), 1);
}

#[test]
fn only_the_models_value_changes_on_a_pinned_route() {
    let provider = Provider::tls();
    let gateway = gateway(&format!("{}    model: gpt-5.4-mini\n", openai(&provider)));
    let body = "{\"temperature\":0.70,\"model\":\"whatever\",\"nested\":{\"model\":\"stays\"}}";
    let got = call(&gateway, "POST", "/v1/chat/completions", "", body);
    assert_eq!(got.status, 200);
    assert_eq!(provider.last().body, body.replace("whatever", "gpt-5.4-mini"));
    let got = call(&gateway, "POST", "/v1/chat/completions", "", "{\"messages\":[]}");
    assert_eq!(got.status, 200);
    assert_eq!(provider.last().body, "{\"model\":\"gpt-5.4-mini\",\"messages\":[]}");
}

#[test]
fn a_model_that_two_readers_could_read_differently_is_refused() {
    let provider = Provider::tls();
    let gateway = gateway(&format!("{}    models: [gpt-5]\n", openai(&provider)));
    for body in [
        "{\"model\":\"gpt-5\",\"model\":\"gpt-5-pro\"}",
        "{\"model\":\"gpt-5\",\"Model\":\"gpt-5-pro\"}",
        "{\"model\":\"gpt-5\",\"mod\\u0065l\":\"gpt-5-pro\"}",
    ] {
        let got = call(&gateway, "POST", "/v1/chat/completions", "", body);
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(got.json()["error"]["code"], "bad_model_call");
    }
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("gpt-5-pro", false));
    assert_eq!(got.status, 404);
    assert_eq!(got.json()["error"]["code"], "model_not_allowed");
    assert_eq!(provider.asks().len(), 0);
}

#[test]
fn a_stream_passes_event_by_event_as_it_came() {
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = std::sync::Mutex::new(held);
    let provider = Provider::tls_instead(move |ask, out| {
        if ask.method != "POST" {
            return Did::Nothing;
        }
        begin(out, "text/event-stream").unwrap();
        chunk(out, "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n").unwrap();
        // The next event is not sent before the client has seen the first.
        held.lock().unwrap().recv().unwrap();
        chunk(out, ": odd \u{e9} comment\n\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\r\n\r\n").unwrap();
        chunk(out, "data: [DONE]\n\n").unwrap();
        chunk(out, "").unwrap();
        Did::Answered
    });
    let gateway = gateway(&openai(&provider));
    let mut stream = inference_kit::send(&gateway, &chat_body("gpt-5", true));
    let head = common::read_head(&mut stream);
    assert!(head.contains("text/event-stream"), "{head}");
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"one\"}}]}\n\n") {
        std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
        all.push(byte[0]);
    }
    hold.send(()).unwrap();
    while !all.ends_with(b"0\r\n\r\n") {
        std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
        all.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(text.contains(": odd \u{e9} comment\n\ndata: {\"usage\""), "{text}");
    let record = gateway.record(1);
    assert_eq!(record["tokens"], json!({"input":3,"output":2}));
}

#[test]
fn tokens_are_counted_in_every_shape() {
    let provider = Provider::plain();
    let routes = |kind: &str, path: &str| {
        format!(
            "    provider: {kind}\n    endpoint: {}\n    credential: key\n",
            provider.http(path)
        )
    };
    for (kind, path, target, body, tokens) in [
        ("openai-compatible", "/v1", "/v1/completions", chat_body("m", false), (3, 1)),
        (
            "openai-compatible",
            "/v1",
            "/v1/embeddings",
            "{\"model\":\"m\",\"input\":\"x\"}".into(),
            (5, 0),
        ),
        ("openai-compatible", "/v1", "/v1/responses", chat_body("m", true), (6, 4)),
        ("anthropic-compatible", "", "/v1/messages", chat_body("m", false), (12, 8)),
        ("anthropic-compatible", "", "/v1/messages", chat_body("m", true), (12, 8)),
        ("ollama", "", "/api/chat", "{\"model\":\"m\",\"messages\":[]}".into(), (14, 10)),
        ("ollama", "", "/api/embed", "{\"model\":\"m\",\"input\":\"x\"}".into(), (4, 0)),
        ("ollama", "", "/v1/chat/completions", chat_body("m", false), (11, 7)),
    ] {
        let gateway = gateway(&routes(kind, path));
        let got = call(&gateway, "POST", target, "", &body);
        assert_eq!(got.status, 200, "{kind} {target}: {got:?}");
        let record = gateway.record(1);
        let (input, output) = tokens;
        assert_eq!(record["tokens"], json!({"input":input,"output":output}), "{kind} {target}");
    }
    // Without `include_usage` a stream does not say: what is counted says that it is an estimate.
    let gateway = gateway(&routes("openai-compatible", "/v1"));
    let body = chat_body("m", true);
    call(&gateway, "POST", "/v1/chat/completions", "", &body);
    let input = body.len().div_ceil(4);
    assert_eq!(gateway.record(1)["tokens"], json!({"input":input,"output":3,"estimated":true}));
    provider.asks();
}

#[test]
fn gemini_has_its_model_in_the_path_and_its_key_in_a_field_of_its_own() {
    let provider = Provider::tls();
    let routes = format!(
        "    routes:\n      - {{ provider: gemini, endpoint: \"{}\", credential: key, models: [gemini-3] }}\n    aliases: {{ fast: gemini-3 }}\n",
        provider.https("")
    );
    let gateway = gateway(&routes);
    let target =
        "/v1beta/models/fast:streamGenerateContent?alt=sse&key=sk-placeholder-of-the-agent";
    let got = call(&gateway, "POST", target, "", "{\"contents\":[]}");
    assert_eq!(got.status, 200, "{got:?}");
    let ask = provider.last();
    assert_eq!(ask.target, "/v1beta/models/gemini-3:streamGenerateContent?alt=sse");
    assert_eq!(ask.field("x-goog-api-key").unwrap(), KEY);
    assert_eq!(gateway.record(1)["tokens"], json!({"input":13,"output":9}));
    let body = chat_body("gemini-3", false);
    let got = call(&gateway, "POST", "/v1beta/openai/chat/completions", "", &body);
    assert_eq!(got.status, 200);
    let ask = provider.last();
    assert_eq!(ask.target, "/v1beta/openai/chat/completions");
    assert_eq!(ask.field("authorization").unwrap(), format!("Bearer {KEY}"));
    let got = call(&gateway, "POST", "/v1beta/models/gemini-2:generateContent", "", "{}");
    assert_eq!((got.status, &got.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
}

#[test]
fn kept_responses_are_asked_for_where_they_were_made() {
    let (one, two) = (Provider::tls(), Provider::tls());
    let routes = format!(
        "    routes:\n      - {{ match: \"a-*\", provider: openai, endpoint: \"{}\", credential: key }}\n      \
         - {{ provider: openai, endpoint: \"{}\", credential: key }}\n",
        one.https("/v1"),
        two.https("/v1")
    );
    let gateway = gateway(&routes);
    let got = call(&gateway, "GET", "/v1/responses/resp_1", "", "");
    assert_eq!(got.status, 404, "nobody knows it yet: {got:?}");
    call(&gateway, "POST", "/v1/responses", "", &chat_body("b-1", false));
    for (method, target) in [
        ("GET", "/v1/responses/resp_1?include[]=x&secret=1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("DELETE", "/v1/responses/resp_1"),
    ] {
        assert_eq!(call(&gateway, method, target, "", "").status, 200, "{method} {target}");
    }
    let targets: Vec<String> = two.asks().into_iter().map(|ask| ask.target).collect();
    assert_eq!(targets[1], "/v1/responses/resp_1?include[]=x");
    assert_eq!((one.asks().len(), targets.len()), (0, 4));
}

#[test]
fn everything_else_is_404_with_what_is_served_in_the_callers_shape() {
    let provider = Provider::tls();
    let gateway = gateway(&openai(&provider));
    let got = call(&gateway, "POST", "/v1/files", "X-Api-Key: \r\n", "{}");
    assert_eq!(got.status, 404);
    let said = got.json().to_string();
    assert!(said.contains("POST /v1/chat/completions; POST /v1/completions"), "{said}");
    let got = call(&gateway, "GET", "/v1beta/cachedContents", "", "");
    assert_eq!(got.json()["error"]["status"], "NOT_FOUND");
    let got = call(&gateway, "DELETE", "/api/delete", "", "");
    assert!(got.json()["error"].is_string());
    let got = call(&gateway, "POST", "/v1/messages", "", &chat_body("gpt-5", false));
    assert_eq!(got.status, 404);
    assert_eq!(got.json()["type"], "error");
    let said = got.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("OPENAI_BASE_URL=https://inference.local/v1"), "{said}");
    assert_eq!(gateway.record(4)["code"], "wrong_shape");
    assert_eq!(provider.asks().len(), 0);
}

#[test]
fn a_sandbox_without_a_route_is_told_so() {
    let gateway = common::Setup::allow_all(&["origin.test"], 443).start();
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 404);
    assert!(got.body.contains("sandboxes.default.inference"), "{}", got.body);
    assert_eq!(gateway.record(1)["code"], "not_served");
}

#[test]
fn the_models_are_those_that_may_be_used() {
    let provider = Provider::tls();
    let routes = format!(
        "    routes:\n      - {{ match: \"claude-*\", provider: anthropic, endpoint: \"{anthropic}\", credential: key }}\n      \
         - {{ provider: openai, endpoint: \"{openai}\", credential: key, models: [gpt-5, gpt-5-mini] }}\n    \
         aliases: {{ fast: gpt-5-mini }}\n",
        anthropic = provider.https(""),
        openai = provider.https("/v1"),
    );
    let gateway = gateway(&routes);
    let ids = |got: &inference_kit::Got| -> Vec<String> {
        let list = got.json();
        let id = |model: &serde_json::Value| model["id"].as_str().unwrap().to_owned();
        list["data"].as_array().unwrap().iter().map(id).collect()
    };
    let got = call(&gateway, "GET", "/v1/models", "X-Ignored: 1\r\n", "");
    // The list of the open route is its provider's, as far as its pattern goes.
    assert_eq!(ids(&got), ["claude-opus"], "an x-api-key asks in Anthropic's shape: {got:?}");
    let mut stream = gateway.connect();
    write!(
        stream,
        "GET http://inference.local/v1/models HTTP/1.1\r\nHost: inference.local\r\n\r\n"
    )
    .unwrap();
    let got = got_of(&mut stream);
    assert_eq!(ids(&got), ["claude-opus", "gpt-5", "gpt-5-mini", "fast"]);
    assert_eq!(provider.asks().len(), 1, "a list is read once");
}

fn got_of(stream: &mut std::net::TcpStream) -> inference_kit::Got {
    got(stream)
}

#[test]
fn an_answer_that_gives_the_key_back_comes_without_it() {
    let provider = Provider::tls_instead(|ask, out| {
        if ask.target.ends_with("/embeddings") {
            let fields = format!("x-echo: {KEY}\r\nopenai-organization: org-of-the-operator\r\n");
            whole(out, 401, &fields, &json!({"error":{"message":format!("wrong key {KEY}!")}}))
                .unwrap();
            return Did::Answered;
        }
        begin(out, "text/event-stream").unwrap();
        let (one, two) = KEY.split_at(9);
        chunk(out, &format!("data: {one}")).unwrap();
        chunk(out, &format!("{two} end\n\n")).unwrap();
        chunk(out, "").unwrap();
        Did::Answered
    });
    let gateway = gateway(&openai(&provider));
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", true));
    assert_eq!(got.body, "data: *** end\n\n");
    let got = call(&gateway, "POST", "/v1/embeddings", "", &chat_body("m", false));
    assert_eq!(got.status, 401);
    assert_eq!(got.json()["error"]["message"], "wrong key ***!");
    assert!(got.head.contains("x-echo: ***") && !got.head.contains("org-of-the-operator"));
}

#[test]
fn a_key_in_a_name_or_in_a_second_coding_does_not_pass() {
    let provider = Provider::tls_instead(|ask, out| {
        let fields = match ask.target.ends_with("/embeddings") {
            true => format!("x-{KEY}: 1\r\n"),
            false => "content-encoding: identity\r\ncontent-encoding: gzip\r\n".to_owned(),
        };
        whole(out, 200, &fields, &json!({})).unwrap();
        Did::Answered
    });
    let gateway = gateway(&openai(&provider));
    let got = call(&gateway, "POST", "/v1/embeddings", "", &chat_body("m", false));
    assert_eq!(got.status, 200);
    assert!(!got.head.contains(&KEY.to_ascii_lowercase()), "{}", got.head);
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 502);
}

#[test]
fn a_call_goes_up_as_the_json_that_it_was_read_as() {
    let provider = Provider::tls();
    let gateway = gateway(&format!("{}    models: [cheap]\n", openai(&provider)));
    for kind in ["application/x-www-form-urlencoded", "application/json; charset=utf-7"] {
        let fields = format!("Content-Type: {kind}\r\n");
        let body = "{\"model\":\"cheap\",\"x\":\"&model=evil&\"}";
        let got = call(&gateway, "POST", "/v1/chat/completions", &fields, body);
        assert_eq!(got.status, 200, "{kind}");
        assert_eq!(provider.last().field("content-type").unwrap(), "application/json");
    }
    let long = chat_body(&"m".repeat(300), false);
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &long);
    assert_eq!((got.status, &got.json()["error"]["code"]), (400, &"bad_model_call".into()));
}

#[test]
fn a_credential_without_a_value_is_502_with_its_name() {
    let provider = Provider::tls();
    let routes = openai(&provider).replace("credential: key", "credential: other");
    let gateway = gateway(&routes);
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 502);
    assert_eq!(got.json()["error"]["code"], "credential_unavailable");
    assert!(got.body.contains("`other`"), "{}", got.body);
    assert_eq!(provider.asks().len(), 0);
    // A file is read when it is there.
    std::fs::write(gateway.dir.path().join("other-key"), format!("{KEY}\n")).unwrap();
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 200, "{got:?}");
    provider.asks();
}

#[test]
fn routes_follow_a_reload() {
    let provider = Provider::tls();
    let gateway = gateway(&openai(&provider));
    let config = gateway.dir.path().join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("credential: key\n", "credential: key\n    model: pinned\n"),
    )
    .unwrap();
    gateway.signal("HUP");
    common::wait_for(common::PATIENCE, || {
        call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
        (provider.last().json()["model"] == "pinned").then_some(())
    });
}

#[test]
fn what_the_operator_wrote_down_opens_loopback_for_that_route_alone() {
    let provider = Provider::plain();
    let dir = tempfile::tempdir().unwrap();
    let port = provider.origin.port();
    std::fs::write(
        dir.path().join("policy.yaml"),
        format!(
            "version: 1\nnetwork_policies:\n  test:\n    endpoints:\n      - {{ host: \"127.0.0.1\", port: {port}, protocol: rest, enforcement: enforce, access: full }}\n"
        ),
    )
    .unwrap();
    std::fs::write(
        dir.path().join("config.yaml"),
        format!(
            "version: 1\nstate_dir: {}\nlisten:\n  - {{ address: \"127.0.0.1:0\" }}\nsandboxes:\n  default:\n    \
             policy: [policy.yaml]\n    approval: {{ mode: deny }}\n    inference: main\ninference:\n  main: {{ provider: ollama, endpoint: \"{}\" }}\n",
            dir.path().join("state").display(),
            provider.http("")
        ),
    )
    .unwrap();
    let gateway = Gateway::spawn(dir, &["--config", "config.yaml"], &[]);
    let got = call(&gateway, "POST", "/api/chat", "", "{\"model\":\"qwen3\",\"stream\":false}");
    assert_eq!(got.status, 200, "{got:?}");
    let response = gateway.exchange(
        format!("GET http://127.0.0.1:{port}/api/tags HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
    assert_eq!(common::problem(&response)["code"], "address_refused");
}

#[test]
fn the_flag_alone_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let env = [("ANTHROPIC_API_KEY".to_owned(), KEY.to_owned())];
    let args =
        ["--state-dir", "state", "--listen", "127.0.0.1:0", "--inference", "anthropic/claude-x"];
    let gateway = Gateway::spawn(dir, &args, &env);
    let got = call(&gateway, "GET", "/v1/models", "anthropic-version: 2023-06-01\r\n", "");
    assert_eq!(got.json()["data"][0]["id"], "claude-x", "{got:?}");
    assert!(!gateway.banner.contains(KEY) && !gateway.log().contains(KEY));
}

#[test]
fn a_policy_that_names_the_host_is_an_error() {
    let setup = common::Setup::allow_all(&["inference.local"], 443);
    let dir = setup.write();
    let mut command = assert_cmd::Command::cargo_bin("portcullis").unwrap();
    let output = command.args(["policy", "check", "policy.yaml"]).current_dir(dir.path()).output();
    let output = output.unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!output.status.success() && said.contains("inference.local"), "{said}");
}
