//! curl, wget and the TLS tools: what is allowed comes through, a refused upload says why.

use crate::clients_kit::{self, Answer, Ask, gateway, program, scratch, site};

fn hello(ask: &Ask) -> Answer {
    Answer::text(format!("{} {} {}\n", ask.method, ask.target, ask.body.len()))
}

const READ: &[&str] = &["method: GET, path: \"/**\""];

#[test]
fn curl_reads_and_is_told_why_it_may_not_write() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let url = format!("https://origin.test:{}/a?b=c", origin.port());
    for version in ["--http1.1", "--http2"] {
        let Some(curl) = program(&gateway, "curl", dir.path()) else { return };
        let said = curl.args(["-sS", "--fail-with-body", version, &url]).run().passed();
        assert_eq!(said, "GET /a?b=c 0\n");
        let curl = program(&gateway, "curl", dir.path()).unwrap();
        let post = ["-sS", "--fail-with-body", version, "-d", "x=1", &url];
        let said = curl.args(post).run().refused("\"code\":\"method_not_allowed\"");
        assert!(said.contains("POST /a is not allowed on origin.test:"), "{said}");
    }
    let binary = gateway.record(4)["client"]["binary"].clone();
    assert!(binary.as_str().unwrap().ends_with("/curl"), "{binary}");
}

#[test]
fn curl_shows_the_refusal_in_the_status_line_and_for_a_closed_connect() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let url = format!("https://origin.test:{}/up", origin.port());
    let Some(curl) = program(&gateway, "curl", dir.path()) else { return };
    let put = curl.args(["-sSi", "--http1.1", "-X", "PUT", "-d", "x", &url]).run().passed();
    assert!(put.contains("HTTP/1.1 403 Forbidden by policy"), "{put}");
    let socks = format!("socks5h://{}", gateway.proxy);
    let curl = program(&gateway, "curl", dir.path()).unwrap();
    let said = curl.args(["-sS", "--proxy", &socks, &url]).run().passed();
    assert_eq!(said, "GET /up 0\n");
}

#[test]
fn curl_uploads_ten_megabytes_where_that_is_allowed() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), &["method: PUT, path: \"/in/*\""]);
    let dir = scratch();
    let file = clients_kit::write(dir.path().join("file"), vec![7; 10 << 20]);
    let url = format!("https://origin.test:{}/in/file", origin.port());
    for version in ["--http1.1", "--http2"] {
        let Some(curl) = program(&gateway, "curl", dir.path()) else { return };
        let curl = curl.args(["-sS", version, "-T"]).args([&file]).args([&url]);
        assert_eq!(curl.run().passed(), format!("PUT /in/file {}\n", 10 << 20));
    }
}

#[test]
fn wget_reads_and_is_told_why_it_may_not_write() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let url = format!("https://origin.test:{}/file", origin.port());
    // wget reads no variable that names its roots.
    let roots = format!("--ca-certificate={}", gateway.state().join("ca-bundle.pem").display());
    let Some(wget) = program(&gateway, "wget", dir.path()) else { return };
    assert_eq!(wget.args(["-q", "-O-", &roots, &url]).run().passed(), "GET /file 0\n");
    let wget = program(&gateway, "wget", dir.path()).unwrap();
    let post = ["-nv", "-O-", "--tries=1", "--post-data=x", &roots, &url];
    wget.args(post).run().refused("403: Forbidden by policy");
}

#[test]
fn s_client_verifies_the_leaf_through_a_connect() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let Some(openssl) = program(&gateway, "openssl", dir.path()) else { return };
    let line = format!(
        "s_client -proxy {} -connect origin.test:{} -servername origin.test -alpn h2 \
         -verify_hostname origin.test -verify_return_error -CAfile {}",
        gateway.proxy,
        origin.port(),
        gateway.state().join("ca-bundle.pem").display()
    );
    let said = openssl.line(&line).run().passed();
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    assert!(said.contains("ALPN protocol: h2"), "{said}");
}

#[test]
fn gnutls_verifies_the_leaf_through_a_tunnel() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let door = clients_kit::door(&gateway, &format!("origin.test:{}", origin.port()));
    let Some(gnutls) = program(&gateway, "gnutls-cli", dir.path()) else { return };
    let line = format!(
        "--x509cafile={} --verify-hostname=origin.test --sni-hostname=origin.test -p {} 127.0.0.1",
        gateway.ca().display(),
        door.port()
    );
    let said = gnutls.line(&line).run().passed();
    assert!(said.contains("The certificate is trusted"), "{said}");
}

#[test]
fn an_h2_load_of_many_streams_is_judged_request_by_request() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), READ);
    let dir = scratch();
    let authority = format!("origin.test:{}", origin.port());
    let door = clients_kit::door(&gateway, &authority);
    let load = |method: &str| {
        let h2load = program(&gateway, "h2load", dir.path())?;
        let line = format!(
            "-n 300 -c 3 -m 20 --connect-to={door} -H :method:{method} https://{authority}/x"
        );
        Some(h2load.line(&line).run().passed())
    };
    let Some(said) = load("GET") else { return };
    assert!(said.contains("status codes: 300 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    let said = load("DELETE").unwrap();
    assert!(said.contains("status codes: 0 2xx, 0 3xx, 300 4xx, 0 5xx"), "{said}");
    // Past 100 identical refusals one counted line stands for the rest.
    let records = gateway.records(400);
    assert_eq!(records.iter().filter(|r| r["outcome"] == "passed").count(), 300);
}
