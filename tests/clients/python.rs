//! pip, and Python's own HTTP clients.

use crate::clients_kit::{self, Answer, Ask, gateway, program, scratch, site, story, write};
use crate::common::{self, Gateway, Origin};
use std::path::Path;

const READ: &[&str] = &["method: GET, path: \"/simple/*/\"", "method: GET, path: \"/packages/**\""];

/// Writes a wheel of a package `demo` that holds one empty module.
const WHEEL: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    z.writestr('demo.py', '')
    z.writestr('demo-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')
    z.writestr('demo-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    z.writestr('demo-1.0.dist-info/RECORD', 'demo.py,,\\n')
";

/// A package index with `demo` in it.
fn index(dir: &Path) -> Option<Origin> {
    if !common::tool("python3") || !common::tool("pip") {
        return None;
    }
    let wheel = dir.join("demo.whl");
    let script = write(dir.join("wheel.py"), WHEEL);
    let made = std::process::Command::new("python3").arg(script).arg(&wheel).status();
    assert!(made.unwrap().success());
    let wheel = std::fs::read(wheel).unwrap();
    let page = "<!DOCTYPE html><a href=\"/packages/aa/demo-1.0-py3-none-any.whl\">demo</a>";
    Some(site(&["origin.test"], move |ask| match &*ask.target {
        "/simple/demo/" => Answer::of("text/html", page),
        "/packages/aa/demo-1.0-py3-none-any.whl" => Answer::of("application/zip", wheel.clone()),
        _ => Answer::missing(),
    }))
}

fn pip(gateway: &Gateway, port: u16, dir: &Path, what: &str) -> Option<clients_kit::Ran> {
    let pip = program(gateway, "pip", dir)?;
    let line = format!(
        "download --no-deps --no-cache-dir --disable-pip-version-check --retries 0 -d got \
         --index-url https://origin.test:{port}/simple/ {what}"
    );
    Some(pip.line(&line).run())
}

#[test]
fn pip_downloads_a_wheel() {
    let dir = scratch();
    let Some(origin) = index(dir.path()) else { return };
    let gateway = gateway(origin.port(), READ);
    let Some(ran) = pip(&gateway, origin.port(), dir.path(), "demo") else { return };
    ran.passed();
    assert!(dir.path().join("got/demo-1.0-py3-none-any.whl").is_file());
    let story = story(&gateway, 2);
    assert_eq!(
        story,
        ["GET /simple/demo/ passed", "GET /packages/aa/demo-1.0-py3-none-any.whl passed"]
    );
}

#[test]
fn pip_says_that_policy_refused_a_file() {
    let dir = scratch();
    let Some(origin) = index(dir.path()) else { return };
    let gateway = gateway(origin.port(), READ);
    let url = format!("https://origin.test:{}/private/demo-1.0-py3-none-any.whl", origin.port());
    let Some(ran) = pip(&gateway, origin.port(), dir.path(), &url) else { return };
    ran.refused("403 Client Error: Forbidden by policy");
    assert_eq!(origin.heard(), "");
}

/// Each program prints what it read, then what it was told about an upload.
const CLIENTS: [(&str, &str, &str); 4] = [
    (
        "urllib",
        "from urllib.request import urlopen",
        "
print(urlopen(url).read().decode())
try: urlopen(url, data=b'x')
except Exception as e: print(e.code, e.reason, e.read().decode())",
    ),
    (
        "http.client",
        "import http.client, os, ssl, urllib.parse as u",
        "
proxy, site = u.urlsplit(os.environ['https_proxy']), u.urlsplit(url)
c = http.client.HTTPSConnection(proxy.hostname, proxy.port)
c.set_tunnel(site.hostname, site.port)
c.request('GET', site.path)
print(c.getresponse().read().decode())
c.request('POST', site.path, b'x')
r = c.getresponse()
print(r.status, r.reason, r.read().decode())",
    ),
    (
        "requests",
        "import requests",
        "
s = requests.Session()
print(s.get(url).text)
r = s.post(url, data='x')
print(r.status_code, r.reason, r.json())",
    ),
    (
        "httpx",
        "import httpx",
        "
s = httpx.Client()
print(s.get(url).text)
r = s.post(url, data='x')
print(r.status_code, r.reason_phrase, r.json())",
    ),
];

fn hello(ask: &Ask) -> Answer {
    Answer::text(format!("{} {}", ask.method, ask.target))
}

#[test]
fn every_http_client_of_python_reads_and_is_told_why_it_may_not_write() {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), &["method: GET, path: \"/**\""]);
    let dir = scratch();
    let url = format!("https://origin.test:{}/data", origin.port());
    for (name, import, body) in CLIENTS {
        let Some(python) = program(&gateway, "python3", dir.path()) else { return };
        if !python.args(["-c", import]).run().ok {
            eprintln!("skipped: python's {name} is not installed");
            continue;
        }
        let script = format!("import sys\n{import}\nurl = sys.argv[1]{body}\n");
        let python = program(&gateway, "python3", dir.path()).unwrap();
        let said = python.args(["-c", &script, &url]).run().passed();
        assert!(said.starts_with("GET /data\n403 "), "{name}: {said}");
        assert!(said.contains("POST /data is not allowed on origin.test:"), "{name}: {said}");
        assert!(name == "httpx" || said.contains("403 Forbidden by policy"), "{name}: {said}");
    }
}
