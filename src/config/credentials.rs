//! `credentials`: where secret values come from. Nothing is read here.

use super::error::ConfigError;
use super::raw::RawCredential;
use super::settle::Reading;
use super::source::At;
use crate::vault::Source;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take, if the config does not say.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);

/// Settles the sources, by name.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &BTreeMap<String, At<RawCredential>>,
) -> Result<BTreeMap<Arc<str>, Source>, ConfigError> {
    let each = |(name, at): (&String, &At<RawCredential>)| {
        Ok((name.as_str().into(), source(reading, at)?))
    };
    raw.iter().map(each).collect()
}

fn source(reading: &Reading<'_>, at: &At<RawCredential>) -> Result<Source, ConfigError> {
    let raw = &at.value;
    let fault = |what: &str, fix: &str| reading.fault(at.place, what, fix);
    if raw.command.is_none() && (raw.ttl.is_some() || raw.timeout.is_some()) {
        return Err(fault("`ttl` and `timeout` belong to `command`", "remove them"));
    }
    match (&raw.file, &raw.env, &raw.command) {
        (Some(file), None, None) => Ok(Source::File(reading.path(file, at.place)?)),
        (None, Some(name), None) if !name.is_empty() => Ok(Source::Env(name.clone())),
        (None, None, Some(argv)) if !argv.is_empty() => Ok(Source::Command {
            argv: argv.clone(),
            ttl: raw.ttl.map(|span| span.0),
            timeout: raw.timeout.map_or(COMMAND_WITHIN, |span| span.0),
        }),
        _ => Err(fault(
            "a credential has exactly one source",
            "write file: PATH, env: NAME or command: [PROGRAM, ARGUMENT]",
        )),
    }
}
