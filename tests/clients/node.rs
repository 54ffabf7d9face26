//! npm, and Node's own HTTP clients.

use crate::clients_kit::{
    Answer, Ask, Program, Ran, gateway, program, scratch, site, story, write,
};
use crate::common::{self, Gateway, Origin};
use std::path::Path;
use std::process::Command;

/// What the npm preset says of packages.
const READ: &[&str] = &[
    "method: GET, path: \"/[!-]*\"",
    "method: GET, path: \"/[!-]*/-/*.tgz\"",
    "method: GET, path: \"/@*/*/-/*.tgz\"",
];

/// A registry with the scoped package `@demo/thing`.
fn registry(dir: &Path) -> Option<Origin> {
    if !common::tool("npm") {
        return None;
    }
    let package = dir.join("package");
    write(package.join("package.json"), "{\"name\":\"@demo/thing\",\"version\":\"1.0.0\"}");
    write(package.join("index.js"), "module.exports = 'it works'\n");
    let packed =
        Command::new("tar").args(["-czf", "thing.tgz", "package"]).current_dir(dir).status();
    assert!(packed.unwrap().success());
    let tarball = std::fs::read(dir.join("thing.tgz")).unwrap();
    Some(site(&["origin.test"], move |ask| match &*ask.target {
        "/@demo%2Fthing" => Answer::of("application/json", document(ask)),
        "/@demo/thing/-/thing-1.0.0.tgz" => Answer::of("application/octet-stream", tarball.clone()),
        _ => Answer::missing(),
    }))
}

fn document(ask: &Ask) -> String {
    let host = common::header(&ask.head, "host").unwrap();
    format!(
        "{{\"name\":\"@demo/thing\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":{{\"1.0.0\":{{\
         \"name\":\"@demo/thing\",\"version\":\"1.0.0\",\"dist\":{{\
         \"tarball\":\"https://{host}/@demo/thing/-/thing-1.0.0.tgz\"}}}}}}}}"
    )
}

fn npm(gateway: &Gateway, port: u16, dir: &Path, line: &str) -> Option<Ran> {
    let npm = program(gateway, "npm", dir)?;
    let settings = format!(
        "--registry=https://origin.test:{port}/ --cache={}/cache --fetch-retries=0 \
         --no-audit --no-fund --no-update-notifier {line}",
        gateway.dir.path().display()
    );
    Some(npm.line(&settings).run())
}

#[test]
fn npm_views_and_installs_a_scoped_package() {
    let dir = scratch();
    let Some(origin) = registry(dir.path()) else { return };
    let gateway = gateway(origin.port(), READ);
    let project = dir.path().join("project");
    write(project.join("package.json"), "{\"name\":\"p\",\"version\":\"0.0.0\"}");
    let Some(ran) = npm(&gateway, origin.port(), &project, "view @demo/thing version") else {
        return;
    };
    assert!(ran.passed().contains("1.0.0"));
    npm(&gateway, origin.port(), &project, "install @demo/thing").unwrap().passed();
    assert!(project.join("node_modules/@demo/thing/index.js").is_file());
    let story = story(&gateway, 3);
    // The slash inside a segment stays escaped, in the canonical spelling.
    assert!(story.contains(&"GET /@demo%2Fthing passed".to_owned()), "{story:?}");
    assert!(story.contains(&"GET /@demo/thing/-/thing-1.0.0.tgz passed".to_owned()), "{story:?}");
}

#[test]
fn npm_says_that_policy_refused_to_publish() {
    let dir = scratch();
    let Some(origin) = registry(dir.path()) else { return };
    let gateway = gateway(origin.port(), READ);
    let package = dir.path().join("other");
    write(package.join("package.json"), "{\"name\":\"@demo/other\",\"version\":\"1.0.0\"}");
    let line = format!("publish --access=public --//origin.test:{}/:_authToken=t", origin.port());
    let Some(ran) = npm(&gateway, origin.port(), &package, &line) else { return };
    ran.refused("403 Forbidden by policy r1 - PUT");
}

/// Reads and writes through a CONNECT tunnel, with `https` alone.
const HTTPS: &str = "
const http = require('http'), https = require('https'), tls = require('tls');
const url = new URL(process.argv[1]), proxy = new URL(process.env.https_proxy);
const ask = method => new Promise((done, fail) => {
  const connect = http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT',
    path: url.host, headers: {host: url.host}});
  connect.on('error', fail).on('connect', (answer, socket) => {
    if (answer.statusCode !== 200) return fail(new Error(answer.statusMessage));
    const request = https.request(url, {method,
      createConnection: () => tls.connect({socket, servername: url.hostname})}, response => {
      let body = ''; response.on('data', d => body += d);
      response.on('end', () => done(response.statusCode + ' ' + response.statusMessage + ' ' + body));
    });
    request.on('error', fail).end(method === 'POST' ? 'x' : undefined);
  }).end();
});
ask('GET').then(console.log).then(() => ask('POST')).then(console.log)
  .catch(e => { console.error(e); process.exitCode = 1 });
";

/// The same with `fetch`, which follows the environment (Node 24).
const FETCH: &str = "
const show = async r => console.log(r.status + ' ' + r.statusText + ' ' + await r.text());
fetch(process.argv[1]).then(show)
  .then(() => fetch(process.argv[1], {method: 'POST', body: 'x'})).then(show)
  .catch(e => { console.error(e); process.exitCode = 1 });
";

/// The same with undici's own agent.
const UNDICI: &str = "
const {fetch, ProxyAgent} = require(process.env.UNDICI);
const dispatcher = new ProxyAgent({uri: process.env.https_proxy, allowH2: !!process.env.H2});
const show = async r => console.log(r.status + ' ' + r.statusText + ' ' + await r.text());
fetch(process.argv[1], {dispatcher}).then(show)
  .then(() => fetch(process.argv[1], {method: 'POST', body: 'x', dispatcher})).then(show)
  .catch(e => { console.error(e); process.exitCode = 1 }).finally(() => dispatcher.close());
";

fn hello(ask: &Ask) -> Answer {
    Answer::text(format!("{} {}", ask.method, ask.target))
}

/// Runs a script that reads and then writes, and looks at what it was told.
fn reads_and_is_refused(script: &str, prepare: impl Fn(Program) -> Program, reason: bool) {
    let origin = site(&["origin.test"], hello);
    let gateway = gateway(origin.port(), &["method: GET, path: \"/**\""]);
    let dir = scratch();
    let url = format!("https://origin.test:{}/data", origin.port());
    let Some(node) = program(&gateway, "node", dir.path()) else { return };
    let said = prepare(node).args(["-e", script, &url]).run().passed();
    assert!(said.starts_with("200 "), "{said}");
    assert!(said.contains("GET /data\n403 "), "{said}");
    assert!(said.contains("POST /data is not allowed on origin.test:"), "{said}");
    assert!(!reason || said.contains("403 Forbidden by policy"), "{said}");
    assert_eq!(story(&gateway, 2), ["GET /data passed", "POST /data refused"]);
}

#[test]
fn node_https_reads_and_is_told_why_it_may_not_write() {
    reads_and_is_refused(HTTPS, |node| node, true);
}

#[test]
fn node_fetch_follows_the_environment() {
    let version = Command::new("node").arg("--version").output();
    let version = version.map(|o| String::from_utf8(o.stdout).unwrap()).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    if major.parse::<u32>().unwrap_or(0) < 24 {
        eprintln!("skipped: node 24 (fetch through HTTPS_PROXY) is not installed");
        return;
    }
    reads_and_is_refused(FETCH, |node| node, true);
}

#[test]
fn undici_reads_and_is_told_why_it_may_not_write() {
    let Some(undici) = undici() else {
        eprintln!("skipped: undici is not installed");
        return;
    };
    reads_and_is_refused(UNDICI, |node| node.env("UNDICI", &undici), true);
    reads_and_is_refused(UNDICI, |node| node.env("UNDICI", &undici).env("H2", "1"), false);
}

/// Where undici lies: beside the build, among the global modules, or inside npm.
fn undici() -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node_modules");
    let output = Command::new("npm").args(["root", "-g"]).output().ok()?;
    let global = std::path::PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let places = [beside, global.clone(), global.join("npm/node_modules")];
    places
        .map(|place| place.join("undici"))
        .into_iter()
        .find(|at| at.join("package.json").is_file())
}
