//! Which provider takes a model, under which name, and who stands in for it.

use super::provider::{Endpoint, Provider};
use super::shape::Shape;
use crate::addr::Shown;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The routes behind `inference.local`, as a sandbox has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Their name in the config.
    pub name: Arc<str>,
    /// Tried top down. Never empty.
    pub routes: Vec<Route>,
    /// Names that stand for models.
    pub aliases: BTreeMap<String, Arc<str>>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// What a sandbox may spend.
    pub budget: Budget,
}

/// One provider, and which models it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name: `main[0]`, or what the config calls it.
    pub name: Arc<str>,
    /// A pattern over the model's name; `None`: whatever the routes above did not take.
    pub matches: Option<Arc<str>>,
    /// Who answers.
    pub provider: Provider,
    /// Where.
    pub endpoint: Endpoint,
    /// The credential that pays, by its name.
    pub credential: Option<Arc<str>>,
    /// Which models.
    pub models: Models,
    /// The routes that stand in for it, by their place.
    pub fallback: Vec<usize>,
}

/// Which models a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Any that its provider has.
    Any,
    /// One, whatever the client names.
    Pinned(Arc<str>),
    /// These.
    Only(Vec<Arc<str>>),
}

/// How long each step may take; for streams too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Resolving, connecting and the TLS handshake.
    pub connect: Duration,
    /// From the end of the request to the first byte of its answer.
    pub first_byte: Duration,
    /// A stream that stands still.
    pub idle: Duration,
}

/// What a sandbox may spend; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens in a UTC day, read and made.
    pub tokens_per_day: Option<u64>,
    /// Requests a minute, with a burst of one minute's worth.
    pub requests_per_minute: Option<u32>,
}

/// One provider that is asked, and for which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The route.
    pub route: &'a Route,
    /// The model as the provider knows it; `None` where the client names none and none is pinned.
    pub model: Option<Arc<str>>,
}

/// Why no provider is asked. The sentences have no trailing period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No route takes the model.
    #[error("no route takes {model}; GET /v1/models lists what may be used")]
    NoRoute {
        /// The model, escaped, or that there is none.
        model: String,
    },
    /// The route speaks another shape.
    #[error(
        "the request is in {asked} shape, and the route {route} ({provider}) does not speak it: \
         set {setting} and use that SDK, or have the operator add a route that speaks {asked}"
    )]
    WrongShape {
        /// The shape of the request.
        asked: &'static str,
        /// The route.
        route: Arc<str>,
        /// Its provider.
        provider: Provider,
        /// What to set in the client to use it.
        setting: &'static str,
    },
    /// The route has a list, and the model is not on it.
    #[error("{model} may not be used; these may: {allowed}")]
    NotAllowed {
        /// `the model "m"`, escaped, or that none is named.
        model: String,
        /// The list.
        allowed: String,
    },
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(120),
        }
    }
}

impl Routes {
    /// Who is asked for `model` in `shape`, in order. The first route whose pattern fits decides;
    /// of those without a pattern, the first that speaks the shape.
    pub fn plan(&self, shape: Shape, model: Option<&str>) -> Result<Vec<Attempt<'_>>, RouteError> {
        let aliased = model.and_then(|model| self.aliases.get(model));
        let meant = aliased.cloned().or_else(|| model.map(Arc::from));
        let first = self.first(shape, meant.as_deref())?;
        if !first.provider.speaks(shape) {
            return Err(RouteError::WrongShape {
                asked: shape.as_str(),
                route: first.name.clone(),
                provider: first.provider,
                setting: first.provider.shapes()[0].setting(),
            });
        }
        let model = first.takes(meant.as_ref()).map_err(|allowed| RouteError::NotAllowed {
            model: match meant.as_deref() {
                Some(model) => format!("the model {}", shown(Some(model))),
                None => "a model that is not named".to_owned(),
            },
            allowed,
        })?;
        let mut attempts = vec![Attempt { route: first, model }];
        for route in first.fallback.iter().filter_map(|at| self.routes.get(*at)) {
            // One without models of its own stands in for those that it is for, and no others: who
            // makes the first fail does not get round that.
            let fits = |pattern: &Arc<str>| meant.as_ref().is_some_and(|m| matches(pattern, m));
            let own = !matches!(route.models, Models::Any);
            if route.provider.speaks(shape)
                && (own || route.matches.as_ref().is_none_or(fits))
                && let Ok(model) = route.takes(meant.as_ref())
            {
                attempts.push(Attempt { route, model });
            }
        }
        Ok(attempts)
    }

    fn first(&self, shape: Shape, model: Option<&str>) -> Result<&Route, RouteError> {
        let mut passed_over = None;
        for route in &self.routes {
            match (&route.matches, model) {
                (Some(pattern), Some(model)) if matches(pattern, model) => return Ok(route),
                (Some(_), _) => {}
                (None, _) if route.provider.speaks(shape) => return Ok(route),
                (None, _) => passed_over = passed_over.or(Some(route)),
            }
        }
        passed_over.ok_or_else(|| RouteError::NoRoute { model: shown(model) })
    }

    /// The routes that answer for kept responses, which name no model: those that speak OpenAI's.
    pub fn keepers(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|route| route.provider.speaks(Shape::OpenAi))
    }

    /// Whether `model` reaches `route` first: what its listing says is shown only then.
    pub fn leads_to(&self, route: &Route, model: &str) -> bool {
        let shape = route.provider.shapes()[0];
        self.first(shape, Some(model)).is_ok_and(|first| first.name == route.name)
    }
}

impl Route {
    /// The model that it asks for when `meant` is asked of it, or the list that `meant` is not on.
    fn takes(&self, meant: Option<&Arc<str>>) -> Result<Option<Arc<str>>, String> {
        match (&self.models, meant) {
            (Models::Pinned(model), _) => Ok(Some(model.clone())),
            (Models::Any, meant) => Ok(meant.cloned()),
            (Models::Only(models), Some(meant)) if models.contains(meant) => {
                Ok(Some(meant.clone()))
            }
            (Models::Only(models), _) => Err(models.join(", ")),
        }
    }
}

fn shown(model: Option<&str>) -> String {
    match model {
        Some(model) => format!("`{}`", Shown::new(clip(model))),
        None => "a request that names no model".to_owned(),
    }
}

fn clip(text: &str) -> &str {
    let end = (0..=text.len().min(128)).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Whether `text` fits `pattern`, in which `*` is any run of characters.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(mut part) = parts.next() else { return rest.is_empty() };
    for next in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        part = next;
    }
    rest.ends_with(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, provider: Provider) -> Route {
        let endpoint = provider.default_endpoint().unwrap();
        Route {
            name: name.into(),
            matches: None,
            provider,
            endpoint: Endpoint::parse(endpoint).unwrap(),
            credential: None,
            models: Models::Any,
            fallback: Vec::new(),
        }
    }

    /// The example of the documentation.
    fn main() -> Routes {
        let claude =
            Route { matches: Some("claude-*".into()), ..route("main[0]", Provider::Anthropic) };
        let openai = Route {
            models: Models::Pinned("gpt-5.4-mini".into()),
            fallback: vec![2],
            ..route("main[1]", Provider::OpenAi)
        };
        let local = route("local", Provider::Ollama);
        Routes {
            name: "main".into(),
            routes: vec![claude, openai, local],
            aliases: [("fast".to_owned(), "gpt-5.4-mini".into())].into(),
            timeouts: Timeouts::default(),
            budget: Budget::default(),
        }
    }

    fn plan(shape: Shape, model: Option<&str>) -> Vec<String> {
        let routes = main();
        let attempts = routes.plan(shape, model).unwrap();
        let line =
            |a: &Attempt<'_>| format!("{} {}", a.route.name, a.model.as_deref().unwrap_or("-"));
        attempts.iter().map(line).collect()
    }

    #[test]
    fn the_first_pattern_that_fits_decides_and_then_who_speaks_the_shape() {
        assert_eq!(plan(Shape::Anthropic, Some("claude-opus")), ["main[0] claude-opus"]);
        let pinned = ["main[1] gpt-5.4-mini", "local fast-x"];
        assert_eq!(plan(Shape::OpenAi, Some("fast-x")), pinned);
        assert_eq!(plan(Shape::OpenAi, Some("fast"))[1], "local gpt-5.4-mini");
        assert_eq!(plan(Shape::OpenAi, None), ["main[1] gpt-5.4-mini", "local -"]);
        assert_eq!(plan(Shape::Ollama, Some("qwen3")), ["local qwen3"]);
    }

    #[test]
    fn a_stand_in_takes_no_model_that_it_is_not_for() {
        let mut routes = main();
        routes.routes[2].matches = Some("cheap*".into());
        let asked = |routes: &Routes, model| routes.plan(Shape::OpenAi, Some(model)).unwrap().len();
        assert_eq!((asked(&routes, "very-expensive"), asked(&routes, "gpt")), (1, 1));
        routes.routes[2].models = Models::Pinned("cheap-1".into());
        let plan = routes.plan(Shape::OpenAi, Some("very-expensive")).unwrap();
        assert_eq!(plan[1].model.as_deref(), Some("cheap-1"));
    }

    #[test]
    fn a_request_in_another_shape_is_told_what_to_set() {
        let error = main().plan(Shape::OpenAi, Some("claude-opus")).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("main[0] (anthropic) does not speak it"), "{said}");
        assert!(said.contains("ANTHROPIC_BASE_URL=https://inference.local"), "{said}");
        let error = main().plan(Shape::Gemini, Some("gemini-3")).unwrap_err();
        assert!(matches!(error, RouteError::WrongShape { .. }));
    }

    #[test]
    fn a_list_takes_what_is_on_it_alone() {
        let mut routes = main();
        routes.routes[1].models = Models::Only(vec!["a".into(), "b".into()]);
        assert_eq!(routes.plan(Shape::OpenAi, Some("a")).unwrap().len(), 2);
        let said = routes.plan(Shape::OpenAi, Some("c\u{1b}")).unwrap_err().to_string();
        assert!(said.ends_with("may not be used; these may: a, b"), "{said}");
        assert!(!said.contains('\u{1b}'));
        assert!(routes.plan(Shape::OpenAi, None).is_err());
        // As a stand-in it is passed over.
        routes.routes[2].models = Models::Only(vec!["z".into()]);
        assert_eq!(routes.plan(Shape::OpenAi, Some("a")).unwrap().len(), 1);
    }

    #[test]
    fn without_a_route_for_the_rest_the_rest_has_none() {
        let mut routes = main();
        routes.routes.truncate(1);
        let error = routes.plan(Shape::Anthropic, Some("gpt-5")).unwrap_err();
        assert!(error.to_string().starts_with("no route takes `gpt-5`"));
        assert!(routes.plan(Shape::Anthropic, None).is_err());
    }

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("claude-*", "claude-", true),
            ("claude-*", "claude-opus-5", true),
            ("claude-*", "my-claude-5", false),
            ("*", "", true),
            ("*mini*", "gpt-5.4-mini", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("gpt", "gpt-5", false),
            ("gpt", "gpt", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
