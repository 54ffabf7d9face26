//! `credentials`: where secret values come from. Nothing is read here.

use super::error::ConfigError;
use super::raw::RawCredential;
use super::settle::Reading;
use super::source::{At, Place};
use super::units::Span;
use crate::addr::Shown;
use crate::vault::Source;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a command may take where nothing is said.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);

/// Settles `credentials`.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &BTreeMap<String, At<RawCredential>>,
) -> Result<BTreeMap<Arc<str>, Source>, ConfigError> {
    let each = |(name, raw): (&String, &At<RawCredential>)| {
        named(reading, name, raw.place)?;
        Ok((name.as_str().into(), source(reading, raw)?))
    };
    raw.iter().map(each).collect()
}

/// Whether a credential can have this name: it is a file of `secrets/` and part of paths of the
/// control API.
pub fn is_credential_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.len() <= 63
        && name.bytes().all(fine)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn named(reading: &Reading<'_>, name: &str, place: Place) -> Result<(), ConfigError> {
    if is_credential_name(name) {
        return Ok(());
    }
    let what = format!("`{}` is not a credential's name", Shown::new(name));
    let fix = "use up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first";
    Err(reading.fault(place, what, fix))
}

fn source(reading: &Reading<'_>, raw: &At<RawCredential>) -> Result<Source, ConfigError> {
    let (place, raw) = (raw.place, &raw.value);
    if raw.command.is_none()
        && let Some(at) = raw.ttl.as_ref().or(raw.timeout.as_ref())
    {
        let what = "`ttl` and `timeout` belong to `command`";
        return Err(reading.fault(at.place, what, "remove them: a file is read when it changes"));
    }
    match (&raw.file, &raw.env, &raw.command) {
        (Some(file), None, None) => Ok(Source::File(reading.path(file, place)?)),
        (None, Some(name), None) if is_variable(name) => Ok(Source::Env(name.clone())),
        (None, Some(name), None) => {
            let what = format!("`{}` is not the name of a variable", Shown::new(name));
            Err(reading.fault(place, what, "write env: GITHUB_TOKEN"))
        }
        (None, None, Some(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => {
            let span = |at: &Option<At<Span>>| match at {
                Some(at) if at.value.0.is_zero() => {
                    Err(reading.fault(at.place, "0 is no time", "write 30m, or leave it out"))
                }
                at => Ok(at.as_ref().map(|at| at.value.0)),
            };
            Ok(Source::Command {
                argv: argv.clone(),
                ttl: span(&raw.ttl)?,
                timeout: span(&raw.timeout)?.unwrap_or(COMMAND_WITHIN),
            })
        }
        _ => {
            let what = "a credential has exactly one source";
            let fix = "write file: PATH, env: NAME or command: [PROGRAM, ARGUMENT]";
            Err(reading.fault(place, what, fix))
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}
