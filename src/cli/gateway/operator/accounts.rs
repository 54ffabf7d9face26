//! What models cost and which responses they made, kept so that a restart forgets neither: a budget
//! for the day is one for the day, however often the gateway starts in it.

use crate::inference::{Kept, REMEMBERED, Today};
use crate::proxy::Sandbox;
use crate::proxy::inference::Changed;
use crate::state::{ModelDay, Response, State, StateError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often changes are written: what a gateway that is killed forgets at most.
const EVERY: Duration = Duration::from_secs(1);

/// The accounts of all sandboxes, on their way to the disk.
pub(in crate::cli::gateway) struct Accounts {
    state: State,
    sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    /// What could not be written yet.
    waiting: tokio::sync::Mutex<BTreeMap<Arc<str>, Changed>>,
}

/// Gives sandboxes back what an earlier gateway kept of them.
pub(in crate::cli::gateway) async fn restore(
    state: &State,
    sandboxes: &BTreeMap<Arc<str>, Arc<Sandbox>>,
) -> Result<(), StateError> {
    let days = state.model_days().await?;
    let responses = state.responses().await?;
    for (name, sandbox) in sandboxes {
        let day = days.iter().find(|day| *day.sandbox == **name).map(|day| {
            let ModelDay { day, requests, failed, input, output, .. } = *day;
            (day, Today { requests, failed, input, output })
        });
        let made = responses.iter().filter(|made| *made.sandbox == **name);
        let kept = |made: &Response| Kept {
            id: made.id.as_str().into(),
            route: made.route.as_str().into(),
            tokens: made.tokens,
        };
        sandbox.calls().restore(day, made.map(kept));
    }
    Ok(())
}

impl Accounts {
    pub(in crate::cli::gateway) fn new(
        state: State,
        sandboxes: BTreeMap<Arc<str>, Arc<Sandbox>>,
    ) -> Self {
        Self { state, sandboxes, waiting: tokio::sync::Mutex::default() }
    }

    /// Writes what changes, for ever. Nothing is lost where it is dropped and called again.
    pub(in crate::cli::gateway) async fn keep(&self) {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            every.tick().await;
            match self.save().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "what models cost is not kept: a restart forgets it");
                }
                Err(_) => {}
            }
        }
    }

    /// Writes what has changed.
    pub(in crate::cli::gateway) async fn save(&self) -> Result<(), StateError> {
        let mut waiting = self.waiting.lock().await;
        for (name, sandbox) in &self.sandboxes {
            let Changed { day, made } = sandbox.calls().changed();
            if day.is_none() && made.is_empty() {
                continue;
            }
            let waits = waiting.entry(name.clone()).or_default();
            waits.day = day.or(waits.day);
            waits.made.extend(made);
            let over = waits.made.len().saturating_sub(REMEMBERED);
            waits.made.drain(..over);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let (mut days, mut responses) = (Vec::new(), Vec::new());
        for (name, Changed { day, made }) in &*waiting {
            let sandbox = name.to_string();
            days.extend(day.map(|(day, today)| {
                let Today { requests, failed, input, output } = today;
                ModelDay { sandbox: sandbox.clone(), day, requests, failed, input, output }
            }));
            responses.extend(made.iter().map(|Kept { id, route, tokens }| Response {
                sandbox: sandbox.clone(),
                id: id.to_string(),
                route: route.to_string(),
                tokens: *tokens,
            }));
        }
        self.state.save_models(days, responses).await?;
        waiting.clear();
        Ok(())
    }
}
