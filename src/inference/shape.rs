//! The shapes in which models are asked: whose SDK is speaking.

use http::HeaderMap;

/// Whose wire format a request is in, and so its errors must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// OpenAI's, which most others copy.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's own.
    Gemini,
    /// Ollama's own.
    Ollama,
}

impl Shape {
    /// As it is written in sentences and lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Gemini",
            Self::Ollama => "Ollama",
        }
    }

    /// Whose SDK sent this, told by its path and its fields: also where the path is not served,
    /// because the error must be one that the SDK parses.
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        if path.starts_with("/v1beta/openai/") {
            Self::OpenAi
        } else if path.starts_with("/v1beta/")
            || path.starts_with("/v1alpha/")
            || headers.contains_key("x-goog-api-key")
            || headers.contains_key("x-goog-api-client")
        {
            Self::Gemini
        } else if path.starts_with("/api/") {
            Self::Ollama
        } else if path.starts_with("/v1/messages")
            || headers.contains_key("anthropic-version")
            || headers.contains_key("x-api-key")
        {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// What a client of this shape is to be told about where to send its requests.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI_BASE_URL=https://inference.local/v1",
            Self::Anthropic => "ANTHROPIC_BASE_URL=https://inference.local",
            Self::Gemini => "GOOGLE_GEMINI_BASE_URL=https://inference.local",
            Self::Ollama => "OLLAMA_HOST=https://inference.local",
        }
    }
}
