//! The way out through a parent proxy, one that answers by a script.

use super::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;

/// A parent proxy that answers one head per connection with `replies` in turn, and tells the heads.
fn parent(replies: &'static [&'static str]) -> (SocketAddr, mpsc::Receiver<String>) {
    let (listener, _) = listener();
    let address = listener.local_addr().unwrap();
    let (heads, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            heads.send(String::from_utf8(head).unwrap()).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            open.push(stream);
        }
    });
    (address, heard)
}

fn behind(address: SocketAddr, resolve: Resolve) -> Parent {
    let authority = at(&address.to_string());
    Parent { authority, credential: None, no_proxy: Vec::new(), resolve }
}

const TAKEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[tokio::test]
async fn behind_a_parent_the_checked_address_is_asked_for_and_not_the_name() {
    let server = DnsServer::start();
    server.script("a.test", &[&["93.184.216.34"], &["10.0.0.1"]]);
    let (address, heads) = parent(&[TAKEN, TAKEN]);
    let proxy = Some(behind(address, Resolve::Local));
    let upstream = upstream(Settings { proxy, ..asking(&server) });
    let pinned = pin(&upstream, "a.test:443").await.unwrap();
    for payload in [Payload::Tls, Payload::Http] {
        let dialed = upstream.dial(&pinned, payload).await.unwrap();
        assert_eq!(dialed.route, Route::ParentTunnel);
        assert_eq!(dialed.reached.address(), Some("93.184.216.34:443".parse().unwrap()));
        let head = heads.recv().unwrap();
        assert_eq!(head, "CONNECT 93.184.216.34:443 HTTP/1.1\r\nHost: 93.184.216.34:443\r\n\r\n");
    }
    assert_eq!(pin(&upstream, "a.test:443").await.unwrap_err().code(), Code::AddressRefused);
}

#[tokio::test]
async fn a_parent_that_resolves_gets_the_name_and_nobody_is_asked_here() {
    let server = DnsServer::start();
    let (address, heads) = parent(&[TAKEN]);
    let credential = Some(Credential::new("ana:hunter2").unwrap());
    let proxy = Some(Parent { credential, ..behind(address, Resolve::Proxy) });
    let upstream = upstream(Settings { proxy, ..asking(&server) });
    let pinned = pin(&upstream, "a.test:443").await.unwrap();
    assert_eq!((pinned.addresses(), pinned.source()), (&[][..], Source::Parent));
    let dialed = upstream.dial(&pinned, Payload::Raw).await.unwrap();
    assert_eq!(dialed.reached, Reached::ByParent { parent: address });
    assert_eq!(
        heads.recv().unwrap(),
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\
         Proxy-Authorization: Basic YW5hOmh1bnRlcjI=\r\n\r\n"
    );
    let reached = dialed.reached;
    assert_eq!(upstream.recheck_target(&at("a.test:443"), SHUT, reached), Ok(()));
    assert_eq!(server.asked(), Vec::<String>::new());
    assert!(upstream.parent_authorization().unwrap().is_sensitive());
    let other = Credential::new("ana:other").unwrap();
    upstream.set_parent_credential(&at("other.test:3128"), Some(&other));
    assert_eq!(upstream.parent_authorization().unwrap(), "Basic YW5hOmh1bnRlcjI=");
    let parent = at(&address.to_string());
    upstream.set_parent_credential(&parent, Some(&other));
    assert_eq!(upstream.parent_authorization().unwrap(), "Basic YW5hOm90aGVy");
    assert!(!format!("{upstream:?}").contains("YW5h"));
    assert!(!format!("{upstream:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_parent_does_not_switch_the_guard_off() {
    let (address, _heads) = parent(&[]);
    let mut settings = settings();
    settings.hosts = vec![(name("inner.test"), vec![ip("10.0.0.1")])];
    settings.proxy = Some(behind(address, Resolve::Proxy));
    let upstream = upstream(settings);
    for target in ["10.0.0.1:443", "169.254.169.254:80", "inner.test:80", "localhost:80"] {
        let error = pin(&upstream, target).await.expect_err(target);
        assert_eq!(error.code(), Code::AddressRefused, "{error}");
    }
    let nets = [net("10.0.0.0/8")];
    let only = Opened { policy: &nets, only: true, operator: &[], route: &[] };
    let error = upstream.pin_target(&at("a.test:443"), only).await.unwrap_err();
    assert!(matches!(error, PinError::Unchecked { .. }), "{error}");
    let by_parent = Reached::ByParent { parent: address };
    assert!(upstream.recheck_target(&at("a.test:443"), only, by_parent).is_err());
    assert!(upstream.recheck_target(&at("a.test:443"), SHUT, by_parent).is_ok());
}

#[tokio::test]
async fn plain_requests_are_forwarded_where_the_parent_resolves_or_the_target_is_a_literal() {
    let (listener, _) = listener();
    let address = listener.local_addr().unwrap();
    let by_name = upstream(Settings { proxy: Some(behind(address, Resolve::Proxy)), ..settings() });
    let pinned = pin(&by_name, "a.test:80").await.unwrap();
    let dialed = by_name.dial(&pinned, Payload::Http).await.unwrap();
    assert_eq!(dialed.route, Route::ParentForward);
    assert_eq!(dialed.reached, Reached::ByParent { parent: address });

    let local = upstream(Settings { proxy: Some(behind(address, Resolve::Local)), ..settings() });
    let pinned = pin(&local, "93.184.216.34:80").await.unwrap();
    let dialed = local.dial(&pinned, Payload::Http).await.unwrap();
    assert_eq!((dialed.route, dialed.via_parent()), (Route::ParentForward, true));
    assert_eq!(dialed.reached.address(), Some("93.184.216.34:80".parse().unwrap()));
}

#[tokio::test]
async fn no_proxy_goes_direct_and_is_guarded_as_ever() {
    let server = DnsServer::start();
    let (listener, port) = listener();
    server.answer("git.corp", &["127.0.0.1"]);
    server.answer("bad.corp", &["10.0.0.1"]);
    let mut proxy = behind("127.0.0.1:1".parse().unwrap(), Resolve::Proxy);
    proxy.no_proxy = vec![".corp".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let upstream = upstream(Settings { proxy: Some(proxy), ..asking(&server) });
    for target in [format!("git.corp:{port}"), format!("127.0.0.1:{port}")] {
        let pinned = pin(&upstream, &target).await.unwrap();
        assert!(pinned.is_direct());
        let dialed = upstream.dial(&pinned, Payload::Tls).await.unwrap();
        assert_eq!(dialed.reached, Reached::Address(listener.local_addr().unwrap()));
    }
    assert!(pin(&upstream, "bad.corp:443").await.is_err());
}

#[tokio::test]
async fn a_parent_that_refuses_says_why_and_what_to_change() {
    let (address, _heads) = parent(&["HTTP/1.1 407 Denied\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n"]);
    let proxy = Some(behind(address, Resolve::Proxy));
    let upstream = upstream(Settings { proxy, ..settings() });
    let pinned = pin(&upstream, "a.test:443").await.unwrap();
    let error = upstream.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::ParentRefused);
    assert_eq!(
        error.to_string(),
        format!(
            "the parent proxy {address} answered CONNECT a.test:443 with 407: \
             it wants a password; set upstream.proxy.credential"
        )
    );
    let error = upstream.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::ParentRefused);
}

#[tokio::test]
async fn a_parent_is_asked_for_the_next_address_when_one_is_out_of_its_reach() {
    let (address, heads) = parent(&["HTTP/1.1 503 Unreachable\r\n\r\n", TAKEN]);
    let mut settings = settings();
    settings.hosts = vec![(name("a.test"), vec![ip("2606:2800:220:1::1"), ip("93.184.216.34")])];
    settings.proxy = Some(behind(address, Resolve::Local));
    let upstream = upstream(settings);
    let pinned = pin(&upstream, "a.test:443").await.unwrap();
    let dialed = upstream.dial(&pinned, Payload::Tls).await.unwrap();
    assert!(heads.recv().unwrap().starts_with("CONNECT 93.184.216.34:443 "));
    assert!(heads.recv().unwrap().starts_with("CONNECT [2606:2800:220:1::1]:443 "));
    assert_eq!(dialed.reached.address(), Some("[2606:2800:220:1::1]:443".parse().unwrap()));
}

#[tokio::test]
async fn first_bytes_of_a_server_are_kept_and_refused_where_the_client_speaks_first() {
    const BANNER: &str = "HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n";
    let (address, _heads) = parent(&[BANNER, BANNER]);
    let proxy = Some(behind(address, Resolve::Proxy));
    let upstream = upstream(Settings { proxy, ..settings() });
    let pinned = pin(&upstream, "a.test:22").await.unwrap();
    let dialed = upstream.dial(&pinned, Payload::Raw).await.unwrap();
    assert_eq!(&dialed.leftover[..], b"SSH-2.0-x\r\n");
    let error = upstream.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert!(matches!(error, DialError::ParentReply { reason: ReplyError::SpokeFirst, .. }));
}

#[tokio::test]
async fn a_parent_that_is_silent_gone_or_this_gateway_ends_with_its_code() {
    let (silent, _) = listener();
    let address = silent.local_addr().unwrap();
    let short = Duration::from_millis(50);
    let proxy = Some(behind(address, Resolve::Proxy));
    let waiting = upstream(Settings { proxy, connect_timeout: short, ..settings() });
    let pinned = pin(&waiting, "a.test:443").await.unwrap();
    let error = waiting.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectTimeout);
    assert!(error.to_string().contains("through the parent proxy"), "{error}");

    waiting.add_own(address);
    let error = waiting.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::OwnAddress);

    let (gone, _) = listener();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let proxy = Some(behind(address, Resolve::Proxy));
    let refused = upstream(Settings { proxy, ..settings() });
    let error = refused.dial(&pinned, Payload::Tls).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed, "{error}");
}
