//! A stand-in for every provider, that checks what it receives, and a gateway in front of it.
//!
//! It answers in the shape that its path belongs to: whole or as a stream, with a call of the
//! first tool that is offered until the tool's result is among the messages.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use super::common::{Gateway, Origin, Setup, header, read_head};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// The key that the operator has. No client ever sends it, and none ever sees it.
pub const KEY: &str = "sk-operator-0123456789abcdef";
/// What agents hold instead.
pub const PLACEHOLDER: &str = "sk-placeholder-of-the-agent";

/// One request as the provider got it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub head: String,
    pub body: String,
}

impl Ask {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn field(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

/// What a provider has done with a request instead of answering as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    Nothing,
    Answered,
    HungUp,
}

/// What a provider does with a request before it answers as usual.
pub type Instead = dyn Fn(&Ask, &mut dyn Write) -> Did + Send + Sync;

/// A provider.
pub struct Provider {
    pub origin: Origin,
    pub asks: Arc<Mutex<Vec<Ask>>>,
    /// What it received and should not have.
    pub faults: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// Over TLS as `origin.test`.
    pub fn tls() -> Self {
        Self::tls_instead(|_, _| Did::Nothing)
    }

    pub fn tls_instead(
        instead: impl Fn(&Ask, &mut dyn Write) -> Did + Send + Sync + 'static,
    ) -> Self {
        let (asks, faults, instead) = shared(instead);
        let (seen, wrong) = (asks.clone(), faults.clone());
        let origin = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
            serve(&mut stream, &seen, &wrong, &*instead);
        });
        Self { origin, asks, faults }
    }

    /// Without TLS, on loopback.
    pub fn plain() -> Self {
        Self::plain_instead(|_, _| Did::Nothing)
    }

    pub fn plain_instead(
        instead: impl Fn(&Ask, &mut dyn Write) -> Did + Send + Sync + 'static,
    ) -> Self {
        let (asks, faults, instead) = shared(instead);
        let (seen, wrong) = (asks.clone(), faults.clone());
        let origin = Origin::plain(move |mut recorded| {
            serve(&mut recorded.stream, &seen, &wrong, &*instead);
        });
        Self { origin, asks, faults }
    }

    /// `https://origin.test:PORT` and a path.
    pub fn https(&self, path: &str) -> String {
        format!("https://origin.test:{}{path}", self.origin.port())
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.origin.port())
    }

    /// The requests so far. Nothing among them may be at fault.
    #[track_caller]
    pub fn asks(&self) -> Vec<Ask> {
        let faults = self.faults.lock().unwrap();
        assert!(faults.is_empty(), "the provider received what it should not: {faults:#?}");
        self.asks.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn last(&self) -> Ask {
        self.asks().pop().expect("nothing reached the provider")
    }
}

type Shared = (Arc<Mutex<Vec<Ask>>>, Arc<Mutex<Vec<String>>>, Arc<Instead>);

fn shared(instead: impl Fn(&Ask, &mut dyn Write) -> Did + Send + Sync + 'static) -> Shared {
    (Arc::default(), Arc::default(), Arc::new(instead))
}

fn serve(
    stream: &mut (impl Read + Write),
    asks: &Mutex<Vec<Ask>>,
    faults: &Mutex<Vec<String>>,
    instead: &Instead,
) {
    loop {
        let head = read_head(stream);
        let mut words = head.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let length = header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let ask = Ask {
            method: method.to_owned(),
            target: target.to_owned(),
            body: String::from_utf8_lossy(&body).into_owned(),
            head,
        };
        faults.lock().unwrap().extend(wrong(&ask));
        asks.lock().unwrap().push(ask.clone());
        let goes_on = match instead(&ask, stream) {
            Did::Nothing => answer(&ask, stream).is_ok(),
            Did::Answered => true,
            Did::HungUp => false,
        };
        if !goes_on {
            return;
        }
    }
}

/// What a provider must never get: an agent's key, and fields that nobody let through.
fn wrong(ask: &Ask) -> Vec<String> {
    let mut faults = Vec::new();
    if format!("{}{}", ask.head, ask.body).contains(PLACEHOLDER) || ask.target.contains("key=") {
        faults.push(format!("an agent's key: {} {}", ask.target, ask.head));
    }
    let keys = ["authorization", "x-api-key", "x-goog-api-key"].map(|name| ask.field(name));
    let keys: Vec<String> = keys.into_iter().flatten().collect();
    let fine = matches!(&keys[..], [] | [_])
        && keys.iter().all(|key| key.strip_prefix("Bearer ").unwrap_or(key) == KEY);
    if !fine {
        faults.push(format!("keys {keys:?}: {}", ask.head));
    }
    const LET_THROUGH: [&str; 15] = [
        "host",
        "content-length",
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "accept",
        "content-type",
        "user-agent",
        "openai-beta",
        "idempotency-key",
        "x-client-request-id",
        "anthropic-version",
        "anthropic-beta",
        "nvcf-poll-seconds",
        "te",
    ];
    for line in ask.head.lines().skip(1).filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        let plain = line.eq_ignore_ascii_case("accept-encoding: identity");
        if !plain && !LET_THROUGH.contains(&&*name) {
            faults.push(format!("the field {line}"));
        }
    }
    faults
}

/// Writes a whole JSON answer.
pub fn whole(out: &mut dyn Write, status: u16, fields: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    write!(
        out,
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Writes the head of a stream.
pub fn begin(out: &mut dyn Write, kind: &str) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n")?;
    out.flush()
}

/// Writes one chunk of a stream; an empty one ends it.
pub fn chunk(out: &mut dyn Write, text: &str) -> std::io::Result<()> {
    write!(out, "{:x}\r\n{text}\r\n", text.len())?;
    out.flush()
}

fn stream(out: &mut dyn Write, kind: &str, chunks: &[String]) -> std::io::Result<()> {
    begin(out, kind)?;
    for each in chunks {
        chunk(out, each)?;
    }
    chunk(out, "")
}

const SSE: &str = "text/event-stream";

fn answer(ask: &Ask, out: &mut dyn Write) -> std::io::Result<()> {
    let path = ask.target.split('?').next().unwrap();
    let body = ask.json();
    let streams = body["stream"] == json!(true);
    match (ask.method.as_str(), path) {
        (_, p) if p.ends_with("/chat/completions") => chat(&body, streams, out),
        (_, p) if p.ends_with("/completions") => whole(
            out,
            200,
            "",
            &json!({"id":"cmpl-1","object":"text_completion","created":1,"model":body["model"],
                "choices":[{"index":0,"text":"Hello","finish_reason":"stop","logprobs":null}],
                "usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}),
        ),
        (_, p) if p.ends_with("/embeddings") => whole(
            out,
            200,
            "",
            &json!({"object":"list","model":body["model"],
                "data":[{"object":"embedding","index":0,"embedding":[0.1,0.2]}],
                "usage":{"prompt_tokens":5,"total_tokens":5}}),
        ),
        ("POST", p) if p.ends_with("/responses") => responses(&body, streams, out),
        ("DELETE", p) if p.contains("/responses/") => {
            whole(out, 200, "", &json!({"id":"resp_1","object":"response","deleted":true}))
        }
        (_, p) if p.contains("/responses/") => whole(out, 200, "", &response("completed")),
        (_, p) if p.ends_with("/count_tokens") => whole(out, 200, "", &json!({"input_tokens": 9})),
        (_, p) if p.ends_with("/messages") => messages(&body, streams, out),
        (_, p) if p.ends_with(":generateContent") => whole(out, 200, "", &gemini(&body)),
        (_, p) if p.ends_with(":streamGenerateContent") => {
            stream(out, SSE, &[format!("data: {}\r\n\r\n", gemini(&body))])
        }
        (_, p) if p.ends_with("/api/chat") => ollama(&body, out),
        (_, p) if p.ends_with("/api/embed") => whole(
            out,
            200,
            "",
            &json!({"model":body["model"],"embeddings":[[0.1]],"prompt_eval_count":4}),
        ),
        (_, p) if p.ends_with("/api/show") => {
            whole(out, 200, "", &json!({"details":{"family":"test"},"model_info":{}}))
        }
        (_, p) if p.ends_with("/api/tags") => {
            whole(out, 200, "", &json!({"models":[{"name":"qwen3:8b","model":"qwen3:8b"}]}))
        }
        (_, p) if p.ends_with("/models") => whole(
            out,
            200,
            "",
            &json!({"object":"list","data":[{"id":"gpt-5","object":"model"},{"id":"claude-opus","type":"model"}],
                "models":[{"name":"models/gemini-3"}]}),
        ),
        _ => whole(out, 404, "", &json!({"error": {"message": "no such path"}})),
    }
}

/// The name of the tool to call, if one is offered and its result is not there yet.
fn tool(body: &Value, name: fn(&Value) -> &Value) -> Option<String> {
    let told = body.to_string();
    let done = [
        "\"tool_call_id\"",
        "\"tool_result\"",
        "functionResponse",
        "\"role\":\"tool\"",
        "function_call_output",
    ];
    if done.iter().any(|done| told.contains(done)) {
        return None;
    }
    name(&body["tools"][0]).as_str().map(Into::into)
}

fn chat(body: &Value, streams: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let tool = tool(body, |tool| &tool["function"]["name"]);
    let usage = json!({"prompt_tokens":11,"completion_tokens":7,"total_tokens":18});
    let call = |arguments: &str| {
        json!([{"index":0,"id":"call_1","type":"function",
            "function":{"name":tool,"arguments":arguments}}])
    };
    if !streams {
        let message = match &tool {
            Some(_) => {
                json!({"role":"assistant","content":null,"tool_calls":call("{\"city\":\"Paris\"}")})
            }
            None => json!({"role":"assistant","content":"It is sunny."}),
        };
        let reason = if tool.is_some() { "tool_calls" } else { "stop" };
        return whole(
            out,
            200,
            "",
            &json!({"id":"chatcmpl-1","object":"chat.completion","created":1,"model":body["model"],
                "choices":[{"index":0,"message":message,"finish_reason":reason}],"usage":usage}),
        );
    }
    let event = |choices: Value, usage: Value| {
        let event = json!({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,
            "model":body["model"],"choices":choices,"usage":usage});
        format!("data: {event}\n\n")
    };
    let delta =
        |delta: Value| event(json!([{"index":0,"delta":delta,"finish_reason":null}]), Value::Null);
    let mut events = vec![delta(json!({"role":"assistant","content":""}))];
    let reason = match &tool {
        Some(_) => {
            events.push(delta(json!({"tool_calls":call("{\"city\":")})));
            events.push(delta(
                json!({"tool_calls":[{"index":0,"function":{"arguments":"\"Paris\"}"}}]}),
            ));
            "tool_calls"
        }
        None => {
            events.extend(["It ", "is ", "sunny."].map(|text| delta(json!({"content":text}))));
            "stop"
        }
    };
    events.push(event(json!([{"index":0,"delta":{},"finish_reason":reason}]), Value::Null));
    if body["stream_options"]["include_usage"] == json!(true) {
        events.push(event(json!([]), usage));
    }
    events.push("data: [DONE]\n\n".to_owned());
    stream(out, SSE, &events)
}

fn response(status: &str) -> Value {
    json!({"id":"resp_1","object":"response","created_at":1,"status":status,"model":"gpt-5",
        "output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed",
            "content":[{"type":"output_text","text":"It is sunny.","annotations":[]}]}],
        "parallel_tool_calls":true,"tool_choice":"auto","tools":[],"temperature":1.0,"top_p":1.0,
        "error":null,"incomplete_details":null,"instructions":null,"metadata":{},
        "usage":{"input_tokens":6,"output_tokens":4,"total_tokens":10,
            "input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}})
}

fn responses(body: &Value, streams: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if !streams {
        return whole(out, 200, "", &response("completed"));
    }
    let tool = tool(body, |tool| &tool["name"]);
    let mut number = 0;
    let mut event = |kind: &str, mut event: Value| {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(number);
        number += 1;
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let mut begun = response("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut events = vec![event("response.created", json!({"response":begun}))];
    let mut done = response("completed");
    if let Some(tool) = tool {
        let call = json!({"id":"fc_1","type":"function_call","status":"completed","call_id":"call_1",
            "name":tool,"arguments":"{\"city\":\"Paris\"}"});
        events.push(event("response.output_item.added", json!({"output_index":0,"item":call})));
        events.push(event("response.output_item.done", json!({"output_index":0,"item":call})));
        done["output"] = json!([call]);
    } else {
        let item = done["output"][0].clone();
        events.push(event("response.output_item.added", json!({"output_index":0,"item":item})));
        events.push(event(
            "response.output_text.delta",
            json!({"item_id":"msg_1","output_index":0,
            "content_index":0,"delta":"It is sunny.","logprobs":[]}),
        ));
        events.push(event("response.output_item.done", json!({"output_index":0,"item":item})));
    }
    events.push(event("response.completed", json!({"response":done})));
    stream(out, SSE, &events)
}

fn messages(body: &Value, streams: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let tool = tool(body, |tool| &tool["name"]);
    let block = match &tool {
        Some(name) => {
            json!({"type":"tool_use","id":"toolu_1","name":name,"input":{"city":"Paris"}})
        }
        None => json!({"type":"text","text":"It is sunny."}),
    };
    let reason = if tool.is_some() { "tool_use" } else { "end_turn" };
    if !streams {
        return whole(
            out,
            200,
            "",
            &json!({"id":"msg_1","type":"message","role":"assistant","model":body["model"],
                "content":[block],"stop_reason":reason,"stop_sequence":null,
                "usage":{"input_tokens":12,"output_tokens":8}}),
        );
    }
    let event = |kind: &str, mut event: Value| {
        event["type"] = json!(kind);
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let (opening, delta) = match &tool {
        Some(_) => {
            let mut opening = block.clone();
            opening["input"] = json!({});
            (opening, json!({"type":"input_json_delta","partial_json":"{\"city\":\"Paris\"}"}))
        }
        None => {
            (json!({"type":"text","text":""}), json!({"type":"text_delta","text":"It is sunny."}))
        }
    };
    let events = [
        event(
            "message_start",
            json!({"message":{"id":"msg_1","type":"message","role":"assistant",
            "model":body["model"],"content":[],"stop_reason":null,"stop_sequence":null,
            "usage":{"input_tokens":12,"output_tokens":1}}}),
        ),
        event("content_block_start", json!({"index":0,"content_block":opening})),
        event("ping", json!({})),
        event("content_block_delta", json!({"index":0,"delta":delta})),
        event("content_block_stop", json!({"index":0})),
        event(
            "message_delta",
            json!({"delta":{"stop_reason":reason,"stop_sequence":null},
            "usage":{"output_tokens":8}}),
        ),
        event("message_stop", json!({})),
    ];
    stream(out, SSE, &events)
}

fn gemini(body: &Value) -> Value {
    let tool = tool(body, |tool| &tool["functionDeclarations"][0]["name"]);
    let part = match tool {
        Some(name) => json!({"functionCall":{"name":name,"args":{"city":"Paris"}}}),
        None => json!({"text":"It is sunny."}),
    };
    json!({"candidates":[{"content":{"role":"model","parts":[part]},"finishReason":"STOP","index":0}],
        "usageMetadata":{"promptTokenCount":13,"candidatesTokenCount":9,"totalTokenCount":22},
        "modelVersion":"gemini-3"})
}

fn ollama(body: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    let message = match tool(body, |tool| &tool["function"]["name"]) {
        Some(name) => json!({"role":"assistant","content":"",
            "tool_calls":[{"function":{"name":name,"arguments":{"city":"Paris"}}}]}),
        None => json!({"role":"assistant","content":"It is sunny."}),
    };
    let at = "2026-01-01T00:00:00Z";
    let last = json!({"model":body["model"],"created_at":at,"message":{"role":"assistant","content":""},
        "done":true,"done_reason":"stop","prompt_eval_count":14,"eval_count":10});
    if body["stream"] == json!(false) {
        let mut last = last;
        last["message"] = message;
        return whole(out, 200, "", &last);
    }
    let first = json!({"model":body["model"],"created_at":at,"message":message,"done":false});
    stream(out, "application/x-ndjson", &[format!("{first}\n"), format!("{last}\n")])
}

/// A gateway whose sandbox has `routes` (the YAML below `main:`, indented by four spaces) and the
/// credential `key`.
pub fn gateway(routes: &str) -> Gateway {
    setup(routes).start()
}

/// The same, before it starts.
pub fn setup(routes: &str) -> Setup {
    let more = format!(
        "credentials:\n  key: {{ env: TEST_KEY }}\n  other: {{ file: other-key }}\ninference:\n  main:\n{routes}\n"
    );
    let mut setup = Setup::policy("  {}").sandbox("    inference: main\n").more(&more);
    setup.policy = "version: 1\nnetwork_policies: {}\n".to_owned();
    setup.env.push(("TEST_KEY".to_owned(), KEY.to_owned()));
    setup
}

/// What an answer was.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Got {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Sends one request to `inference.local` over plain HTTP, with an agent's key in every place.
pub fn call(gateway: &Gateway, method: &str, target: &str, fields: &str, body: &str) -> Got {
    let mut stream = gateway.connect();
    write!(
        stream,
        "{method} http://inference.local{target} HTTP/1.1\r\nHost: inference.local\r\n\
         Authorization: Bearer {PLACEHOLDER}\r\nX-Api-Key: {PLACEHOLDER}\r\n\
         X-Stainless-Lang: python\r\nOpenAI-Organization: org-1\r\nCookie: a=b\r\n\
         Accept-Encoding: gzip\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    got(&mut stream)
}

/// Reads one answer.
pub fn got(stream: &mut (impl Read + Write)) -> Got {
    let head = read_head(stream);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    if let Some(length) = header(&head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).unwrap();
    } else if header(&head, "transfer-encoding").is_some() {
        loop {
            let line = line(stream);
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut bytes = vec![0; size + 2];
            if stream.read_exact(&mut bytes).is_err() {
                break;
            }
            body.extend_from_slice(&bytes[..size]);
            if size == 0 {
                break;
            }
        }
    }
    Got { status, head, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Reads one line.
pub fn line(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A plain chat request.
pub fn chat_body(model: &str, stream: bool) -> String {
    json!({"model":model,"stream":stream,"messages":[{"role":"user","content":"What is the weather?"}]})
        .to_string()
}

/// Sends a chat with this body and does not wait for its answer.
pub fn send(gateway: &Gateway, body: &str) -> std::net::TcpStream {
    let mut stream = gateway.connect();
    write!(
        stream,
        "POST http://inference.local/v1/chat/completions HTTP/1.1\r\nHost: inference.local\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    stream
}

/// What `portcullis inference usage` says of the one sandbox.
pub fn usage(gateway: &Gateway) -> Value {
    let output = assert_cmd::Command::cargo_bin("portcullis")
        .unwrap()
        .args(["inference", "usage", "-o", "json", "--socket", "state/control.sock"])
        .current_dir(gateway.dir.path())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}
