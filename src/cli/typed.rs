//! What is typed, before it is meant: variables that are empty or say yes, addresses, names that complete.

use crate::addr::Shown;
use crate::policy::preset::{self, Access};
use clap::builder::{
    BoolishValueParser, PossibleValue, Resettable, StringValueParser, TypedValueParser,
};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::sync::LazyLock;

/// A command whose variables may be empty, which is as good as not set, and whose flags take `1` and `yes`
/// from theirs.
pub(super) fn with_variables(command: Command) -> Command {
    command.mut_args(variable).mut_subcommands(with_variables)
}

fn variable(arg: Arg) -> Arg {
    let Some(name) = arg.get_env() else { return arg };
    if std::env::var_os(name).is_some_and(|value| value.is_empty()) {
        return arg.env(Resettable::Reset);
    }
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    }
}

/// Says what is wrong with the command line, and ends.
pub(super) fn refuse(error: &clap::Error) -> ! {
    let command = error.get(ContextKind::InvalidSubcommand);
    match command {
        Some(ContextValue::String(command)) if error.kind() == ErrorKind::ArgumentConflict => {
            // Nobody to tell where stderr is gone.
            let _ = error.print();
            super::output::complain(&format!(
                "  fix: write flags behind the command: {command} ..."
            ));
            std::process::exit(error.exit_code())
        }
        _ => error.exit(),
    }
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with("unix:") {
        let shown = Shown::new(text);
        return Err(format!(
            "a Unix socket stands in the config: listen: [{{ address: \"{shown}\" }}]"
        ));
    }
    let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let host = text.rsplit_once(':').map_or("", |(host, _)| host);
    match port {
        Some(port) if matches!(host, "" | "localhost") => {
            Err(format!("an IP address stands before the port: 127.0.0.1:{port}"))
        }
        _ => Err("write an IP address and a port, like 127.0.0.1:3128 or [::1]:3128".into()),
    }
}

/// Text of which some values are known. Others are refused where they are meant, in better words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known(fn() -> Vec<&'static str>);

impl TypedValueParser for Known {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0().into_iter().map(PossibleValue::new)))
    }
}

/// The presets by name.
pub(super) fn preset() -> Known {
    Known(|| preset::all().iter().map(|preset| preset.name).collect())
}

/// The presets as flags name them: `github`, `github=read-write`.
pub(super) fn preset_with_access() -> Known {
    static WIDER: LazyLock<Vec<String>> = LazyLock::new(|| {
        let wider = preset::all().iter().filter(|preset| preset.has(Access::ReadWrite));
        wider.map(|preset| format!("{}=read-write", preset.name)).collect()
    });
    Known(|| {
        let names = preset::all().iter().map(|preset| preset.name);
        names.chain(WIDER.iter().map(String::as_str)).collect()
    })
}

/// The tiers by name.
pub(super) fn tier() -> Known {
    Known(|| preset::tiers().iter().map(|tier| tier.name.as_str()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_told_how_to_be_one() {
        assert_eq!(address("[::1]:1").unwrap().to_string(), "[::1]:1");
        for text in ["20201", ":20201", "localhost:20201"] {
            assert!(address(text).unwrap_err().ends_with(": 127.0.0.1:20201"), "{text}");
        }
        let unix = address("unix:/run/p.sock").unwrap_err();
        assert!(unix.contains("listen: [{ address: \"unix:/run/p.sock\" }]"), "{unix}");
        assert!(address("host.test:1").unwrap_err().contains("127.0.0.1:3128"));
    }
}
