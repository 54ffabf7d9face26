//! `inference`: the routes behind `inference.local`, as typed and as meant.

use super::error::ConfigError;
use super::raw::RawCredential;
use super::settle::Reading;
use super::source::{At, Place};
use super::units::Span;
use crate::addr::Shown;
use crate::inference::{
    Budget, Endpoint, Models, Provider, Route, Routes, Shape, Timeouts, matches,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The routes behind `inference.local`: one inline, or several tried by model name, top down.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inference")]
pub(super) struct RawInference {
    /// One route: who answers.
    pub(super) provider: Option<At<String>>,
    /// One route: where, if not at the provider's usual endpoint.
    pub(super) endpoint: Option<At<String>>,
    /// One route: the credential that pays.
    pub(super) credential: Option<At<String>>,
    /// One route: the one model that is asked, whatever the client names.
    pub(super) model: Option<At<String>>,
    /// One route: the models that may be asked.
    pub(super) models: Option<At<Vec<String>>>,
    /// Several routes.
    #[serde(default)]
    pub(super) routes: Vec<At<RawRoute>>,
    /// Names that stand for models.
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, String>,
    /// How long each step may take.
    #[serde(default)]
    pub(super) timeout: RawInferenceTimeout,
    /// What a sandbox may spend.
    #[serde(default)]
    pub(super) budget: RawBudget,
}

/// One route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InferenceRoute")]
pub(super) struct RawRoute {
    /// Its name, for `fallback` and records.
    pub(super) name: Option<At<String>>,
    /// A pattern over model names, in which `*` is any run of characters. Left out: whatever the
    /// routes above did not take.
    #[serde(rename = "match")]
    pub(super) matches: Option<At<String>>,
    /// Who answers.
    pub(super) provider: At<String>,
    /// Where, if not at the provider's usual endpoint.
    pub(super) endpoint: Option<At<String>>,
    /// The credential that pays.
    pub(super) credential: Option<At<String>>,
    /// The one model that is asked, whatever the client names.
    pub(super) model: Option<At<String>>,
    /// The models that may be asked.
    pub(super) models: Option<At<Vec<String>>>,
    /// The routes that stand in when this one can't be reached, is busy or fails.
    #[serde(default)]
    pub(super) fallback: Vec<At<String>>,
}

/// How long each step of a model call may take; for streams too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InferenceTimeout")]
pub(super) struct RawInferenceTimeout {
    /// For resolving and connecting, TLS included. Default: 10s.
    pub(super) connect: Option<At<Span>>,
    /// For the first byte of an answer. Default: 120s.
    pub(super) first_byte: Option<At<Span>>,
    /// For a stream that stands still. Default: 120s.
    pub(super) idle: Option<At<Span>>,
}

/// What each sandbox may spend. Left out: no limit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "InferenceBudget")]
pub(super) struct RawBudget {
    /// Tokens in a day (UTC), read and made.
    pub(super) tokens_per_day: Option<At<u64>>,
    /// Model calls a minute.
    pub(super) requests_per_minute: Option<At<u32>>,
}

/// The credentials of a config, by name.
type Credentials = BTreeMap<String, At<RawCredential>>;

/// Where a route stands, before its fallbacks are looked up.
struct Typed<'a> {
    place: Place,
    name: Option<&'a At<String>>,
    matches: Option<&'a At<String>>,
    provider: &'a At<String>,
    endpoint: Option<&'a At<String>>,
    credential: Option<&'a At<String>>,
    model: Option<&'a At<String>>,
    models: Option<&'a At<Vec<String>>>,
    fallback: &'a [At<String>],
}

/// Settles `inference:`.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &BTreeMap<String, At<RawInference>>,
    credentials: &Credentials,
) -> Result<BTreeMap<Arc<str>, Arc<Routes>>, ConfigError> {
    let each = |(name, raw): (&String, &At<RawInference>)| {
        let routes = routes(reading, name, raw, credentials)?;
        Ok((routes.name.clone(), Arc::new(routes)))
    };
    raw.iter().map(each).collect()
}

/// The routes that a sandbox names.
pub(super) fn named(
    reading: &Reading<'_>,
    name: &At<String>,
    known: &BTreeMap<String, At<RawInference>>,
) -> Result<Arc<str>, ConfigError> {
    if known.contains_key(&name.value) {
        return Ok(name.value.as_str().into());
    }
    let shown = Shown::new(&name.value);
    let what = format!("no inference route is named `{shown}`");
    let fix =
        format!("add it: inference: {{ {shown}: {{ provider: openai, credential: openai }} }}");
    Err(reading.fault(name.place, what, fix))
}

/// What `--inference PROVIDER[/MODEL]` means: the routes, and the variables in which its key may
/// be. On failure what is wrong, and what would be right.
pub(super) fn flag(text: &str) -> Result<(Routes, &'static [&'static str]), (String, String)> {
    let (name, model) = match text.split_once('/') {
        Some((name, model)) => (name, Some(model)),
        None => (text, None),
    };
    let provider = provider(name)?;
    let Some(endpoint) = provider.default_endpoint() else {
        let what = format!("{provider} has no usual endpoint");
        let fix = "write it into a config: inference: { main: { provider: …, endpoint: … } }";
        return Err((what, fix.into()));
    };
    let endpoint = Endpoint::parse(endpoint).map_err(|error| (error.to_string(), String::new()))?;
    if model == Some("") {
        let fix = format!("write --inference {provider}/MODEL, or --inference {provider}");
        return Err(("the model is empty".into(), fix));
    }
    let route = Route {
        name: FLAG.into(),
        matches: None,
        provider,
        endpoint,
        credential: None,
        models: model.map_or(Models::Any, |model| Models::Pinned(model.into())),
        fallback: Vec::new(),
    };
    let routes = Routes {
        name: FLAG.into(),
        routes: vec![route],
        aliases: BTreeMap::new(),
        timeouts: Timeouts::default(),
        budget: Budget::default(),
    };
    Ok((routes, provider.variables()))
}

/// What `--inference` names its route.
pub(super) const FLAG: &str = "--inference";

fn provider(name: &str) -> Result<Provider, (String, String)> {
    Provider::named(name).ok_or_else(|| {
        let known: Vec<&str> = Provider::ALL.iter().map(|provider| provider.as_str()).collect();
        let what = format!("no provider is named `{}`", Shown::new(name));
        (what, format!("use one of: {}", known.join(", ")))
    })
}

fn routes(
    reading: &Reading<'_>,
    name: &str,
    at: &At<RawInference>,
    credentials: &Credentials,
) -> Result<Routes, ConfigError> {
    let typed = typed(reading, name, at)?;
    let mut routes = Vec::with_capacity(typed.len());
    for (number, each) in typed.iter().enumerate() {
        let usual = format!("{name}[{number}]");
        let called = each.name.map_or(usual.as_str(), |name| name.value.as_str());
        let route = route(reading, called, each, credentials)?;
        if routes.iter().any(|other: &Route| other.name == route.name) {
            let what = format!("two routes are named `{}`", Shown::new(called));
            return Err(reading.fault(each.place, what, "give one of them another name"));
        }
        routes.push(route);
    }
    for (number, each) in typed.iter().enumerate() {
        routes[number].fallback = fallback(reading, &routes, number, each)?;
    }
    let raw = &at.value;
    let standard = Timeouts::default();
    let span = |raw: &Option<At<Span>>, usual: Duration| match raw {
        Some(at) if at.value.0.is_zero() => Err(zero(reading, at.place)),
        Some(at) => Ok(at.value.0),
        None => Ok(usual),
    };
    Ok(Routes {
        name: name.into(),
        routes,
        aliases: raw.aliases.iter().map(|(name, to)| (name.clone(), to.as_str().into())).collect(),
        timeouts: Timeouts {
            connect: span(&raw.timeout.connect, standard.connect)?,
            first_byte: span(&raw.timeout.first_byte, standard.first_byte)?,
            idle: span(&raw.timeout.idle, standard.idle)?,
        },
        budget: budget(reading, &raw.budget)?,
    })
}

fn budget(reading: &Reading<'_>, raw: &RawBudget) -> Result<Budget, ConfigError> {
    let tokens = raw.tokens_per_day.as_ref();
    let requests = raw.requests_per_minute.as_ref();
    if let Some(at) = tokens.filter(|at| at.value == 0) {
        return Err(zero(reading, at.place));
    }
    if let Some(at) = requests.filter(|at| at.value == 0) {
        return Err(zero(reading, at.place));
    }
    Ok(Budget {
        tokens_per_day: tokens.map(|at| at.value),
        requests_per_minute: requests.map(|at| at.value),
    })
}

fn zero(reading: &Reading<'_>, place: Place) -> ConfigError {
    let what = "0 would let nothing through";
    reading.fault(place, what, "write a number above 0, or leave the line out")
}

/// The routes as they stand there: one inline, or a list.
fn typed<'a>(
    reading: &Reading<'_>,
    name: &str,
    at: &'a At<RawInference>,
) -> Result<Vec<Typed<'a>>, ConfigError> {
    let raw = &at.value;
    let inline = [&raw.endpoint, &raw.credential, &raw.model].into_iter().flatten().next();
    let inline = raw.provider.as_ref().or(inline).map(|at| at.place);
    let inline = inline.or(raw.models.as_ref().map(|at| at.place));
    if let (Some(place), Some(_)) = (inline, raw.routes.first()) {
        let what = "a route inline beside `routes:`";
        return Err(reading.fault(place, what, "move it into the list"));
    }
    if let Some(provider) = &raw.provider {
        return Ok(vec![Typed {
            place: at.place,
            name: None,
            matches: None,
            provider,
            endpoint: raw.endpoint.as_ref(),
            credential: raw.credential.as_ref(),
            model: raw.model.as_ref(),
            models: raw.models.as_ref(),
            fallback: &[],
        }]);
    }
    if raw.routes.is_empty() {
        let what = format!("`{}` has no route", Shown::new(name));
        let fix = "write provider: NAME, or routes: [{ provider: NAME }]";
        return Err(reading.fault(at.place, what, fix));
    }
    let each = |at: &'a At<RawRoute>| Typed {
        place: at.place,
        name: at.value.name.as_ref(),
        matches: at.value.matches.as_ref(),
        provider: &at.value.provider,
        endpoint: at.value.endpoint.as_ref(),
        credential: at.value.credential.as_ref(),
        model: at.value.model.as_ref(),
        models: at.value.models.as_ref(),
        fallback: &at.value.fallback,
    };
    Ok(raw.routes.iter().map(each).collect())
}

fn route(
    reading: &Reading<'_>,
    name: &str,
    typed: &Typed<'_>,
    credentials: &Credentials,
) -> Result<Route, ConfigError> {
    let provider = provider(&typed.provider.value)
        .map_err(|(what, fix)| reading.fault(typed.provider.place, what, fix))?;
    let endpoint = endpoint(reading, provider, typed)?;
    let credential = typed.credential.map(|at| credential(reading, at, credentials)).transpose()?;
    if provider.needs_key() && credential.is_none() {
        let what = format!("{provider} answers nobody without a key");
        let fix = "name one of the gateway's credentials: credential: NAME";
        return Err(reading.fault(typed.place, what, fix));
    }
    if credential.is_some() && !endpoint.keeps_secrets() {
        let place = typed.endpoint.map_or(typed.place, |at| at.place);
        let what = "a credential would go there in the clear";
        return Err(reading.fault(place, what, "use https://, or leave the credential out"));
    }
    Ok(Route {
        name: name.into(),
        matches: typed.matches.map(|at| at.value.as_str().into()),
        provider,
        endpoint,
        credential,
        models: models(reading, typed)?,
        fallback: Vec::new(),
    })
}

fn endpoint(
    reading: &Reading<'_>,
    provider: Provider,
    typed: &Typed<'_>,
) -> Result<Endpoint, ConfigError> {
    let (text, place) = match (typed.endpoint, provider.default_endpoint()) {
        (Some(at), _) => (at.value.as_str(), at.place),
        (None, Some(usual)) => (usual, typed.place),
        (None, None) => {
            let what = format!("{provider} has no usual endpoint");
            return Err(reading.fault(typed.place, what, "add endpoint: \"https://HOST/v1\""));
        }
    };
    Endpoint::parse(text).map_err(|error| {
        let what = format!("`{}` is not an endpoint: {error}", Shown::new(text));
        reading.fault(place, what, "write endpoint: \"https://HOST[:PORT][/PATH]\"")
    })
}

fn credential(
    reading: &Reading<'_>,
    name: &At<String>,
    credentials: &Credentials,
) -> Result<Arc<str>, ConfigError> {
    if credentials.contains_key(&name.value) {
        return Ok(name.value.as_str().into());
    }
    let shown = Shown::new(&name.value);
    let what = format!("no credential is named `{shown}`");
    let fix = format!("add it: credentials: {{ {shown}: {{ file: ~/secrets/{shown} }} }}");
    Err(reading.fault(name.place, what, fix))
}

fn models(reading: &Reading<'_>, typed: &Typed<'_>) -> Result<Models, ConfigError> {
    let matching = |model: &str| typed.matches.is_none_or(|at| matches(&at.value, model));
    let shared = |text: &String| Arc::<str>::from(text.as_str());
    match (typed.model, typed.models) {
        (Some(model), Some(_)) => {
            let what = "`model` and `models` in one route";
            let fix = "`model` pins one, `models` lists those that may be asked: keep one of them";
            Err(reading.fault(model.place, what, fix))
        }
        (Some(at), None) if at.value.is_empty() => {
            Err(reading.fault(at.place, "the model is empty", "name it, or leave the line out"))
        }
        (Some(at), None) => Ok(Models::Pinned(shared(&at.value))),
        (None, Some(at)) => match at.value.iter().find(|model| !matching(model)) {
            Some(model) => {
                let what = format!("`{}` does not fit the route's `match`", Shown::new(model));
                Err(reading.fault(at.place, what, "no request for it would come here: remove it"))
            }
            None if at.value.is_empty() => Err(reading.fault(
                at.place,
                "no model may be asked",
                "name one, or remove the line",
            )),
            None => Ok(Models::Only(at.value.iter().map(shared).collect())),
        },
        (None, None) => Ok(Models::Any),
    }
}

fn fallback(
    reading: &Reading<'_>,
    routes: &[Route],
    number: usize,
    typed: &Typed<'_>,
) -> Result<Vec<usize>, ConfigError> {
    let mut places = Vec::with_capacity(typed.fallback.len());
    for at in typed.fallback {
        let shown = Shown::new(&at.value);
        let Some(place) = routes.iter().position(|route| *route.name == at.value) else {
            let what = format!("no route here is named `{shown}`");
            let fix = format!("give it its name: routes: [{{ name: {shown}, … }}]");
            return Err(reading.fault(at.place, what, fix));
        };
        let speaks = |shape: &Shape| routes[place].provider.speaks(*shape);
        if place == number || !routes[number].provider.shapes().iter().any(speaks) {
            let what = format!("`{shown}` can't stand in: it speaks none of the same shapes");
            return Err(reading.fault(at.place, what, "name a route that speaks the same shape"));
        }
        places.push(place);
    }
    Ok(places)
}
