//! Who stands in when a provider can't be reached, is busy or fails; how long anything may take.

use crate::common;
use crate::http_kit;
use crate::inference_kit::{self, Did, Provider, begin, call, chat_body, chunk, gateway, whole};
use serde_json::json;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Two routes, the second standing in for the first.
fn two(first: &str, second: &str, more: &str) -> String {
    format!(
        "    routes:\n      - {{ provider: openai, endpoint: \"{first}\", credential: key, fallback: [second] }}\n      \
         - {{ name: second, match: never, provider: openai, endpoint: \"{second}\", credential: key, model: spare }}\n{more}"
    )
}

fn chat(gateway: &common::Gateway) -> inference_kit::Got {
    call(gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false))
}

/// A provider over HTTP/2 that refuses the stream of the first call, and does nothing with it.
#[test]
fn what_a_provider_did_not_take_is_asked_once_more() {
    let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let taken = bodies.clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let provider = http_kit::H2Origin::tls(move |asked, mut respond| {
        let (taken, first) = (taken.clone(), calls.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            let (body, _) = http_kit::collect(asked.into_body()).await;
            if first {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                return;
            }
            taken.lock().unwrap().push(body);
            http_kit::reply(
                respond,
                200,
                br#"{"id":"c1","object":"chat.completion","choices":[]}"#,
            );
        }
    });
    let endpoint = format!("https://origin.test:{}/v1", provider.port());
    let gateway = gateway(&format!(
        "    routes:\n      - {{ provider: openai, endpoint: \"{endpoint}\", credential: key }}\n"
    ));
    let got = chat(&gateway);
    assert_eq!(got.status, 200, "{got:?}");
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 1);
    assert_eq!(gateway.record(1)["upload"], bodies[0].len(), "what went up twice counts once");
}

#[test]
fn a_provider_that_is_not_there_is_stood_in_for() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let second = Provider::tls();
    let first = format!("https://origin.test:{port}/v1");
    let gateway = gateway(&two(&first, &second.https("/v1"), ""));
    let got = chat(&gateway);
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(second.last().json()["model"], "spare");
    let record = gateway.record(1);
    assert_eq!((&record["route"], &record["model"]), (&json!("second"), &json!("spare")));
    assert_eq!(gateway.records(1).len(), 1, "one request, one record");
}

#[test]
fn busy_with_a_time_to_come_back_and_failing_are_stood_in_for_and_nothing_else() {
    let say = Arc::new(Mutex::new((429, "retry-after: 3\r\n")));
    let said = say.clone();
    let first = Provider::tls_instead(move |_, out| {
        let (status, fields) = *said.lock().unwrap();
        whole(out, status, fields, &json!({"error":{"message":"first says no"}})).unwrap();
        Did::Answered
    });
    let second = Provider::tls();
    let gateway = gateway(&two(&first.https("/v1"), &second.https("/v1"), ""));
    for (status, fields, stands_in) in [
        (429, "retry-after: 3\r\n", true),
        (429, "", false),
        (500, "", true),
        (503, "", true),
        (529, "", true),
        (400, "", false),
        (401, "", false),
    ] {
        *say.lock().unwrap() = (status, fields);
        let before = second.asks().len();
        let got = chat(&gateway);
        let after = second.asks().len();
        assert_eq!(after > before, stands_in, "{status} {fields}");
        assert_eq!(got.status, if stands_in { 200 } else { status }, "{got:?}");
        if !stands_in {
            assert_eq!(got.json()["error"]["message"], "first says no");
        }
    }
    first.asks();
}

#[test]
fn the_last_ones_failure_is_the_clients() {
    let fails = |text: &'static str| {
        Provider::tls_instead(move |_, out| {
            whole(out, 503, "", &json!({"error":{"message":text}})).unwrap();
            Did::Answered
        })
    };
    let (first, second) = (fails("first"), fails("second"));
    let gateway = gateway(&two(&first.https("/v1"), &second.https("/v1"), ""));
    let got = chat(&gateway);
    assert_eq!((got.status, &got.json()["error"]["message"]), (503, &json!("second")));
}

#[test]
fn after_the_first_byte_nobody_stands_in() {
    let first = Provider::tls_instead(|_, out| {
        begin(out, "text/event-stream").unwrap();
        chunk(out, "data: {\"choices\":[{\"delta\":{\"content\":\"half of\"}}]}\n\n").unwrap();
        // The connection breaks.
        Did::HungUp
    });
    let second = Provider::tls();
    let gateway = gateway(&two(&first.https("/v1"), &second.https("/v1"), ""));
    let mut stream = inference_kit::send(&gateway, &chat_body("m", true));
    let all = common::read_all(&mut stream);
    let text = String::from_utf8_lossy(&all);
    assert!(text.contains("half of") && !text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(second.asks().len(), 0);
    let record = gateway.record(1);
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["tokens"]["estimated"], true);
}

#[test]
fn a_stream_that_stands_still_and_an_answer_that_does_not_begin_are_given_up() {
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (_never, forever) = mpsc::sync_channel::<()>(1);
    let forever = Arc::new(Mutex::new(forever));
    let count = (first.clone(), second.clone());
    let provider = Provider::tls_instead(move |ask, out| {
        if ask.body.contains("\"stream\":true") {
            count.0.fetch_add(1, Ordering::SeqCst);
            begin(out, "text/event-stream").unwrap();
            chunk(out, "data: {\"choices\":[]}\n\n").unwrap();
        }
        count.1.fetch_add(1, Ordering::SeqCst);
        let _: Result<(), _> = forever.lock().unwrap().recv();
        Did::Answered
    });
    let more = "    timeout: { first_byte: 300ms, idle: 300ms }\n";
    let routes = format!(
        "    provider: openai\n    endpoint: {}\n    credential: key\n{more}",
        provider.https("/v1")
    );
    let gateway = gateway(&routes);
    let mut stream = inference_kit::send(&gateway, &chat_body("m", true));
    let all = String::from_utf8_lossy(&common::read_all(&mut stream)).into_owned();
    assert!(all.contains("choices") && !all.ends_with("0\r\n\r\n"), "{all}");
    assert_eq!(gateway.record(1)["code"], "idle_timeout");
    // The stand-in serves one connection at a time here: the next one is never answered.
    let got = chat(&gateway);
    assert_eq!((got.status, &got.json()["error"]["type"]), (504, &json!("server_error")));
    assert_eq!(gateway.record(2)["code"], "first_byte_timeout");
}

#[test]
fn a_client_that_leaves_takes_its_call_back() {
    let (gone, left) = mpsc::sync_channel::<&'static str>(4);
    let gone = Mutex::new(gone);
    let origin = common::Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
        let head = common::read_head(&mut stream);
        let length = common::header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let streams = String::from_utf8_lossy(&body).contains("\"stream\":true");
        if streams {
            begin(&mut stream, "text/event-stream").unwrap();
            // Until the gateway hangs up.
            while chunk(&mut stream, "data: {}\n\n").is_ok() {
                std::thread::yield_now();
            }
            return gone.lock().unwrap().send("in its stream").unwrap();
        }
        let mut byte = [0];
        drop(stream.read(&mut byte));
        gone.lock().unwrap().send("before its answer").unwrap();
    });
    let routes = format!(
        "    provider: openai\n    endpoint: https://origin.test:{}/v1\n    credential: key\n",
        origin.port()
    );
    let gateway = gateway(&routes);
    for (number, streams, when) in [(1, false, "before its answer"), (2, true, "in its stream")] {
        let mut stream = gateway.connect();
        let body = chat_body("m", streams);
        write!(
            stream,
            "POST http://inference.local/v1/chat/completions HTTP/1.1\r\nHost: inference.local\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        if streams {
            common::read_head(&mut stream);
        } else {
            common::wait_for(common::PATIENCE, || (origin.connections() > 0).then_some(()));
        }
        drop(stream);
        assert_eq!(left.recv_timeout(common::PATIENCE).unwrap(), when);
        assert_eq!(gateway.record(number)["code"], "client_gone");
    }
}

#[test]
fn a_kept_connection_that_the_provider_closed_is_no_failure() {
    let (closed, closes) = mpsc::sync_channel::<()>(8);
    let origin = common::Origin::plain(move |mut recorded| {
        common::read_request(&mut recorded);
        whole(&mut recorded, 200, "", &json!({"choices":[]})).unwrap();
        // It hangs up, and the gateway has seen it when it hangs up too.
        recorded.stream.shutdown(std::net::Shutdown::Write).unwrap();
        common::read_all(&mut recorded);
        closed.send(()).unwrap();
    });
    let port = origin.port();
    let endpoint = format!("http://127.0.0.1:{port}/v1");
    let gateway = gateway(&format!("    provider: vllm\n    endpoint: {endpoint}\n"));
    for _ in 0..3 {
        assert_eq!(chat(&gateway).status, 200);
        closes.recv_timeout(common::PATIENCE).unwrap();
    }
}
