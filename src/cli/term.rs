//! `portcullis term`: the approval pane.
//!
//! Owns what it needs before it takes the terminal: a terminal, and a gateway that answers.

use super::asking;
use super::settings::{ConfigArgs, SocketArgs};
use crate::tui::{self, Ended, Options, Theme};
use anyhow::bail;
use std::io::IsTerminal;
use std::process::ExitCode;

/// A shell's status of what a signal ended is this and the signal's number.
const BY_SIGNAL: i32 = 128;

/// The flags of `term`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis term                    what waits, and a to approve it\n  \
    portcullis term -s agent           one sandbox alone\n  \
    portcullis term --theme light      where the terminal does not say how it looks\n  \
    NO_COLOR=1 portcullis term         without colours\n\n\
    ? in the pane shows all keys. Closing it answers nothing.")]
pub(super) struct TermArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    socket: SocketArgs,
    /// One sandbox alone [default: all].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    /// The ground that the colours are for.
    #[arg(long, value_name = "THEME", env = "PORTCULLIS_THEME", default_value = "auto")]
    theme: Ground,
}

/// What the colours are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Ground {
    /// What `NO_COLOR` and `COLORFGBG` say; dark where they say nothing.
    #[default]
    Auto,
    /// A dark ground.
    Dark,
    /// A light ground.
    Light,
    /// No colours.
    None,
}

impl Ground {
    fn theme(self) -> Theme {
        let variable = |name: &str| std::env::var(name).ok();
        let (no_color, ground) = (variable("NO_COLOR"), variable("COLORFGBG"));
        match (self, Theme::detect(no_color.as_deref(), ground.as_deref())) {
            (Self::None, _) | (_, Theme::Plain) => Theme::Plain,
            (Self::Auto, detected) => detected,
            (Self::Dark, _) => Theme::Dark,
            (Self::Light, _) => Theme::Light,
        }
    }
}

/// Shows the pane until the user leaves.
pub(super) fn run(args: TermArgs) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!(
            "the pane needs a terminal, and this is none\n  \
             fix: use `portcullis requests watch`, which writes lines"
        );
    }
    let client = asking::client(&args.config, &args.socket)?;
    let ended = asking::block_on(async {
        // What is wrong at the start is said before the terminal is taken.
        match &args.sandbox {
            Some(only) => drop(client.sandbox(only).await?),
            None => drop(client.status().await?),
        }
        let (only, theme) = (args.sandbox, args.theme.theme());
        Ok(tui::run(Options { client, only, theme }).await?)
    })?;
    Ok(match ended {
        Ended::Quit => ExitCode::SUCCESS,
        Ended::Signal(number) => {
            ExitCode::from(u8::try_from(BY_SIGNAL + number).unwrap_or(u8::MAX))
        }
    })
}
