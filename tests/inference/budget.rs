//! What a sandbox's model calls may cost: budgets, what is held for calls under way, responses that
//! are worked on in the background, and what a restart must not forget.

use crate::common::{self, Gateway, PATIENCE, wait_for};
use crate::inference_kit::{self, Did, Got, Provider, call, chat_body, gateway, usage, whole};
use serde_json::{Value, json};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

/// A route to a provider on loopback, with a budget.
fn route(provider: &Provider, kind: &str, budget: &str) -> String {
    format!(
        "    provider: {kind}\n    endpoint: {}\n    credential: key\n    budget: {{ {budget} }}\n",
        provider.http(if kind == "openai-compatible" { "/v1" } else { "" })
    )
}

fn spent(gateway: &Gateway) -> u64 {
    usage(gateway)["spent_today"].as_u64().unwrap()
}

fn respond(gateway: &Gateway, more: &str) -> Got {
    let body = format!("{{\"model\":\"m\",\"input\":\"hi\"{more}}}");
    call(gateway, "POST", "/v1/responses", "", &body)
}

#[test]
fn a_days_tokens_and_a_minutes_calls_are_refused_in_the_providers_own_shape() {
    let provider = Provider::plain();
    let routes = |kind: &str, budget: &str| {
        format!(
            "    provider: {kind}\n    endpoint: {}\n    credential: key\n    budget: {{ {budget} }}\n",
            provider.http("")
        )
    };
    let tokens = gateway(&routes("anthropic-compatible", "tokens_per_day: 35"));
    let ask = |gateway: &common::Gateway| {
        call(gateway, "POST", "/v1/messages", "", &chat_body("m", false))
    };
    assert_eq!(ask(&tokens).status, 200);
    assert_eq!(ask(&tokens).status, 200, "20 of 35 are spent");
    let refused = ask(&tokens);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert!(refused.body.contains("35 tokens"), "{}", refused.body);
    assert_eq!(common::header(&refused.head, "x-should-retry").unwrap(), "false");
    let wait: u64 = common::header(&refused.head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait));
    assert_eq!(tokens.record(3)["code"], "token_budget");
    // To count tokens costs none.
    let counted = call(&tokens, "POST", "/v1/messages/count_tokens", "", &chat_body("m", false));
    assert_eq!((counted.status, &counted.json()["input_tokens"]), (200, &json!(9)));
    let calls = gateway(&routes("ollama", "requests_per_minute: 1"));
    let body = "{\"model\":\"m\",\"stream\":false}";
    assert_eq!(call(&calls, "POST", "/api/chat", "", body).status, 200);
    let refused = call(&calls, "POST", "/api/chat", "", body);
    assert_eq!(refused.status, 429);
    assert!(refused.json()["error"].as_str().unwrap().contains("1 model calls a minute"));
    provider.asks();
}

#[test]
fn calls_at_once_do_not_overdraw_the_day_together() {
    let (came, comes) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let provider = Provider::plain_instead(move |ask, _| {
        if ask.body.contains("slow") {
            came.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
        }
        Did::Nothing
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 1000"));
    let chat = |more: &str| {
        let body = format!("{{\"model\":\"m\",\"messages\":[]{more}}}");
        call(&gateway, "POST", "/v1/chat/completions", "", &body)
    };
    std::thread::scope(|scope| {
        // It states no limit, and is let through: nothing else is under way.
        let slow = scope.spawn(|| chat(",\"user\":\"slow\""));
        comes.recv_timeout(PATIENCE).unwrap();
        let refused = chat(",\"max_tokens\":1");
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!(refused.body.contains("calls under way"), "{}", refused.body);
        assert_eq!(common::header(&refused.head, "retry-after").unwrap(), "5");
        assert_eq!(common::header(&refused.head, "x-should-retry"), None);
        assert_eq!(gateway.record(1)["code"], "tokens_held");
        // What costs nothing is not held up by it.
        assert_eq!(call(&gateway, "GET", "/v1/models", "", "").status, 200);
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap().status, 200);
        // With stated limits they fit beside each other.
        let slow = scope.spawn(|| chat(",\"user\":\"slow\",\"max_tokens\":500"));
        comes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(chat(",\"max_tokens\":100").status, 200);
        assert_eq!(chat(",\"max_tokens\":100,\"n\":5").status, 429);
        go.send(()).unwrap();
        assert_eq!(slow.join().unwrap().status, 200);
    });
}

#[test]
fn a_restart_forgets_neither_what_was_spent_nor_what_was_made() {
    let provider = Provider::plain();
    let mut gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 15"));
    assert_eq!(respond(&gateway, "").status, 200);
    assert_eq!(spent(&gateway), 10);
    let env = [("TEST_KEY".to_owned(), inference_kit::KEY.to_owned())];
    gateway.signal("TERM");
    gateway.wait();
    gateway.restart(&env);
    assert_eq!(spent(&gateway), 10, "a gateway that stops keeps all");
    assert_eq!(call(&gateway, "GET", "/v1/responses/resp_1", "", "").status, 200);
    assert_eq!(respond(&gateway, "").status, 200);
    // What a gateway that is killed forgets is the last second's.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    gateway.restart(&env);
    assert_eq!(spent(&gateway), 20);
    let refused = respond(&gateway, "");
    assert_eq!((refused.status, refused.body.contains("used up")), (429, true), "{refused:?}");
}

#[test]
fn a_response_that_the_sandbox_did_not_make_is_nobodys() {
    let provider = Provider::plain();
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 100000"));
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ] {
        let refused = call(&gateway, method, path, "", "");
        assert_eq!(refused.status, 404, "{method} {path}: {refused:?}");
    }
    for follows in ["\"resp_1\"", "7", "\"\"", "[\"resp_1\"]"] {
        let refused = respond(&gateway, &format!(",\"previous_response_id\":{follows}"));
        assert_eq!(refused.status, 404, "{follows}: {refused:?}");
    }
    assert_eq!(provider.asks().len(), 0);
    assert_eq!(respond(&gateway, ",\"previous_response_id\":null").status, 200);
    assert_eq!(respond(&gateway, ",\"previous_response_id\":\"resp_1\"").status, 200);
    assert_eq!(call(&gateway, "GET", "/v1/responses/resp_1", "", "").status, 200);
}

/// A provider that works in the background: what it made is there the second time it is asked.
fn backgrounder() -> Provider {
    let asked = Arc::new(Mutex::new(0));
    Provider::plain_instead(move |ask, out| {
        let state = |status: &str, usage: Value| json!({"id":"resp_b","object":"response","status":status,"output":[],"usage":usage});
        let mut asked = asked.lock().unwrap();
        let answer = match &*ask.method {
            "POST" => state("queued", Value::Null),
            _ => {
                *asked += 1;
                match *asked {
                    1 => state("in_progress", Value::Null),
                    _ => state("completed", json!({"input_tokens":30,"output_tokens":70})),
                }
            }
        };
        whole(out, 200, "", &answer).unwrap();
        Did::Answered
    })
}

#[test]
fn work_in_the_background_counts_for_all_it_may_cost_until_its_cost_is_known() {
    let provider = backgrounder();
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 1000"));
    let asked = ",\"background\":true,\"max_output_tokens\":900";
    assert_eq!(respond(&gateway, asked).status, 200);
    let counted = spent(&gateway);
    assert!((901..1000).contains(&counted), "{counted}");
    let get = || call(&gateway, "GET", "/v1/responses/resp_b", "", "").json()["status"].clone();
    assert_eq!((get(), spent(&gateway)), (json!("in_progress"), counted));
    assert_eq!(gateway.record(2)["tokens"], Value::Null, "it is not known yet");
    assert_eq!(get(), "completed");
    assert_eq!(gateway.record(3)["tokens"], json!({"input":30,"output":70}));
    wait_for(PATIENCE, || (spent(&gateway) == 100).then_some(()));
    // Known once, it is not counted again.
    assert_eq!(get(), "completed");
    assert_eq!(spent(&gateway), 100);
    let model = &usage(&gateway)["usage"][0];
    assert_eq!((&model["input"], &model["output"]), (&json!(30), &json!(70)));
    assert_eq!((&model["requests"], &model["estimated"]), (&json!(1), &json!(0)));
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_and_costs_what_came() {
    let provider = Provider::plain_instead(|_, out| {
        inference_kit::begin(out, "text/event-stream").unwrap();
        let event = json!({"choices":[{"delta":{"content":"x".repeat(400)}}]});
        inference_kit::chunk(out, &format!("data: {event}\n\n")).unwrap();
        Did::HungUp
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 100000"));
    let _ = call(&gateway, "POST", "/v1/chat/completions", "", &chat_body("m", true));
    gateway.record(1);
    let usage = usage(&gateway);
    assert_eq!((&usage["today"]["requests"], &usage["today"]["failed"]), (&json!(0), &json!(1)));
    assert_eq!(usage["usage"][0]["output"], 100);
    assert_eq!(usage["routes"][0]["errors"], 1, "{usage}");
}

#[test]
fn what_the_client_asked_wrongly_is_not_the_routes_error() {
    let provider = Provider::plain_instead(|ask, out| {
        let status = if ask.body.contains("wrong") { 400 } else { 401 };
        whole(out, status, "", &json!({"error":{"message":"no"}})).unwrap();
        Did::Answered
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 100000"));
    let chat = |body: &str| call(&gateway, "POST", "/v1/chat/completions", "", body).status;
    assert_eq!(chat("{\"model\":\"wrong\"}"), 400);
    assert_eq!(usage(&gateway)["routes"][0]["errors"], 0);
    assert_eq!(chat("{\"model\":\"m\"}"), 401);
    assert_eq!(usage(&gateway)["routes"][0]["errors"], 1);
}

#[test]
fn an_answer_whose_cost_could_not_be_read_is_not_asked_for() {
    let provider = Provider::plain_instead(|_, out| {
        // One that comes all the same is counted as a whole.
        let body = "\u{8}".repeat(4000);
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n").unwrap();
        write!(out, "Content-Length: 4000\r\n\r\n{body}").unwrap();
        Did::Answered
    });
    let routes = route(&provider, "gemini", "tokens_per_day: 100000");
    let gateway = gateway(&routes);
    let ask = |query: &str| {
        let path = format!("/v1beta/models/m:generateContent{query}");
        call(&gateway, "POST", &path, "", "{\"contents\":[]}").status
    };
    for query in [
        "?alt=proto",
        "?alt=media",
        "?alt=",
        "?alt",
        "?alt=sse&alt=proto",
        "?alt=%70roto",
        "?%61lt=proto",
    ] {
        assert_eq!(ask(query), 400, "{query}");
    }
    assert_eq!(provider.asks().len(), 0);
    for query in ["?$alt=proto", "?alt=json", ""] {
        assert_eq!(ask(query), 200, "{query}");
        assert!(!provider.last().target.contains("proto"));
    }
    assert_eq!(spent(&gateway), 3 * (1000 + 4));
}

#[test]
fn a_call_that_went_up_and_was_not_answered_in_time_counts_for_all_it_may_have_made() {
    let provider = Provider::plain_instead(|ask, _| {
        if ask.body.contains("slow") {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            return Did::HungUp;
        }
        if ask.body.contains("reset") { Did::HungUp } else { Did::Nothing }
    });
    let routes = route(&provider, "openai-compatible", "tokens_per_day: 100000");
    let gateway = gateway(&format!("{routes}    timeout: {{ first_byte: 500ms }}\n"));
    let chat = |text: &str| {
        let body = format!("{{\"model\":\"m\",\"max_tokens\":2000,\"user\":\"{text}\"}}");
        (call(&gateway, "POST", "/v1/chat/completions", "", &body).status, body.len() as u64)
    };
    let (status, slow) = chat("slow");
    assert_eq!((status, spent(&gateway)), (504, slow.div_ceil(4) + 2000));
    // What the provider threw away it read, and wrote nothing of.
    let (status, reset) = chat("reset");
    assert_eq!(status, 502);
    assert_eq!(spent(&gateway), slow.div_ceil(4) + 2000 + reset.div_ceil(4));
    assert_eq!(usage(&gateway)["today"]["failed"], 2);
}

#[test]
fn a_response_that_goes_on_from_another_is_taken_to_read_it() {
    let provider = Provider::plain_instead(|ask, out| {
        let usage = if ask.body.contains("resp_") {
            Value::Null
        } else {
            json!({"input_tokens":3000,"output_tokens":500})
        };
        whole(out, 200, "", &json!({"id":"resp_1","output":[],"usage":usage})).unwrap();
        Did::Answered
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 100000"));
    assert_eq!(respond(&gateway, "").status, 200);
    assert_eq!(spent(&gateway), 3500);
    // Its cost is not said: it read what was there before, at least.
    assert_eq!(respond(&gateway, ",\"previous_response_id\":\"resp_1\"").status, 200);
    let more = spent(&gateway) - 3500;
    assert!((3500..3600).contains(&more), "{more}");
}

#[test]
fn a_stream_in_the_background_that_breaks_off_can_be_asked_for() {
    let provider = Provider::plain_instead(|ask, out| {
        if ask.method == "GET" {
            let usage = json!({"input_tokens":4,"output_tokens":6});
            whole(out, 200, "", &json!({"id":"resp_cut","usage":usage})).unwrap();
            return Did::Answered;
        }
        inference_kit::begin(out, "text/event-stream").unwrap();
        let event = json!({"type":"response.created","response":{"id":"resp_cut","usage":null}});
        inference_kit::chunk(out, &format!("data: {event}\n\n")).unwrap();
        Did::HungUp
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 1000000"));
    let _ = respond(&gateway, ",\"stream\":true,\"background\":true");
    gateway.record(1);
    assert!(spent(&gateway) > 131_072, "as much as any model writes");
    assert_eq!(call(&gateway, "GET", "/v1/responses/resp_cut", "", "").status, 200);
    wait_for(PATIENCE, || (spent(&gateway) == 10).then_some(()));
}

#[test]
fn a_list_of_prompts_is_held_as_many_calls() {
    let (came, comes) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let provider = Provider::plain_instead(move |_, _| {
        came.send(()).unwrap();
        goes.lock().unwrap().recv().unwrap();
        Did::Nothing
    });
    let gateway = gateway(&route(&provider, "openai-compatible", "tokens_per_day: 10000"));
    let complete = |prompts: usize| {
        let body = json!({"model":"m","max_tokens":100,"prompt":vec!["x"; prompts]}).to_string();
        call(&gateway, "POST", "/v1/completions", "", &body).status
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| complete(1));
        comes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(complete(500), 429);
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap(), 200);
    });
}
