//! Bodies that break off while they are read to be shown, or to be told from others.

use crate::approval_kit::{Control, answer, body, holding, send_with};
use crate::common::{Origin, Setup};
use serde_json::json;
use std::io::Read;
use std::net::Shutdown;

const BROKEN: [&str; 3] = [
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n400\r\nhalf of it",
    "Content-Length: 100\r\n\r\nsixteen letters.",
];

/// What broke off is no request: hyper says so once, and whoever asks again hears of an end.
#[test]
fn a_body_that_breaks_off_is_neither_asked_about_nor_sent_whatever_answers_stand() {
    let origin = Origin::ok("hi");
    let gateway = holding().start();
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{}", origin.port());
    let broken = |path: &str| {
        for (at, rest) in BROKEN.into_iter().enumerate() {
            let mut client = send_with(&gateway, "POST", &authority, path, rest);
            client.shutdown(Shutdown::Write).unwrap();
            let mut said = Vec::new();
            // It may be reset behind the answer.
            let _ = client.read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{at}: {said}");
        }
    };
    broken("/asked");
    assert_eq!(control.get("/v1/requests"), json!([]), "nobody is asked about half a body");
    let mut whole = send_with(&gateway, "POST", &authority, "/up", &body("text/plain", "one"));
    control.approve(&control.about("/up"), &json!({}));
    assert_eq!(answer(&mut whole).0, 200);
    let url = format!("http://{authority}/up");
    control.grant(&json!({ "method": "POST", "url": url, "for": "1h" }));
    let mut other = send_with(&gateway, "POST", &authority, "/up", &body("text/plain", "two"));
    assert_eq!(answer(&mut other).0, 200, "any body goes by the second answer");
    let (before, heard) = (origin.connections(), origin.heard());
    broken("/up");
    assert_eq!((origin.connections(), origin.heard()), (before, heard));
    let records = gateway.records(2 + 2 * BROKEN.len());
    for record in records.iter().filter(|record| record["outcome"] != "passed") {
        assert_eq!(record["outcome"], "refused", "{record}");
        assert_eq!(record["sent"], false, "{record}");
        let code = record["code"].as_str().unwrap();
        assert!(["bad_framing", "client_gone"].contains(&code), "{record}");
    }
}

/// What is shown of a body stays for a day; the body, and the room that it takes, goes with its request.
#[test]
fn what_is_asked_about_keeps_no_room_for_its_body() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let policy = format!(
        "  q:\n    endpoints:\n      - {{ host: origin.test, port: {port}, protocol: graphql, \
         rules: [ {{ allow: {{ operation_type: query }} }} ] }}"
    );
    let gateway = Setup::policy(&policy)
        .sandbox("    approval: { mode: queue }\n")
        .more("buffer: { graphql: 128MiB }\ntimeout: { header: 2s }\n")
        .start();
    let authority = format!("origin.test:{port}");
    // Of unknown length, so each takes all the room that there is until it has come.
    let ask = |text: &str| {
        let text = json!({ "query": text }).to_string();
        let rest = format!(
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
            text.len()
        );
        answer(&mut send_with(&gateway, "POST", &authority, "/graphql", &rest)).0
    };
    assert_eq!(ask("mutation { deleteAll }"), 403);
    assert_eq!(Control::of(&gateway).one(0)["body"]["longer"], false);
    assert_eq!(ask("{ viewer }"), 200);
}
