//! Files that change while the gateway runs: swapped whole or not at all, the last good one kept
//! (security.md 22, 23).

use crate::common::{
    self, Gateway, Origin, PATIENCE, Setup, TestCa, header, problem, read_head, read_request,
    read_response, server_as, server_config, test_ca, wait_for,
};
use crate::operation_kit::{self, ask, entry, event, full, get, once, read_only, reload, status};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::fs;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn policy(entries: &str) -> String {
    format!("version: 1\nnetwork_policies:\n{entries}")
}

fn path(gateway: &Gateway, name: &str) -> std::path::PathBuf {
    gateway.dir.path().join(name)
}

/// Puts another file in the place of `name`.
fn replace(gateway: &Gateway, name: &str, text: &str) {
    let fresh = path(gateway, &format!("{name}.new"));
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path(gateway, name)).unwrap();
}

/// An origin that keeps its TLS connections open from request to request.
fn secure(config: Arc<rustls::ServerConfig>) -> Origin {
    Origin::tls_as(config, |mut stream| {
        while !read_request(&mut stream).is_empty() {
            let sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
            if sent.and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    })
}

/// One request to `origin.test` over TLS: the code of its refusal, or `None` where it passed.
fn refused(gateway: &Gateway, port: u16) -> Option<String> {
    let mut tls = gateway.tls(&format!("origin.test:{port}"), "origin.test", &["http/1.1"]);
    write!(tls, "GET / HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n").unwrap();
    let (head, body) = read_response(&mut tls);
    match status(&head) {
        200 => None,
        502 => Some(problem(&body)["code"].as_str().unwrap().to_owned()),
        _ => panic!("{head}"),
    }
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

#[test]
fn a_policy_edited_in_place_judges_the_next_request_of_a_kept_connection() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut client = gateway.connect();
    assert_eq!(ask(&mut client, "POST", "origin.test", port, "/").0, 200);
    let first = event(&gateway, "default", "policy.loaded", 1);
    fs::write(path(&gateway, "policy.yaml"), policy(&read_only("a", "origin.test", port))).unwrap();
    let second = event(&gateway, "default", "policy.loaded", 2);
    assert_ne!(first["policy"], second["policy"]);
    assert_eq!(ask(&mut client, "POST", "origin.test", port, "/").0, 403);
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    let records = gateway.records(3);
    assert_eq!(records[0]["policy"], first["policy"]);
    assert_eq!(records[1]["policy"], second["policy"]);
    assert_eq!(records[1]["code"], "method_not_allowed");
}

#[test]
fn a_policy_replaced_by_rename_is_in_force_time_after_time() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    for round in 1..4 {
        reload(&gateway, &full("a", "other.test", port), 2 * round);
        assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
        reload(&gateway, &full("a", "origin.test", port), 2 * round + 1);
        assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    }
}

#[test]
fn a_hangup_reads_everything_again() {
    let gateway = Setup::allow_all(&["origin.test"], 80).start();
    gateway.signal("HUP");
    wait_for(PATIENCE, || gateway.log().contains("reloading").then_some(()));
    assert!(gateway.log().contains("SIGHUP"), "{}", gateway.log());
    // The same policy is not another one.
    reload(&gateway, &full("a", "other.test", 80), 2);
}

#[test]
fn what_is_half_written_or_broken_leaves_the_last_good_one() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let file = path(&gateway, "policy.yaml");
    let whole = policy(&full("a", "other.test", port));
    let broken = [
        String::new(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace("access: full", "acces: full"),
        "version: 1\nnetwork_policies: 7\n".to_owned(),
        "\u{0}\u{1b}[31m".to_owned(),
    ];
    for (n, text) in broken.iter().enumerate() {
        let fresh = file.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &file).unwrap();
        let event = event(&gateway, "default", "policy.rejected", n + 1);
        assert_eq!(event["files"][0], file.to_str().unwrap());
        let error = event["error"].as_str().unwrap();
        assert!(error.contains("policy.yaml"), "{error}");
        assert!(error.is_ascii() && !error.contains('\u{1b}'), "{error:?}");
        assert_eq!(once(&gateway, "origin.test", port, "/").0, 200, "{text:?}");
        assert_eq!(once(&gateway, "other.test", port, "/").0, 403, "{text:?}");
    }
    assert!(gateway.log().contains("the last good policy stays in force"));
    fs::write(&file, whole).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "other.test", port, "/").0, 200);
}

#[test]
fn a_policy_that_is_removed_stays_in_force_until_there_is_another() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    fs::remove_file(path(&gateway, "policy.yaml")).unwrap();
    event(&gateway, "default", "policy.rejected", 1);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    reload(&gateway, &full("a", "other.test", port), 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
}

#[test]
fn a_config_that_changes_is_read_and_so_are_the_files_it_names_from_then_on() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "other.test", port)).start();
    fs::create_dir(path(&gateway, "more")).unwrap();
    let more = path(&gateway, "more/extra.yaml");
    fs::write(&more, policy(&read_only("b", "origin.test", port))).unwrap();
    let config = path(&gateway, "config.yaml");
    let text = common::text(&config);
    let changed = text.replace("policy: [policy.yaml]", "policy: [policy.yaml, more/extra.yaml]");
    fs::write(&config, &changed).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    let mut client = gateway.connect();
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    assert_eq!(ask(&mut client, "POST", "origin.test", port, "/").0, 403);
    // The new file is watched, in a directory that was not.
    fs::write(&more, policy(&full("b", "origin.test", port))).unwrap();
    event(&gateway, "default", "policy.loaded", 3);
    assert_eq!(ask(&mut client, "POST", "origin.test", port, "/").0, 200);
    // A broken config changes nothing.
    fs::write(&config, changed.replace("version: 1", "version: nine")).unwrap();
    event(&gateway, "default", "policy.rejected", 1);
    assert_eq!(ask(&mut client, "POST", "origin.test", port, "/").0, 200);
}

#[test]
fn a_file_that_a_config_names_newly_is_watched_even_while_it_is_broken() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "other.test", port)).start();
    fs::create_dir(path(&gateway, "more")).unwrap();
    fs::write(path(&gateway, "more/extra.yaml"), "not a policy\n").unwrap();
    let config = path(&gateway, "config.yaml");
    let text = common::text(&config);
    fs::write(&config, text.replace("[policy.yaml]", "[policy.yaml, more/extra.yaml]")).unwrap();
    event(&gateway, "default", "policy.rejected", 1);
    let good = policy(&full("b", "origin.test", port));
    fs::write(path(&gateway, "more/extra.yaml"), good).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
}

#[test]
fn a_symlink_that_is_pointed_elsewhere_is_a_change() {
    // As Kubernetes mounts a ConfigMap: policy.yaml -> ..data/policy.yaml, ..data -> a directory.
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).sandbox("").start();
    let at = gateway.dir.path();
    let version = |name: &str, host: &str| {
        fs::create_dir(at.join(name)).unwrap();
        let text = policy(&full("a", host, port));
        fs::write(at.join(name).join("policy.yaml"), text).unwrap();
    };
    version("..v1", "other.test");
    std::os::unix::fs::symlink("..v1", at.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/policy.yaml", at.join("policy.link")).unwrap();
    fs::rename(at.join("policy.link"), at.join("policy.yaml")).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 403);
    version("..v2", "origin.test");
    std::os::unix::fs::symlink("..v2", at.join("..data_tmp")).unwrap();
    fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
    event(&gateway, "default", "policy.loaded", 3);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
}

#[test]
fn several_sandboxes_are_swapped_whole_or_not_at_all() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port))
        .sandbox("  ci:\n    policy: [ci.yaml]\n")
        .file("ci.yaml", &policy(&full("b", "origin.test", port)))
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  - { address: \"127.0.0.2:0\", sandbox: ci }\n",
        )
        .start();
    let asked = |at: usize, host: &str| {
        let mut client = std::net::TcpStream::connect(gateway.listeners[at]).unwrap();
        common::limits(&client);
        get(&mut client, host, port, "/").0
    };
    let good = policy(&full("a", "other.test", port));
    // Both files change; one is broken, so neither counts.
    fs::write(path(&gateway, "ci.yaml"), "version: 1\nnetwork_policies: [").unwrap();
    event(&gateway, "ci", "policy.rejected", 1);
    fs::write(path(&gateway, "policy.yaml"), &good).unwrap();
    event(&gateway, "default", "policy.rejected", 2);
    assert_eq!((asked(0, "origin.test"), asked(1, "origin.test")), (200, 200));
    assert_eq!((asked(0, "other.test"), asked(1, "other.test")), (403, 403));
    fs::write(path(&gateway, "ci.yaml"), policy(&full("b", "other.test", port))).unwrap();
    event(&gateway, "default", "policy.loaded", 2);
    event(&gateway, "ci", "policy.loaded", 2);
    assert_eq!((asked(0, "origin.test"), asked(1, "origin.test")), (403, 403));
    assert_eq!((asked(0, "other.test"), asked(1, "other.test")), (200, 200));
}

#[test]
fn a_sandbox_that_the_config_no_longer_has_allows_nothing() {
    let origin = Origin::ok("hi");
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port))
        .sandbox("  ci:\n    policy: [ci.yaml]\n")
        .file("ci.yaml", &policy(&entry("b", "origin.test", port, "protocol: rest, access: full")))
        .listen(
            "  - { address: \"127.0.0.1:0\", sandbox: default }\n  - { address: \"127.0.0.2:0\", sandbox: ci }\n",
        )
        .start();
    let config = path(&gateway, "config.yaml");
    let text = common::text(&config)
        .replace("  ci:\n    policy: [ci.yaml]\n", "")
        .replace("  - { address: \"127.0.0.2:0\", sandbox: ci }\n", "");
    fs::write(&config, text).unwrap();
    event(&gateway, "ci", "policy.loaded", 2);
    let mut client = std::net::TcpStream::connect(gateway.listeners[1]).unwrap();
    common::limits(&client);
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 403);
    assert_eq!(once(&gateway, "origin.test", port, "/").0, 200);
    assert!(gateway.log().contains("with a restart"), "{}", gateway.log());
}

#[test]
fn a_connection_from_before_the_trust_changed_is_not_used_again() {
    let (go, goes) = mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let (arrived, arrives) = mpsc::channel();
    let origin = Origin::plain(move |mut stream| {
        while !common::read_request(&mut stream).is_empty() {
            arrived.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        }
    });
    let port = origin.port();
    let gateway = Setup::policy(&full("a", "origin.test", port)).start();
    let mut client = gateway.connect();
    write!(client, "GET http://origin.test:{port}/ HTTP/1.1\r\nHost: origin.test:{port}\r\n\r\n")
        .unwrap();
    arrives.recv_timeout(PATIENCE).unwrap();
    // While it is under way: other roots, in force with the policy that comes after them.
    let more = TestCa::new("one more").pem;
    fs::write(path(&gateway, "new-ca.pem"), format!("{}{more}", test_ca().pem)).unwrap();
    let config = path(&gateway, "config.yaml");
    let text = common::text(&config).replace("origin-ca.pem", "new-ca.pem");
    fs::write(&config, text).unwrap();
    reload(&gateway, &full("b", "origin.test", port), 2);
    go.send(()).unwrap();
    assert_eq!(operation_kit::status(&common::read_response(&mut client).0), 200);
    assert_eq!(origin.connections(), 1);
    go.send(()).unwrap();
    assert_eq!(get(&mut client, "origin.test", port, "/").0, 200);
    assert_eq!(origin.connections(), 2, "the old connection was used again");
}

#[test]
fn other_roots_in_the_same_file_are_trusted_from_then_on_and_those_of_before_are_not() {
    let (old, new) = (test_ca(), TestCa::new("Portcullis test origins, the second"));
    let first = secure(server_config(&["origin.test"], &["http/1.1"]));
    let second = secure(server_as(new.certificate(&["origin.test"]), &["http/1.1"]));
    let policy = full("a", "origin.test", first.port()) + &full("b", "origin.test", second.port());
    let gateway = Setup::policy(&policy).start();
    let bundled = |ca: &TestCa| {
        let bundle = ders(&common::text(&gateway.state().join("ca-bundle.pem")));
        bundle.contains(&ders(&ca.pem)[0])
    };
    assert_eq!(refused(&gateway, first.port()), None);
    assert_eq!(refused(&gateway, second.port()).as_deref(), Some("tls_unknown_issuer"));
    assert_eq!((bundled(old), bundled(&new)), (true, false));
    replace(&gateway, "origin-ca.pem", &new.pem);
    wait_for(PATIENCE, || refused(&gateway, second.port()).is_none().then_some(()));
    assert_eq!((bundled(old), bundled(&new)), (false, true));
    assert_eq!(refused(&gateway, first.port()).as_deref(), Some("tls_unknown_issuer"));
    // What is none is not taken, and the last good ones stay.
    replace(&gateway, "origin-ca.pem", "not a certificate\n");
    event(&gateway, "default", "policy.rejected", 1);
    assert_eq!(refused(&gateway, second.port()), None);
    assert_eq!((bundled(old), bundled(&new)), (false, true));
}

#[test]
fn a_certificate_that_is_revoked_while_the_gateway_runs_is_refused_from_then_on() {
    let [it, another] = [(), ()].map(|()| test_ca().certificate(&["origin.test"]));
    let (revokes_it, revokes_another) = (test_ca().revoking(&it.0), test_ca().revoking(&another.0));
    let [it, another] = [it, another].map(|pair| secure(server_as(pair, &["http/1.1"])));
    let policy = full("a", "origin.test", it.port()) + &full("b", "origin.test", another.port());
    let gateway = Setup::policy(&policy)
        .upstream("  crl_files: [revoked.pem]\n")
        .file("revoked.pem", &revokes_another)
        .start();
    assert_eq!(refused(&gateway, it.port()), None);
    assert_eq!(refused(&gateway, another.port()).as_deref(), Some("tls_revoked"));
    replace(&gateway, "revoked.pem", &revokes_it);
    let code = wait_for(PATIENCE, || refused(&gateway, it.port()));
    assert_eq!(code, "tls_revoked");
    assert_eq!(refused(&gateway, another.port()), None);
}

#[test]
fn the_parent_proxy_is_shown_a_new_credential_as_soon_as_its_file_holds_one() {
    let (hears, heard) = mpsc::channel();
    let parent = Origin::plain(move |mut stream| {
        loop {
            let head = read_head(&mut stream);
            let answer = match head.split(' ').next() {
                Some("CONNECT") => "HTTP/1.1 200 OK\r\n\r\n",
                Some("GET") => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
                _ => return,
            };
            hears.send(head).unwrap();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let proxy =
        format!("  proxy: {{ url: \"http://{}\", credential: corp, resolve: proxy }}\n", parent.at);
    let policy = full("a", "far.test", 80) + &entry("b", "far.test", 22, "protocol: tcp");
    let gateway = Setup::policy(&policy)
        .upstream(&proxy)
        .more("credentials: { corp: { file: corp-secret } }\n")
        .file("corp-secret", "ana:first\n")
        .start();
    // A request that is forwarded, and a tunnel.
    let shown = || {
        assert_eq!(once(&gateway, "far.test", 80, "/").0, 200);
        drop(gateway.tunnel("far.test:22"));
        ["GET http://far.test/ ", "CONNECT far.test:22 "].map(|start| {
            let head = heard.recv_timeout(PATIENCE).unwrap();
            assert!(head.starts_with(start), "{head}");
            header(&head, "proxy-authorization").unwrap()
        })
    };
    let basic = |pair: &str| {
        let coded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
        format!("Basic {coded}")
    };
    assert_eq!(shown(), [basic("ana:first"), basic("ana:first")]);
    replace(&gateway, "corp-secret", "ana:second\n");
    let second = [basic("ana:second"), basic("ana:second")];
    wait_for(PATIENCE, || (shown() == second).then_some(()));
    assert!(!gateway.log().contains("with a restart"), "{}", gateway.log());
    // Another parent is asked after a restart, and until then its password goes to nobody.
    let config = path(&gateway, "config.yaml");
    let other = common::text(&config).replace(&parent.at.to_string(), "other.test:3128");
    fs::write(&config, other).unwrap();
    wait_for(PATIENCE, || gateway.log().contains("upstream.proxy").then_some(()));
    let reloads = || gateway.log().matches("reloading").count();
    let before = reloads();
    replace(&gateway, "corp-secret", "ana:third\n");
    wait_for(PATIENCE, || (reloads() > before).then_some(()));
    for _ in 0..20 {
        assert_eq!(shown(), second);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_reload_does_not_put_in_force_is_named_by_its_keys() {
    let gateway = Setup::allow_all(&["origin.test"], 80).start();
    let text = common::text(&path(&gateway, "config.yaml"));
    let changed = text
        .replace("upstream:\n", "upstream:\n  nameservers: [192.0.2.53]\n")
        .replace("  default:\n", "  default:\n    agent_api: false\n");
    replace(&gateway, "config.yaml", &changed);
    let named = |count: usize| {
        wait_for(PATIENCE, || {
            let log = gateway.log();
            let mut lines = log.lines().filter(|line| line.contains("in force with a restart"));
            lines.nth(count - 1).map(str::to_owned)
        })
    };
    let line = named(1);
    assert!(line.contains("\"upstream.nameservers, agent_api\""), "{line}");
    // Each change is named once, beside what is in force at once.
    let changed = format!("{changed}buffer: {{ rpc: 128KiB }}\n").replace("agent_api: false", "");
    replace(&gateway, "config.yaml", &changed);
    let line = named(2);
    assert!(line.contains("\"buffer, agent_api\""), "{line}");
}
