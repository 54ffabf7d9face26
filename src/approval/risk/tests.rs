//! The notes as a whole: what is said of a request, in which order, and how it is written.

use super::*;

fn host(text: &str) -> Host {
    Host::parse(text).expect(text)
}

fn asked<'a>(host: &'a Host, path: &'a str) -> Asked<'a> {
    Asked {
        scheme: Scheme::Https,
        host,
        port: Port::HTTPS,
        method: "GET",
        path,
        query: None,
        upload: None,
        headers: &[],
        body: b"",
        longer: false,
        opaque: false,
    }
}

fn no_secret(_: &[u8]) -> Option<String> {
    None
}

fn known(allowed: &[Host]) -> Known<'_> {
    Known { allowed, first_seen_today: false, secret: &no_secret }
}

fn codes(notes: &[Note]) -> Vec<NoteCode> {
    notes.iter().map(|note| note.code).collect()
}

fn of(name: &str) -> Vec<NoteCode> {
    codes(&notes(&asked(&host(name), "/"), &known(&[])))
}

#[test]
fn an_ordinary_request_has_no_notes() {
    let host = host("api.github.com");
    let mut asked = asked(&host, "/repos/acme/widgets/pulls/17");
    asked.query = Some("state=open&per_page=100");
    asked.upload = Some(LARGE_UPLOAD);
    asked.headers = &[("accept", b"application/json"), ("user-agent", b"curl/8.5.0")];
    asked.body = b"{\"title\":\"a bug\"}";
    assert_eq!(notes(&asked, &known(std::slice::from_ref(&host))), []);
}

#[test]
fn the_place_is_named_for_what_it_is() {
    assert_eq!(of("pastebin.com"), [NoteCode::PasteService]);
    assert_eq!(of("webhook.site"), [NoteCode::WebhookService]);
    assert_eq!(of("x.ngrok.io"), [NoteCode::TunnelService]);
    assert_eq!(of("api.openai.com"), [NoteCode::BypassesInference]);
    assert_eq!(of("8.8.8.8"), [NoteCode::IpLiteral]);
    for odd in ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
        assert_eq!(of(odd), [NoteCode::PrivateAddress, NoteCode::IpLiteral], "{odd}");
    }
    for inner in ["metadata.google.internal", "localhost", "printer.local", "intranet"] {
        assert_eq!(of(inner), [NoteCode::PrivateAddress], "{inner}");
    }
    assert_eq!(of("b\u{fc}cher.de"), [NoteCode::Idn]);
    assert_eq!(of("example.com"), []);
}

#[test]
fn the_a_label_stands_beside_the_u_label() {
    let host = host("b\u{fc}cher.de");
    let notes = notes(&asked(&host, "/"), &known(&[]));
    assert_eq!(notes[0].text, r"letters outside ASCII: xn--bcher-kva.de (b\u{fc}cher.de)");
}

#[test]
fn an_upload_over_100_kib_is_noted_with_its_size() {
    let host = host("example.com");
    let mut asked = asked(&host, "/");
    asked.upload = Some(LARGE_UPLOAD + 1);
    let notes = notes(&asked, &known(&[]));
    assert_eq!(notes, [note(NoteCode::LargeUpload, "uploads 101 KiB".to_owned())]);
}

#[test]
fn a_secret_is_found_wherever_it_stands_and_never_quoted() {
    let secret = "hunter2-hunter2-hunter2";
    let find = |bytes: &[u8]| {
        bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes())
            .then(|| "github".to_owned())
    };
    let known = Known { secret: &find, ..known(&[]) };
    let host = host("example.com");
    let plain = asked(&host, "/");
    let path = format!("/{secret}");
    let encoded = secret.replace('-', "%2D");
    let headers = [("x-data", secret.as_bytes())];
    for (asked, place) in [
        (Asked { path: &path, ..plain }, "the path"),
        (Asked { query: Some(&encoded), ..plain }, "the query"),
        (Asked { headers: &headers, ..plain }, "the header x-data"),
        (Asked { body: secret.as_bytes(), ..plain }, "the body"),
    ] {
        let notes = notes(&asked, &known);
        let text = format!("the credential github stands in {place}");
        assert_eq!(notes[0], note(NoteCode::KnownSecret, text));
        assert!(notes.iter().all(|note| !note.text.contains("hunter2")));
        let clear = super::notes(&Asked { scheme: Scheme::Http, ..asked }, &known);
        assert!(clear[0].text.ends_with("unencrypted"));
    }
}

#[test]
fn a_token_and_a_placeholder_are_noted_apart() {
    let token = format!("Bearer {}{}", "ghp_", "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ");
    let host = host("example.com");
    let headers: [(&str, &[u8]); 2] =
        [("authorization", token.as_bytes()), ("x-key", b"openshell:resolve:env:JIRA_TOKEN")];
    let asked = Asked { headers: &headers, ..asked(&host, "/") };
    let texts: Vec<_> = notes(&asked, &known(&[])).into_iter().map(|note| note.text).collect();
    assert_eq!(
        texts,
        [
            "a GitHub token stands in the header authorization",
            "the placeholder of JIRA_TOKEN stands in the header x-key",
        ]
    );
}

#[test]
fn the_gravest_comes_first_and_each_code_once() {
    let host = host("raw.github.com.ngrok.io");
    let token = format!("t={}{}", "ghp_", "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ");
    let asked = Asked {
        query: Some(&token),
        upload: Some(1 << 20),
        body: token.as_bytes(),
        longer: false,
        opaque: true,
        ..asked(&host, "/")
    };
    let allowed = [super::tests::host("github.com")];
    let notes = notes(&asked, &Known { first_seen_today: true, ..known(&allowed) });
    let codes = codes(&notes);
    assert!(codes.is_sorted(), "{codes:?}");
    assert_eq!(codes[0], NoteCode::TokenFormat);
    for code in [
        NoteCode::LookAlike,
        NoteCode::TunnelService,
        NoteCode::LargeUpload,
        NoteCode::HighEntropy,
        NoteCode::Opaque,
        NoteCode::NewHost,
    ] {
        assert_eq!(codes.iter().filter(|other| **other == code).count(), 1, "{code:?}");
    }
}

#[test]
fn whatever_a_client_sends_the_text_is_printable_ascii() {
    let name = format!("xn--bcher-kva.{}.pypi.org.evil.io", "a".repeat(60));
    let host = host(&name);
    let headers: [(&str, &[u8]); 1] = [("x-\u{1b}[31m", b"openshell:resolve:env:A\x1b[0m")];
    let asked = Asked { path: "/\u{202e}", headers: &headers, ..asked(&host, "/") };
    let allowed = [super::tests::host("pypi.org")];
    let find = |_: &[u8]| Some("a\u{1b}b".to_owned());
    let known = Known { secret: &find, allowed: &allowed, first_seen_today: true };
    let notes = notes(&asked, &known);
    assert!(notes.len() >= 4);
    for note in notes {
        assert!(note.text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", note.text);
    }
}

#[test]
fn a_note_is_written_as_code_and_text() {
    let note = note(NoteCode::BypassesInference, "x".to_owned());
    let json = serde_json::to_string(&note).expect("plain data");
    assert_eq!(json, r#"{"code":"bypasses_inference","text":"x"}"#);
    assert!(NoteCode::ALL.is_sorted());
}
