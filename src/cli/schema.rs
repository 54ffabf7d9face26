//! `portcullis schema`: the JSON schemas that stand in `policy-schema/`.

use super::output;
use std::process::ExitCode;

/// The arguments of `schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    portcullis schema policy > policy.schema.json\n  \
    portcullis schema config | jq .properties")]
pub(super) struct SchemaArgs {
    /// Which file the schema is of.
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Policy files.
    Policy,
    /// The gateway's config.
    Config,
    /// The lines of traffic records.
    Traffic,
    /// Tests beside a policy (`*.tests.yaml`).
    PolicyTests,
}

/// Prints a schema.
pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = match args.which {
        Which::Policy => schemars::schema_for!(crate::policy::Document),
        Which::Config => crate::config::schema(),
        Which::PolicyTests => schemars::schema_for!(super::policy_test::Suite),
        Which::Traffic => schemars::schema_for!(crate::record::Line),
    };
    output::print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
}
