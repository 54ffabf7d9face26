//! What the calls of a sandbox may take together: room for their bodies, calls a minute; and what
//! counts of a call whose client did not wait for its answer.

use crate::common::{Gateway, Origin, PATIENCE, header, read_head, wait_for};
use crate::inference_kit::{
    Did, Got, Provider, begin, call, chat_body, gateway, got, send, setup, usage, whole,
};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

fn compatible(endpoint: &str, more: &str) -> String {
    format!(
        "    provider: openai-compatible\n    endpoint: {endpoint}\n    credential: key\n{more}"
    )
}

fn chat(gateway: &Gateway) -> Got {
    call(gateway, "POST", "/v1/chat/completions", "", &chat_body("m", false))
}

/// A body of this many bytes for the model `model`.
fn large(model: &str, bytes: usize) -> String {
    let (before, after) = (format!("{{\"model\":\"{model}\",\"x\":\""), "\"}");
    let pad = bytes - before.len() - after.len();
    [&before, &*"x".repeat(pad), after].concat()
}

/// Answers what is small. Of what is large it says that it came, and reads no more: it begins to
/// answer the model `begins` when it is told to, and no other.
fn stubborn() -> (Origin, mpsc::Receiver<()>, mpsc::SyncSender<()>) {
    let ((tell, told), (came, comes)) = (mpsc::sync_channel::<()>(1), mpsc::channel());
    let told = Mutex::new(told);
    let origin = Origin::plain(move |mut recorded| {
        loop {
            let head = read_head(&mut recorded);
            let Some(length) = header(&head, "content-length") else { return };
            let mut body = vec![0; length.parse::<usize>().unwrap().min(1000)];
            recorded.read_exact(&mut body).unwrap();
            if body.len() < 1000 {
                whole(&mut recorded, 200, "", &json!({"choices": []})).unwrap();
                continue;
            }
            came.send(()).unwrap();
            if body.starts_with(b"{\"model\":\"begins\"") {
                told.lock().unwrap().recv().unwrap();
                begin(&mut recorded, "text/event-stream").unwrap();
            }
            // Until the gateway hangs up, which may wait for what it sends to be read.
            while recorded.stream.peek(&mut [0; 1]).is_ok_and(|n| n > 0) {
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
            return;
        }
    });
    (origin, comes, tell)
}

#[test]
fn bodies_that_wait_for_their_answers_have_128_mib_and_who_finds_none_is_told_so() {
    const EACH: usize = 32 << 20;
    let (origin, comes, tell) = stubborn();
    let routes = compatible(&format!("http://127.0.0.1:{}/v1", origin.port()), "");
    let gateway = setup(&routes).more("timeout: { first_byte: 3s }\n").start();
    let hold = |model: &str| {
        let stream = send(&gateway, &large(model, EACH));
        // Its body was read, and it waits for its answer.
        comes.recv_timeout(PATIENCE).unwrap();
        stream
    };
    let mut begins = hold("begins");
    let mut others = vec![hold("a"), hold("b"), hold("c")];
    let refused = chat(&gateway);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.body.contains("hold all the room"), "{}", refused.body);
    assert_eq!(gateway.record(1)["code"], "no_room");
    // An answer that begins gives back the room of its call.
    tell.send(()).unwrap();
    assert!(read_head(&mut begins).contains("text/event-stream"));
    assert_eq!(chat(&gateway).status, 200);
    // So does a client that leaves.
    others.push(hold("d"));
    let waits = send(&gateway, &chat_body("m", false));
    drop(others.pop());
    assert_eq!(got(&mut { waits }).status, 200);
}

/// The highest that the gateway's memory was, in KiB.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_body_of_very_many_chunks_takes_no_more_room_than_its_bytes() {
    const CHUNKS: usize = 200_000;
    let provider = Provider::plain();
    let gateway = gateway(&compatible(&provider.http("/v1"), ""));
    assert_eq!(chat(&gateway).status, 200);
    let body = large("m", CHUNKS);
    let mut wire = b"POST http://inference.local/v1/chat/completions HTTP/1.1\r\n\
                     Host: inference.local\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for byte in body.bytes() {
        wire.extend_from_slice(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
    }
    let before = peak(&gateway);
    let mut streams: Vec<TcpStream> = (0..4).map(|_| gateway.connect()).collect();
    // All are as good as whole before the first is.
    std::thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(|| stream.write_all(&wire).unwrap());
        }
    });
    for stream in &mut streams {
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(got(stream).status, 200);
    }
    let grown = peak(&gateway) - before;
    assert!(provider.asks()[1..].iter().all(|ask| ask.body == body));
    assert!(grown < 32 << 10, "4 bodies of {CHUNKS} bytes took {grown} KiB");
}

#[test]
fn a_call_whose_client_left_before_the_answer_failed_and_its_request_is_counted() {
    let (_never, forever) = mpsc::sync_channel::<()>(1);
    let forever = Mutex::new(forever);
    let provider = Provider::plain_instead(move |_, _| {
        let _: Result<(), _> = forever.lock().unwrap().recv();
        Did::HungUp
    });
    let gateway = gateway(&compatible(&provider.http("/v1"), ""));
    let stream = send(&gateway, &large("m", 4001));
    wait_for(PATIENCE, || (!provider.asks().is_empty()).then_some(()));
    assert_eq!(usage(&gateway)["today"]["input"], 0);
    drop(stream);
    assert_eq!(gateway.record(1)["code"], "client_gone");
    let shown = wait_for(PATIENCE, || Some(usage(&gateway)).filter(|s| s["today"]["failed"] == 1));
    assert_eq!(shown["today"], json!({"requests": 0, "failed": 1, "input": 1001, "output": 0}));
    let model = &shown["usage"][0];
    for (count, expected) in
        [("requests", 0), ("failed", 1), ("estimated", 1), ("input", 1001), ("output", 0)]
    {
        assert_eq!(model[count], expected, "{count}: {shown}");
    }
}

#[test]
fn calls_that_cost_no_tokens_count_as_calls() {
    let provider = Provider::tls();
    let routes = |kind: &str, path: &str| {
        format!(
            "    provider: {kind}\n    endpoint: {}\n    credential: key\n    \
             budget: {{ requests_per_minute: 2 }}\n",
            provider.https(path)
        )
    };
    let counting = ("anthropic", "", "POST", "/v1/messages/count_tokens");
    let kept = ("openai", "/v1", "GET", "/v1/responses/resp_1");
    for (kind, path, method, target) in [counting, kept] {
        let gateway = gateway(&routes(kind, path));
        let body = if method == "POST" { chat_body("m", false) } else { String::new() };
        let free = || call(&gateway, method, target, "", &body);
        if method == "GET" {
            let made = call(&gateway, "POST", "/v1/responses", "", &chat_body("m", false));
            assert_eq!(made.status, 200, "{made:?}");
        } else {
            assert_eq!(free().status, 200);
        }
        assert_eq!(free().status, 200, "{target}");
        let refused = free();
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!(refused.body.contains("2 model calls a minute"), "{}", refused.body);
        assert_eq!(gateway.record(3)["code"], "call_budget");
    }
    assert_eq!(provider.asks().len(), 4);
}
