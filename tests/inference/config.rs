//! `inference:` in the config: what it means, and what is refused, each with its place and the fix.

use portcullis::config::{Config, Flags, Surroundings};
use portcullis::inference::{Models, Provider, Shape};
use std::path::{Path, PathBuf};

fn around(keys: &[&str]) -> Surroundings {
    Surroundings {
        home: Some(PathBuf::from("/home/ana")),
        state_home: None,
        config_home: None,
        runtime_dir: None,
        current_dir: PathBuf::from("/srv"),
        euid: 1000,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn read(inference: &str) -> Result<Config, String> {
    let text = format!(
        "version: 1\nsandboxes: {{ default: {{ inference: main }} }}\ncredentials: {{ key: {{ env: K }} }}\ninference:\n  main: {inference}\n"
    );
    let loaded = Config::parse(Path::new("c.yaml"), &text, &Flags::default(), &around(&[]));
    loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
}

#[test]
fn one_route_inline_is_a_list_of_one() {
    let config = read("{ provider: openai, credential: key, model: gpt-5 }").unwrap();
    let routes = &config.inference["main"];
    assert_eq!(routes.routes.len(), 1);
    let route = &routes.routes[0];
    assert_eq!((&*route.name, route.provider), ("main[0]", Provider::OpenAi));
    assert_eq!(route.models, Models::Pinned("gpt-5".into()));
    assert_eq!(route.endpoint.to_string(), "https://api.openai.com:443/v1");
    assert_eq!(config.sandboxes["default"].inference.as_deref(), Some("main"));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_fix() {
    for (inference, what, fix) in [
        (
            "{ provider: openia, credential: key }",
            "no provider is named `openia`",
            "use one of: openai",
        ),
        ("{ provider: openai }", "answers nobody without a key", "credential: NAME"),
        (
            "{ provider: openai, credential: no }",
            "no credential is named `no`",
            "credentials: { no:",
        ),
        ("{ provider: openai-compatible }", "has no usual endpoint", "add endpoint:"),
        ("{ provider: vllm, endpoint: \"10.0.0.1:8000\" }", "is not an endpoint", "https://HOST"),
        (
            "{ provider: vllm, endpoint: \"http://10.0.0.1:8000/v1\", credential: key }",
            "in the clear",
            "use https://",
        ),
        ("{ provider: ollama, model: a, models: [b] }", "`model` and `models`", "keep one"),
        ("{ provider: ollama, models: [] }", "no model may be asked", "name one"),
        ("{ routes: [] }", "has no route", "provider: NAME"),
        ("{ provider: ollama, routes: [{ provider: ollama }] }", "inline beside", "into the list"),
        (
            "{ routes: [{ provider: ollama, fallback: [x] }] }",
            "no route here is named `x`",
            "name: x",
        ),
        (
            "{ routes: [{ provider: ollama, fallback: [x] }, { name: x, provider: anthropic, credential: key }] }",
            "can't stand in",
            "same shape",
        ),
        (
            "{ routes: [{ name: x, provider: ollama }, { name: x, provider: ollama }] }",
            "two routes are named `x`",
            "another name",
        ),
        (
            "{ routes: [{ match: \"qwen*\", provider: ollama, models: [llama] }] }",
            "does not fit the route's `match`",
            "remove it",
        ),
        ("{ provider: ollama, budget: { tokens_per_day: 0 } }", "0 would let nothing", "above 0"),
        ("{ provider: ollama, timeout: { idle: 0s } }", "0 would let nothing", "above 0"),
        ("{ provider: ollama, key: sk-1 }", "unknown field", ""),
    ] {
        let error = read(inference).unwrap_err();
        assert!(error.starts_with("c.yaml:"), "{inference}: {error}");
        assert!(error.contains(what) && error.contains(fix), "{inference}: {error}");
    }
    let text = "version: 1\nsandboxes: { default: { inference: main } }\n";
    let error = Config::parse(Path::new("c.yaml"), text, &Flags::default(), &around(&[]));
    assert!(error.unwrap_err().to_string().contains("no inference route is named `main`"));
}

#[test]
fn the_flag_takes_the_key_of_the_usual_variable() {
    let flags = |text: &str| Flags { inference: Some(text.into()), ..Flags::default() };
    let config = |text: &str, keys: &[&str]| {
        let loaded = Config::defaults(&flags(text), &around(keys));
        loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
    };
    let meant = config("gemini/gemini-3", &["GOOGLE_API_KEY"]).unwrap();
    let name = meant.sandboxes["default"].inference.clone().unwrap();
    let attempts = meant.inference[&name].plan(Shape::Gemini, None).unwrap();
    assert_eq!(attempts[0].model.as_deref(), Some("gemini-3"));
    let credential = attempts[0].route.credential.clone().unwrap();
    assert_eq!(meant.credentials[&credential].to_string(), "env GOOGLE_API_KEY");
    assert!(config("ollama", &[]).is_ok(), "it needs no key");
    for (text, why) in [
        ("openai", "OPENAI_API_KEY is not set"),
        ("nobody/x", "no provider is named `nobody`"),
        ("openai-compatible", "has no usual endpoint"),
        ("ollama/", "the model is empty"),
    ] {
        let error = config(text, &[]).unwrap_err();
        assert!(error.contains("--inference") && error.contains(why), "{text}: {error}");
        assert!(error.contains("fix: "), "{error}");
    }
}
