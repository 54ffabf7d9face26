//! What a failed handshake means: a code for the record, a sentence for people.
//!
//! Owns the reading of rustls errors, upstream and downstream. Invariant: what an origin's
//! certificate says reaches a sentence only through `Shown`.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::leaf::date;
use crate::addr::Shown;
use crate::policy::Code;

/// How many names of a certificate a sentence shows.
const NAMES_SHOWN: usize = 3;
/// webpki's word for a CA certificate that an origin shows as its own, by which rustls passes it
/// on; no variant of its own.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Why a client's handshake with the gateway failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// It said `unknown_ca` or `bad_certificate`: it does not trust the gateway's CA, or has
    /// pinned the origin's.
    DistrustsCa,
    /// Anything else: no common version, a reset, bytes that are not TLS.
    Other,
}

/// What a failed handshake with a client means. `error` is what `accept` returned.
///
/// Seen from clients that lack the CA: OpenSSL, curl, Python, pip and rustls send `unknown_ca`; Go
/// and gnutls-cli `bad_certificate`. Not counted: Java's `certificate_unknown`, which it sends for
/// any certificate trouble; and Node, npm, Wget and git (the last two with GnuTLS), which verify
/// after the handshake and then close without an alert or a byte.
pub fn client_failure(error: &io::Error) -> ClientFailure {
    match tls(error) {
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::BadCertificate,
        )) => ClientFailure::DistrustsCa,
        Some(_) | None => ClientFailure::Other,
    }
}

/// The code of a failed handshake with an origin. `error` is what `connect` returned.
pub fn classify(error: &io::Error) -> Code {
    use CertificateError as Cert;
    match tls(error) {
        Some(Error::InvalidCertificate(error)) => match error {
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => Code::TlsWrongHost,
            Cert::Expired
            | Cert::ExpiredContext { .. }
            | Cert::NotValidYet
            | Cert::NotValidYetContext { .. } => Code::TlsExpired,
            Cert::UnknownIssuer => Code::TlsUnknownIssuer,
            Cert::Revoked => Code::TlsRevoked,
            Cert::Other(other) if other.to_string() == CA_AS_SERVER => Code::TlsUnknownIssuer,
            // The enum is open; whatever else is wrong with a certificate, it failed.
            _ => Code::TlsFailed,
        },
        Some(_) | None => Code::TlsFailed,
    }
}

/// The sentence that goes with [`classify`], in printable ASCII.
pub fn explain(error: &io::Error) -> String {
    match tls(error) {
        Some(Error::InvalidCertificate(error)) => certificate(error),
        Some(Error::AlertReceived(alert)) => {
            format!("the origin broke the TLS handshake off with the alert {alert:?}")
        }
        Some(error) => {
            format!("the TLS handshake with the origin failed: {}", Shown::new(&error.to_string()))
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the origin closed the connection in the TLS handshake".to_owned()
        }
        None => {
            format!("the TLS handshake with the origin failed: {}", Shown::new(&error.to_string()))
        }
    }
}

fn tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as Cert;
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let day = |time: &rustls::pki_types::UnixTime| {
        let seconds = std::time::Duration::from_secs(time.as_secs());
        epoch.checked_add(seconds).map_or_else(|| "a time out of range".to_owned(), date)
    };
    match error {
        Cert::NotValidForNameContext { expected, presented } => format!(
            "the origin's certificate is for {}, not for {}",
            names(presented),
            Shown::new(&expected.to_str())
        ),
        Cert::NotValidForName => "the origin's certificate is for another name".to_owned(),
        Cert::ExpiredContext { not_after, .. } => {
            format!("the origin's certificate expired on {}", day(not_after))
        }
        Cert::Expired => "the origin's certificate has expired".to_owned(),
        Cert::NotValidYetContext { not_before, .. } => {
            format!("the origin's certificate is not valid before {}", day(not_before))
        }
        Cert::NotValidYet => "the origin's certificate is not valid yet".to_owned(),
        Cert::UnknownIssuer => "the origin's certificate is self-signed or from an issuer that is \
                                not trusted; a root that should be goes into upstream.ca_files"
            .to_owned(),
        Cert::Revoked => {
            "the origin's certificate is revoked by a list in upstream.crl_files".to_owned()
        }
        Cert::Other(other) if other.to_string() == CA_AS_SERVER => {
            "the origin shows a CA certificate (often a self-signed one) as its own; it needs one \
             that is not a CA, from an issuer that is trusted"
                .to_owned()
        }
        other => format!("the origin's certificate is refused: {}", Shown::new(&other.to_string())),
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".to_owned();
    }
    let shown: Vec<String> = presented
        .iter()
        .take(NAMES_SHOWN)
        .map(|name| {
            // rustls says `DnsName("a.test")` and `IpAddress(192.0.2.1)`.
            let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            let inside = inside.map(|inside| inside.trim_matches('"'));
            let short: String = inside.unwrap_or(name).chars().take(253).collect();
            Shown::new(&short).to_string()
        })
        .collect();
    let more = match presented.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}
