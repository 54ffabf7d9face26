//! `portcullis preset list|show`: the presets that are built in.

use super::shape::ShapeArgs;
use super::table::Table;
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
        #[arg(value_parser = super::typed::preset())]
        name: String,
        /// The access.
        #[arg(long, value_name = "ACCESS", env = "PORTCULLIS_ACCESS", default_value = "read-only")]
        access: AccessArg,
        #[command(flatten)]
        shape: ShapeArgs,
    },
}

/// A preset as it is shown.
#[derive(Debug, serde::Serialize)]
struct Whole {
    name: &'static str,
    access: &'static str,
    policy: String,
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
        PresetCommand::Show { name, access, shape } => show(name, access.meant(), *shape),
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
        let mut table = Table::new(&["PRESET", "ACCESS", "CREDENTIAL", "FOR"])
            .keeping(&["PRESET", "FOR"])
            .sparing(&["CREDENTIAL"]);
        for one in all {
            let carried = if one.credential.is_some() { one.name } else { "-" };
            let (access, what) = (one.access.join(", "), one.description.clone());
            table.row([one.name.into(), access, carried.into(), what]);
        }
        table.text()
    })
}

fn show(name: &str, access: Access, shape: ShapeArgs) -> anyhow::Result<ExitCode> {
    let preset: &Preset = super::policy::preset(name)?;
    let files = preset.files(access);
    if files.is_empty() {
        let has = [Access::ReadOnly, Access::ReadWrite].into_iter().filter(|a| preset.has(*a));
        let has: Vec<&str> = has.map(Access::as_str).collect();
        anyhow::bail!(
            "the preset `{}` has no {} access\n  fix: add --access {}",
            preset.name,
            access.as_str(),
            has.join(" or ")
        );
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
    let whole = Whole { name: preset.name, access: access.as_str(), policy: out };
    shape.one(&whole, |whole| whole.policy.clone())
}
