//! What is behind `inference.local`, as the operator sees and changes it.
//!
//! A choice made on the running gateway stands before the config, is kept in `state_dir` and
//! survives a restart. What does not work is not put in force.

use super::super::assemble::injector;
use super::{credentials, unknown};
use crate::addr::{Host, Shown};
use crate::config::Config;
use crate::control::Who;
use crate::control::wire::{
    CredentialFailure, CredentialState, Inference, InferenceDay, InferenceFailure, InferenceRoute,
    InferenceUsage, Probe, Problem, SetInference,
};
use crate::inference::{Budget, Endpoint, Models as Which, Provider, Route, Routes, Timeouts};
use crate::proxy::inference::{Probed, Spending, probe};
use crate::proxy::{Gate, Sandbox};
use crate::record::{Event, rfc3339};
use crate::traffic::Recorder;
use crate::vault::Vault;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The file of the choices, in `state_dir`.
const FILE: &str = "inference.json";

/// The model routes of all sandboxes.
pub(in crate::cli::gateway) struct Models {
    gate: Arc<Gate>,
    sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    recorder: Recorder,
    config: ArcSwap<Config>,
    path: PathBuf,
    chosen: Mutex<BTreeMap<String, SetInference>>,
}

impl Models {
    /// The routes of `config`, under the choices that an earlier gateway left.
    pub(in crate::cli::gateway) fn new(
        gate: Arc<Gate>,
        sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
        recorder: Recorder,
        config: &Config,
    ) -> Self {
        let path = config.state_dir.join(FILE);
        let chosen = std::fs::read(&path).ok().map(|text| serde_json::from_slice(&text));
        let chosen = chosen.transpose().unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "the choices of routes can't be read");
            None
        });
        let config = ArcSwap::from_pointee(config.clone());
        let chosen = Mutex::new(chosen.unwrap_or_default());
        let models = Self { gate, sandboxes, recorder, config, path, chosen };
        models.settle();
        models
    }

    /// Puts the routes of a config that was read anew in force.
    pub(in crate::cli::gateway) fn reload(&self, config: &Config) {
        self.config.store(Arc::new(config.clone()));
        self.settle();
    }

    /// Each sandbox gets what was chosen for it, or what the config says, and its credentials.
    fn settle(&self) {
        let config = self.config.load();
        for (name, sandbox) in &self.sandboxes {
            // What the config no longer has gets nothing of what was chosen for it either.
            let chosen = config.sandboxes.contains_key(name).then(|| self.chosen(name)).flatten();
            let chosen = chosen.map(|set| self.meant(name, &set));
            let routes = match chosen {
                Some(Ok(routes)) => Some(Arc::new(routes)),
                Some(Err(problem)) => {
                    // Nothing else stands in for what the operator chose.
                    let why = problem.detail;
                    tracing::error!(sandbox = %name, %why, "the chosen routes can't be used");
                    None
                }
                None => of_config(&config, name),
            };
            sandbox.set_inference(routes);
        }
        self.attach(&config);
    }

    /// Each sandbox gets the bindings of its credentials, and knows which hosts get others: those of
    /// all routes that are in force are among them.
    fn attach(&self, config: &Config) {
        let routes: Vec<_> =
            self.sandboxes.values().filter_map(|sandbox| sandbox.calls().routes()).collect();
        let routes = routes.iter().flat_map(|routes| &routes.routes);
        let paid = routes.filter(|route| route.credential.is_some());
        let paid: Vec<Host> = paid.map(|route| route.endpoint.authority.host.clone()).collect();
        for (name, sandbox) in &self.sandboxes {
            sandbox.attach(injector(config, name, &self.gate.vault, &paid));
        }
    }

    fn chosen(&self, sandbox: &str) -> Option<SetInference> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).get(sandbox).cloned()
    }

    /// What is in force.
    pub(super) fn show(&self, sandbox: &str) -> Result<Inference, Problem> {
        let found = self.sandboxes.get(sandbox).ok_or_else(|| unknown(sandbox))?;
        let calls = found.calls();
        let routes = calls.routes();
        let source = match (&routes, self.chosen(sandbox)) {
            (_, Some(_)) => "runtime",
            (Some(_), None) => "config",
            (None, None) => "none",
        };
        let all = routes.as_deref();
        let today = calls.today();
        Ok(Inference {
            sandbox: sandbox.to_owned(),
            name: all.map(|routes| routes.name.to_string()),
            source: source.into(),
            routes: all.map(|routes| self.shown(found, routes)).unwrap_or_default(),
            aliases: all.map(aliases).unwrap_or_default(),
            spent_today: today.tokens(),
            today: InferenceDay {
                requests: today.requests,
                failed: today.failed,
                input: today.input,
                output: today.output,
            },
            tokens_per_day: all.and_then(|routes| routes.budget.tokens_per_day),
            requests_per_minute: all.and_then(|routes| routes.budget.requests_per_minute),
            usage: calls.spending().iter().map(usage).collect(),
        })
    }

    /// The routes, each with how its credential and its provider do.
    fn shown(&self, sandbox: &Sandbox, routes: &Routes) -> Vec<InferenceRoute> {
        let each = |route: &Route| {
            let mut shown = shown(routes, route);
            if let Some(name) = &route.credential {
                let (state, error) = paid_by(&self.gate.vault, name);
                (shown.key, shown.key_error) = (Some(state), error);
            }
            if let Some(errors) = sandbox.calls().errors(&route.name) {
                shown.errors = errors.count;
                shown.last_error =
                    Some(InferenceFailure { at: rfc3339(errors.at), text: errors.text });
            }
            shown
        };
        routes.routes.iter().map(each).collect()
    }

    /// Tries what is in force.
    pub(super) async fn probe(&self, sandbox: &str) -> Result<Vec<Probe>, Problem> {
        let found = self.sandboxes.get(sandbox).ok_or_else(|| unknown(sandbox))?;
        let routes = found.calls().routes().ok_or_else(|| {
            Problem::conflict(format!(
                "{sandbox} has no route: `portcullis inference set` makes one"
            ))
        })?;
        Ok(probe(&self.gate, found, &routes).await.into_iter().map(probed).collect())
    }

    /// Puts other routes in force, or those of the config again.
    pub(super) async fn set(
        &self,
        who: &Who,
        sandbox: &str,
        set: Option<SetInference>,
    ) -> Result<Inference, Problem> {
        let found = self.sandboxes.get(sandbox).ok_or_else(|| unknown(sandbox))?;
        if let Some(set) = &set {
            let routes = self.meant(sandbox, set)?;
            if !set.unverified {
                works(&probe(&self.gate, found, &routes).await)?;
            }
        }
        let to = set.as_ref().map_or_else(|| "the config's".to_owned(), |set| set.to.clone());
        self.keep(sandbox, set)?;
        self.settle();
        let event =
            Event::Inference { sandbox: found.name().clone(), routes: to, by: who.name.clone() };
        if self.recorder.event(event).is_err() {
            tracing::warn!("a change of the model routes could not be recorded");
        }
        self.show(sandbox)
    }

    fn keep(&self, sandbox: &str, set: Option<SetInference>) -> Result<(), Problem> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = chosen.clone();
        match set {
            Some(set) => next.insert(sandbox.to_owned(), set),
            None => next.remove(sandbox),
        };
        let text = serde_json::to_vec_pretty(&next).unwrap_or_default();
        let beside = self.path.with_extension("json.new");
        let written =
            std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &self.path));
        written.map_err(|error| {
            let path = self.path.display();
            Problem::unavailable(format!("{path} can't be written ({error}): nothing has changed"))
        })?;
        *chosen = next;
        Ok(())
    }

    /// What a choice means. A provider that is put there stays under the sandbox's budget.
    fn meant(&self, sandbox: &str, set: &SetInference) -> Result<Routes, Problem> {
        let config = self.config.load();
        if set.endpoint.is_none()
            && set.credential.is_none()
            && let Some(routes) = config.inference.get(set.to.as_str())
        {
            return Ok(Routes::clone(routes));
        }
        let (name, model) = match set.to.split_once('/') {
            Some((name, model)) => (name, Some(model)),
            None => (set.to.as_str(), None),
        };
        let provider = Provider::named(name).ok_or_else(|| no_such(&config, name))?;
        let endpoint =
            set.endpoint.as_deref().or(provider.default_endpoint()).ok_or_else(|| {
                Problem::bad_request(format!(
                    "{provider} has no usual endpoint: add --endpoint URL"
                ))
            })?;
        let endpoint = Endpoint::parse(endpoint)
            .map_err(|error| Problem::bad_request(format!("--endpoint: {error}")))?;
        let credential = pays(&config, provider, set)?;
        if credential.is_some() && !endpoint.keeps_secrets() {
            let detail = "a credential would go there in the clear: use https://";
            return Err(Problem::bad_request(detail));
        }
        let route = Route {
            name: set.to.as_str().into(),
            matches: None,
            provider,
            endpoint,
            credential,
            models: model.map_or(Which::Any, |model| Which::Pinned(model.into())),
            fallback: Vec::new(),
        };
        let own = of_config(&config, sandbox);
        Ok(Routes {
            name: set.to.as_str().into(),
            routes: vec![route],
            aliases: BTreeMap::new(),
            timeouts: own.as_ref().map_or_else(Timeouts::default, |own| own.timeouts),
            budget: own.as_ref().map_or_else(Budget::default, |own| own.budget),
        })
    }
}

/// The routes that the config gives a sandbox.
fn of_config(config: &Config, sandbox: &str) -> Option<Arc<Routes>> {
    let named = config.sandboxes.get(sandbox)?.inference.as_ref()?;
    config.inference.get(named).cloned()
}

/// The credential that pays: the one that is named, the one that the config pays this provider
/// with, or one that is named like it.
fn pays(
    config: &Config,
    provider: Provider,
    set: &SetInference,
) -> Result<Option<Arc<str>>, Problem> {
    if let Some(name) = &set.credential {
        return match config.credentials.get_key_value(name.as_str()) {
            Some((name, _)) => Ok(Some(name.clone())),
            None => {
                let shown = Shown::new(name);
                Err(Problem::bad_request(format!("no credential is named `{shown}`")))
            }
        };
    }
    let mut routes = config.inference.values().flat_map(|routes| &routes.routes);
    let known = routes.find(|route| route.provider == provider && set.endpoint.is_none());
    let known = known.and_then(|route| route.credential.clone());
    let named = config.credentials.get_key_value(provider.as_str()).map(|(name, _)| name.clone());
    let found = known.or(named);
    if found.is_none() && provider.needs_key() {
        let detail = format!("{provider} answers nobody without a key: add --credential NAME");
        return Err(Problem::bad_request(detail));
    }
    Ok(found)
}

fn no_such(config: &Config, name: &str) -> Problem {
    let routes = config.inference.keys().map(|name| name.to_string());
    let known: Vec<String> =
        routes.chain(Provider::ALL.iter().map(|p| p.as_str().to_owned())).collect();
    let shown = Shown::new(name);
    Problem::bad_request(format!("there is no `{shown}`: use one of {}", known.join(", ")))
}

/// Refuses what does not work, with what was tried.
fn works(probed: &[Probed]) -> Result<(), Problem> {
    let failed: Vec<String> = probed
        .iter()
        .filter(|probed| !probed.works)
        .map(|p| format!("{}: {} ({})", p.route, p.check, p.detail.as_deref().unwrap_or("failed")))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let failed = failed.join("; ");
    let detail = format!("it was tried and does not work, so nothing has changed: {failed}");
    Err(Problem::conflict(detail))
}

/// How the credential of a name does.
fn paid_by(vault: &Vault, name: &str) -> (CredentialState, Option<CredentialFailure>) {
    let Some(credential) = vault.find(name) else { return (CredentialState::Missing, None) };
    let status = credential.status();
    let state = match (&status.error, &status.fingerprint) {
        (Some(_), _) => CredentialState::Failing,
        (None, Some(_)) => CredentialState::Available,
        (None, None) => CredentialState::Unread,
    };
    (state, status.error.map(credentials::failure))
}

/// A route as the config says it.
fn shown(routes: &Routes, route: &Route) -> InferenceRoute {
    let name = |at: &usize| routes.routes.get(*at).map(|route| route.name.to_string());
    InferenceRoute {
        name: route.name.to_string(),
        matches: route.matches.as_ref().map(ToString::to_string),
        provider: route.provider.to_string(),
        endpoint: route.endpoint.to_string(),
        credential: route.credential.as_ref().map(ToString::to_string),
        models: match &route.models {
            Which::Any => Vec::new(),
            Which::Pinned(model) => vec![model.to_string()],
            Which::Only(models) => models.iter().map(ToString::to_string).collect(),
        },
        fallback: route.fallback.iter().filter_map(name).collect(),
        settings: route.provider.shapes().iter().map(|s| s.setting().to_owned()).collect(),
        key: None,
        key_error: None,
        errors: 0,
        last_error: None,
    }
}

fn aliases(routes: &Routes) -> BTreeMap<String, String> {
    routes.aliases.iter().map(|(name, to)| (name.clone(), to.to_string())).collect()
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
fn usage(spending: &Spending) -> InferenceUsage {
    let Spending { route, model, usage } = spending;
    let counted = usage.requests > 0 && !usage.first_token.is_zero();
    let making = usage.making.as_secs_f64();
    InferenceUsage {
        route: route.to_string(),
        model: model.to_string(),
        requests: usage.requests,
        failed: usage.failed,
        input: usage.input,
        output: usage.output,
        estimated: usage.estimated,
        first_token: counted.then(|| millis(usage.first_token) / usage.requests as f64),
        tokens_per_second: (making > 0.0).then(|| usage.output as f64 / making),
    }
}

fn probed(probed: Probed) -> Probe {
    Probe {
        route: probed.route.to_string(),
        model: probed.model,
        check: probed.check.into(),
        works: probed.works,
        first: probed.first.map(millis),
        detail: probed.detail,
    }
}
