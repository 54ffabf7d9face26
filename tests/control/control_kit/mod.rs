//! A second implementor of `control::Backend`: it keeps what it is told and answers what a test
//! laid out. Served over a real Unix socket.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use portcullis::control::client::Client;
use portcullis::control::feed::Feed;
use portcullis::control::server::{Placed, bind, serve};
use portcullis::control::wire::*;
use portcullis::control::{Attendance, Backend, Change, Who};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, oneshot};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const DIGEST: &str = "sha256:5ca1ab1e";

pub struct Fake {
    pub sandboxes: Vec<String>,
    pub requests: Mutex<Vec<Request>>,
    pub grants: Mutex<Vec<Grant>>,
    /// Each change, with who made it.
    pub told: Mutex<Vec<(Who, String)>>,
    pub events: broadcast::Sender<Arc<Event>>,
    pub attended: Arc<AtomicU64>,
    /// Where it is set, a change waits for it before it is noted.
    pub slow: Mutex<Option<Arc<Notify>>>,
    pub changed: Notify,
}

impl Fake {
    pub fn new(sandboxes: &[&str]) -> Self {
        Self {
            sandboxes: sandboxes.iter().map(|name| (*name).to_owned()).collect(),
            requests: Mutex::default(),
            grants: Mutex::new(vec![grant("g1", sandboxes[0])]),
            told: Mutex::default(),
            events: broadcast::channel(64).0,
            attended: Arc::default(),
            slow: Mutex::default(),
            changed: Notify::new(),
        }
    }

    async fn note(&self, who: &Who, what: String) {
        let slow = self.slow.lock().unwrap().clone();
        if let Some(slow) = slow {
            slow.notified().await;
        }
        self.told.lock().unwrap().push((who.clone(), what));
        self.changed.notify_one();
    }

    pub fn said(&self) -> Vec<String> {
        self.told.lock().unwrap().iter().map(|(_, what)| what.clone()).collect()
    }
}

impl Backend for Fake {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            uptime: 3723,
            started: "2026-11-24T10:00:00.000Z".into(),
            pid: 812,
            policy: self
                .sandboxes
                .iter()
                .map(|name| (name.clone(), "sha256:9f2c".into()))
                .collect(),
            held: 1,
            pending: self.requests.lock().unwrap().len() as u64,
            connections: 3,
            state_dir: "/var/lib/portcullis".into(),
            config: Some("/etc/portcullis/config.yaml".into()),
            recording: true,
            observe: false,
            attended: self.attended.load(Ordering::SeqCst),
            warnings: vec!["the policy of ci is pinned to version 3".into()],
            notes: Vec::new(),
            sandboxes: self.sandboxes.iter().map(|name| sandbox(name)).collect(),
        }
    }

    fn requests(&self, filter: &Filter) -> Vec<Request> {
        let passes = |request: &&Request| {
            filter.state.is_none_or(|state| request.state == state)
                && filter.sandbox.as_ref().is_none_or(|name| request.sandbox == *name)
        };
        self.requests.lock().unwrap().iter().filter(passes).cloned().collect()
    }

    fn request(&self, number: &str) -> Result<Request, Problem> {
        let requests = self.requests.lock().unwrap();
        let found = requests.iter().find(|request| request.request == number);
        found.cloned().ok_or_else(|| Problem::not_found(format!("there is no request `{number}`")))
    }

    async fn decide(
        &self,
        who: &Who,
        number: &str,
        decision: Decision,
    ) -> Result<Decided, Problem> {
        let request = self.request(number)?;
        if decision.digest != request.digest {
            return Err(Problem::changed(format!("{number} is not what was shown: look again")));
        }
        self.note(who, format!("decide {number} {}", serde_json::to_string(&decision).unwrap()))
            .await;
        Ok(Decided {
            decision: decision.decision,
            scope: decision.scope,
            breadth: decision.breadth,
            by: who.name.clone(),
            uid: who.uid,
            via: decision.via.unwrap_or_else(|| "api".into()),
            at: "2026-11-24T11:00:00.000Z".into(),
            reason: decision.reason,
            grant: (decision.decision == Verdict::Approve).then(|| "g7".into()),
            file: None,
            released: 1,
        })
    }

    async fn undo(&self, who: &Who, number: &str, via: Option<&str>) -> Result<Request, Problem> {
        let request = self.request(number)?;
        self.note(who, format!("undo {number} via {}", via.unwrap_or("nothing"))).await;
        Ok(request)
    }

    fn grants(&self, sandbox: Option<&str>) -> Vec<Grant> {
        let grants = self.grants.lock().unwrap();
        grants.iter().filter(|g| sandbox.is_none_or(|name| g.sandbox == name)).cloned().collect()
    }

    async fn grant(&self, who: &Who, ask: GrantRequest) -> Result<Grant, Problem> {
        self.note(who, format!("grant {}", serde_json::to_string(&ask).unwrap())).await;
        Ok(grant("g8", &ask.sandbox.unwrap()))
    }

    async fn revoke(&self, who: &Who, id: &str) -> Result<Grant, Problem> {
        let mut grants = self.grants.lock().unwrap().clone();
        let at = grants.iter().position(|grant| grant.grant == id);
        let at = at.ok_or_else(|| Problem::not_found(format!("there is no grant `{id}`")))?;
        self.note(who, format!("revoke {id}")).await;
        Ok(grants.remove(at))
    }

    fn policy(&self, sandbox: &str) -> Result<EffectivePolicy, Problem> {
        Ok(EffectivePolicy {
            sandbox: sandbox.into(),
            policy: "sha256:9f2c".into(),
            version: 3,
            pinned: None,
            entries: vec![PolicyEntry {
                name: "pypi".into(),
                source: "preset:pypi".into(),
                yaml: "endpoints:\n- { host: pypi.org, port: 443 }\n".into(),
                deny_only: false,
            }],
        })
    }

    async fn change(&self, who: &Who, change: Change) -> Result<Changed, Problem> {
        let versions = match &change {
            Change::Apply { sandbox, .. }
            | Change::Rollback { sandbox, .. }
            | Change::Unpin { sandbox } => [(sandbox.clone(), 4)].into(),
            Change::Reload => self.sandboxes.iter().map(|name| (name.clone(), 4)).collect(),
        };
        self.note(who, format!("{change:?}")).await;
        Ok(Changed { versions, notes: Vec::new() })
    }

    async fn history(&self, sandbox: Option<&str>) -> Result<Vec<PolicyVersion>, Problem> {
        Ok(vec![PolicyVersion {
            version: 3,
            sandbox: sandbox.unwrap_or(&self.sandboxes[0]).into(),
            at: "2026-11-24T10:00:00.000Z".into(),
            policy: "sha256:9f2c".into(),
            why: "apply".into(),
            by: Some("ana".into()),
            sources: vec!["preset:pypi".into(), "runtime".into()],
            current: true,
        }])
    }

    fn inference(&self, sandbox: &str) -> Result<Inference, Problem> {
        Ok(Inference {
            sandbox: sandbox.into(),
            name: Some("main".into()),
            source: "config".into(),
            routes: Vec::new(),
            aliases: BTreeMap::new(),
            spent_today: 20,
            today: InferenceDay { requests: 2, failed: 0, input: 15, output: 5 },
            tokens_per_day: Some(100),
            requests_per_minute: None,
            usage: Vec::new(),
        })
    }

    async fn set_inference(
        &self,
        who: &Who,
        sandbox: &str,
        set: Option<SetInference>,
    ) -> Result<Inference, Problem> {
        let to = set.map_or_else(|| "the config's".to_owned(), |set| set.to);
        self.note(who, format!("inference of {sandbox} is {to}")).await;
        self.inference(sandbox)
    }

    async fn probe(&self, _: &str) -> Result<Vec<Probe>, Problem> {
        Ok(vec![Probe {
            route: "main[0]".into(),
            model: Some("m".into()),
            check: "chat".into(),
            works: true,
            first: Some(12.5),
            detail: None,
        }])
    }

    fn credentials(&self, sandbox: Option<&str>) -> Vec<Credential> {
        let goes = |name: &str| sandbox.is_none_or(|wanted| wanted == name);
        vec![credential(self.sandboxes.iter().map(String::as_str).filter(|name| goes(name)))]
    }

    async fn check_credential(&self, name: &str, keep: bool) -> Result<CredentialCheck, Problem> {
        if name != "github" {
            return Err(Problem::not_found(format!("there is no credential `{name}`")));
        }
        Ok(CredentialCheck {
            credential: name.into(),
            fingerprint: "0a1b2c3d4e5f".into(),
            changed: true,
            in_use: keep,
        })
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn attend(&self) -> Attendance {
        let attended = self.attended.clone();
        attended.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        Attendance::new(move || {
            attended.fetch_sub(1, Ordering::SeqCst);
        })
    }
}

pub fn sandbox(name: &str) -> SandboxStatus {
    SandboxStatus {
        name: name.into(),
        listeners: vec!["127.0.0.1:3128".into()],
        tier: "restricted".into(),
        presets: vec!["pypi".into()],
        mode: "hold".into(),
        connections: 3,
        held: 1,
        pending: 1,
        dropped: 0,
        grants: 1,
        requests: Requests { passed: 10, refused: 2, failed: 1 },
        policy: "sha256:9f2c".into(),
        runtime: 0,
        pinned: None,
        rejected: None,
    }
}

pub fn credential<'a>(sandboxes: impl Iterator<Item = &'a str>) -> Credential {
    let binding = |sandbox: &str| CredentialBinding {
        sandbox: sandbox.into(),
        host: "api.github.com".into(),
        port: 443,
        methods: Vec::new(),
        path: "/**".into(),
        place: "header authorization".into(),
    };
    Credential {
        credential: "github".into(),
        source: "file /home/ana/secrets/github".into(),
        fingerprint: Some("0a1b2c3d4e5f".into()),
        since: Some("2026-11-24T10:00:00.000Z".into()),
        last_used: Some("2026-11-24T10:30:00.000Z".into()),
        uses: 12,
        error: None,
        bindings: sandboxes.map(binding).collect(),
    }
}

pub fn grant(id: &str, sandbox: &str) -> Grant {
    Grant {
        grant: id.into(),
        sandbox: sandbox.into(),
        decision: Verdict::Approve,
        covers: "GET https://api.github.com/repos/*/* with any query and body".into(),
        breadth: Some(Breadth::Path),
        binary: Some("/usr/bin/curl".into()),
        made: "2026-11-24T10:00:00.000Z".into(),
        expires: Some("2026-11-24T22:00:00.000Z".into()),
        by: "ana".into(),
        request: Some("r7".into()),
        reason: None,
        used: 4,
    }
}

pub fn request(number: &str, sandbox: &str) -> Request {
    Request {
        request: number.into(),
        state: State::Pending,
        sandbox: sandbox.into(),
        kind: Kind::Http,
        client: Some(portcullis::control::wire::Client {
            binary: "/usr/bin/curl".into(),
            ancestors: vec!["/usr/bin/bash".into()],
            pid: 812,
        }),
        scheme: "https".into(),
        host: "api.github.com".into(),
        unicode: None,
        port: 443,
        method: Some("POST".into()),
        path: Some("/repos/a/b/issues".into()),
        query: Some("state=open".into()),
        headers: vec![("content-type".into(), "application/json".into())],
        body: Some(Body {
            content_type: Some("application/json".into()),
            length: Some(14),
            preview: "{\"title\":\"\u{1b}[2J\"}".into(),
            seen: 14,
            unseen: Some(0),
            longer: false,
            waits: false,
        }),
        facts: Vec::new(),
        count: 2,
        held: 1,
        first_seen: "2026-11-24T10:30:00.000Z".into(),
        last_seen: "2026-11-24T10:31:00.000Z".into(),
        held_until: Some("2026-11-24T10:32:00.000Z".into()),
        expires: "2026-11-25T10:30:00.000Z".into(),
        code: "method_not_allowed".into(),
        detail: "POST /repos/a/b/issues is not allowed on api.github.com:443".into(),
        nearest: Some("github/endpoints[0]".into()),
        proposal: Proposal {
            methods: vec!["POST".into()],
            path: Some("/repos/*/*/issues".into()),
            also: 0,
            also_host: 1,
            yaml: "- allow: { method: POST, path: /repos/a/b/issues }\n".into(),
        },
        risk: vec![Note { code: "first_today".into(), text: "first asked for today".into() }],
        variants: Vec::new(),
        agent_reason: None,
        digest: DIGEST.into(),
        decision: None,
    }
}

/// A served fake. Dropping it stops it.
pub struct Served {
    pub fake: Arc<Fake>,
    pub feed: Feed,
    pub dir: tempfile::TempDir,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    done: Option<tokio::task::JoinHandle<()>>,
    _placed: Placed,
}

impl Served {
    pub fn start(fake: Fake) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let (listener, placed) = bind(&socket).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let (fake, feed) = (Arc::new(fake), Feed::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(listener, fake.clone(), feed.clone(), async move {
            let _ = stopped.await;
        });
        let done = tokio::spawn(serving);
        Self { fake, feed, dir, socket, stop: Some(stop), done: Some(done), _placed: placed }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    pub async fn stop(&mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.done.take().unwrap()).await.unwrap().unwrap();
    }
}

/// Waits until `true`, woken by whatever the fake is told.
pub async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
