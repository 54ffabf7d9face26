//! `portcullis ca show|export`: the certificate that clients must trust. Never the key.

use super::output;
use super::settings::ConfigArgs;
use crate::config::Flags;
use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use x509_parser::pem::Pem;

/// The commands of `ca`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CaCommand {
    /// Where the certificate is, its fingerprint, and how long it is good for.
    #[command(after_help = "Examples:\n  portcullis ca show")]
    Show {
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
pub(super) fn run(command: &CaCommand) -> anyhow::Result<ExitCode> {
    match command {
        CaCommand::Show { config } => {
            let (path, pem) = read(config)?;
            output::print(&described(&path, &pem)?)
        }
        CaCommand::Export { config } => {
            let (_, pem) = read(config)?;
            output::print(&encoded(&pem))
        }
    }
}

fn read(args: &ConfigArgs) -> anyhow::Result<(PathBuf, Pem)> {
    let path = args.load(Flags::default())?.config.state_dir.join("ca.pem");
    let text = std::fs::read(&path).with_context(|| {
        format!(
            "no CA at {}\n  fix: start `portcullis gateway` once, or name its --state-dir\n  because",
            path.display()
        )
    })?;
    let pem = Pem::iter_from_buffer(&text)
        .filter_map(Result::ok)
        .find(|pem| pem.label == "CERTIFICATE")
        .with_context(|| format!("{} holds no certificate", path.display()))?;
    Ok((path, pem))
}

fn described(path: &std::path::Path, pem: &Pem) -> anyhow::Result<String> {
    let certificate = pem.parse_x509().context("the certificate can't be read")?;
    let fingerprint: Vec<String> =
        Sha256::digest(&pem.contents).iter().map(|byte| format!("{byte:02X}")).collect();
    let time = |at: x509_parser::time::ASN1Time| {
        jiff::Timestamp::from_second(at.timestamp())
            .map_or_else(|_| at.to_string(), |t| t.to_string())
    };
    let subject = certificate.subject().to_string();
    let mut out = String::new();
    writeln!(out, "file         {}", path.display())?;
    writeln!(out, "subject      {}", crate::addr::Shown::new(&subject))?;
    writeln!(out, "sha256       {}", fingerprint.join(":"))?;
    writeln!(out, "not before   {}", time(certificate.validity().not_before))?;
    writeln!(out, "not after    {}", time(certificate.validity().not_after))?;
    Ok(out)
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
