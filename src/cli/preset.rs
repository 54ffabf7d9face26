//! `portcullis preset list|show`: the presets that are built in.

use super::output::{self, Format, FormatArgs};
use crate::config::preset_credential;
use crate::policy::preset::{self, Access, Preset};
use std::process::ExitCode;

/// The commands of `preset`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PresetCommand {
    /// Every preset, its access and what it is for.
    #[command(after_help = "Examples:\n  portcullis preset list\n  portcullis preset list -o json")]
    List {
        #[command(flatten)]
        format: FormatArgs,
    },
    /// A preset's policy file, and in comments the credential that it can carry.
    #[command(after_help = "Examples:\n  \
        portcullis preset show pypi\n  \
        portcullis preset show github --access read-write > github.yaml")]
    Show {
        /// The preset.
        name: String,
        /// The access.
        #[arg(long, value_name = "ACCESS", env = "PORTCULLIS_ACCESS", default_value = "read-only")]
        access: AccessArg,
    },
}

/// An access, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AccessArg {
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl AccessArg {
    fn meant(self) -> Access {
        match self {
            Self::ReadOnly => Access::ReadOnly,
            Self::ReadWrite => Access::ReadWrite,
        }
    }
}

/// Lists or shows.
pub(super) fn run(command: &PresetCommand) -> anyhow::Result<ExitCode> {
    match command {
        PresetCommand::List { format } => list(format.format),
        PresetCommand::Show { name, access } => show(name, access.meant()),
    }
}

fn list(format: Format) -> anyhow::Result<ExitCode> {
    let mut out = String::new();
    for preset in preset::all() {
        let accesses: Vec<&str> = [Access::ReadOnly, Access::ReadWrite]
            .into_iter()
            .filter(|access| preset.has(*access))
            .map(Access::as_str)
            .collect();
        out.push_str(&match format {
            Format::Text => {
                format!("{:<8} {:<22} {}\n", preset.name, accesses.join(", "), preset.description())
            }
            Format::Json => {
                let carried = preset_credential::find(preset.name);
                let line = serde_json::json!({
                    "name": preset.name,
                    "access": accesses,
                    "credential": carried.map(|carried| &carried.variables),
                    "description": preset.description(),
                });
                format!("{line}\n")
            }
        });
    }
    output::print(&out)
}

fn show(name: &str, access: Access) -> anyhow::Result<ExitCode> {
    let preset: &Preset = super::policy::preset(name)?;
    let files = preset.files(access);
    if files.is_empty() {
        anyhow::bail!("the preset `{}` has no {} access", preset.name, access.as_str());
    }
    let mut out = String::new();
    for (i, (_, text)) in files.iter().enumerate() {
        // Two files, both of which hold: two documents of one stream.
        if i > 0 {
            out.push_str("---\n");
        }
        out.push_str(text);
    }
    let carried = preset_credential::find(preset.name);
    if let Some(carried) = carried.filter(|carried| carried.access <= access) {
        out.push('\n');
        out.push_str(&carried.as_comment());
    }
    output::print(&out)
}
