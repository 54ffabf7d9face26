//! Which request is which call: method and path, and nothing else.

use super::made::Made;
use super::shape::Shape;
use http::{HeaderMap, Method};
use std::borrow::Cow;

/// A call that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Whose shape it is in.
    pub shape: Shape,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// The longest name of a model, in bytes: it is kept for as long as its usage is, and recorded.
pub(super) const LONGEST_MODEL: usize = 256;

/// What is asked of a model or of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A call whose model stands in its JSON body.
    Body(Work),
    /// A call whose model stands in its path, percent-decoded.
    Path {
        /// The model.
        model: Cow<'a, str>,
        /// What stands before the model.
        before: &'static str,
        /// What stands behind it, the colon first.
        verb: &'a str,
    },
    /// A kept response is read, deleted or cancelled.
    Kept {
        /// Its id.
        id: &'a str,
    },
    /// The models that may be used; or one of them.
    Models {
        /// The one that is asked for.
        one: Option<Cow<'a, str>>,
    },
}

/// What a call makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Text, and what it is paid for.
    Text,
    /// Text in a response that can be asked for later.
    Response,
    /// Numbers: what is read is paid for.
    Embedding,
    /// A count or a description: nothing is paid for.
    Free,
}

/// What is served, for the answer to what is not.
pub const SERVED: &[&str] = &[
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "POST /v1/responses",
    "GET, DELETE /v1/responses/{id}",
    "POST /v1/responses/{id}/cancel",
    "POST /v1/embeddings",
    "GET /v1/models",
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1beta/models/{model}:generateContent",
    "POST /v1beta/models/{model}:streamGenerateContent",
    "GET /v1beta/models",
    "POST /v1beta/openai/chat/completions",
    "POST /v1beta/openai/embeddings",
    "GET /v1beta/openai/models",
    "POST /api/chat",
    "POST /api/generate",
    "POST /api/embed",
    "GET /api/tags",
    "POST /api/show",
];

/// The call that `method` on `path` is, if it is one that is served. `path` is canonical.
pub fn recognise<'a>(method: &Method, path: &'a str, headers: &HeaderMap) -> Option<Call<'a>> {
    let read = *method == Method::GET;
    let (shape, operation) = if let Some(rest) = path.strip_prefix("/v1beta/openai/") {
        (Shape::OpenAi, openai(method, rest)?)
    } else if let Some(rest) = path.strip_prefix("/v1beta/") {
        (Shape::Gemini, gemini(method, rest, "/v1beta/models/")?)
    } else if let Some(rest) = path.strip_prefix("/api/") {
        let operation = match rest {
            "chat" | "generate" if *method == Method::POST => Operation::Body(Work::Text),
            "embed" if *method == Method::POST => Operation::Body(Work::Embedding),
            "show" if *method == Method::POST => Operation::Body(Work::Free),
            "tags" if read => Operation::Models { one: None },
            _ => return None,
        };
        (Shape::Ollama, operation)
    } else {
        let rest = path.strip_prefix("/v1/")?;
        match rest {
            "messages" if *method == Method::POST => {
                (Shape::Anthropic, Operation::Body(Work::Text))
            }
            "messages/count_tokens" if *method == Method::POST => {
                (Shape::Anthropic, Operation::Body(Work::Free))
            }
            _ if rest.starts_with("models/") && rest.contains(':') && !read => {
                (Shape::Gemini, gemini(method, rest, "/v1/models/")?)
            }
            _ => match openai(method, rest)? {
                // Who lists models is told by the fields alone.
                models @ Operation::Models { .. } => (Shape::of(path, headers), models),
                operation => (Shape::OpenAi, operation),
            },
        }
    };
    Some(Call { shape, operation })
}

/// A path of OpenAI's below its version.
fn openai<'a>(method: &Method, rest: &'a str) -> Option<Operation<'a>> {
    if *method == Method::POST {
        match rest {
            "chat/completions" | "completions" => return Some(Operation::Body(Work::Text)),
            "embeddings" => return Some(Operation::Body(Work::Embedding)),
            "responses" => return Some(Operation::Body(Work::Response)),
            _ => {}
        }
    }
    if let Some(kept) = rest.strip_prefix("responses/") {
        let (id, asks) = kept.split_once('/').map_or((kept, None), |(id, rest)| (id, Some(rest)));
        let served = match asks {
            None => *method == Method::GET || *method == Method::DELETE,
            Some("cancel") => *method == Method::POST,
            Some("input_items") => *method == Method::GET,
            Some(_) => false,
        };
        return (served && Made::is_id(id)).then_some(Operation::Kept { id });
    }
    if *method != Method::GET {
        return None;
    }
    match rest.strip_prefix("models") {
        Some("") => Some(Operation::Models { one: None }),
        Some(one) => Some(Operation::Models { one: Some(decoded(one.strip_prefix('/')?)?) }),
        None => None,
    }
}

/// A path of Gemini's below its version.
fn gemini<'a>(method: &Method, rest: &'a str, before: &'static str) -> Option<Operation<'a>> {
    let rest = rest.strip_prefix("models")?;
    if *method == Method::GET {
        let one = match rest {
            "" => None,
            one => Some(decoded(one.strip_prefix('/')?)?),
        };
        return Some(Operation::Models { one });
    }
    let rest = rest.strip_prefix('/')?;
    let (model, verb) = rest.split_at(rest.rfind(':')?);
    let served = matches!(verb, ":generateContent" | ":streamGenerateContent");
    (served && *method == Method::POST && !model.is_empty() && !model.contains('/'))
        .then_some(Operation::Path { model: decoded(model)?, before, verb })
}

/// A model's name as it is meant: escapes undone.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.is_empty() && decoded.len() <= LONGEST_MODEL).then_some(decoded)
}

impl Operation<'_> {
    /// What it makes.
    pub fn work(&self) -> Work {
        match self {
            Self::Body(work) => *work,
            Self::Path { .. } => Work::Text,
            Self::Kept { .. } | Self::Models { .. } => Work::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(method: &Method, path: &'static str) -> Option<Call<'static>> {
        recognise(method, path, &HeaderMap::new())
    }

    #[test]
    fn every_path_that_is_said_to_be_served_is() {
        for line in SERVED {
            let (methods, path) = line.rsplit_once(' ').unwrap();
            for method in methods.split(", ") {
                let path = path.replace("{id}", "resp_1").replace("{model}", "m-1");
                let method = Method::try_from(method).unwrap();
                let call = recognise(&method, &path, &HeaderMap::new());
                assert!(call.is_some(), "{method} {path}");
            }
        }
    }

    #[test]
    fn what_is_not_served_is_no_call() {
        for (method, path) in [
            (Method::POST, "/v1/files"),
            (Method::GET, "/v1/chat/completions"),
            (Method::POST, "/v1/responses/"),
            (Method::POST, "/v1/responses/resp_1"),
            (Method::POST, "/v1/responses/a%2Fb/cancel"),
            (Method::GET, "/v1/responses/r/../../files"),
            (Method::POST, "/v1beta/models/m:batchGenerateContent"),
            (Method::POST, "/v1beta/tunedModels/m:generateContent"),
            (Method::POST, "/v1beta/models/:generateContent"),
            (Method::POST, "/v1/messages/batches"),
            (Method::DELETE, "/v1/models/m"),
            (Method::POST, "/api/pull"),
            (Method::DELETE, "/api/delete"),
            (Method::GET, "/"),
            (Method::POST, "/chat/completions"),
        ] {
            assert_eq!(of(&method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn a_gemini_call_has_its_model_in_the_path_with_escapes_undone() {
        let call = of(&Method::POST, "/v1beta/models/a%2Bb:streamGenerateContent").unwrap();
        assert_eq!(call.shape, Shape::Gemini);
        let Operation::Path { model, before, verb } = call.operation else { panic!() };
        assert_eq!((&*model, before, verb), ("a+b", "/v1beta/models/", ":streamGenerateContent"));
        let call = of(&Method::POST, "/v1/models/m:generateContent").unwrap();
        assert_eq!(call.shape, Shape::Gemini);
    }

    #[test]
    fn the_listing_is_in_the_shape_of_whose_sdk_asks() {
        let mut headers = HeaderMap::new();
        let shape = |headers: &HeaderMap| {
            recognise(&Method::GET, "/v1/models", headers).map(|call| call.shape)
        };
        assert_eq!(shape(&headers), Some(Shape::OpenAi));
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        assert_eq!(shape(&headers), Some(Shape::Anthropic));
        // But a chat completion is OpenAI's, whatever stands beside it.
        let call = recognise(&Method::POST, "/v1/chat/completions", &headers).unwrap();
        assert_eq!(call.shape, Shape::OpenAi);
        let call = recognise(&Method::POST, "/v1/messages", &HeaderMap::new()).unwrap();
        assert_eq!(call.shape, Shape::Anthropic);
    }
}
