//! The models that a sandbox may use: the pinned and the listed ones as the config names them, of
//! open routes what the provider lists.

use super::super::body::DownBody;
use super::super::gate::Connection;
use super::super::refuse::Refusal;
use super::super::request::Exchange;
use super::super::scrub;
use super::ask::{On, Outgoing, fields, target};
use super::calls::Routed;
use super::own_answer;
use crate::inference::{Models, Route, Routes, Shape, listed, one_listed, read_listing};
use crate::policy::Code;
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;

/// The largest list of a provider that is read, in bytes.
const LARGEST: usize = 4 << 20;

/// Answers with the models, or with `one` of them.
pub(super) async fn answer(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    (routed, shape): (&Arc<Routed>, Shape),
    one: Option<&str>,
) -> Result<Response<DownBody>, Refusal> {
    let routes = &routed.routes;
    let mut models: Vec<(String, &'static str)> = Vec::new();
    let mut failed = None;
    for route in &routes.routes {
        // Whoever speaks another shape could not ask for them; OpenAI's is what scripts speak.
        if shape != Shape::OpenAi && !route.provider.speaks(shape) {
            continue;
        }
        match of(exchange, connection, routes, route).await {
            Ok(found) => {
                for model in found.iter().filter(|model| routes.leads_to(route, model)) {
                    add(&mut models, model, route.provider.as_str());
                }
            }
            Err(refusal) => failed = Some(refusal),
        }
    }
    if let (true, Some(refusal)) = (models.is_empty(), failed) {
        return Err(refusal);
    }
    for name in routes.aliases.keys() {
        if routes.plan(shape, Some(name)).is_ok() {
            add(&mut models, name, "alias");
        }
    }
    match one {
        None => Ok(own_answer(exchange, &listed(shape, &models))),
        Some(one) => match models.iter().find(|(id, _)| id == one) {
            Some((id, by)) => Ok(own_answer(exchange, &one_listed(shape, id, by))),
            None => {
                let shown = crate::addr::Shown::new(one);
                let detail = format!("no model `{shown}` may be used; GET /v1/models lists them");
                Err(Refusal::unjudged(Code::ModelUnknown, detail))
            }
        },
    }
}

fn add(models: &mut Vec<(String, &'static str)>, id: &str, by: &'static str) {
    if !models.iter().any(|(each, _)| each == id) {
        models.push((id.to_owned(), by));
    }
}

/// The models of one route.
async fn of(
    exchange: &mut Exchange,
    connection: &Arc<Connection>,
    routes: &Routes,
    route: &Route,
) -> Result<Arc<[String]>, Refusal> {
    let named = |models: &[Arc<str>]| models.iter().map(|model| model.to_string()).collect();
    match &route.models {
        Models::Pinned(model) => return Ok(Arc::from([model.to_string()])),
        Models::Only(models) => return Ok(named(models)),
        Models::Any => {}
    }
    let calls = connection.sandbox.calls();
    if let Some(list) = calls.list(&route.name) {
        return Ok(list);
    }
    let (shape, path) = route.provider.listing();
    let mut path = route.provider.path(&route.endpoint, shape, path);
    path += match shape {
        Shape::Anthropic => "?limit=1000",
        Shape::Gemini => "?pageSize=1000",
        Shape::OpenAi | Shape::Ollama => "",
    };
    let outgoing = Outgoing {
        method: Method::GET,
        path: target(path)?,
        fields: fields(route.provider, &http::HeaderMap::new()),
        body: Bytes::new(),
    };
    // Whatever comes of it: it goes up as every call does.
    super::account::counted(&connection.sandbox)?;
    let on = On { route, shape, timeouts: routes.timeouts };
    let answered = on.send(exchange, connection, outgoing, None).await;
    let answered = answered.map_err(|unanswered| unanswered.refusal)?;
    let unusable = |what: String| {
        let detail = format!("the models of the route {} are not known: {what}", route.name);
        Refusal::unjudged(Code::UpstreamProtocol, detail)
    };
    let status = answered.response.status();
    if !status.is_success() {
        return Err(unusable(format!("its provider answered {}", status.as_u16())));
    }
    if !scrub::coding(answered.response.headers()).is_ok_and(scrub::Coding::is_identity) {
        return Err(unusable("they came compressed without having been asked to be".into()));
    }
    let reading = Limited::new(answered.response.into_body(), LARGEST).collect();
    let read = tokio::time::timeout(routes.timeouts.idle, reading).await;
    let known = connection.gate.vault.watchlist();
    let body =
        read.ok().and_then(Result::ok).ok_or_else(|| unusable("no whole list came".into()))?;
    let found = read_listing(shape, &body.to_bytes())
        .ok_or_else(|| unusable("what came is no list of models".into()))?;
    // A provider may say anything in it.
    let needles = known.needles();
    let masked = |id: &String| String::from_utf8_lossy(&needles.mask(id.as_bytes())).into_owned();
    let list: Arc<[String]> = found.iter().map(masked).collect();
    calls.listed(&route.name, list.clone());
    Ok(list)
}
