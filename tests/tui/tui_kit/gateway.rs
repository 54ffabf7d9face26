//! A gateway that is only its control socket: it keeps a queue, takes answers, and tells.

use portcullis::control::client::Client;
use portcullis::control::feed::Feed;
use portcullis::control::server::{Placed, bind, serve};
use portcullis::control::wire::*;
use portcullis::control::{Attendance, Backend, Change, Who};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, oneshot};

pub struct Fake {
    pub requests: Mutex<Vec<Request>>,
    pub grants: Mutex<Vec<Grant>>,
    /// Answers as they came: the number and the decision.
    pub answers: Mutex<Vec<(String, Decision)>>,
    pub events: broadcast::Sender<Arc<Event>>,
    pub attended: Arc<AtomicU64>,
    /// It says nothing of models.
    pub mute: AtomicBool,
}

impl Fake {
    pub fn new(requests: Vec<Request>) -> Arc<Self> {
        Arc::new(Self {
            requests: Mutex::new(requests),
            grants: Mutex::new(super::samples::grants()),
            answers: Mutex::default(),
            events: broadcast::channel(1024).0,
            attended: Arc::default(),
            mute: AtomicBool::new(false),
        })
    }

    /// An entry is new, or stands otherwise than before.
    pub fn put(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap();
        requests.retain(|other| other.request != request.request);
        requests.push(request.clone());
        drop(requests);
        self.tell(Event::Pending(Box::new(request)));
    }

    pub fn tell(&self, event: Event) {
        // Nobody may be listening.
        drop(self.events.send(Arc::new(event)));
    }

    fn problem(status: u16, code: &str, detail: String) -> Problem {
        Problem { status, code: code.into(), detail }
    }
}

impl Backend for Fake {
    fn status(&self) -> Status {
        let mut status = super::samples::status();
        status.attended = self.attended.load(Ordering::SeqCst);
        status
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
        let found = requests.iter().find(|request| request.request == number).cloned();
        found.ok_or_else(|| Self::problem(404, "not_found", format!("there is no {number}")))
    }

    async fn decide(
        &self,
        who: &Who,
        number: &str,
        decision: Decision,
    ) -> Result<Decided, Problem> {
        let mut request = self.request(number)?;
        if request.digest != decision.digest {
            let detail = format!("{number} is not what was shown");
            return Err(Self::problem(409, "changed", detail));
        }
        if request.state != State::Pending {
            let detail = format!("{number} was answered before");
            return Err(Self::problem(409, "decided", detail));
        }
        self.answers.lock().unwrap().push((number.to_owned(), decision.clone()));
        let approved = decision.decision == Verdict::Approve;
        let decided = Decided {
            decision: decision.decision,
            scope: decision.scope,
            breadth: decision.breadth,
            by: who.name.clone(),
            uid: who.uid,
            via: decision.via.unwrap_or_default(),
            at: "2026-11-24T10:00:00.000Z".into(),
            reason: decision.reason,
            grant: (approved && decision.scope == Scope::Session).then(|| "g10".to_owned()),
            file: (decision.scope == Scope::Always).then(|| "approved/agent.yaml".to_owned()),
            released: request.held,
        };
        request.state = if approved { State::Approved } else { State::Denied };
        request.decision = Some(decided.clone());
        let mut requests = self.requests.lock().unwrap();
        requests.retain(|other| other.request != request.request);
        requests.push(request.clone());
        drop(requests);
        self.tell(Event::Decided(Box::new(request)));
        Ok(decided)
    }

    async fn undo(&self, _: &Who, number: &str, _: Option<&str>) -> Result<Request, Problem> {
        let mut request = self.request(number)?;
        request.state = State::Pending;
        request.decision = None;
        self.put(request.clone());
        Ok(request)
    }

    fn grants(&self, sandbox: Option<&str>) -> Vec<Grant> {
        let grants = self.grants.lock().unwrap();
        grants.iter().filter(|g| sandbox.is_none_or(|name| g.sandbox == name)).cloned().collect()
    }

    async fn grant(&self, _: &Who, _: GrantRequest) -> Result<Grant, Problem> {
        Err(Self::problem(503, "unavailable", "the pane grants nothing ahead".into()))
    }

    async fn revoke(&self, _: &Who, id: &str) -> Result<Grant, Problem> {
        let mut grants = self.grants.lock().unwrap();
        let at = grants.iter().position(|grant| grant.grant == id);
        let at = at.ok_or_else(|| Self::problem(404, "not_found", format!("there is no {id}")))?;
        Ok(grants.remove(at))
    }

    fn policy(&self, sandbox: &str) -> Result<EffectivePolicy, Problem> {
        Ok(super::samples::policy(sandbox))
    }

    async fn change(&self, _: &Who, _: Change) -> Result<Changed, Problem> {
        Err(Self::problem(503, "unavailable", "the pane changes no policy".into()))
    }

    async fn history(&self, _: Option<&str>) -> Result<Vec<PolicyVersion>, Problem> {
        Ok(Vec::new())
    }

    fn inference(&self, sandbox: &str) -> Result<Inference, Problem> {
        match self.mute.load(Ordering::SeqCst) {
            true => Err(Self::problem(503, "unavailable", "the routes are being changed".into())),
            false => Ok(super::samples::inference(sandbox)),
        }
    }

    async fn set_inference(
        &self,
        _: &Who,
        sandbox: &str,
        _: Option<SetInference>,
    ) -> Result<Inference, Problem> {
        self.inference(sandbox)
    }

    async fn probe(&self, _: &str) -> Result<Vec<Probe>, Problem> {
        Ok(Vec::new())
    }

    fn credentials(&self, _sandbox: Option<&str>) -> Vec<Credential> {
        Vec::new()
    }

    async fn check_credential(&self, name: &str, _keep: bool) -> Result<CredentialCheck, Problem> {
        Err(Self::problem(404, "not_found", format!("there is no credential `{name}`")))
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn attend(&self) -> Attendance {
        let attended = self.attended.clone();
        attended.fetch_add(1, Ordering::SeqCst);
        Attendance::new(move || {
            attended.fetch_sub(1, Ordering::SeqCst);
        })
    }
}

/// A fake that is served, on a thread with a runtime of its own, until it is dropped.
pub struct Served {
    pub fake: Arc<Fake>,
    pub feed: Feed,
    pub socket: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub fn new(fake: Arc<Fake>, socket: &Path) -> Self {
        let feed = Feed::new();
        let (end, ends) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (backend, source, path) = (fake.clone(), feed.clone(), socket.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let (listener, placed): (_, Placed) = bind(&path).unwrap();
                ready.send(()).unwrap();
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                serve(listener, backend, source, async { drop(ends.await) }).await;
                drop(placed);
            });
        });
        is_ready.recv().unwrap();
        let socket = socket.to_owned();
        Self { fake, feed, socket, end: Some(end), thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
