//! `portcullis inference` on a running gateway: what is shown, tried, changed and counted.

use crate::common::{self, Gateway, PATIENCE, wait_for};
use crate::inference_kit::{self, Did, Provider, call, chat_body, gateway, whole};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Output;

fn portcullis(gateway: &Gateway, line: &str) -> Output {
    assert_cmd::Command::cargo_bin("portcullis")
        .unwrap()
        .args(line.split(' '))
        .args(["--socket", "state/control.sock"])
        .current_dir(gateway.dir.path())
        .output()
        .unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    said
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pinned(provider: &Provider) -> String {
    format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n    model: gpt-5\n    \
         budget: {{ tokens_per_day: 1000 }}\n",
        provider.https("/v1")
    )
}

fn asks(gateway: &Gateway) -> u16 {
    call(gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false)).status
}

#[test]
fn routes_are_shown_with_what_to_paste_and_what_they_cost() {
    let provider = Provider::tls();
    let gateway = gateway(&pinned(&provider));
    let shown = said(&portcullis(&gateway, "inference"));
    assert!(shown.contains("main (config)"), "{shown}");
    assert!(shown.contains("export OPENAI_BASE_URL=https://inference.local/v1"), "{shown}");
    assert!(shown.contains("gpt-5") && !shown.contains(inference_kit::KEY), "{shown}");
    assert_eq!((asks(&gateway), asks(&gateway)), (200, 200));
    let usage = &objects(&portcullis(&gateway, "inference usage -o json"))[0];
    assert_eq!(usage["spent_today"], 36);
    let model = &usage["usage"][0];
    assert_eq!((&model["model"], &model["requests"]), (&json!("gpt-5"), &json!(2)));
    assert_eq!((&model["input"], &model["output"]), (&json!(22), &json!(14)));
    assert!(model["first_token"].as_f64().unwrap() > 0.0);
    let shown = said(&portcullis(&gateway, "inference usage"));
    assert!(shown.starts_with("36 tokens today of 1000"), "{shown}");
}

#[test]
fn a_probe_sends_real_requests_and_says_what_works() {
    let provider = Provider::tls();
    let gateway = gateway(&pinned(&provider));
    let probed = portcullis(&gateway, "inference probe -o json");
    said(&probed);
    let checks: Vec<(Value, Value)> =
        objects(&probed).iter().map(|p| (p["check"].clone(), p["works"].clone())).collect();
    let works = |check: &str| (json!(check), json!(true));
    assert_eq!(checks, [works("chat"), works("stream"), works("tool")]);
    let asks = provider.asks();
    assert_eq!(asks.len(), 3);
    assert!(asks.iter().all(|ask| ask.json()["max_completion_tokens"] == 64), "{asks:#?}");
    let records = gateway.records(3);
    assert!(records.iter().all(|record| record["route"] == "main[0]"), "they are recorded too");
}

#[test]
fn a_page_that_answers_200_to_anything_is_no_provider() {
    let portal = Provider::tls_instead(|ask, out| {
        // To a stream and a tool it says what would pass by its words alone.
        let page = "<html>data: sign in\n\"tool_calls\" \"tool_use\"</html>";
        let body = if ask.body.contains("tools") { json!({ "page": page }) } else { json!(page) };
        whole(out, 200, "", &body).unwrap();
        Did::Answered
    });
    let gateway = gateway(&pinned(&portal));
    let probed = objects(&portcullis(&gateway, "inference probe -o json"));
    assert_eq!(probed.len(), 3);
    for check in &probed {
        let detail = check["detail"].as_str().unwrap();
        assert!(check["works"] == false && detail.contains("no `choices`"), "{check}");
    }
}

#[test]
fn what_does_not_work_is_said_and_not_put_in_force() {
    let broken = Provider::tls_instead(|ask, out| {
        if !ask.body.contains("tools") {
            return Did::Nothing;
        }
        whole(out, 400, "", &json!({"error":{"message":"no tools here"}})).unwrap();
        Did::Answered
    });
    let provider = Provider::tls();
    let routes = format!(
        "{}  broken:\n    provider: openai\n    endpoint: {}\n    credential: key\n    model: x\n",
        pinned(&provider),
        broken.https("/v1")
    );
    let gateway = gateway(&routes);
    let refused = portcullis(&gateway, "inference set broken");
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("tool") && why.contains("no tools here"), "{why}");
    assert_eq!(asks(&gateway), 200);
    assert_eq!(provider.asks().len(), 1, "the old route is in force");
    said(&portcullis(&gateway, "inference set broken --no-verify"));
    asks(&gateway);
    assert_eq!(broken.last().json()["model"], "x");
    said(&portcullis(&gateway, "inference set --config-routes"));
    asks(&gateway);
    assert_eq!(provider.last().json()["model"], "gpt-5");
}

#[test]
fn a_choice_holds_for_the_next_request_and_after_a_restart() {
    let (first, second) = (Provider::tls(), Provider::tls());
    let mut gateway = gateway(&pinned(&first));
    let line =
        format!("inference set openai/other --endpoint {} --credential key", second.https("/v1"));
    let shown = said(&portcullis(&gateway, &line));
    assert!(shown.contains("openai/other (runtime)"), "{shown}");
    assert_eq!(asks(&gateway), 200);
    assert_eq!(second.last().json()["model"], "other");
    let before = second.asks().len();
    // It is written a moment later, and the gateway is killed next.
    let told = |e: &Value| e["event"] == "inference" && e["routes"] == "openai/other";
    wait_for(PATIENCE, || gateway.events("default").iter().any(told).then_some(()));
    gateway.restart(&[("TEST_KEY".to_owned(), inference_kit::KEY.to_owned())]);
    assert_eq!(asks(&gateway), 200);
    assert_eq!((first.asks().len(), second.asks().len()), (0, before + 1));
    let shown = &objects(&portcullis(&gateway, "inference show -o json"))[0];
    assert_eq!((&shown["source"], &shown["tokens_per_day"]), (&json!("runtime"), &json!(1000)));
}

#[test]
fn errors_are_counted_on_the_route_that_made_them_also_where_another_stood_in() {
    let first = Provider::tls_instead(|_, out| {
        whole(out, 503, "", &json!({"error":{"message":"words of the provider"}})).unwrap();
        Did::Answered
    });
    let second = Provider::tls();
    let gateway = gateway(&format!(
        "    routes:\n      - {{ provider: openai, endpoint: \"{}\", credential: key, fallback: [second] }}\n      \
         - {{ name: second, match: never, provider: openai, endpoint: \"{}\", credential: key, model: spare }}\n    \
         budget: {{ tokens_per_day: 1000 }}\n",
        first.https("/v1"),
        second.https("/v1")
    ));
    let shown = || objects(&portcullis(&gateway, "inference -o json")).remove(0);
    let fresh = shown();
    assert_eq!(
        (&fresh["routes"][0]["key"], &fresh["routes"][0]["errors"]),
        (&json!("available"), &json!(0))
    );
    assert_eq!((asks(&gateway), asks(&gateway)), (200, 200));
    let after = shown();
    let (failed, stood_in) = (&after["routes"][0], &after["routes"][1]);
    assert_eq!((&failed["errors"], &failed["key"]), (&json!(2), &json!("available")));
    assert_eq!(failed["last_error"]["text"], "the provider answered 503 Service Unavailable");
    assert!(failed["last_error"]["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&stood_in["errors"], &stood_in["last_error"]), (&json!(0), &Value::Null));
    assert_eq!(after["today"], json!({"requests": 2, "failed": 0, "input": 22, "output": 14}));
    let usage = said(&portcullis(&gateway, "inference usage"));
    assert!(usage.contains("main[0]: 2 errors, the last at "), "{usage}");
    assert!(!usage.contains("words of the provider") && !usage.contains("second: "), "{usage}");
    let line = "inference set openai/m --no-verify --credential key --endpoint";
    said(&portcullis(&gateway, &format!("{line} {}", second.https("/v1"))));
    said(&portcullis(&gateway, "inference set --config-routes"));
    assert_eq!(shown()["routes"][0]["errors"], 0, "other routes begin anew");
}

#[test]
fn a_credential_that_has_no_value_is_said_with_the_route_that_it_pays() {
    let provider = Provider::tls();
    let gateway = gateway(&pinned(&provider).replace("credential: key", "credential: other"));
    assert_eq!(asks(&gateway), 502);
    let shown = || objects(&portcullis(&gateway, "inference -o json")).remove(0);
    let route = &shown()["routes"][0];
    assert_eq!((&route["key"], &route["errors"]), (&json!("failing"), &json!(1)));
    assert!(route["key_error"]["text"].as_str().unwrap().contains("other-key"), "{route}");
    assert!(route["last_error"]["text"].as_str().unwrap().contains("`other`"), "{route}");
    std::fs::write(gateway.dir.path().join("other-key"), format!("{}\n", inference_kit::KEY))
        .unwrap();
    assert_eq!(asks(&gateway), 200);
    let shown = shown();
    assert!(!shown.to_string().contains(inference_kit::KEY), "{shown}");
    let route = &shown["routes"][0];
    assert_eq!((&route["key"], &route["key_error"]), (&json!("available"), &Value::Null));
}

#[test]
fn a_provider_that_was_set_on_the_running_gateway_does_not_tell_the_key_on_another_way() {
    let paid = Provider::tls_instead(|ask, out| {
        if ask.target != "/echo" {
            return Did::Nothing;
        }
        whole(out, 200, "", &json!({ "you sent before": inference_kit::KEY })).unwrap();
        Did::Answered
    });
    let port = paid.origin.port();
    let plain = Provider::plain();
    let route = format!("    provider: vllm\n    endpoint: {}\n", plain.http("/v1"));
    let mut setup = inference_kit::setup(&route);
    setup.policy = common::Setup::allow_all(&["origin.test"], port).policy;
    let gateway = setup.start();
    let echo = || {
        let authority = format!("origin.test:{port}");
        let mut tls = gateway.tls(&authority, "origin.test", &["http/1.1"]);
        write!(tls, "GET /echo HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        inference_kit::got(&mut tls).body
    };
    assert!(echo().contains(inference_kit::KEY), "nobody gave it a key yet");
    let endpoint = paid.https("/v1");
    let line =
        format!("inference set openai/gpt-5 --endpoint {endpoint} --credential key --no-verify");
    said(&portcullis(&gateway, &line));
    let text = echo();
    assert!(!text.contains(inference_kit::KEY) && text.contains("***"), "{text}");
}
