//! `policy-schema/control.v1.openapi.yaml` is what the server does: made of its table and types,
//! current, and true of its answers. `UPDATE=1` writes the file anew.

use crate::control_kit::{DIGEST, Fake, Served, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use portcullis::control::server::{ROUTES, openapi};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn file() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy-schema/control.v1.openapi.yaml");
    let made = format!(
        "# The control API. Made of src/control: `UPDATE=1 cargo test --test control openapi`.\n{}",
        serde_saphyr::to_string(&openapi()).unwrap()
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == made, "{} is stale: run the test with UPDATE=1", path.display());
    serde_saphyr::from_str(&stored).unwrap()
}

#[test]
fn the_file_is_current_and_has_every_route_and_no_other() {
    let file = file();
    assert_eq!(file, openapi(), "YAML says the same");
    let described: BTreeSet<(String, String)> = file["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let known = ROUTES.iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect();
    assert_eq!(described, known);
    let operations: BTreeSet<String> = ROUTES
        .iter()
        .map(|r| operation(&file, r.method, r.path)["operationId"].to_string())
        .collect();
    assert_eq!(operations.len(), ROUTES.len(), "each has a name of its own");
}

fn operation<'a>(api: &'a Value, method: &str, path: &str) -> &'a Value {
    &api["paths"][path][method.to_lowercase()]
}

/// Every `$ref` points at something.
#[test]
fn no_reference_dangles() {
    fn walk(api: &Value, value: &Value) {
        match value {
            Value::Object(keys) => {
                if let Some(Value::String(at)) = keys.get("$ref") {
                    assert!(api.pointer(at.trim_start_matches('#')).is_some(), "{at}");
                }
                keys.values().for_each(|value| walk(api, value));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(api, value)),
            _ => {}
        }
    }
    let api = openapi();
    walk(&api, &api);
}

fn valid(api: &Value, schema: &Value, instance: &Value) {
    // The schema stands where its references are resolved from.
    let mut whole = json!({ "components": api["components"], "allOf": [schema] });
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    let validator = jsonschema::validator_for(&whole).unwrap();
    let errors: Vec<String> = validator.iter_errors(instance).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{instance}");
}

async fn call(served: &Served, method: &str, path: &str, body: &Value) -> (u16, String, Bytes) {
    let stream = tokio::net::UnixStream::connect(&served.socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = http::Request::builder().method(method).uri(path).header("host", "x");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap());
    let response = response.await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let bytes = if kind == "text/event-stream" {
        response.into_body().frame().await.unwrap().unwrap().into_data().unwrap()
    } else {
        response.into_body().collect().await.unwrap().to_bytes()
    };
    (status, kind, bytes)
}

/// A body that the route takes.
fn body(method: &str, path: &str) -> Value {
    match (method, path.rsplit('/').next().unwrap()) {
        ("POST", "decision") => json!({ "decision": "deny", "digest": DIGEST, "reason": "no" }),
        ("POST", "grants") => json!({ "method": "*", "url": "https://a.test/**", "for": "1h" }),
        ("PUT", "policy") => json!({ "policy": "version: 1\n" }),
        ("PUT", "inference") => json!({ "to": "openai/gpt-5", "unverified": true }),
        ("POST", "rollback") => json!({ "version": 2 }),
        _ => Value::Null,
    }
}

#[tokio::test]
async fn what_a_live_server_answers_is_what_the_file_says() {
    let api = file();
    let served = Served::start(Fake::new(&["agent"]));
    served.fake.requests.lock().unwrap().push(request("r1", "agent"));
    for route in ROUTES {
        let operation = operation(&api, route.method, route.path);
        let body = body(route.method, route.path);
        let takes = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(takes.is_null(), body.is_null(), "{} {}", route.method, route.path);
        if !takes.is_null() {
            valid(&api, takes, &body);
        }
        let path = route.path.replace("{name}", "agent").replace("{request}", "r1");
        let path = path.replace("{grant}", "g1").replace("{credential}", "github");
        let (status, kind, bytes) = call(&served, route.method, &path, &body).await;
        assert_eq!(status, 200, "{path}: {bytes:?}");
        let schema = &operation["responses"]["200"]["content"][&kind]["schema"];
        assert!(!schema.is_null(), "{path} answers with {kind}");
        let text = std::str::from_utf8(&bytes).unwrap();
        let answer = match text.strip_prefix("event: ") {
            Some(event) => {
                let (tag, data) = event.split_once("\ndata: ").unwrap();
                json!({ "event": tag, "data": serde_json::from_str::<Value>(data).unwrap() })
            }
            None => serde_json::from_str(text).unwrap(),
        };
        valid(&api, schema, &answer);
        let (status, kind, bytes) =
            call(&served, route.method, &format!("{path}?x=1"), &body).await;
        assert_eq!(status, 400, "{path}");
        let problem = &operation["responses"]["default"]["content"][&kind]["schema"];
        valid(&api, problem, &serde_json::from_slice(&bytes).unwrap());
    }
}
