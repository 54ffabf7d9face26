//! What a provider says is no way for a key to the sandbox, nor for a call past what was counted.

use crate::common;
use crate::http_kit;
use crate::inference_kit::{self, Did, KEY, Provider, call, chat_body, whole};
use serde_json::json;
use std::io::Write;

/// A provider that says all that it is told, and the key that it got.
fn telling() -> Provider {
    Provider::tls_instead(|ask, out| {
        let key = ask.field("authorization").unwrap_or_default();
        let key = key.strip_prefix("Bearer ").unwrap_or(KEY);
        let body = match ask.target.as_str() {
            "/v1/models" => {
                let escaped: String = key.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
                let text = format!(
                    "{{\"data\":[{{\"id\":\"gpt\"}},{{\"id\":\"{key}\"}},{{\"id\":\"{escaped}\"}}]}}"
                );
                serde_json::from_str(&text).unwrap()
            }
            _ => json!({ "id": "c1", "object": "chat.completion", "choices": [], "prev": KEY }),
        };
        whole(out, 200, "", &body).unwrap();
        Did::Answered
    })
}

/// The models, as OpenAI's shape lists them.
fn models(gateway: &common::Gateway) -> inference_kit::Got {
    let mut stream = gateway.connect();
    let ask = "GET http://inference.local/v1/models HTTP/1.1\r\nHost: inference.local\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    inference_kit::got(&mut stream)
}

#[test]
fn a_list_of_models_that_names_the_key_does_not_tell_it() {
    let provider = telling();
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n",
        provider.https("/v1")
    ));
    let got = models(&gateway);
    assert_eq!(got.status, 200);
    assert!(!got.body.contains(KEY) && got.body.contains("***"), "{}", got.body);
    assert!(got.body.contains("\"gpt\""), "{}", got.body);
}

#[test]
fn a_list_that_comes_compressed_is_none() {
    let provider = Provider::tls_instead(|_, out| {
        whole(out, 200, "content-encoding: gzip\r\n", &json!({ "data": [] })).unwrap();
        Did::Answered
    });
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n",
        provider.https("/v1")
    ));
    assert_eq!(models(&gateway).status, 502);
}

/// The key of another request to the same host: one that was bound to it, or another route's.
#[test]
fn an_answer_is_searched_for_every_key_that_its_host_may_know() {
    let (paid, free) = (telling(), Provider::plain());
    let port = paid.origin.port();
    let routes = format!(
        "    routes:\n      - {{ match: \"a-*\", provider: openai-compatible, endpoint: \"{0}\" }}\n      \
         - {{ match: \"b-*\", provider: openai-compatible, endpoint: \"{0}\", credential: second }}\n      \
         - {{ provider: vllm, endpoint: \"{1}\" }}\n",
        paid.https("/v1"),
        free.http("/v1"),
    );
    let mut setup = inference_kit::setup(&routes);
    setup.more += "inject:\n";
    setup.more += &format!(
        "  - {{ credential: key, host: origin.test, port: {port}, header: Authorization, format: \"Bearer {{}}\", addresses: [127.0.0.1/32] }}\n"
    );
    setup.more = setup.more.replace("  other:", "  second: { env: SECOND_KEY }\n  other:");
    setup.env.push(("SECOND_KEY".to_owned(), "sk-second-0123456789".to_owned()));
    setup.policy = common::Setup::allow_all(&["origin.test"], port).policy;
    setup.sandbox += "    credentials: [key]\n";
    let gateway = setup.start();
    // The gateway has read the value once.
    let authority = format!("origin.test:{port}");
    let mut tls = gateway.tls(&authority, "origin.test", &["http/1.1"]);
    write!(tls, "GET /v1/x HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
    assert!(!inference_kit::got(&mut tls).body.contains(KEY));
    for model in ["a-1", "b-1"] {
        let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body(model, false));
        assert_eq!(got.status, 200, "{got:?}");
        assert!(!got.body.contains(KEY) && got.body.contains("***"), "{model}: {}", got.body);
    }
}

#[test]
fn no_charset_is_asked_for_in_which_a_key_is_not_found() {
    let provider = Provider::tls();
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n",
        provider.https("/v1")
    ));
    let fields = "Accept: application/json;charset=utf-16\r\n";
    let got = call(&gateway, "POST", "/v1/chat/completions", fields, &chat_body("m", false));
    assert_eq!(got.status, 200);
    let ask = provider.last();
    assert_eq!(ask.field("accept").unwrap(), "application/json");
    assert_eq!(ask.field("accept-encoding").unwrap(), "identity");
}

#[test]
fn nobody_goes_on_from_another_sandboxs_response_by_naming_two() {
    let provider = Provider::tls();
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n",
        provider.https("/v1")
    ));
    let respond = |more: &str| {
        let body = format!("{{\"model\":\"m\",\"input\":\"hi\"{more}}}");
        call(&gateway, "POST", "/v1/responses", "", &body).status
    };
    assert_eq!(respond(""), 200);
    assert_eq!(respond(",\"previous_response_id\":\"resp_1\""), 200, "its own");
    let before = provider.asks().len();
    assert_eq!(respond(",\"previous_response_id\":\"resp_9\""), 404);
    for two in [
        ",\"previous_response_id\":\"resp_9\",\"Previous_response_id\":\"resp_1\"",
        ",\"previous_response_id\":\"resp_9\",\"previous_response_id\":\"resp_1\"",
        ",\"Previous_response_id\":\"resp_9\"",
    ] {
        assert_eq!(respond(two), 400, "{two}");
    }
    assert_eq!(provider.asks().len(), before);
}

#[test]
fn a_list_that_is_asked_for_counts_as_a_call() {
    let provider = Provider::tls_instead(|_, out| {
        whole(out, 500, "", &json!({})).unwrap();
        Did::Answered
    });
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n    budget: {{ requests_per_minute: 3 }}\n",
        provider.https("/v1")
    ));
    let mut statuses: Vec<u16> = (0..6).map(|_| models(&gateway).status).collect();
    statuses.dedup();
    assert_eq!(statuses, [502, 429]);
    assert_eq!(provider.asks().len(), 3);
}

#[test]
fn a_query_is_read_as_sdks_write_it() {
    let provider = Provider::tls();
    let gateway = inference_kit::gateway(&format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n",
        provider.https("/v1")
    ));
    call(&gateway, "POST", "/v1/responses", "", &chat_body("m", false));
    let target = "/v1/responses/resp_1?include%5B%5D=a&%73ecret=1&stream=false";
    assert_eq!(call(&gateway, "GET", target, "", "").status, 200);
    assert_eq!(provider.last().target, "/v1/responses/resp_1?include%5B%5D=a&stream=false");
    let proto = "/v1/responses/resp_1?%61lt=proto";
    assert_eq!(call(&gateway, "GET", proto, "", "").status, 400);
}

/// An HTTP/2 provider that says that it did nothing with a call has not taken it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_did_not_take_is_anothers_and_costs_nothing() {
    let refusing = http_kit::H2Origin::tls(move |asked, mut respond| async move {
        http_kit::collect(asked.into_body()).await;
        respond.send_reset(h2::Reason::REFUSED_STREAM);
    });
    let second = Provider::tls();
    let first = format!("https://origin.test:{}/v1", refusing.port());
    let routes = format!(
        "    routes:\n      - {{ name: one, provider: openai, endpoint: \"{first}\", credential: key, fallback: [two] }}\n      \
         - {{ name: two, provider: openai, endpoint: \"{}\", credential: key }}\n",
        second.https("/v1")
    );
    let gateway = inference_kit::gateway(&routes);
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(second.asks().len(), 1);
    // Where nobody stands in: it failed, and cost nothing.
    let alone = format!("    provider: openai\n    endpoint: {first}\n    credential: key\n");
    let gateway = inference_kit::gateway(&alone);
    let got = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false));
    assert_eq!(got.status, 502, "{got:?}");
    let usage = inference_kit::usage(&gateway);
    assert_eq!(
        (&usage["spent_today"], &usage["today"]["failed"]),
        (&json!(0), &json!(1)),
        "{usage}"
    );
}
