//! Real requests to the providers of some routes, to say what works: the same road as a sandbox's,
//! records included, on a connection of the gateway's own.

use super::super::gate::{Connection, Gate, Held, Phase, Worker};
use super::super::io::{ClientIo, Prefixed, Raw};
use super::super::known::Known;
use super::super::sandbox::Sandbox;
use super::super::serve;
use super::super::target::{Last, Via};
use crate::inference::{Models, Provider, Route, Routes, Shape, read_listing};
use crate::policy::Client;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 1 << 20;
/// The most tokens that a check may make.
const TOKENS: u32 = 64;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The route.
    pub route: Arc<str>,
    /// The model that was asked.
    pub model: Option<String>,
    /// What was tried: `models`, `chat`, `stream`, `tool`.
    pub check: &'static str,
    /// Whether it works.
    pub works: bool,
    /// How long the first byte of the answer took.
    pub first: Option<Duration>,
    /// What it says where it does not.
    pub detail: Option<String>,
}

/// A client of the gateway's own.
struct Prober {
    sender: http1::SendRequest<Full<Bytes>>,
}

/// An answer that was read.
struct Came {
    status: u16,
    body: Bytes,
    first: Duration,
}

/// Tries each of `routes` as `sandbox` would: a chat, a stream, a call of a tool.
pub async fn probe(gate: &Arc<Gate>, sandbox: &Arc<Sandbox>, routes: &Routes) -> Vec<Probed> {
    let mut all = Vec::new();
    for route in &routes.routes {
        let alone = Route { matches: None, fallback: Vec::new(), ..route.clone() };
        let alone = Routes { routes: vec![alone], budget: Default::default(), ..routes.clone() };
        let beside = sandbox.beside(Arc::new(alone));
        let worker = Worker::new(gate.upstream.clone());
        let checks = checks(gate, (&beside, &worker), route);
        tokio::select! {
            probed = checks => all.extend(probed),
            () = worker.wheel.clone().run() => {}
        }
    }
    all
}

async fn checks(
    gate: &Arc<Gate>,
    (sandbox, worker): (&Arc<Sandbox>, &Arc<Worker>),
    route: &Route,
) -> Vec<Probed> {
    let failed = |check, model: Option<String>, detail: String| Probed {
        route: route.name.clone(),
        model,
        check,
        works: false,
        first: None,
        detail: Some(detail),
    };
    let mut prober = match Prober::open(gate, (sandbox, worker)).await {
        Ok(prober) => prober,
        Err(error) => return vec![failed("chat", None, error)],
    };
    let model = match &route.models {
        Models::Pinned(model) => model.to_string(),
        Models::Only(models) => models.first().map(|m| m.to_string()).unwrap_or_default(),
        Models::Any => match prober.any_model(route.provider).await {
            Ok(model) => model,
            Err(detail) => return vec![failed("models", None, detail)],
        },
    };
    let mut probed = Vec::new();
    for check in ["chat", "stream", "tool"] {
        let ask = Ask { provider: route.provider, model: &model, check };
        probed.push(match prober.ask(&ask).await {
            Err(detail) => failed(check, Some(model.clone()), detail),
            Ok(came) => {
                let detail = ask.objection(&came);
                Probed {
                    route: route.name.clone(),
                    model: Some(model.clone()),
                    check,
                    works: detail.is_none(),
                    first: Some(came.first),
                    detail,
                }
            }
        });
    }
    probed
}

/// One check of one model.
struct Ask<'a> {
    provider: Provider,
    model: &'a str,
    check: &'static str,
}

impl Ask<'_> {
    fn shape(&self) -> Shape {
        self.provider.shapes()[0]
    }

    fn target(&self) -> String {
        let verb = if self.check == "stream" {
            "streamGenerateContent?alt=sse"
        } else {
            "generateContent"
        };
        match self.shape() {
            Shape::OpenAi => "/v1/chat/completions".to_owned(),
            Shape::Anthropic => "/v1/messages".to_owned(),
            Shape::Ollama => "/api/chat".to_owned(),
            Shape::Gemini => {
                let model = percent_encoding::utf8_percent_encode(
                    self.model,
                    percent_encoding::NON_ALPHANUMERIC,
                );
                format!("/v1beta/models/{model}:{verb}")
            }
        }
    }

    fn body(&self) -> Value {
        let tool = self.check == "tool";
        let text = if tool { "What is the weather in Paris? Use the tool." } else { "Say: ok" };
        let mut body = json!({
            "model": self.model,
            "stream": self.check == "stream",
            "messages": [{ "role": "user", "content": text }],
        });
        let parameters = json!({
            "type": "object",
            "properties": { "city": { "type": "string" } },
            "required": ["city"],
        });
        let about = "The weather in a city";
        match self.shape() {
            Shape::OpenAi => {
                // Its newer models know the one, everybody else the other.
                let limit = match self.provider {
                    Provider::OpenAi => "max_completion_tokens",
                    _ => "max_tokens",
                };
                body[limit] = json!(TOKENS);
            }
            Shape::Anthropic => body["max_tokens"] = json!(TOKENS),
            Shape::Ollama => body["options"] = json!({ "num_predict": TOKENS }),
            Shape::Gemini => {
                body = json!({
                    "contents": [{ "role": "user", "parts": [{ "text": text }] }],
                    "generationConfig": { "maxOutputTokens": TOKENS },
                });
            }
        }
        if tool {
            body["tools"] = match self.shape() {
                Shape::OpenAi | Shape::Ollama => json!([{
                    "type": "function",
                    "function": { "name": "weather", "description": about, "parameters": parameters },
                }]),
                Shape::Anthropic => json!([{
                    "name": "weather", "description": about, "input_schema": parameters,
                }]),
                Shape::Gemini => json!([{ "functionDeclarations": [{
                    "name": "weather", "description": about, "parameters": parameters,
                }] }]),
            };
        }
        body
    }

    /// What is wrong with an answer; `None`: it works.
    fn objection(&self, came: &Came) -> Option<String> {
        let text = String::from_utf8_lossy(&came.body);
        if !(200..300).contains(&came.status) {
            let first: String = text.chars().take(300).collect();
            return Some(format!("{}: {}", came.status, crate::addr::Shown::new(&first)));
        }
        let (said, called) = match self.shape() {
            Shape::OpenAi => ("choices", "\"tool_calls\""),
            Shape::Ollama => ("message", "\"tool_calls\""),
            Shape::Anthropic => ("content", "\"tool_use\""),
            Shape::Gemini => ("candidates", "\"functionCall\""),
        };
        let answers = match self.check {
            "stream" => text.contains(&format!("\"{said}\"")),
            _ => serde_json::from_slice::<Value>(&came.body)
                .is_ok_and(|answer| answer.get(said).is_some()),
        };
        match self.check {
            _ if !answers => {
                let first: String = text.chars().take(100).collect();
                let first = crate::addr::Shown::new(&first);
                Some(format!("{}, but no `{said}` in the answer: {first}", came.status))
            }
            "tool" if !text.contains(called) => Some("the model did not call the tool".into()),
            "stream" if !text.contains("data:") && !text.trim_end().contains('\n') => {
                Some("the answer came whole, not as a stream".into())
            }
            _ => None,
        }
    }
}

impl Prober {
    /// A connection to the gateway inside it, as a client's of the sandbox.
    async fn open(
        gate: &Arc<Gate>,
        (sandbox, worker): (&Arc<Sandbox>, &Arc<Worker>),
    ) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().map_err(|e| e.to_string())?;
        let (place, _) = sandbox.enter();
        let connection = Arc::new(Connection {
            gate: gate.clone(),
            worker: worker.clone(),
            sandbox: sandbox.clone(),
            known: Known::certain(Client::Unseen),
            via: Via::Forward(Last::default()),
            refuses: None,
            watch: worker.wheel.connection(),
            phase: Phase::default(),
            held: Held::new(gate.clone(), None, (place, slot)),
        });
        let io = ClientIo::Plain(Prefixed::new(Raw::Unix(theirs)));
        gate.tasks.spawn(async move { drop(Box::pin(serve::http1(connection, io)).await) });
        let handshake = http1::handshake(TokioIo::new(ours)).await;
        let (sender, served) = handshake.map_err(|error| error.to_string())?;
        gate.tasks.spawn(async move { drop(served.await) });
        Ok(Self { sender })
    }

    async fn send(&mut self, method: Method, target: &str, body: Bytes) -> Result<Came, String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", super::HOST))
            .header(header::HOST, super::HOST)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let started = Instant::now();
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await;
        let mut response = response.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let mut first = None;
        let mut body = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|_| "the answer broke off".to_owned())?;
            first.get_or_insert_with(|| started.elapsed());
            let data = frame.into_data().unwrap_or_default();
            if body.len() + data.len() > LARGEST {
                return Err("the answer is larger than a short one can be".into());
            }
            body.extend_from_slice(&data);
        }
        let first = first.unwrap_or_else(|| started.elapsed());
        Ok(Came { status, body: body.into(), first })
    }

    async fn ask(&mut self, ask: &Ask<'_>) -> Result<Came, String> {
        self.send(Method::POST, &ask.target(), ask.body().to_string().into()).await
    }

    /// A model of an open route: the first that its provider lists.
    async fn any_model(&mut self, provider: Provider) -> Result<String, String> {
        let (shape, path) = provider.listing();
        let came = self.send(Method::GET, path, Bytes::new()).await?;
        if came.status != 200 {
            let text = String::from_utf8_lossy(&came.body);
            return Err(format!("{}: {}", came.status, crate::addr::Shown::new(&text)));
        }
        // Without a field that tells whose SDK asks, `/v1/models` is in OpenAI's shape.
        let shape = if path == "/v1/models" { Shape::OpenAi } else { shape };
        let models = read_listing(shape, &came.body).unwrap_or_default();
        models.into_iter().next().ok_or_else(|| {
            "its provider lists no model: name one in the route (`model:`)".to_owned()
        })
    }
}
