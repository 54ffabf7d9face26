//! What an answer would cover, and the rule that it is written down as: always what it was made
//! for, never another path, method or program (I8), whatever a hostile client puts into its
//! request.

use portcullis::addr::{Authority, Path, Port};
use portcullis::approval::{generalise, rule};
use portcullis::policy::{
    Answer, Approval, Ask, Body, Client, Cover, Document, Fingerprint, Grant, GrantId, Intent,
    Layer, Policy, Process, Scheme, Scope, Verdict, What,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

fn approval(decision: Answer) -> Arc<Approval> {
    let reason = "it\n  is: \"fine\" # really\n- {}";
    Arc::new(Approval {
        decision,
        scope: Scope::Always,
        by: "ana\n  b:".into(),
        uid: 1000,
        via: "term".into(),
        at: UNIX_EPOCH,
        reason: Some(reason.into()),
    })
}

fn client(binary: &str) -> Client {
    let binary = binary.into();
    Client::Seen(Arc::new(Process { pid: 1, binary, ancestors: Box::default() }))
}

/// A request, as it is judged.
#[derive(Clone, Debug)]
struct Wanted {
    method: String,
    path: String,
    query: Option<String>,
    binary: String,
    websocket: bool,
}

impl Wanted {
    fn with<T>(&self, act: impl FnOnce(&Intent<'_>) -> T) -> T {
        let path = Path::parse(&self.path).unwrap();
        let (client, target) =
            (client(&self.binary), Authority::parse("api.test", Some(Port::HTTPS)).unwrap());
        act(&Intent {
            client: &client,
            scheme: Scheme::Https,
            target: &target,
            ask: Ask::Request {
                method: &self.method,
                path: &path,
                query: self.query.as_deref(),
                websocket: self.websocket,
                body: Body::Unread,
            },
        })
    }

    fn exact(&self) -> What {
        What::Exact {
            websocket: self.websocket,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            body: Fingerprint::default(),
        }
    }

    fn cover(&self, what: What) -> Cover {
        let binary = Some(self.binary.clone());
        Cover { binary, scheme: Scheme::Https, host: "api.test".into(), port: 443, what }
    }

    fn verdict(&self, policy: &Policy) -> Option<Answer> {
        self.with(|intent| match policy.judge(intent) {
            Verdict::Allow(_) | Verdict::Audit(_) => Some(Answer::Approve),
            Verdict::Deny(_) => Some(Answer::Deny),
            Verdict::Unknown(_) => None,
        })
    }
}

/// The policy of a file with this one answer in it.
fn written(cover: &Cover, answer: Answer) -> Policy {
    let text = rule(7, (cover, None), &approval(answer));
    let text = format!("version: 1\nnetwork_policies:\n{text}");
    let document = Document::parse(&text, "approved").unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(document.network_policies.len(), 1, "{text}");
    let deny_only = answer == Answer::Deny;
    let layer = Layer { document, source: "approved".into(), deny_only };
    Policy::compile(&[layer], 1).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[a-z0-9]{0,8}",
        "[]*\\[{},;!^&=+$'()~|\"<>:@a-c0-9-]{0,10}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f]{7,40}",
        "[A-Za-z0-9_-]{20,40}",
        Just("%20%2A%7B%3F".to_owned()),
        Just("**".to_owned()),
    ];
    let path = proptest::collection::vec(segment, 1..6).prop_map(|s| format!("/{}", s.join("/")));
    path.prop_filter_map("not a canonical path", |text| {
        Path::parse(&text).ok().filter(|p| !p.has_encoded_slash()).map(|p| p.as_str().to_owned())
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let text = "[]*?\\[{}\\\\,;!^a-c0-9%=+ -]{0,12}";
    let query =
        proptest::option::of(proptest::collection::vec((text, text), 0..4).prop_map(|all| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(all);
            query.finish()
        }));
    let method = prop_oneof!["GET|POST|PATCH|OPTIONS", "[a-zA-Z_-]{1,8}"];
    let binary = "/[]*?\\[{}\\\\,!^a-c/ \u{e9}\"#:\n-]{1,12}";
    (method, path(), query, binary, any::<bool>()).prop_map(|(method, path, query, binary, ws)| {
        let method = if ws { "GET".to_owned() } else { method };
        Wanted { method, path, query, binary, websocket: ws }
    })
}

/// Every reading of a path, which an origin may take it for.
fn readings(path: &str) -> Vec<String> {
    Path::parse(path).unwrap().readings().iter().map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_proposed_pattern_covers_its_own_path_and_never_crosses_a_segment(path in path()) {
        let wanted = Wanted {
            method: "GET".into(), path, query: None, binary: "/bin/a".into(), websocket: false,
        };
        let pattern = generalise(&wanted.path);
        let methods = vec!["GET".to_owned()];
        let what = What::Paths { websocket: false, methods, path: pattern.clone() };
        let times = (UNIX_EPOCH, None);
        let cover = wanted.cover(what);
        let grant = Grant::new(GrantId(1), cover, times, None, approval(Answer::Approve)).unwrap();
        let covers = |path: &str| {
            let wanted = Wanted { path: path.to_owned(), ..wanted.clone() };
            wanted.with(|intent| grant.covers(intent, None))
        };
        prop_assert!(covers(&wanted.path), "{pattern} does not cover {}", wanted.path);
        for reading in readings(&wanted.path) {
            for (at, _) in reading.match_indices('/').chain([(reading.len(), "")]) {
                let longer = format!("{}/zz-extra{}", &reading[..at], &reading[at..]);
                prop_assert!(!covers(&longer), "{pattern} covers {longer}");
            }
        }
    }

    #[test]
    fn an_answer_for_good_is_a_rule_about_exactly_what_it_was_made_for(
        wanted in wanted(), deny in any::<bool>(),
    ) {
        let answer = if deny { Answer::Deny } else { Answer::Approve };
        let policy = written(&wanted.cover(wanted.exact()), answer);
        prop_assert_eq!(wanted.verdict(&policy), Some(answer));
        let others = [
            Wanted { path: format!("{}x", wanted.path), ..wanted.clone() },
            Wanted { path: format!("{}/x", wanted.path), ..wanted.clone() },
            Wanted { path: format!("/x{}", wanted.path), ..wanted.clone() },
            Wanted { method: format!("{}X", wanted.method), websocket: false, ..wanted.clone() },
            Wanted { method: "DELETE".into(), websocket: false, ..wanted.clone() },
            Wanted { binary: format!("{}x", wanted.binary), ..wanted.clone() },
            Wanted { binary: "/usr/bin/other".into(), ..wanted.clone() },
        ];
        for other in others {
            if other.path != wanted.path && readings(&other.path).iter().any(|r| readings(&wanted.path).contains(r)) {
                continue;
            }
            prop_assert_eq!(other.verdict(&policy), None, "{:?}", other);
        }
    }

    #[test]
    fn an_answer_for_good_holds_every_value_of_the_query(wanted in wanted()) {
        let policy = written(&wanted.cover(wanted.exact()), Answer::Approve);
        let query = wanted.query.clone().unwrap_or_default();
        let mut pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for at in 0..pairs.len() {
            let was = std::mem::replace(&mut pairs[at].1, "another value".to_owned());
            let mut query = form_urlencoded::Serializer::new(String::new());
            let query = query.extend_pairs(&pairs).finish();
            let other = Wanted { query: Some(query), ..wanted.clone() };
            prop_assert_eq!(other.verdict(&policy), None, "{:?}", other);
            pairs[at].1 = was;
        }
        if !pairs.is_empty() {
            prop_assert_eq!(Wanted { query: None, ..wanted.clone() }.verdict(&policy), None);
        }
    }

    #[test]
    fn a_pattern_for_good_is_a_rule_about_its_own_path(wanted in wanted()) {
        let methods = vec![wanted.method.clone()];
        let path = generalise(&wanted.path);
        let what = What::Paths { websocket: wanted.websocket, methods, path };
        let policy = written(&wanted.cover(what), Answer::Approve);
        prop_assert_eq!(wanted.verdict(&policy), Some(Answer::Approve));
    }
}

#[test]
fn every_kind_of_answer_for_good_parses_and_says_what_it_covers_beyond() {
    let wanted = Wanted {
        method: "POST".into(),
        path: "/v1/items".into(),
        query: None,
        binary: "/bin/a".into(),
        websocket: false,
    };
    let said = |what, answer| {
        let text = rule(7, (&wanted.cover(what), None), &approval(answer));
        text.lines().find(|line| line.contains("wider")).map(str::to_owned).unwrap_or_default()
    };
    let line = |what| said(what, Answer::Approve);
    assert!(said(wanted.exact(), Answer::Deny).contains("any body; any query; the programs"));
    assert!(said(What::Bytes, Answer::Deny).contains("every request to this host and port"));
    assert!(line(wanted.exact()).contains("any body; any query; the programs that it starts"));
    assert!(line(What::Opaque).contains("nothing in it is seen"));
    assert!(line(What::Bytes).contains("nothing in it is seen"));
    assert!(!line(What::Host).contains("any body"));
    for what in [What::Bytes, What::Opaque, What::Host] {
        let target = Authority::parse("api.test", Some(Port::HTTPS)).unwrap();
        let cover = wanted.cover(what.clone());
        let denied = written(&cover, Answer::Deny);
        assert_eq!(wanted.verdict(&denied), Some(Answer::Deny), "{what:?}");
        let allowed = written(&cover, Answer::Approve);
        let relays = matches!(
            allowed.judge_tunnel(&client("/bin/a"), &target),
            portcullis::policy::TunnelVerdict::Relay(_)
        );
        assert_eq!(relays, what != What::Host, "{what:?}");
        assert_eq!(wanted.verdict(&allowed).is_some(), what != What::Bytes, "{what:?}");
    }
}

#[test]
fn an_address_is_written_as_one() {
    for (host, url) in [("2001:db8::7", "[2001:db8::7]"), ("192.0.2.7", "192.0.2.7")] {
        let target = Authority::parse(url, Some(Port::HTTPS)).unwrap();
        assert_eq!(target.host.to_string(), host);
        let cover = Cover {
            binary: None,
            scheme: Scheme::Https,
            host: host.into(),
            port: 443,
            what: What::Host,
        };
        let path = Path::parse("/x").unwrap();
        let intent = Intent {
            client: &Client::Unseen,
            scheme: Scheme::Https,
            target: &target,
            ask: Ask::Request {
                method: "GET",
                path: &path,
                query: None,
                websocket: false,
                body: Body::Unread,
            },
        };
        let policy = written(&cover, Answer::Approve);
        assert!(matches!(policy.judge(&intent), Verdict::Allow(_)), "{host}");
    }
}

#[test]
fn a_denial_covers_a_path_in_any_reading_and_an_approval_needs_all() {
    for (pattern, path, all) in [
        ("/v1/*:write", "/v1/a:write", true),
        ("/v1/*:write", "/v1/a%3Awrite", false),
        ("/v1/*:write", "/v1/a%253awrite", false),
        ("/admin/**", "/admin;x/y", false),
        ("/admin/**", "//admin/y", false),
        ("/admin/**", "/admin%3Bx/y", false),
    ] {
        let wanted = Wanted {
            method: "GET".into(),
            path: path.into(),
            query: None,
            binary: "/bin/a".into(),
            websocket: false,
        };
        let covers = |answer| {
            let methods = vec!["GET".to_owned()];
            let what = What::Paths { websocket: false, methods, path: pattern.into() };
            let times = (UNIX_EPOCH, None);
            let grant = Grant::new(GrantId(1), wanted.cover(what), times, None, approval(answer));
            wanted.with(|intent| grant.unwrap().covers(intent, None))
        };
        assert!(covers(Answer::Deny), "{path} is {pattern}");
        assert_eq!(covers(Answer::Approve), all, "{path} for {pattern}");
    }
}

/// Of two answers the denial wins, so it must be met however what it denies is asked for.
#[test]
fn a_denial_covers_whatever_brings_what_it_denies_and_an_approval_only_what_was_shown() {
    let none = Fingerprint::default();
    let typed = Fingerprint::of(Some("text/plain"), Some(0), b"", false);
    let some = Fingerprint::of(Some("a/b"), Some(1), b"x", false);
    let retyped = Fingerprint::of(None, None, b"x", false);
    let exact = |method: &str, body: &Fingerprint| What::Exact {
        websocket: false,
        method: method.into(),
        path: "/secret/b".into(),
        query: None,
        body: body.clone(),
    };
    let paths = |websocket, method: &str| What::Paths {
        websocket,
        methods: vec![method.into()],
        path: "/secret/**".into(),
    };
    for (what, (method, path, websocket), shown, (denies, approves)) in [
        (exact("GET", &none), ("GET", "/secret/b", false), &none, (true, true)),
        (exact("GET", &none), ("HEAD", "/secret/b", false), &none, (true, false)),
        (exact("GET", &none), ("GET", "/secret/b", true), &none, (true, false)),
        (exact("GET", &none), ("GET", "/secret/b", false), &typed, (true, false)),
        (exact("GET", &none), ("GET", "//secret/b", false), &none, (true, false)),
        (exact("GET", &none), ("GET", "/secret/b;", false), &none, (true, false)),
        (exact("GET", &none), ("GET", "/secret%2Fb", false), &none, (true, false)),
        (exact("GET", &none), ("GET", "/secret/c", false), &none, (false, false)),
        (exact("GET", &none), ("POST", "/secret/b", false), &none, (false, false)),
        (exact("POST", &some), ("POST", "/secret/b", false), &retyped, (true, false)),
        (exact("POST", &some), ("POST", "/secret/b", false), &typed, (false, false)),
        (paths(false, "GET"), ("HEAD", "/secret/a", false), &none, (true, false)),
        (paths(false, "GET"), ("GET", "/secret/a", true), &none, (true, false)),
        (paths(true, "GET"), ("GET", "/secret/a", false), &none, (false, false)),
        (paths(false, "HEAD"), ("GET", "/secret/a", false), &none, (false, false)),
    ] {
        let wanted = Wanted {
            method: method.into(),
            path: path.into(),
            query: None,
            binary: "/bin/a".into(),
            websocket,
        };
        let covers = |answer| {
            let cover = wanted.cover(what.clone());
            let grant = Grant::new(GrantId(1), cover, (UNIX_EPOCH, None), None, approval(answer));
            wanted.with(|intent| grant.unwrap().covers(intent, Some(shown)))
        };
        let both = (covers(Answer::Deny), covers(Answer::Approve));
        assert_eq!(both, (denies, approves), "{what:?}: {method} {path} {websocket} {shown:?}");
    }
}
