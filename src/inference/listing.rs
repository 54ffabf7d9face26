//! Lists of models: written in each shape, and read from each provider.

use super::call::LONGEST_MODEL;
use super::shape::Shape;
use serde_json::{Value, json};

/// The most models of a provider that are listed: no provider has as many.
const MOST: usize = 4096;

/// The list of `models`, each with who has it, in `shape`.
pub fn listed(shape: Shape, models: &[(String, &'static str)]) -> Value {
    let all: Vec<Value> = models.iter().map(|(id, by)| one_listed(shape, id, by)).collect();
    match shape {
        Shape::OpenAi => json!({ "object": "list", "data": all }),
        Shape::Anthropic => json!({
            "data": all,
            "has_more": false,
            "first_id": models.first().map(|(id, _)| id),
            "last_id": models.last().map(|(id, _)| id),
        }),
        Shape::Gemini | Shape::Ollama => json!({ "models": all }),
    }
}

/// One model, had by `by`, in `shape`.
pub fn one_listed(shape: Shape, id: &str, by: &str) -> Value {
    match shape {
        Shape::OpenAi => json!({ "id": id, "object": "model", "created": 0, "owned_by": by }),
        Shape::Anthropic => json!({
            "type": "model",
            "id": id,
            "display_name": id,
            "created_at": "1970-01-01T00:00:00Z",
        }),
        Shape::Gemini => json!({
            "name": format!("models/{id}"),
            "displayName": id,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }),
        Shape::Ollama => json!({
            "name": id,
            "model": id,
            "modified_at": "1970-01-01T00:00:00Z",
            "size": 0,
            "digest": "",
            "details": { "family": by, "format": "", "parameter_size": "", "quantization_level": "" },
        }),
    }
}

/// The ids in a provider's own list, in `shape`; `None` where it is no such list.
pub fn read_listing(shape: Shape, body: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let (list, key) = match shape {
        Shape::OpenAi | Shape::Anthropic => (list.get("data")?, "id"),
        Shape::Gemini | Shape::Ollama => (list.get("models")?, "name"),
    };
    let id = |model: &Value| {
        let id = model.get(key)?.as_str()?;
        Some(id.strip_prefix("models/").unwrap_or(id).to_owned())
    };
    let usable = |id: &String| (1..=LONGEST_MODEL).contains(&id.len());
    Some(list.as_array()?.iter().filter_map(id).filter(usable).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_written_is_read_again() {
        for shape in [Shape::OpenAi, Shape::Anthropic, Shape::Gemini, Shape::Ollama] {
            let models = [("a/b".to_owned(), "openai"), ("c".to_owned(), "ollama")];
            let text = listed(shape, &models).to_string();
            assert_eq!(read_listing(shape, text.as_bytes()).unwrap(), ["a/b", "c"], "{shape:?}");
        }
        assert_eq!(read_listing(Shape::OpenAi, b"{\"error\":1}"), None);
    }

    #[test]
    fn a_list_without_end_is_not_read_to_its_end() {
        let models = vec![("m".to_owned(), "openai"); 2 * MOST];
        let text = listed(Shape::OpenAi, &models).to_string();
        assert_eq!(read_listing(Shape::OpenAi, text.as_bytes()).unwrap().len(), MOST);
        let text = listed(Shape::OpenAi, &[("m".repeat(257), "openai")]).to_string();
        assert!(read_listing(Shape::OpenAi, text.as_bytes()).unwrap().is_empty());
    }
}
