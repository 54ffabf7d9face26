//! What is known of providers: where they are, what they speak, how they are paid, and which of a
//! client's fields they get.

use super::shape::Shape;
use crate::addr::{Authority, AuthorityError, Host, Port, Shown};
use http::header::{self, HeaderName};
use std::fmt;
use std::sync::Arc;

/// A provider of models, as the config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// api.openai.com.
    OpenAi,
    /// api.anthropic.com.
    Anthropic,
    /// generativelanguage.googleapis.com.
    Gemini,
    /// integrate.api.nvidia.com.
    Nvidia,
    /// Anything that speaks OpenAI's shape, at a stated endpoint.
    OpenAiCompatible,
    /// Anything that speaks Anthropic's shape, at a stated endpoint.
    AnthropicCompatible,
    /// A local Ollama.
    Ollama,
    /// A local vLLM.
    Vllm,
    /// A local NVIDIA NIM.
    Nim,
}

/// Where a provider is: what is dialled, and what stands before every path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is reached over TLS.
    pub tls: bool,
    /// Host and port.
    pub authority: Authority,
    /// The path without a slash at its end; often empty.
    pub base: Arc<str>,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `https://` nor `http://`.
    #[error("an endpoint starts with https:// or http://")]
    Scheme,
    /// A user, a query or a fragment.
    #[error("an endpoint is a host, a port and a path: no user, query or fragment")]
    Extra,
    /// The path has bytes that no path has, or dot segments.
    #[error("the path of the endpoint is not a path")]
    Path,
    /// The host or port.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl Provider {
    /// Every provider, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Gemini,
        Self::Nvidia,
        Self::OpenAiCompatible,
        Self::AnthropicCompatible,
        Self::Ollama,
        Self::Vllm,
        Self::Nim,
    ];

    /// Its name in the config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Nvidia => "nvidia",
            Self::OpenAiCompatible => "openai-compatible",
            Self::AnthropicCompatible => "anthropic-compatible",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Nim => "nim",
        }
    }

    /// The provider of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == name)
    }

    /// Where it is, if the config does not say.
    pub const fn default_endpoint(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Nvidia => Some("https://integrate.api.nvidia.com/v1"),
            Self::OpenAiCompatible | Self::AnthropicCompatible => None,
            Self::Ollama => Some("http://127.0.0.1:11434"),
            Self::Vllm | Self::Nim => Some("http://127.0.0.1:8000/v1"),
        }
    }

    /// The variables in which its key usually is, the usual one first.
    pub const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi | Self::OpenAiCompatible => &["OPENAI_API_KEY"],
            Self::Anthropic | Self::AnthropicCompatible => &["ANTHROPIC_API_KEY"],
            Self::Gemini => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            Self::Nvidia => &["NVIDIA_API_KEY"],
            Self::Ollama => &["OLLAMA_API_KEY"],
            Self::Vllm => &["VLLM_API_KEY"],
            Self::Nim => &["NGC_API_KEY"],
        }
    }

    /// Whether it answers nobody who brings no key.
    pub const fn needs_key(self) -> bool {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini | Self::Nvidia => true,
            Self::OpenAiCompatible
            | Self::AnthropicCompatible
            | Self::Ollama
            | Self::Vllm
            | Self::Nim => false,
        }
    }

    /// The shapes that it speaks, its own first.
    pub const fn shapes(self) -> &'static [Shape] {
        match self {
            Self::OpenAi | Self::Nvidia | Self::OpenAiCompatible | Self::Vllm | Self::Nim => {
                &[Shape::OpenAi]
            }
            Self::Anthropic | Self::AnthropicCompatible => &[Shape::Anthropic],
            Self::Gemini => &[Shape::Gemini, Shape::OpenAi],
            Self::Ollama => &[Shape::Ollama, Shape::OpenAi],
        }
    }

    /// Whether it speaks `shape`.
    pub fn speaks(self, shape: Shape) -> bool {
        self.shapes().contains(&shape)
    }

    /// The field that carries its key for a request in `shape`, and what stands before the key.
    pub const fn key_field(self, shape: Shape) -> (HeaderName, &'static str) {
        match (self, shape) {
            (Self::Anthropic | Self::AnthropicCompatible, _) => {
                (HeaderName::from_static("x-api-key"), "")
            }
            (Self::Gemini, Shape::Gemini) => (HeaderName::from_static("x-goog-api-key"), ""),
            _ => (header::AUTHORIZATION, "Bearer "),
        }
    }

    /// The fields of the client that go up; every other one is dropped, a key first of all. What
    /// picks an account or a project of the operator's (`openai-organization`) is not among them.
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi | Self::OpenAiCompatible | Self::Vllm | Self::Nim => &[
                "accept",
                "content-type",
                "user-agent",
                "openai-beta",
                "idempotency-key",
                "x-client-request-id",
            ],
            Self::Anthropic | Self::AnthropicCompatible => &[
                "accept",
                "content-type",
                "user-agent",
                "anthropic-version",
                "anthropic-beta",
                "idempotency-key",
            ],
            Self::Nvidia => &["accept", "content-type", "user-agent", "nvcf-poll-seconds"],
            Self::Gemini | Self::Ollama => &["accept", "content-type", "user-agent"],
        }
    }

    /// The path, below the endpoint, of `path` in `shape` as this gateway serves it.
    ///
    /// The OpenAI shape is served under `/v1`; an endpoint for it ends where its version does. The
    /// others have their version in the path, which an endpoint may have too.
    pub fn path(self, endpoint: &Endpoint, shape: Shape, path: &str) -> String {
        let base = &*endpoint.base;
        match (self, shape) {
            (Self::Gemini, Shape::OpenAi) => {
                let rest = path.strip_prefix("/v1beta/openai").unwrap_or(path);
                let rest = rest.strip_prefix("/v1/").map_or(rest.to_owned(), |r| format!("/{r}"));
                format!("{base}/v1beta/openai{rest}")
            }
            (Self::Ollama, _) => format!("{}{path}", base.strip_suffix("/v1").unwrap_or(base)),
            (_, Shape::OpenAi) => {
                let rest = path.strip_prefix("/v1beta/openai").or(path.strip_prefix("/v1"));
                let version = if base.is_empty() { "/v1" } else { base };
                format!("{version}{}", rest.unwrap_or(path))
            }
            (_, Shape::Anthropic) => format!("{}{path}", base.strip_suffix("/v1").unwrap_or(base)),
            (_, Shape::Gemini | Shape::Ollama) => format!("{base}{path}"),
        }
    }

    /// The shape and path, as they are served here, of its list of models.
    pub const fn listing(self) -> (Shape, &'static str) {
        match self {
            Self::Anthropic | Self::AnthropicCompatible => (Shape::Anthropic, "/v1/models"),
            Self::Gemini => (Shape::Gemini, "/v1beta/models"),
            Self::Ollama => (Shape::Ollama, "/api/tags"),
            Self::OpenAi | Self::Nvidia | Self::OpenAiCompatible | Self::Vllm | Self::Nim => {
                (Shape::OpenAi, "/v1/models")
            }
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Endpoint {
    /// Parses `https://host[:port][/path]`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (tls, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(EndpointError::Scheme);
        };
        if rest.contains(['@', '?', '#']) {
            return Err(EndpointError::Extra);
        }
        let (authority, base) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        };
        if !base.is_empty() && crate::addr::Path::parse(base).is_ok_and(|path| !path.changed()) {
            // As it is judged and as it is sent.
        } else if !base.is_empty() {
            return Err(EndpointError::Path);
        }
        let port = if tls { Port::HTTPS } else { Port::HTTP };
        let authority = Authority::parse(authority, Some(port))?;
        Ok(Self { tls, authority, base: base.into() })
    }

    /// Whether a key may go there in the clear: over TLS, or to this machine alone.
    pub fn keeps_secrets(&self) -> bool {
        self.tls || self.is_loopback()
    }

    /// Whether it is on this machine, by an address or as `localhost`.
    pub fn is_loopback(&self) -> bool {
        match &self.authority.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Name(name) => {
                name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, Shown::new(&self.base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_is_found_by_its_name_and_its_endpoint_parses() {
        for provider in Provider::ALL {
            assert_eq!(Provider::named(provider.as_str()), Some(provider));
            if let Some(endpoint) = provider.default_endpoint() {
                let endpoint = Endpoint::parse(endpoint).unwrap();
                assert!(endpoint.tls || endpoint.is_loopback(), "{provider}");
            }
        }
        assert_eq!(Provider::named("OpenAI"), None);
    }

    #[test]
    fn a_path_is_put_below_the_endpoint_with_its_version_once() {
        let at = |provider: Provider, endpoint: &str, shape, path: &str| {
            provider.path(&Endpoint::parse(endpoint).unwrap(), shape, path)
        };
        let openai = (Shape::OpenAi, "/v1/chat/completions");
        for (provider, endpoint, (shape, path), expected) in [
            (Provider::OpenAi, "https://a.test/v1", openai, "/v1/chat/completions"),
            (Provider::OpenAi, "https://a.test/v1/", openai, "/v1/chat/completions"),
            (Provider::OpenAi, "https://a.test", openai, "/v1/chat/completions"),
            (Provider::OpenAi, "https://a.test/openai/v4", openai, "/openai/v4/chat/completions"),
            (Provider::Gemini, "https://a.test", openai, "/v1beta/openai/chat/completions"),
            (
                Provider::Gemini,
                "https://a.test",
                (Shape::OpenAi, "/v1beta/openai/chat/completions"),
                "/v1beta/openai/chat/completions",
            ),
            (
                Provider::OpenAi,
                "https://a.test/v1",
                (Shape::OpenAi, "/v1beta/openai/embeddings"),
                "/v1/embeddings",
            ),
            (Provider::Ollama, "http://127.0.0.1:1/v1", openai, "/v1/chat/completions"),
            (Provider::Ollama, "http://127.0.0.1:1", (Shape::Ollama, "/api/chat"), "/api/chat"),
            (
                Provider::AnthropicCompatible,
                "https://a.test/anthropic/v1",
                (Shape::Anthropic, "/v1/messages"),
                "/anthropic/v1/messages",
            ),
        ] {
            assert_eq!(at(provider, endpoint, shape, path), expected, "{provider} {endpoint}");
        }
    }

    #[test]
    fn an_endpoint_says_where_and_nothing_else() {
        let endpoint = Endpoint::parse("http://127.0.0.1:11434").unwrap();
        assert!(endpoint.is_loopback() && endpoint.keeps_secrets() && !endpoint.tls);
        assert!(!Endpoint::parse("http://10.0.0.5:8000/v1").unwrap().keeps_secrets());
        assert!(Endpoint::parse("http://localhost:8000").unwrap().is_loopback());
        for (text, error) in [
            ("api.openai.com", EndpointError::Scheme),
            ("ftp://a.test", EndpointError::Scheme),
            ("https://user@a.test", EndpointError::Extra),
            ("https://a.test/?key=1", EndpointError::Extra),
            ("https://a.test/../v1", EndpointError::Path),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
        assert!(matches!(Endpoint::parse("https://"), Err(EndpointError::Authority(_))));
    }
}
