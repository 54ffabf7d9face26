//! GraphQL on a WebSocket: the client's text messages of `graphql-transport-ws` and of the older
//! `graphql-ws` (`subscriptions-transport-ws`).
//!
//! Owns the envelope of a message (`type`, `id`, `payload`); what the payload asks is read by
//! `graphql`. The two subprotocols share no type with two meanings, so that one reader serves
//! both. A type that neither knows is refused: a server might know it.

use super::graphql::operation;
use super::json::Object;
use crate::policy::GraphqlOperation;

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It opens, keeps or ends a connection or an operation, and asks for no data:
    /// `connection_init`, `ping`, `pong`, `complete`, `stop`, `connection_terminate`.
    Control,
    /// It starts an operation: `subscribe`, `start`.
    Operation(GraphqlOperation),
}

/// Reads one text message.
///
/// # Errors
/// A sentence for [`crate::policy::Body::Invalid`].
pub fn message(text: &str) -> Result<Message, &'static str> {
    let object = Object::parse(text).map_err(|_| "the message is not a JSON object")?;
    let kind = object.text("type")?.ok_or("the message has no type")?;
    let id = object.text("id")?;
    let payload = object.member("payload")?;
    match kind.as_str() {
        "connection_init" | "ping" | "pong" | "complete" | "stop" | "connection_terminate" => {
            Ok(Message::Control)
        }
        "subscribe" | "start" => {
            if id.is_none_or(|id| id.is_empty()) {
                return Err("the message starts an operation without an id");
            }
            let payload = payload.ok_or("the message starts an operation without a payload")?;
            let payload =
                Object::parse(payload.get()).map_err(|_| "the payload is not a JSON object")?;
            operation(&payload).map(Message::Operation)
        }
        _ => Err("the message is of a type that GraphQL over WebSocket does not have"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::GraphqlKind;

    #[test]
    fn an_operation_is_read_from_either_subprotocol() {
        for kind in ["subscribe", "start"] {
            let text = format!(
                r#"{{"id":"1","type":"{kind}","payload":{{"query":"subscription {{ added }}"}}}}"#
            );
            let Ok(Message::Operation(operation)) = message(&text) else { panic!("{kind}") };
            assert_eq!(operation.kind, Some(GraphqlKind::Subscription));
            assert_eq!(operation.fields, ["added"]);
        }
    }

    #[test]
    fn control_messages_ask_for_nothing() {
        for text in [
            r#"{"type":"connection_init","payload":{"token":"x"}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"pong","payload":null}"#,
            r#"{"type":"complete","id":"1"}"#,
            r#"{"type":"stop","id":"1"}"#,
            r#"{"type":"connection_terminate"}"#,
        ] {
            assert_eq!(message(text), Ok(Message::Control), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "[]",
            r#"[{"type":"ping"}]"#,
            r#"{"type":"data"}"#,
            r#"{"type":"subscription_start","id":"1","query":"{ a }"}"#,
            r#"{"type":"ping","type":"subscribe"}"#,
            r#"{"type":"ping","Type":"subscribe"}"#,
            r#"{"type":1}"#,
            r#"{"id":"1"}"#,
            r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{ a }"},"payload":{}}"#,
            r#"{"type":"start","id":"1","payload":{"data":"{}"}}"#,
        ] {
            assert!(message(text).is_err(), "{text}");
        }
    }
}
