//! The presets before the programs that they are for, on the names and ports that these ask for:
//! a network of the test's own, where 127.0.0.1:443 is the registry. Needs root.

use crate::clients_kit::{Answer, Ask, Program, program, scratch, serve, story, write};
use crate::common::{Gateway, header, host, server_config, test_ca, tool};
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A registry: its names, over TLS on 443 and plain on 80, and a gateway with its preset alone.
/// The calling thread must have a network of its own.
fn behind(
    preset: &str,
    names: &[&str],
    answer: impl Fn(&Ask) -> Answer + Send + Sync + 'static,
) -> Gateway {
    let config = server_config(names, &["http/1.1"]);
    let answer = Arc::new(answer);
    for port in [80, 443] {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (config, answer) = (config.clone(), answer.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (config, answer) = (config.clone(), answer.clone());
                std::thread::spawn(move || {
                    if port == 80 {
                        return serve(&mut stream, &*answer);
                    }
                    let tls = rustls::ServerConnection::new(config).unwrap();
                    serve(&mut rustls::StreamOwned::new(tls, stream), &*answer);
                });
            }
        });
    }
    let dir = scratch();
    write(dir.path().join("origin-ca.pem"), &test_ca().pem);
    let hosts: Vec<String> = names.iter().map(|name| format!("{name}: [127.0.0.1]")).collect();
    let config = format!(
        "version: 1\nstate_dir: {}\nlisten:\n  - {{ address: \"127.0.0.1:0\" }}\n\
         sandboxes:\n  default:\n    presets: [{preset}]\n    approval: {{ mode: queue }}\n\
         upstream:\n  ca_files: [origin-ca.pem]\n  allow_internal: [\"127.0.0.1/32\"]\n  hosts: {{ {} }}\n",
        dir.path().join("state").display(),
        hosts.join(", ")
    );
    write(dir.path().join("config.yaml"), config);
    Gateway::spawn(dir, &["--config", "config.yaml"], &[])
}

/// Runs `act` on a thread with a network of its own, where the tools are installed and that can be.
fn alone(tools: &[&str], act: impl FnOnce() + Send) {
    if tools.iter().all(|name| tool(name)) {
        std::thread::scope(|scope| {
            let ran = scope.spawn(|| host::network().then(act)).join();
            ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

/// Packs the directory `what` in `dir`.
fn pack(dir: &Path, archive: &str, what: &str) {
    let tar = Command::new("tar").args(["-czf", archive, what]).current_dir(dir).status();
    assert!(tar.unwrap().success());
}

/// curl posts to `url` and is told by which preset it may not.
fn may_not_post(gateway: &Gateway, url: &str) {
    let dir = scratch();
    let Some(curl) = program(gateway, "curl", dir.path()) else { return };
    let said = curl.args(["-sS", "--fail-with-body", "-d", "x=1", url]).run();
    said.refused("\"title\":\"Forbidden by policy\"");
}

#[test]
fn pip_downloads_behind_the_preset_pypi() {
    alone(&["pip", "python3"], || {
        let dir = scratch();
        let made = "import zipfile
with zipfile.ZipFile('demo.whl', 'w') as z:
    z.writestr('demo-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: demo\\nVersion: 1.0\\n')
    z.writestr('demo-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')
    z.writestr('demo-1.0.dist-info/RECORD', '')";
        let made = Command::new("python3").args(["-c", made]).current_dir(dir.path()).status();
        assert!(made.unwrap().success());
        let wheel = std::fs::read(dir.path().join("demo.whl")).unwrap();
        let file = "/packages/aa/bb/demo-1.0-py3-none-any.whl";
        let page = format!("<a href=\"https://files.pythonhosted.org{file}\">demo</a>");
        let gateway =
            behind("pypi", &["pypi.org", "files.pythonhosted.org"], move |ask| {
                match &*ask.target {
                    "/simple/demo/" => Answer::of("text/html", page.clone()),
                    target if target == file => Answer::of("application/zip", wheel.clone()),
                    _ => Answer::missing(),
                }
            });
        let pip = program(&gateway, "pip", dir.path()).unwrap();
        pip.line("download --no-cache-dir --disable-pip-version-check -d got demo").run().passed();
        assert!(dir.path().join("got/demo-1.0-py3-none-any.whl").is_file());
        may_not_post(&gateway, "https://pypi.org/simple/demo/");
        may_not_post(&gateway, "https://upload.pypi.org/legacy/");
        may_not_post(&gateway, "https://files.pythonhosted.org/packages/aa");
        let records = gateway.records(5);
        assert_eq!(records[0]["rule"], "pypi/endpoints[0]/rules[1]");
    });
}

#[test]
fn npm_installs_behind_the_preset_npm_and_does_not_publish() {
    alone(&["npm", "tar"], || {
        let dir = scratch();
        let package = dir.path().join("package");
        write(package.join("package.json"), "{\"name\":\"@demo/new\",\"version\":\"1.0.0\"}");
        pack(dir.path(), "demo.tgz", "package");
        let tarball = std::fs::read(dir.path().join("demo.tgz")).unwrap();
        let document = "{\"name\":\"@demo/thing\",\"dist-tags\":{\"latest\":\"1.0.0\"},\"versions\":{\"1.0.0\":{\
             \"name\":\"@demo/thing\",\"version\":\"1.0.0\",\"dist\":{\
             \"tarball\":\"https://registry.npmjs.org/@demo/thing/-/thing-1.0.0.tgz\"}}}}";
        let gateway = behind("npm", &["registry.npmjs.org"], move |ask| match &*ask.target {
            "/@demo%2Fthing" => Answer::of("application/json", document),
            "/@demo/thing/-/thing-1.0.0.tgz" => Answer::of("application/gzip", tarball.clone()),
            "/-/npm/v1/security/advisories/bulk" => Answer::of("application/json", "{}"),
            _ => Answer::missing(),
        });
        let npm = || program(&gateway, "npm", dir.path()).unwrap().line("--fetch-retries=0");
        assert!(npm().line("view @demo/thing version").run().passed().contains("1.0.0"));
        write(dir.path().join("package.json"), "{\"name\":\"p\",\"version\":\"0.0.0\"}");
        npm().line("install @demo/thing").run().passed();
        assert!(dir.path().join("node_modules/@demo/thing/package.json").is_file());
        let publish = "publish ./package --access=public --//registry.npmjs.org/:_authToken=t";
        npm().line(publish).run().refused("403 Forbidden by policy r1 - PUT");
    });
}

/// cargo itself, whose rustup would look for toolchains in a home that is not there.
fn cargo(gateway: &Gateway, dir: &Path) -> Program {
    let bin = Path::new(env!("CARGO")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let cargo = program(gateway, "cargo", dir).unwrap();
    cargo.env("PATH", format!("{}:{path}", bin.display())).env("CARGO_HOME", dir.join("cargo"))
}

const MANIFEST: &str = "[package]
name = \"demo\"
version = \"1.0.0\"
edition = \"2021\"
description = \"d\"
license = \"MIT\"
[workspace]
";

#[test]
fn cargo_fetches_behind_the_preset_cargo_and_does_not_publish() {
    alone(&["cargo", "tar"], || {
        let dir = scratch();
        write(dir.path().join("demo-1.0.0/Cargo.toml"), MANIFEST);
        write(dir.path().join("demo-1.0.0/src/lib.rs"), "");
        pack(dir.path(), "demo.crate", "demo-1.0.0");
        let file = std::fs::read(dir.path().join("demo.crate")).unwrap();
        let sum: String = Sha256::digest(&file).iter().map(|b| format!("{b:02x}")).collect();
        let entry = format!(
            "{{\"name\":\"demo\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{sum}\",\"features\":{{}},\"yanked\":false}}\n"
        );
        let names = ["index.crates.io", "static.crates.io", "crates.io"];
        let gateway = behind("cargo", &names, move |ask| match &*ask.target {
            "/config.json" => Answer::text(
                "{\"dl\":\"https://static.crates.io/crates\",\"api\":\"https://crates.io\"}",
            ),
            "/de/mo/demo" => Answer::text(entry.clone()),
            "/crates/demo/1.0.0/download" => Answer::of("application/gzip", file.clone()),
            _ => Answer::missing(),
        });
        let user = dir.path().join("user");
        let manifest = "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
                        [dependencies]\ndemo = \"1\"\n[workspace]\n";
        write(user.join("Cargo.toml"), manifest);
        write(user.join("src/lib.rs"), "");
        cargo(&gateway, &user).line("fetch").run().passed();
        let told = story(&gateway, 3);
        assert_eq!(
            told,
            [
                "GET /config.json passed",
                "GET /de/mo/demo passed",
                "GET /crates/demo/1.0.0/download passed"
            ]
        );
        let mine = dir.path().join("mine");
        write(mine.join("Cargo.toml"), MANIFEST.replace("demo", "mine"));
        write(mine.join("src/lib.rs"), "");
        let publish = cargo(&gateway, &mine);
        let publish = publish.line("publish --allow-dirty --no-verify --token t");
        publish.run().refused("PUT /api/v1/crates/new is not allowed on crates.io:443");
    });
}

/// A repository with no packages in it, and its `Release`.
fn repository(ask: &Ask) -> Answer {
    assert_eq!(header(&ask.head, "host").unwrap(), "deb.debian.org");
    let empty = Sha256::digest(b"").iter().map(|b| format!("{b:02x}")).collect::<String>();
    if ask.target == "/debian/dists/stable/Release" {
        let arches = ["amd64", "arm64", "all"];
        let file = |arch| format!(" {empty} 0 main/binary-{arch}/Packages\n");
        let files: String = arches.map(file).concat();
        return Answer::text(format!(
            "Suite: stable\nCodename: stable\nComponents: main\nArchitectures: amd64 arm64\n\
             Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{files}"
        ));
    }
    match ask.target.ends_with("/Packages") {
        true => Answer::text(""),
        false => Answer::missing(),
    }
}

#[test]
fn apt_get_updates_behind_the_preset_debian_over_http_and_https() {
    alone(&["apt-get"], || {
        let gateway = behind("debian", &["deb.debian.org"], repository);
        for scheme in ["http", "https"] {
            let dir = scratch();
            let sources = |suite: &str| {
                let list = format!("deb [trusted=yes] {scheme}://deb.debian.org{suite} main\n");
                write(dir.path().join("sources.list"), list);
            };
            std::fs::create_dir_all(dir.path().join("lists/partial")).unwrap();
            let update = || {
                let at = dir.path().display();
                let apt = program(&gateway, "apt-get", dir.path()).unwrap();
                apt.line(&format!(
                    "-o Dir::Etc::sourcelist={at}/sources.list -o Dir::Etc::sourceparts=- \
                     -o Dir::State::lists={at}/lists -o Dir::Cache={at}/cache \
                     -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=0 \
                     -o Acquire::Check-Valid-Until=false -o Acquire::https::CAInfo={} update",
                    gateway.state().join("ca-bundle.pem").display()
                ))
                .run()
            };
            sources("/debian stable");
            let said = update().passed();
            assert!(!said.contains("Err:"), "{said}");
            sources("/elsewhere stable");
            let said = update().said;
            assert!(said.contains("403  Forbidden by policy"), "{said}");
        }
        may_not_post(&gateway, "http://deb.debian.org/debian/dists/stable/Release");
    });
}
