//! Tokens, private keys and placeholders by the way they are written.
//!
//! Owns the table of well-known formats and the readings in which bytes are searched: as they
//! came, percent-decoded once and twice, and the base64 inside each. Never says what it found,
//! only what kind. A format counts only at the start of a word.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode;
use std::borrow::Cow;

/// The shortest run that is tried as base64: less holds no token.
const BASE64_RUN: usize = 20;
/// A placeholder, as OpenShell hands it to a sandbox; the name of the credential follows.
const PLACEHOLDER: &[u8] = b"openshell:resolve:env:";

/// How the rest of a token is written.
struct Format {
    prefix: &'static str,
    /// At least so many characters follow.
    least: usize,
    /// The characters.
    of: fn(u8) -> bool,
    what: &'static str,
}

const fn format(
    prefix: &'static str,
    least: usize,
    of: fn(u8) -> bool,
    what: &'static str,
) -> Format {
    Format { prefix, least, of, what }
}

const FORMATS: &[Format] = &[
    format("ghp_", 30, alnum, "a GitHub token"),
    format("gho_", 30, alnum, "a GitHub token"),
    format("ghu_", 30, alnum, "a GitHub token"),
    format("ghs_", 30, alnum, "a GitHub token"),
    format("ghr_", 30, alnum, "a GitHub token"),
    format("github_pat_", 22, word, "a GitHub token"),
    format("glpat-", 20, dashed, "a GitLab token"),
    format("sk-ant-", 20, dashed, "an Anthropic key"),
    format("sk-proj-", 20, dashed, "an OpenAI key"),
    format("sk-or-", 20, dashed, "an OpenRouter key"),
    format("sk-", 20, dashed, "a key of the form sk-..."),
    format("sk_live_", 16, alnum, "a Stripe key"),
    format("rk_live_", 16, alnum, "a Stripe key"),
    format("AKIA", 16, upper, "an AWS access key"),
    format("ASIA", 16, upper, "an AWS access key"),
    format("AIza", 35, dashed, "a Google key"),
    format("ya29.", 20, dashed, "a Google token"),
    format("xoxb-", 10, dashed, "a Slack token"),
    format("xoxp-", 10, dashed, "a Slack token"),
    format("xoxa-", 10, dashed, "a Slack token"),
    format("xoxr-", 10, dashed, "a Slack token"),
    format("xoxs-", 10, dashed, "a Slack token"),
    format("xapp-", 10, dashed, "a Slack token"),
    format("hf_", 30, alnum, "a Hugging Face token"),
    format("nvapi-", 30, dashed, "an NVIDIA key"),
    format("npm_", 36, alnum, "an npm token"),
    format("pypi-AgE", 16, dashed, "a PyPI token"),
    format("dop_v1_", 40, alnum, "a DigitalOcean token"),
    format("shpat_", 30, alnum, "a Shopify token"),
    format("lin_api_", 30, alnum, "a Linear key"),
    format("ntn_", 30, alnum, "a Notion token"),
    format("ATATT3x", 30, dashed, "an Atlassian token"),
    format("SG.", 40, dotted, "a SendGrid key"),
    format("AGE-SECRET-KEY-1", 40, upper, "an age key"),
];

fn alnum(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn dashed(byte: u8) -> bool {
    word(byte) || byte == b'-'
}

fn dotted(byte: u8) -> bool {
    dashed(byte) || byte == b'.'
}

/// Shows `see` the bytes in every reading.
pub(super) fn readings(bytes: &[u8], see: &mut dyn FnMut(&[u8])) {
    let mut reading = Cow::Borrowed(bytes);
    for _ in 0..3 {
        see(&reading);
        in_base64(&reading, see);
        let Cow::Owned(decoded) = Cow::from(percent_decode(&reading)) else { return };
        reading = Cow::Owned(decoded);
    }
}

fn in_base64(bytes: &[u8], see: &mut dyn FnMut(&[u8])) {
    for run in bytes.split(|b| !(dashed(*b) || matches!(b, b'+' | b'/'))) {
        // In a path the slash is no letter: each segment is tried alone too.
        for part in std::iter::once(run).chain(run.split(|b| *b == b'/').filter(|p| *p != run)) {
            let whole = &part[..part.len() - usize::from(part.len() % 4 == 1)];
            if whole.len() < BASE64_RUN {
                continue;
            }
            if let Ok(decoded) =
                STANDARD_NO_PAD.decode(whole).or_else(|_| URL_SAFE_NO_PAD.decode(whole))
            {
                see(&decoded);
            }
        }
    }
}

/// What kind of token or key stands in the bytes.
pub(super) fn token(bytes: &[u8]) -> Option<&'static str> {
    if is_private_key(bytes) {
        return Some("a private key");
    }
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate() {
        if !alnum(before) && alnum(*byte) {
            let rest = &bytes[at..];
            let format =
                FORMATS.iter().find(|format| format.starts(rest)).map(|format| format.what);
            if let Some(what) = format.or_else(|| by_shape(rest)) {
                return Some(what);
            }
        }
        before = *byte;
    }
    None
}

/// `text` with every token in it that is written as such as `***`, for a screen. What is encoded
/// once more is not seen through.
pub fn redact(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut before = b' ';
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let starts = !alnum(before) && alnum(bytes[at]);
        let found = starts.then(|| FORMATS.iter().find(|format| format.starts(rest))).flatten();
        let end = match found {
            Some(format) => Some((
                at + format.prefix.len(),
                rest[format.prefix.len()..].iter().take_while(|b| (format.of)(**b)).count(),
            )),
            None if starts && by_shape(rest).is_some() => {
                let word = rest.iter().take_while(|b| dotted(**b) || **b == b':').count();
                Some((at, word))
            }
            None => None,
        };
        match end {
            Some((from, length)) => {
                out.push_str(&text[copied..from]);
                out.push_str("***");
                copied = from + length;
                at = copied;
                before = b' ';
            }
            None => {
                before = bytes[at];
                at += 1;
            }
        }
    }
    out.push_str(&text[copied..]);
    out
}

impl Format {
    fn starts(&self, bytes: &[u8]) -> bool {
        let Some(rest) = bytes.strip_prefix(self.prefix.as_bytes()) else { return false };
        let length = rest.iter().take_while(|b| (self.of)(**b)).count();
        // Words joined by dashes are a slug, not a key.
        length >= self.least && is_random(&rest[..length])
    }
}

/// A digit and a letter within one piece of ten or more.
fn is_random(rest: &[u8]) -> bool {
    rest.split(|b| !alnum(*b)).any(|piece| {
        piece.len() >= 10
            && piece.iter().any(u8::is_ascii_digit)
            && piece.iter().any(u8::is_ascii_alphabetic)
    })
}

/// Formats without a prefix of their own: a JWT (RFC 7519), a Telegram bot's token.
fn by_shape(bytes: &[u8]) -> Option<&'static str> {
    let word = &bytes[..bytes.iter().take_while(|b| dotted(**b) || **b == b':').count()];
    let mut parts = word.split(|b| *b == b'.');
    let (head, claims) = (parts.next()?, parts.next());
    if head.starts_with(b"eyJ") && claims.is_some_and(|claims| claims.starts_with(b"eyJ")) {
        return Some("a signed token (JWT)");
    }
    let colon = word.iter().position(|b| *b == b':')?;
    let (id, key) = (&word[..colon], &word[colon + 1..]);
    let bot = (8..=10).contains(&id.len())
        && id.iter().all(u8::is_ascii_digit)
        && key.len() == 35
        && key.iter().all(|b| dashed(*b))
        && is_random(key);
    bot.then_some("a Telegram bot's token")
}

/// PEM (RFC 7468), also where `+` stands for a space.
fn is_private_key(bytes: &[u8]) -> bool {
    let begin: &[u8] = b"-----BEGIN";
    bytes.windows(begin.len()).enumerate().any(|(at, window)| {
        window == begin && {
            let line = &bytes[at..bytes.len().min(at + 64)];
            let text: Vec<u8> = line.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
            text.windows(16).any(|w| w == b"PRIVATE KEY-----" || w == b"PRIVATE KEY BLOC")
        }
    })
}

/// The name of the credential whose placeholder stands in the bytes.
pub(super) fn placeholder(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(PLACEHOLDER.len()).position(|window| window == PLACEHOLDER)?;
    let rest = &bytes[at + PLACEHOLDER.len()..];
    let name = &rest[..rest.iter().take_while(|b| word(**b)).count()];
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&'static str> {
        let mut found = None;
        readings(text.as_bytes(), &mut |reading| found = found.or_else(|| token(reading)));
        found
    }

    /// Written in two halves, so that no scanner of sources takes it for a token.
    fn github() -> String {
        format!("ghp_{}", "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ")
    }

    #[test]
    fn a_token_is_seen_in_every_reading() {
        let token = github();
        let once = token.replace('_', "%5F");
        let twice = once.replace('%', "%25");
        let basic = STANDARD_NO_PAD.encode(format!("ana:{token}"));
        for text in [
            token.clone(),
            format!("Bearer {token}"),
            format!("q={token}&x=1"),
            once,
            twice,
            format!("Basic {basic}=="),
            format!("/upload/{basic}/x"),
            format!("{{\"token\":\"{token}\"}}"),
        ] {
            assert_eq!(found(&text), Some("a GitHub token"), "{text}");
        }
    }

    #[test]
    fn each_kind_is_named() {
        let tail = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
        for (text, what) in [
            (format!("sk-ant-api03-{tail}"), "an Anthropic key"),
            (format!("sk-{tail}"), "a key of the form sk-..."),
            (format!("AKIA{}", "IOSFODNN7EXAMPL9"), "an AWS access key"),
            (format!("glpat-{tail}"), "a GitLab token"),
            (format!("xoxb-{tail}"), "a Slack token"),
            (format!("123456789:{}", &tail[..35]), "a Telegram bot's token"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".to_owned(), "a signed token (JWT)"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl".to_owned(), "a private key"),
            ("k=-----BEGIN+RSA+PRIVATE+KEY-----".to_owned(), "a private key"),
            ("-----BEGIN%20EC%20PRIVATE%20KEY-----".to_owned(), "a private key"),
        ] {
            assert_eq!(found(&text), Some(what), "{text}");
        }
    }

    #[test]
    fn what_only_begins_like_a_token_is_none() {
        for text in [
            "",
            "ghp_",
            "ghp_short1",
            "/articles/task-management-for-teams-2026-and-later",
            "sk-learn-contrib-imbalanced-learning-2026",
            "AKIABARA",
            "/users/AKIA",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----",
            "eyJub3QiOiJhIGp3dCJ9",
            "12:30:00 at 8080:443",
            "hf_transfer",
            "npm_config_registry=https://registry.npmjs.org",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_placeholder_gives_the_name_of_its_credential() {
        let name = |text: &str| placeholder(text.as_bytes());
        assert_eq!(name("Bearer openshell:resolve:env:GH_TOKEN"), Some("GH_TOKEN".to_owned()));
        assert_eq!(name("x=openshell:resolve:env:KEY&y"), Some("KEY".to_owned()));
        assert_eq!(name("openshell:resolve:env:"), None);
        assert_eq!(name("openshell:resolve"), None);
    }
}
