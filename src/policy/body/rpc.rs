//! JSON-RPC 2.0 bodies, and MCP, which is JSON-RPC: which methods and tools a body calls.
//!
//! Owns the reading of one message or a batch; not HTTP around it, and not the meaning of a
//! method. A message that is both a call and an answer, or names its method, tool or id twice, is
//! refused. Answers that a client sends to a server (MCP) come out with no method.

use super::json::{Object, is_media_type, objects, string};
use crate::policy::RpcCall;
use serde_json::value::RawValue;

/// The longest `id`, as JSON text: it goes into the error object that a refused client gets.
const MAX_ID: usize = 256;

/// The longest tool name that MCP recommends.
const MAX_TOOL_NAME: usize = 128;

/// What a client may send to a server in any published revision of MCP: the union of
/// `ClientRequest` and `ClientNotification` of the schemas 2024-11-05, 2025-03-26, 2025-06-18,
/// 2025-11-25 and 2026-07-28 (`modelcontextprotocol/modelcontextprotocol`, `schema/*/schema.ts`).
const MCP_METHODS: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tools/call",
    "tools/list",
];

/// The content types that JSON-RPC is sent with: that of JSON, those of earlier drafts of JSON-RPC
/// over HTTP, and that of clients which don't say. Each in UTF-8.
const CONTENT_TYPES: [&str; 4] =
    ["application/json", "application/json-rpc", "application/jsonrequest", "text/plain"];

/// The calls of a POST. `content_type` is the one `Content-Type` of the request; without one the
/// body is JSON.
///
/// # Errors
/// As [`calls`], and where the content type lets a server read the body as something else.
pub fn from_post(content_type: Option<&str>, body: &[u8]) -> Result<Vec<RpcCall>, &'static str> {
    let known = |kind: &str| CONTENT_TYPES.iter().any(|essence| is_media_type(kind, essence));
    if !content_type.is_none_or(known) {
        return Err("JSON-RPC is not sent with this content type: send application/json in UTF-8");
    }
    calls(body)
}

/// The calls of a JSON-RPC 2.0 body: one, or a batch in its order. Never empty.
///
/// # Errors
/// A sentence for [`crate::policy::Body::Invalid`]: not JSON, not JSON-RPC 2.0, an empty batch, or
/// a message with two readings.
pub fn calls(body: &[u8]) -> Result<Vec<RpcCall>, &'static str> {
    objects(body)?.iter().map(call).collect()
}

/// Whether a tool's name is one that MCP recommends: 1 to 128 of the ASCII letters and digits,
/// `_`, `-` and `.` (MCP 2025-11-25, Server Features, Tools, "Tool Names"; SEP-986, as proposed,
/// had `/` and 64, the published specification has not).
pub fn strict_tool_names(name: &str) -> bool {
    (1..=MAX_TOOL_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The methods that a client may call by any published revision of MCP, sorted: what
/// `mcp.allow_all_known_mcp_methods` allows.
pub fn known_mcp_methods() -> &'static [&'static str] {
    MCP_METHODS
}

fn call(message: &Object<'_>) -> Result<RpcCall, &'static str> {
    if message.text("jsonrpc")?.as_deref() != Some("2.0") {
        return Err("the message does not say \"jsonrpc\": \"2.0\"");
    }
    let id = message.given("id")?.map(raw_id).transpose()?;
    let params = message.given("params")?;
    let answers = [message.given("result")?, message.given("error")?];
    let answers = answers.into_iter().flatten().count();
    match (message.given("method")?, answers) {
        (Some(method), 0) => {
            let method = plain(method)?;
            let tool = if method == "tools/call" { Some(tool(params)?) } else { None };
            Ok(RpcCall { method: Some(method), tool, id })
        }
        (Some(_), _) => Err("the message is both a call and an answer"),
        (None, 1) if params.is_some() => Err("the message is an answer with params"),
        (None, 1) if id.is_none() => Err("the message is an answer without an id"),
        (None, 1) => Ok(RpcCall { method: None, tool: None, id }),
        (None, 0) => Err("the message has no method"),
        (None, _) => Err("the message has both a result and an error"),
    }
}

/// `params.name` of `tools/call`: MCP requires it, so a call without one has no safe reading.
fn tool(params: Option<&RawValue>) -> Result<String, &'static str> {
    let params = params.ok_or("tools/call has no params")?;
    let params =
        Object::parse(params.get()).map_err(|_| "the params of tools/call are no object")?;
    plain(params.member("name")?.ok_or("tools/call names no tool")?)
}

/// A name that is judged. A control character would end it early where strings end at NUL.
fn plain(value: &RawValue) -> Result<String, &'static str> {
    let name = string(value)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("a method or tool is empty or holds a control character");
    }
    Ok(name)
}

fn raw_id(value: &RawValue) -> Result<String, &'static str> {
    let text = value.get();
    if text.len() > MAX_ID {
        return Err("the id is longer than 256 bytes");
    }
    match serde_json::from_str(text) {
        Ok(
            serde_json::Value::String(_) | serde_json::Value::Number(_) | serde_json::Value::Null,
        ) => Ok(text.to_owned()),
        _ => Err("the id is not a string, a number or null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<RpcCall, &'static str> {
        calls(text.as_bytes()).map(|mut calls| {
            assert_eq!(calls.len(), 1);
            calls.remove(0)
        })
    }

    #[test]
    fn a_content_type_that_says_something_else_than_json_is_refused() {
        let body = br#"{"jsonrpc":"2.0","method":"a"}"#;
        for good in [
            None,
            Some("application/json"),
            Some("application/json-rpc"),
            Some("application/jsonrequest"),
            Some("Text/Plain; charset=UTF-8"),
        ] {
            assert!(from_post(good, body).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "application/json; charset=utf-7",
            "application/json; charset*=us-ascii''utf-7",
            "text/plain; charset=utf-16",
            "application/cbor",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "text/html",
        ] {
            assert!(from_post(Some(bad), body).is_err(), "{bad}");
        }
        assert!(from_post(Some("application/json"), b"{}").is_err());
    }

    #[test]
    fn a_call_is_read() {
        let call = one(r#"{"jsonrpc":"2.0","id": "a\"b","method":"reports.list","params":[1]}"#);
        let call = call.unwrap();
        assert_eq!(call.method.as_deref(), Some("reports.list"));
        assert_eq!(call.tool, None);
        assert_eq!(call.id.as_deref(), Some(r#""a\"b""#));
        let notification =
            one(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).unwrap();
        assert_eq!(notification.id, None);
    }

    #[test]
    fn a_tool_is_named_by_params_and_only_in_tools_call() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
            "params":{"arguments":{"name":"inner"},"name":"search"}}"#;
        assert_eq!(one(text).unwrap().tool.as_deref(), Some("search"));
        let prompt = r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}"#;
        assert_eq!(one(prompt).unwrap().tool, None);
    }

    #[test]
    fn a_tool_call_without_one_readable_tool_is_refused() {
        for params in [
            r#""params":{"name":"a","name":"b"}"#,
            r#""params":{"name":"a","Name":"b"}"#,
            r#""params":{"name":"a"},"params":{"name":"b"}"#,
            r#""params":{"name":1}"#,
            r#""params":{"name":""}"#,
            r#""params":{"name":"send_email\u0000x"}"#,
            r#""params":["send_email"]"#,
            r#""params":{}"#,
            r#""params":null"#,
            r#""x":1"#,
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call",{params}}}"#);
            assert!(one(&text).is_err(), "{params}");
        }
    }

    #[test]
    fn a_message_with_two_readings_is_refused() {
        for text in [
            r#"{"jsonrpc":"2.0","method":"a","method":"b"}"#,
            r#"{"jsonrpc":"2.0","method":"a","Method":"b"}"#,
            r#"{"jsonrpc":"2.0","method":"a","meth\u006fd":"b"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","jsonrpc":"1.0","method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":null,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"params":{}}"#,
        ] {
            assert!(one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_rpc_two_is_refused() {
        for text in [
            "",
            " ",
            "[]",
            "[[]]",
            "[1]",
            "1",
            "null",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"a\"}",
            r#"{"method":"a"}"#,
            r#"{"jsonrpc":2.0,"method":"a"}"#,
            r#"{"jsonrpc":"1.0","method":"a"}"#,
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","result":1}"#,
            r#"{"jsonrpc":"2.0","method":1}"#,
            r#"{"jsonrpc":"2.0","method":"\ud800"}"#,
            r#"{"jsonrpc":"2.0","method":"a","id":{}}"#,
            r#"{"jsonrpc":"2.0","method":"a","id":true}"#,
            r#"{"jsonrpc":"2.0","method":"a","id":"\ud800"}"#,
            r#"{"jsonrpc":"2.0","method":"a"} {"jsonrpc":"2.0","method":"b"}"#,
            r#"{"jsonrpc":"2.0","method":"a"}{}"#,
            r#"{"jsonrpc":"2.0","method":"a",}"#,
        ] {
            assert!(calls(text.as_bytes()).is_err(), "{text}");
        }
        assert!(calls(b"{\"jsonrpc\":\"2.0\",\"method\":\"a\xff\"}").is_err());
        let long = format!(r#"{{"jsonrpc":"2.0","method":"a","id":"{}"}}"#, "x".repeat(300));
        assert!(one(&long).is_err());
    }

    #[test]
    fn an_answer_has_no_method() {
        let answer = one(r#"{"jsonrpc":"2.0","id":7,"result":null}"#).unwrap();
        assert_eq!((answer.method, answer.id.as_deref()), (None, Some("7")));
    }

    #[test]
    fn a_batch_is_read_call_by_call_and_one_bad_call_spoils_it() {
        let text = br#" [{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","id":1,"error":{}}]"#;
        let methods: Vec<_> = calls(text).unwrap().into_iter().map(|c| c.method).collect();
        assert_eq!(methods, [Some("a".to_owned()), None]);
        assert!(calls(br#"[{"jsonrpc":"2.0","method":"a"},{"method":"b"}]"#).is_err());
    }

    #[test]
    fn strict_tool_names_are_those_of_the_specification() {
        for good in ["getUser", "DATA_EXPORT_v2", "admin.tools.list", "user-profile"] {
            assert!(strict_tool_names(good), "{good}");
        }
        for bad in ["", "a b", "a,b", "a/b", "größe", "a\n"] {
            assert!(!strict_tool_names(bad), "{bad}");
        }
        assert!(strict_tool_names(&"a".repeat(128)));
        assert!(!strict_tool_names(&"a".repeat(129)));
    }

    #[test]
    fn known_methods_are_sorted_and_distinct() {
        assert!(known_mcp_methods().is_sorted_by(|a, b| a < b));
    }
}
