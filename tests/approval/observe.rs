//! `--observe`: what no rule knows is let through and marked; what is denied, and what the guard
//! refuses, is not.

use crate::approval_kit::{
    self, Control, HOLD, answer, body, holding, record_on, refused, send, send_with,
};
use crate::common::{Gateway, Origin, Setup, read_all};
use serde_json::json;
use std::io::{Read, Write};

fn observing(setup: Setup) -> Gateway {
    Gateway::spawn(setup.write(), &["--config", "config.yaml", "--observe"], &[])
}

fn denying(port: u16) -> Setup {
    let entry = format!(
        "  d:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        protocol: rest\n        \
         access: read-only\n        deny_rules: [ {{ method: \"*\", path: /secret }} ]"
    );
    Setup::policy(&entry).sandbox(&format!("    {HOLD}\n"))
}

#[test]
fn what_no_rule_knows_passes_is_marked_and_nobody_is_asked() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = observing(denying(port));
    let control = Control::of(&gateway);
    let authority = format!("origin.test:{port}");
    let mut known = send(&gateway, "GET", port, "/known");
    assert_eq!(answer(&mut known).0, 200);
    let mut unknown = send_with(&gateway, "POST", &authority, "/up", &body("text/plain", "sent"));
    assert_eq!(answer(&mut unknown).0, 200);
    assert!(origin.heard().ends_with("sent"));
    let other = format!("other.test:{port}");
    assert_eq!(answer(&mut send_with(&gateway, "GET", &other, "/new", "\r\n")).0, 200);
    let record = record_on(&gateway, "/known");
    assert_eq!((&record["verdict"], &record["by"]), (&json!("allow"), &json!("policy")));
    for (path, code) in [("/up", "method_not_allowed"), ("/new", "host_unknown")] {
        let record = record_on(&gateway, path);
        assert_eq!((&record["verdict"], &record["by"]), (&json!("unknown"), &json!("observe")));
        assert_eq!((&record["outcome"], &record["sent"]), (&json!("passed"), &json!(true)));
        assert_eq!((&record["code"], &record["request"]), (&json!(code), &json!(null)));
    }
    assert_eq!(control.pending().len(), 0);
    let status = control.get("/v1/status");
    assert_eq!(status["observe"], true);
    assert!(status["warnings"].to_string().contains("observing"), "{status}");
}

#[test]
fn what_a_rule_denies_is_denied_also_where_it_could_hide_in_raw_bytes() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = observing(denying(port));
    let (status, text) = answer(&mut send(&gateway, "GET", port, "/secret"));
    assert_eq!((status, refused(&text).0.as_str()), (403, "policy_denied"));
    let mut raw = gateway.tunnel(&format!("origin.test:{port}"));
    raw.write_all(b"\x00GET /secret").unwrap();
    assert_eq!(read_all(&mut raw), b"");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn raw_bytes_that_hide_nothing_pass_and_are_marked() {
    let origin = Origin::plain(|mut stream| {
        let mut buffer = [0; 16];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    });
    let gateway = observing(denying(1));
    let mut raw = gateway.tunnel(&format!("other.test:{}", origin.port()));
    raw.write_all(b"\x00raw").unwrap();
    raw.read_exact(&mut [0; 4]).unwrap();
    drop(raw);
    let record = gateway.record(1);
    assert_eq!((&record["verdict"], &record["by"]), (&json!("unknown"), &json!("observe")));
}

#[test]
fn the_guard_still_holds() {
    let gateway = observing(denying(1));
    for authority in ["10.0.0.1:80", "169.254.169.254:80", "[::ffff:10.0.0.1]:80"] {
        let (status, text) = answer(&mut send_with(&gateway, "GET", authority, "/latest", "\r\n"));
        assert_eq!((status, refused(&text).0.as_str()), (403, "address_refused"), "{authority}");
    }
    for record in gateway.records(3) {
        assert_eq!((&record["by"], &record["sent"]), (&json!("guard"), &json!(false)), "{record}");
    }
}

#[test]
fn a_denial_of_an_earlier_run_still_holds() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let setup = Setup::policy(approval_kit::KNOWN).sandbox(&format!("    {HOLD}\n"));
    let mut gateway = setup.start();
    let control = Control::of(&gateway);
    let mut held = send(&gateway, "GET", port, "/no");
    control.deny(&control.one(1), &json!({}));
    assert_eq!(answer(&mut held).0, 403);
    gateway.signal("TERM");
    gateway.wait();
    gateway.restart(&[("PORTCULLIS_OBSERVE".to_owned(), "true".to_owned())]);
    let (status, text) = answer(&mut send(&gateway, "GET", port, "/no"));
    assert_eq!((status, refused(&text).0.as_str()), (403, "approval_denied"));
    assert_eq!(answer(&mut send(&gateway, "GET", port, "/yes")).0, 200);
}

#[test]
fn observing_with_credentials_is_refused_unless_it_is_said() {
    let setup = holding().more("credentials:\n  github: { env: NOT_THERE }\n");
    let dir = setup.write();
    let start = |more: &[&str]| {
        let mut gateway = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        gateway.args(["gateway", "--config", "config.yaml", "--observe"]).args(more);
        gateway.current_dir(dir.path()).stdout(std::process::Stdio::piped());
        gateway.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let refused = start(&[]).wait_with_output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("github") && said.contains("--observe-with-credentials"), "{said}");
    let mut gateway = start(&["--observe-with-credentials"]);
    let mut banner = vec![0; 16 << 10];
    let length = std::io::Read::read(gateway.stdout.as_mut().unwrap(), &mut banner).unwrap();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let banner = String::from_utf8_lossy(&banner[..length]).into_owned();
    assert!(banner.contains("OBSERVING"), "{banner}");
}
