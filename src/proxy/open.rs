//! The record of something that is under way: opened before it is judged, closed exactly once (I5).

use super::live::{End, Live, Watch};
use super::refuse::{Asker, Refusal};
use crate::addr::Authority;
use crate::policy::{Client, Code, Permit, Scheme, Source};
use crate::record::{By, Http, Id, Judged, Outcome, PolicyId, Record, Timings};
use crate::traffic::Slot;
use crate::upstream::Reached;
use http::Method;
use http::uri::PathAndQuery;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A record that is not closed yet. Dropped without an end, it is closed as `client_gone`: where
/// the gateway did not end it, a future vanishes because the client's connection did.
#[derive(Debug)]
pub(crate) struct OpenRecord {
    inner: Option<Box<Inner>>,
}

#[derive(Debug)]
struct Inner {
    slot: Slot,
    record: Record,
    started: Instant,
    watch: Option<Watch>,
}

impl OpenRecord {
    /// Opens a record in the place that was reserved for it.
    pub(crate) fn new(slot: Slot, sandbox: Arc<str>, client: Client, scheme: Scheme) -> Self {
        let time = SystemTime::now();
        let record = Record {
            time,
            id: Id::new(time),
            request: None,
            approval: None,
            sandbox,
            client,
            scheme,
            http: None,
            host: None,
            port: None,
            method: None,
            target: None,
            verdict: Judged::None,
            code: Code::ClientGone,
            rule: None,
            outcome: Outcome::Failed,
            by: By::Policy,
            credential: None,
            sent: false,
            address: None,
            status: None,
            upload: 0,
            download: 0,
            ms: Timings::default(),
            policy: PolicyId::default(),
            facts: None,
            call: None,
            websocket: false,
        };
        let inner = Inner { slot, record, started: Instant::now(), watch: None };
        Self { inner: Some(Box::new(inner)) }
    }

    /// Moves it out; what stays behind has no end of its own.
    pub(crate) fn take(&mut self) -> Self {
        Self { inner: self.inner.take() }
    }

    fn inner(&self) -> &Inner {
        self.inner.as_ref().expect("taken only by close and take, after which it is not used")
    }

    fn inner_mut(&mut self) -> &mut Inner {
        self.inner.as_mut().expect("taken only by close and take, after which it is not used")
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.inner().started
    }

    /// Body bytes that came down so far.
    pub(crate) fn download(&self) -> u64 {
        self.inner().record.download
    }

    /// The facts so far, to be filled in.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.inner_mut().record
    }

    /// The place on the wheel, once there is one.
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.inner().watch.as_ref()
    }

    /// Puts it on the wheel.
    pub(crate) fn set_watch(&mut self, watch: Watch) {
        self.inner_mut().watch = Some(watch);
    }

    /// Puts the record so far into the journal, as if the gateway died now.
    #[cold]
    pub(crate) fn draft(&self) {
        let inner = self.inner();
        let mut draft = inner.record.clone();
        draft.ms.total = inner.started.elapsed();
        if let Some(watch) = &inner.watch {
            watch.live().count(&mut draft);
        }
        draft.sent |= draft.upload > 0;
        inner.slot.long(&draft);
    }

    /// Awaits `future`, and keeps a line in the journal while that takes long.
    pub(crate) async fn journalled<F: Future>(&self, live: &Live, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if live.draft_due() {
                self.draft();
            }
            polled
        })
        .await
    }

    /// Notes what is asked of whom.
    pub(crate) fn asks(&mut self, target: &Authority) {
        let record = self.record();
        record.host = Some(target.host.clone());
        record.port = Some(target.port);
    }

    /// Notes the request line.
    pub(crate) fn requests(&mut self, version: http::Version, method: Method, path: PathAndQuery) {
        let record = self.record();
        record.http = Some(match version {
            http::Version::HTTP_10 => Http::V1_0,
            http::Version::HTTP_2 => Http::V2,
            _ => Http::V1_1,
        });
        record.method = Some(method);
        record.target = Some(path);
    }

    /// Notes a CONNECT, which has no path.
    pub(crate) fn requested(&mut self, version: http::Version, method: Method) {
        self.requests(version, method, PathAndQuery::from_static("/"));
        self.record().target = None;
    }

    /// Notes a permit, judged in `took`.
    pub(crate) fn permitted(&mut self, permit: &Permit, policy: [u8; 32], took: Duration) {
        let record = self.record();
        record.verdict = if permit.code() == Code::Audited { Judged::Audit } else { Judged::Allow };
        record.code = permit.code();
        record.rule = Some(permit.rule().clone());
        record.policy = PolicyId(policy);
        record.ms.judge = took;
        match permit.source() {
            Source::Policy => {}
            Source::Grant { by, approval, .. } => {
                record.by = By::Grant(*by);
                record.approval = Some(approval.clone());
            }
            Source::Observe(question) => {
                record.verdict = Judged::Unknown;
                record.code = question.code;
                record.rule.clone_from(&question.nearest);
                record.by = By::Observe;
            }
        }
    }

    /// Notes the connection that carries it.
    pub(crate) fn connected(&mut self, reached: Reached, took: Duration) {
        if let Some(watch) = self.watch() {
            watch.live().connected(reached);
        }
        let record = self.record();
        record.address = reached.address().map(|at| at.ip());
        record.ms.connect = took;
    }

    /// What its answer says of it. `path` is the canonical path if it got that far.
    pub(crate) fn asker<'a>(&'a self, target: Option<&'a Authority>) -> Asker<'a> {
        let record = &self.inner().record;
        let binary = match &record.client {
            Client::Seen(process) => Some(&*process.binary),
            Client::Unseen | Client::Ignored => None,
        };
        Asker {
            id: record.id,
            target,
            method: record.method.as_ref().map(Method::as_str),
            path: record.target.as_ref().map(PathAndQuery::path),
            binary,
        }
    }

    /// Closes it as refused or failed for `refusal`.
    pub(crate) fn refuse(mut self, refusal: &Refusal, status: Option<u16>) {
        let record = self.record();
        record.status = status;
        let let_through =
            matches!(record.verdict, Judged::Allow | Judged::Audit) || record.by == By::Observe;
        // What a relayed client's first bytes are refused for was let through as a tunnel, and is refused all
        // the same.
        let lies = matches!(
            refusal.code,
            Code::SniMismatch
                | Code::EncryptedClientHello
                | Code::BadClientHello
                | Code::ProtocolNotAllowed
        );
        let failed = record.sent || (let_through && !lies);
        let outcome = if failed { Outcome::Failed } else { Outcome::Refused };
        if refusal.judged != Judged::None {
            record.verdict = refusal.judged;
        }
        record.code = refusal.code;
        if refusal.rule.is_some() {
            record.rule.clone_from(&refusal.rule);
        }
        record.request = refusal.number().or(record.request);
        if let Some(approval) = refusal.approval() {
            record.approval = Some(approval);
        }
        // Who let it through stays named where something else failed.
        if refusal.by != By::Policy {
            record.by = refusal.by.clone();
        }
        let outcome = if refusal.by == By::Policy { outcome } else { Outcome::Refused };
        self.close(outcome);
    }

    /// Closes it as failed with `code` after it was let through.
    pub(crate) fn fail(mut self, code: Code) {
        self.record().code = code;
        self.close(Outcome::Failed);
    }

    /// Closes it.
    pub(crate) fn close(mut self, outcome: Outcome) {
        if let Some(inner) = self.inner.take() {
            inner.close(outcome);
        }
    }
}

impl Inner {
    fn close(mut self: Box<Self>, outcome: Outcome) {
        self.record.outcome = outcome;
        self.record.ms.total = self.started.elapsed();
        if let Some(watch) = self.watch.take() {
            watch.live().count(&mut self.record);
        }
        self.record.sent |= self.record.upload > 0;
        self.slot.close(self.record);
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        if let Some(mut inner) = self.inner.take() {
            let ended = inner.watch.as_ref().and_then(|watch| watch.live().ended());
            inner.record.code = ended.map_or(Code::ClientGone, End::code);
            inner.close(Outcome::Failed);
        }
    }
}
