//! The way out, end to end on loopback: a nameserver that counts, and listeners.
//!
//! The permit's part (`Opened::by`) is three getters; here the same road is taken below it, since
//! nothing outside `policy` can make a permit.

use super::guard::Opened;
use super::*;
use crate::policy::Code;
use futures_util::FutureExt;
use ipnet::IpNet;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

#[path = "../../tests/kit/common/dns.rs"]
mod dns;
mod parent;
use dns::DnsServer;

const SHUT: Opened<'static> = Opened { policy: &[], only: false, operator: &[], route: &[] };

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> Authority {
    Authority::parse(text, None).unwrap()
}

fn name(text: &str) -> crate::addr::Name {
    Host::parse(text).unwrap().name().unwrap().clone()
}

/// Settings that never look at this machine's own files.
fn settings() -> Settings {
    let files = SystemFiles {
        hosts: "/nonexistent/hosts".into(),
        resolv_conf: "/nonexistent/resolv.conf".into(),
    };
    Settings { files, connect_timeout: Duration::from_secs(5), ..Settings::default() }
}

/// Settings that ask `server`, with loopback opened by the operator.
fn asking(server: &DnsServer) -> Settings {
    let allow_internal = vec![net("127.0.0.0/8")];
    Settings { nameservers: Some(vec![server.address()]), allow_internal, ..settings() }
}

fn upstream(settings: Settings) -> Upstream {
    Upstream::new(settings).unwrap()
}

async fn pin(upstream: &Upstream, target: &str) -> Result<Pinned, PinError> {
    upstream.pin_target(&at(target), SHUT).await
}

/// A listener on 127.0.0.1 and the port.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn upstream_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Upstream>();
    fn sent<T: Send>(_: T) {}
    let upstream = upstream(settings());
    sent(pin(&upstream, "a.test:443"));
}

#[test]
fn literals_and_hosts_are_answered_at_once_and_no_nameserver_is_asked() {
    let server = DnsServer::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hosts");
    std::fs::write(&file, "127.0.0.9 system.test\n127.0.0.8 both.test\n").unwrap();
    let mut settings = asking(&server);
    settings.files.hosts.clone_from(&file);
    settings.hosts = vec![
        (name("config.test"), vec![ip("127.0.0.7"), ip("::ffff:127.0.0.7")]),
        (name("both.test"), vec![ip("127.0.0.6")]),
    ];
    settings.allow_internal.push(net("::1/128"));
    let upstream = upstream(settings);
    let now = |target| pin(&upstream, target).now_or_never().expect("at once").unwrap();
    for (target, addresses, source) in [
        ("127.0.0.1:80", &["127.0.0.1"][..], Source::Literal),
        ("config.test:80", &["127.0.0.7"], Source::Config),
        ("both.test:80", &["127.0.0.6"], Source::Config),
        ("system.test:80", &["127.0.0.9"], Source::System),
        ("localhost:80", &["127.0.0.1", "::1"], Source::System),
        ("a.localhost:80", &["127.0.0.1", "::1"], Source::System),
    ] {
        let pinned = now(target);
        let expected: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
        assert_eq!((pinned.addresses(), pinned.source()), (&expected[..], source), "{target}");
    }
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn the_guard_applies_to_literals_and_to_every_kind_of_answer() {
    let server = DnsServer::start();
    server.answer("dns.test", &["10.0.5.3"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hosts");
    std::fs::write(&file, "10.0.5.3 system.test\n").unwrap();
    let mut settings = asking(&server);
    settings.files.hosts = file;
    settings.hosts = vec![(name("config.test"), vec![ip("10.0.5.3")])];
    let upstream = upstream(settings);
    for host in ["10.0.5.3", "config.test", "system.test", "dns.test"] {
        let target = at(&format!("{host}:5432"));
        let error = upstream.pin_target(&target, SHUT).await.expect_err(host);
        assert_eq!(error.code(), Code::AddressRefused);
        let nets = [net("10.0.5.0/24")];
        let opened = Opened { policy: &nets, ..SHUT };
        assert_eq!(
            upstream.pin_target(&target, opened).await.unwrap().addresses(),
            [ip("10.0.5.3")]
        );
    }
}

#[tokio::test]
async fn etc_hosts_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hosts");
    std::fs::write(&file, "127.0.0.1 a.test\n").unwrap();
    let mut settings = settings();
    settings.files.hosts.clone_from(&file);
    settings.allow_internal = vec![net("127.0.0.0/8")];
    let upstream = upstream(settings);
    assert_eq!(pin(&upstream, "a.test:80").await.unwrap().addresses(), [ip("127.0.0.1")]);
    std::fs::write(&file, "127.0.0.22 a.test\n").unwrap();
    upstream.names.reread();
    assert_eq!(pin(&upstream, "a.test:80").await.unwrap().addresses(), [ip("127.0.0.22")]);
    std::fs::remove_file(&file).unwrap();
    upstream.names.reread();
    assert_eq!(pin(&upstream, "a.test:80").await.unwrap_err().code(), Code::DnsFailed);
}

#[tokio::test]
async fn a_mixed_answer_is_refused_whole() {
    let server = DnsServer::start();
    server.answer("mixed.test", &["93.184.216.34", "10.0.5.3"]);
    server.answer("mixed6.test", &["93.184.216.34", "::1"]);
    server.answer("public.test", &["93.184.216.34", "2606:2800:220:1::1"]);
    let upstream = upstream(asking(&server));
    let error = pin(&upstream, "mixed.test:443").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "mixed.test resolves to 10.0.5.3, which is a private address; \
         add allowed_ips: [10.0.5.0/24] to the endpoint"
    );
    let error = pin(&upstream, "mixed6.test:443").await.unwrap_err();
    assert_eq!(error.code(), Code::AddressRefused);
    let pinned = pin(&upstream, "public.test:443").await.unwrap();
    assert_eq!((pinned.addresses().len(), pinned.source()), (2, Source::Dns));
}

#[tokio::test]
async fn an_alias_of_an_internal_name_is_refused() {
    let server = DnsServer::start();
    server.answer("inner.test", &["169.254.169.254"]);
    server.alias("outer.test", "inner.test");
    let error = pin(&upstream(asking(&server)), "outer.test:80").await.unwrap_err();
    assert!(matches!(error, PinError::AddressRefused { .. }), "{error}");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_dialled() {
    let server = DnsServer::start();
    let (listener, port) = listener();
    server.script("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"], &["10.0.0.1"]]);
    let upstream = upstream(asking(&server));
    let pinned = pin(&upstream, &format!("rebind.test:{port}")).await.unwrap();
    let dialed = upstream.dial(&pinned, Payload::Tls).await.unwrap();
    assert_eq!(dialed.reached, Reached::Address(listener.local_addr().unwrap()));
    assert_eq!((dialed.route, dialed.via_parent()), (Route::Direct, false));
    assert!(dialed.stream.nodelay().unwrap());
    assert_eq!(server.lookups("rebind.test"), 1);

    let pinned = pin(&upstream, &format!("rebind.test:{port}")).await.unwrap();
    assert_eq!(pinned.addresses(), [ip("127.0.0.2")]);
    let error = upstream.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed, "{error}");
    let error = pin(&upstream, &format!("rebind.test:{port}")).await.unwrap_err();
    assert_eq!(error.code(), Code::AddressRefused, "{error}");
    assert_eq!(server.lookups("rebind.test"), 3);
}

#[tokio::test]
async fn names_are_asked_as_they_were_judged_with_nothing_appended() {
    let server = DnsServer::start();
    let upstream = upstream(asking(&server));
    let error = pin(&upstream, "intranet:443").await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::NameNotFound, "intranet does not resolve: no such name")
    );
    assert!(server.asked().iter().all(|asked| asked == "intranet"), "{:?}", server.asked());
}

#[tokio::test]
async fn answers_are_cached_for_their_ttl() {
    let server = DnsServer::start();
    server.answer_for("cached.test", &["93.184.216.34", "2606:2800:220:1::1"], 300);
    let upstream = upstream(asking(&server));
    for _ in 0..3 {
        pin(&upstream, "cached.test:443").await.unwrap();
    }
    assert_eq!(server.lookups("cached.test"), 1);
}

#[tokio::test]
async fn failures_of_the_nameserver_have_their_codes_and_a_deadline() {
    let server = DnsServer::start();
    server.fail("broken.test");
    server.silence("silent.test");
    server.answer("empty.test", &[]);
    let mut settings = asking(&server);
    settings.connect_timeout = Duration::from_millis(200);
    let upstream = upstream(settings);
    for (target, code) in [
        ("broken.test:443", Code::DnsFailed),
        ("silent.test:443", Code::DnsFailed),
        ("empty.test:443", Code::NameNotFound),
        ("unknown.test:443", Code::NameNotFound),
    ] {
        let error = pin(&upstream, target).await.expect_err(target);
        assert_eq!(error.code(), code, "{error}");
    }
    let error = pin(&upstream, "silent.test:443").await.unwrap_err();
    assert!(matches!(error, PinError::Lookup(LookupError::Timeout { .. })), "{error}");
}

#[tokio::test]
async fn a_truncated_reply_is_asked_again_over_tcp_and_checked_whole() {
    let server = DnsServer::start();
    let mut many: Vec<String> = (0..60).map(|i| format!("93.184.216.{i}")).collect();
    many.push("10.0.0.1".to_owned());
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.answer("many.test", &many);
    server.answer("good.test", &many[..60]);
    let upstream = upstream(asking(&server));
    assert_eq!(pin(&upstream, "good.test:443").await.unwrap().addresses().len(), 60);
    assert_eq!(pin(&upstream, "many.test:443").await.unwrap_err().code(), Code::AddressRefused);
    assert!(server.over_tcp() >= 2);
}

#[tokio::test]
async fn without_a_resolv_conf_names_fail_clearly_and_nothing_else_does() {
    let mut settings = settings();
    settings.hosts = vec![(name("known.test"), vec![ip("93.184.216.34")])];
    let upstream = upstream(settings);
    let error = pin(&upstream, "a.test:443").await.unwrap_err();
    assert_eq!(error.code(), Code::DnsFailed);
    let told = error.to_string();
    assert!(told.starts_with("a.test can't be resolved: /nonexistent/resolv.conf: "), "{told}");
    assert!(told.ends_with("set upstream.nameservers or upstream.hosts"), "{told}");
    assert!(pin(&upstream, "known.test:443").await.is_ok());
    assert!(pin(&upstream, "93.184.216.34:443").await.is_ok());
}

#[test]
fn a_runtime_that_goes_away_takes_no_other_with_it() {
    let server = DnsServer::start();
    server.answer("a.test", &["93.184.216.34"]);
    server.silence("silent.test");
    let upstream = upstream(asking(&server));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lasting = runtime();
    assert!(lasting.block_on(pin(&upstream, "a.test:443")).is_ok());
    for _ in 0..3 {
        let passing = runtime();
        passing.block_on(async {
            assert!(pin(&upstream, "a.test:443").await.is_ok());
            // Left in the middle of an exchange, whose driver dies with the runtime.
            let hanging = Box::pin(pin(&upstream, "silent.test:443"));
            let ended = futures_util::future::select(hanging, Box::pin(tokio::task::yield_now()));
            assert!(matches!(ended.await, futures_util::future::Either::Right(_)));
        });
        drop(passing);
        assert!(lasting.block_on(pin(&upstream, "a.test:443")).is_ok());
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(runtime().block_on(pin(&upstream, "a.test:443")).is_ok()));
        }
    });
}

#[tokio::test]
async fn own_listeners_are_refused_by_resolved_address() {
    let server = DnsServer::start();
    server.answer("self.test", &["127.0.0.1"]);
    server.answer("other.test", &["127.0.0.5"]);
    let mut settings = asking(&server);
    settings.own = vec!["0.0.0.0:9464".parse().unwrap()];
    let upstream = upstream(settings);
    upstream.add_own("127.0.0.1:3128".parse().unwrap());
    for target in ["self.test:3128", "127.0.0.1:3128", "other.test:9464", "127.0.0.77:9464"] {
        let error = pin(&upstream, target).await.expect_err(target);
        assert_eq!(error.code(), Code::OwnAddress, "{error}");
    }
    assert!(pin(&upstream, "other.test:3128").await.is_ok());
    let reached = Reached::Address("127.0.0.1:3128".parse().unwrap());
    assert!(upstream.recheck_target(&at("self.test:3128"), SHUT, reached).is_err());
}

#[tokio::test]
async fn a_pooled_address_is_checked_as_the_permit_opens_it_now() {
    let upstream = upstream(settings());
    let target = at("db.test:5432");
    let reached = Reached::Address("10.0.5.3:5432".parse().unwrap());
    let nets = [net("10.0.5.0/24")];
    let opened = Opened { policy: &nets, ..SHUT };
    assert_eq!(upstream.recheck_target(&target, opened, reached), Ok(()));
    let error = upstream.recheck_target(&target, SHUT, reached).unwrap_err();
    assert_eq!(error.code(), Code::AddressRefused);
    let by_parent = Reached::ByParent { parent: "127.0.0.1:3128".parse().unwrap() };
    assert!(upstream.recheck_target(&target, SHUT, by_parent).is_err());
}

#[tokio::test]
async fn a_dial_that_no_one_answers_ends_at_the_connect_timeout() {
    let mut settings = settings();
    // TEST-NET-1 is not routed; a network that answers at once gives a failed connection instead.
    settings.allow_internal = vec![net("192.0.2.0/24")];
    settings.connect_timeout = Duration::from_millis(50);
    let upstream = upstream(settings);
    let pinned = pin(&upstream, "192.0.2.1:9").await.unwrap();
    let code = upstream.dial(&pinned, Payload::Raw).await.unwrap_err().code();
    assert!(matches!(code, Code::ConnectTimeout | Code::ConnectFailed));
}

#[test]
fn refusals_say_what_would_open_them() {
    let upstream = upstream(settings());
    let told =
        |target: &str| pin(&upstream, target).now_or_never().unwrap().unwrap_err().to_string();
    assert_eq!(
        told("10.0.5.3:80"),
        "10.0.5.3 is a private address; add allowed_ips: [10.0.5.0/24] to the endpoint"
    );
    assert_eq!(
        told("[::1]:80"),
        "::1 is a loopback address; a policy can't open it, only the operator: \
         upstream.allow_internal: [::1/128]"
    );
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Upstream::new(settings).unwrap_err()
    };
    assert_eq!(refused(|s| s.connect_timeout = Duration::ZERO), SettingsError::ZeroTimeout);
    assert_eq!(refused(|s| s.nameservers = Some(Vec::new())), SettingsError::NoNameservers);
    let error = refused(|s| s.hosts = vec![(name("a.test"), Vec::new())]);
    assert!(matches!(error, SettingsError::EmptyHost { .. }));
    let error = refused(|s| {
        let one = vec![ip("127.0.0.1")];
        s.hosts = vec![(name("a.test"), one.clone()), (name("A.test."), one)];
    });
    assert!(matches!(error, SettingsError::SecondHost { .. }));
}
