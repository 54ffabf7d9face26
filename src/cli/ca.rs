//! `portcullis ca show|export|rotate`: the certificate that clients must trust. Never the key.

use super::gateway::StateLock;
use super::output;
use super::settings::ConfigArgs;
use super::shape::ShapeArgs;
use crate::config::{Flags, readable};
use crate::tls::Ca;
use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use x509_parser::pem::Pem;

const CERTIFICATE: &str = "ca.pem";

/// The flags of `ca`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CaArgs {
    #[command(flatten)]
    show: ShowArgs,
    #[command(subcommand)]
    command: Option<CaCommand>,
}

/// The flags of `ca show`.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// The commands of `ca`.
#[derive(Debug, clap::Subcommand)]
enum CaCommand {
    /// Where the certificate is, its fingerprint, and how long it is good for (the default).
    #[command(after_help = "Examples:\n  \
        portcullis ca show\n  \
        portcullis ca show -o json | jq -r .sha256")]
    Show(ShowArgs),
    /// Makes a new CA in place of the one that is there: when its key was read by others, or when it
    /// expires. The gateway must be stopped, and every client be given the new certificate.
    #[command(after_help = "Examples:\n  \
        portcullis ca rotate\n  \
        portcullis ca rotate && portcullis gateway")]
    Rotate {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// The certificate in PEM.
    #[command(after_help = "Examples:\n  \
        portcullis ca export > portcullis-ca.pem\n  \
        portcullis ca export | sudo tee /usr/local/share/ca-certificates/portcullis.crt")]
    Export {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Shows or exports.
pub(super) fn run(args: &CaArgs) -> anyhow::Result<ExitCode> {
    let Some(command) = &args.command else { return show(&args.show) };
    match command {
        CaCommand::Show(args) => show(args),
        CaCommand::Rotate { config } => rotate(&config.load(Flags::default())?.config.state_dir),
        CaCommand::Export { config } => {
            let (_, pem) = read(config)?;
            output::print(&encoded(&pem))
        }
    }
}

fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let (path, pem) = read(&args.config)?;
    args.shape.one(&Certificate::of(&path, &pem)?, Certificate::text)
}

fn rotate(state_dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    // A gateway that runs would go on signing with the old one.
    let _lock = StateLock::take(state_dir)?;
    let old = std::fs::read(state_dir.join(CERTIFICATE)).ok();
    let ca = Ca::rotate(state_dir)?;
    // The next start writes it with the operator's own roots; until then no client is to find the old.
    let bundle = ca.write_bundle(state_dir, &crate::tls::system_roots())?;
    let path = state_dir.join(CERTIFICATE);
    let pem = pem_in(&path, &std::fs::read(&path)?)?;
    let mut out = String::new();
    if let Some(old) = old.and_then(|text| pem_in(&path, &text).ok()) {
        writeln!(out, "no longer    {}", fingerprint(&old))?;
    }
    out.push_str(&Certificate::of(&path, &pem)?.text());
    writeln!(out, "bundle       {}", bundle.display())?;
    writeln!(
        out,
        "\nStart the gateway, and give every client the new certificate: `portcullis env` points\n\
         at the bundle; where it was copied (`portcullis ca export`), copy it again."
    )?;
    output::print(&out)
}

fn read(args: &ConfigArgs) -> anyhow::Result<(PathBuf, Pem)> {
    let path = args.load(Flags::default())?.config.state_dir.join(CERTIFICATE);
    let text = std::fs::read(&path).map_err(|why| {
        let fix = readable(&why, "start `portcullis gateway` once, or name its --state-dir");
        anyhow!("no CA at {}: {why}\n  fix: {fix}", path.display())
    })?;
    let pem = pem_in(&path, &text)?;
    Ok((path, pem))
}

fn pem_in(path: &std::path::Path, text: &[u8]) -> anyhow::Result<Pem> {
    Pem::iter_from_buffer(text)
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .with_context(|| format!("{} holds no certificate", path.display()))
}

/// As `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(pem: &Pem) -> String {
    let bytes: Vec<String> =
        Sha256::digest(&pem.contents).iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// What is shown of the certificate.
#[derive(Debug, serde::Serialize)]
struct Certificate {
    file: String,
    subject: String,
    sha256: String,
    not_before: String,
    not_after: String,
}

impl Certificate {
    fn of(path: &std::path::Path, pem: &Pem) -> anyhow::Result<Self> {
        let certificate = pem.parse_x509().context("the certificate can't be read")?;
        let time = |at: x509_parser::time::ASN1Time| {
            jiff::Timestamp::from_second(at.timestamp())
                .map_or_else(|_| at.to_string(), |t| t.to_string())
        };
        Ok(Self {
            file: path.to_string_lossy().into(),
            subject: certificate.subject().to_string(),
            sha256: fingerprint(pem),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
        })
    }

    fn text(&self) -> String {
        let Self { file, subject, sha256, not_before, not_after } = self;
        let subject = crate::addr::Shown::new(subject);
        format!(
            "file         {file}\nsubject      {subject}\nsha256       {sha256}\n\
             not before   {not_before}\nnot after    {not_after}\n"
        )
    }
}

/// RFC 7468: 64 characters a line. Written anew, so that nothing but the certificate leaves.
fn encoded(pem: &Pem) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(&pem.contents);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
