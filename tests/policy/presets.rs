//! Each preset: requests that must pass, and requests that must not.

use portcullis::addr::{Authority, Path, Port};
use portcullis::policy::preset::{self, Access};
use portcullis::policy::{Ask, Body, Client, Intent, Policy, Scheme, Verdict};

fn passes(name: &str, access: Access, request: &str) -> bool {
    let layers = preset::find(name).unwrap().layers(access);
    assert!(!layers.is_empty());
    let policy = Policy::compile(&layers, 1).unwrap();
    let (method, url) = request.split_once(' ').unwrap();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (scheme, port) = match scheme {
        "http" => (Scheme::Http, Port::HTTP),
        _ => (Scheme::Https, Port::HTTPS),
    };
    let (authority, target) = rest.split_at(rest.find('/').unwrap());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let target = Authority::parse(authority, Some(port)).unwrap();
    let path = Path::parse(path).unwrap();
    let ask = Ask::Request { method, path: &path, query, websocket: false, body: Body::Unread };
    // A container's process can't be seen, and presets work there too.
    let intent = Intent { client: &Client::Unseen, scheme, target: &target, ask };
    matches!(policy.judge(&intent), Verdict::Allow(_))
}

fn check(name: &str, access: Access, pass: &[&str], not: &[&str]) {
    for request in pass {
        assert!(passes(name, access, request), "{name} {} stops {request}", access.as_str());
    }
    for request in not {
        assert!(!passes(name, access, request), "{name} {} passes {request}", access.as_str());
    }
}

#[test]
fn pypi_serves_pip_and_uploads_nothing() {
    let read = [
        "GET https://pypi.org/simple/",
        "GET https://pypi.org/simple/requests/",
        "GET https://pypi.org/simple/requests",
        "HEAD https://pypi.org/simple/requests/",
        "GET https://pypi.org/pypi/requests/json",
        "GET https://pypi.org/pypi/requests/2.32.0/json",
        "GET https://files.pythonhosted.org/packages/aa/bb/cc/requests-2.32.0-py3-none-any.whl",
        "GET https://files.pythonhosted.org/packages/aa/bb/cc/requests-2.32.0-py3-none-any.whl.metadata",
    ];
    let write = ["POST https://upload.pypi.org/legacy/", "POST https://pypi.org/_/oidc/mint-token"];
    let never = [
        "POST https://pypi.org/simple/requests/",
        "GET https://pypi.org/account/login/",
        "GET https://pypi.org/simple/a/b/c",
        "PUT https://files.pythonhosted.org/packages/x",
        "GET http://pypi.org/simple/requests/",
        "GET https://pypi.org:8443/simple/requests/",
        "GET https://evil.pypi.org/simple/x/",
        "GET https://test.pypi.org/simple/x/",
    ];
    check("pypi", Access::ReadOnly, &read, &write);
    check("pypi", Access::ReadOnly, &[], &never);
    check("pypi", Access::ReadWrite, &read, &never);
    check("pypi", Access::ReadWrite, &write, &[]);
}

#[test]
fn npm_serves_install_view_and_audit_and_publishes_nothing() {
    let read = [
        "GET https://registry.npmjs.org/lodash",
        "GET https://registry.npmjs.org/@types%2fnode",
        "GET https://registry.npmjs.org/@types/node",
        "GET https://registry.npmjs.org/lodash/latest",
        "GET https://registry.npmjs.org/@types/node/latest",
        "GET https://registry.npmjs.org/@types%2Fnode/20.0.0",
        "GET https://registry.npmjs.org/lodash/-/lodash-4.17.21.tgz",
        "GET https://registry.npmjs.org/@types/node/-/node-20.0.0.tgz",
        "GET https://registry.npmjs.org/-/v1/search?text=lodash&size=20",
        "GET https://registry.npmjs.org/-/npm/v1/keys",
        "GET https://registry.npmjs.org/-/package/lodash/dist-tags",
        "POST https://registry.npmjs.org/-/npm/v1/security/advisories/bulk",
        "POST https://registry.npmjs.org/-/npm/v1/security/audits/quick",
    ];
    let write = [
        "PUT https://registry.npmjs.org/mine",
        "PUT https://registry.npmjs.org/@me%2fmine",
        "PUT https://registry.npmjs.org/-/package/mine/dist-tags/next",
        "GET https://registry.npmjs.org/-/whoami",
    ];
    let never = [
        "PUT https://registry.npmjs.org/-/user/org.couchdb.user:me",
        "POST https://registry.npmjs.org/-/v1/login",
        "GET https://registry.npmjs.org/-/npm/v1/tokens",
        "POST https://registry.npmjs.org/-/npm/v1/tokens",
        "GET https://registry.npmjs.org/-/npm/v1/user",
        "DELETE https://registry.npmjs.org/mine/-rev/1",
        "POST https://registry.npmjs.org/lodash",
        "GET https://npmjs.com/lodash",
    ];
    check("npm", Access::ReadOnly, &read, &write);
    check("npm", Access::ReadOnly, &[], &never);
    check("npm", Access::ReadWrite, &read, &never);
    check("npm", Access::ReadWrite, &write, &[]);
}

#[test]
fn cargo_serves_the_sparse_index_and_downloads_and_publishes_nothing() {
    let read = [
        "GET https://index.crates.io/config.json",
        "GET https://index.crates.io/1/a",
        "GET https://index.crates.io/2/ab",
        "GET https://index.crates.io/3/a/abc",
        "GET https://index.crates.io/se/rd/serde",
        "GET https://static.crates.io/crates/serde/1.0.0/download",
        "GET https://static.crates.io/crates/serde/serde-1.0.0.crate",
        "GET https://crates.io/api/v1/crates?q=serde&per_page=10",
        "GET https://crates.io/api/v1/crates/serde/1.0.0/download",
    ];
    let write = ["PUT https://crates.io/api/v1/crates/new"];
    let never = [
        "DELETE https://crates.io/api/v1/crates/serde/1.0.0/yank",
        "PUT https://crates.io/api/v1/crates/serde/owners",
        "GET https://crates.io/api/v1/me",
        "GET https://index.crates.io/se/rd/x/y",
        "POST https://index.crates.io/se/rd/serde",
        "GET https://github.com/rust-lang/crates.io-index",
    ];
    check("cargo", Access::ReadOnly, &read, &write);
    check("cargo", Access::ReadOnly, &[], &never);
    check("cargo", Access::ReadWrite, &write, &never);
}

#[test]
fn debian_serves_apt_on_both_ports_and_nothing_else() {
    check(
        "debian",
        Access::ReadOnly,
        &[
            "GET http://deb.debian.org/debian/dists/trixie/InRelease",
            "GET https://deb.debian.org/debian/pool/main/c/curl/curl_8.14.1-2_amd64.deb",
            "GET http://deb.debian.org/debian-security/dists/trixie-security/InRelease",
            "GET http://security.debian.org/debian-security/pool/updates/main/x/x.deb",
            "GET http://security.debian.org/debian-security/pool/updates/main/l/lib%2b%2b_1.deb",
        ],
        &[
            "POST http://deb.debian.org/debian/dists/trixie/InRelease",
            "PUT http://deb.debian.org/debian/pool/x",
            "GET http://deb.debian.org/",
            "GET http://deb.debian.org/other/pool/x",
            "GET http://ftp.debian.org/debian/dists/x",
            "GET http://deb.debian.org:8080/debian/dists/x",
        ],
    );
    assert!(preset::find("debian").unwrap().layers(Access::ReadWrite).is_empty());
}

#[test]
fn github_clones_and_reads_and_pushes_only_with_read_write() {
    let read = [
        "GET https://github.com/a/b.git/info/refs?service=git-upload-pack",
        "POST https://github.com/a/b.git/git-upload-pack",
        "GET https://github.com/a/b/releases/download/v1/x.tar.gz",
        "GET https://github.com/a/b/archive/refs/heads/main.zip",
        "GET https://codeload.github.com/a/b/tar.gz/refs/heads/main",
        "GET https://raw.githubusercontent.com/a/b/main/README.md",
        "GET https://objects.githubusercontent.com/github-production-release-asset/1?X-Amz=1",
        "GET https://release-assets.githubusercontent.com/github-production-release-asset/1?x=1",
        "GET https://api.github.com/repos/a/b/pulls?state=open",
        "GET https://api.github.com/rate_limit",
    ];
    let write = [
        "GET https://github.com/a/b.git/info/refs?service=git-receive-pack",
        "POST https://github.com/a/b.git/git-receive-pack",
        "POST https://api.github.com/repos/a/b/issues",
        "POST https://api.github.com/repos/a/b/issues/1/comments",
        "PATCH https://api.github.com/repos/a/b/pulls/1",
        "PUT https://api.github.com/repos/a/b/contents/README.md",
    ];
    let never = [
        "DELETE https://api.github.com/repos/a/b",
        "PUT https://api.github.com/repos/a/b/actions/secrets/X",
        "POST https://api.github.com/repos/a/b/keys",
        "POST https://api.github.com/repos/a/b/hooks",
        "POST https://api.github.com/repos/a/b/transfer",
        "POST https://api.github.com/gists",
        "POST https://api.github.com/user/repos",
        "POST https://api.github.com/graphql",
        "POST https://uploads.github.com/repos/a/b/releases/1/assets",
        "GET https://github.com/login/oauth",
        "POST https://github.com/a/b/issues",
        "GET https://gist.github.com/a/b",
    ];
    check("github", Access::ReadOnly, &read, &write);
    check("github", Access::ReadOnly, &[], &never);
    check("github", Access::ReadWrite, &read, &never);
    check("github", Access::ReadWrite, &write, &[]);
}

#[test]
fn every_preset_has_a_description_and_no_finding_but_what_is_meant() {
    use portcullis::policy::lint::{Checked, Severity, WrittenFor, lint};
    for preset in preset::all() {
        assert!(!preset.description().is_empty(), "{}", preset.name);
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let layers = preset.layers(access);
            let checked: Vec<Checked<'_>> = layers
                .iter()
                .map(|layer| Checked { document: &layer.document, file: &layer.source })
                .collect();
            let findings = lint(&checked, WrittenFor::Portcullis);
            let grave: Vec<_> = findings.iter().filter(|f| f.severity > Severity::Note).collect();
            assert!(grave.is_empty(), "{}: {grave:#?}", preset.name);
        }
    }
}
