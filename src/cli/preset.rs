//! `portcullis preset list|show`: the presets that are built in.

use super::output;
use super::shape::ShapeArgs;
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
        shape: ShapeArgs,
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
        PresetCommand::List { shape } => list(*shape),
        PresetCommand::Show { name, access } => show(name, access.meant()),
    }
}

/// A preset as it is listed.
#[derive(Debug, serde::Serialize)]
struct Listed {
    name: &'static str,
    access: Vec<&'static str>,
    credential: Option<&'static [String]>,
    description: String,
}

fn list(shape: ShapeArgs) -> anyhow::Result<ExitCode> {
    let listed = |preset: &'static Preset| {
        let accesses = [Access::ReadOnly, Access::ReadWrite].into_iter();
        Listed {
            name: preset.name,
            access: accesses.filter(|a| preset.has(*a)).map(Access::as_str).collect(),
            credential: preset_credential::find(preset.name).map(|carried| &*carried.variables),
            description: preset.description(),
        }
    };
    let all: Vec<Listed> = preset::all().iter().map(listed).collect();
    shape.all(&all, |all| {
        all.iter()
            .map(|one| {
                format!("{:<8} {:<22} {}\n", one.name, one.access.join(", "), one.description)
            })
            .collect()
    })
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
