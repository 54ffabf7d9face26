//! Nothing passes that no live rule, grant or answer covers, whatever the order of questions,
//! answers, expiries, reloads and restarts: the queue and the rules against a reference of ten
//! lines. Time is an argument.

use portcullis::addr::{Authority, Path, Port};
use portcullis::approval::{
    About, Asked, Asking, Breadth, Decision, Hold, Kind, Lasts, Mode, Numbers, Outcome, Parts,
    Preview, Queue, Release, Settings, State, Who,
};
use portcullis::policy::{
    Answer, Client, Document, Fingerprint, Grant, Layer, OwnedAsk, OwnedIntent, Policy, Process,
    Question, Scheme, Scope, Ticket, TicketUse, Verdict,
};
use portcullis::proxy::Ruling;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const HOSTS: [&str; 2] = ["one.test", "two.test"];
const METHODS: [&str; 2] = ["GET", "POST"];
const PATHS: [&str; 4] = ["/a", "/a/1", "/a/2", "/b"];
const QUERIES: [Option<&str>; 2] = [None, Some("q=1")];
const BODIES: [&[u8]; 2] = [b"", b"body"];
const BINARIES: [&str; 2] = ["/usr/bin/curl", "/usr/bin/wget"];

/// What a policy says of a request: the same as `policies` says in YAML.
const RULES: [fn(&Want) -> Option<Answer>; 3] = [
    |_| None,
    |want| (want.host == 0 && want.method == 0 && want.path == 3).then_some(Answer::Approve),
    |want| (want.host == 0 && want.method == 1).then_some(Answer::Deny),
];

fn policies() -> Vec<Arc<Policy>> {
    let endpoint = |rest: &str| {
        format!(
            "version: 1\nnetwork_policies:\n  e:\n    endpoints:\n      - host: one.test\n        \
             port: 443\n        protocol: rest\n        {rest}\n"
        )
    };
    [
        ("version: 1\nnetwork_policies: {}\n".to_owned(), false),
        (endpoint("rules: [ { allow: { method: GET, path: /b } } ]"), false),
        (endpoint("deny_rules: [ { method: POST, path: \"/**\" } ]"), true),
    ]
    .into_iter()
    .zip(1..)
    .map(|((text, deny_only), epoch)| {
        let document = Document::parse(&text, "model").unwrap();
        let layer = Layer { document, source: "model".into(), deny_only };
        Arc::new(Policy::compile(&[layer], epoch).unwrap())
    })
    .collect()
}

/// A request of the small world, by the places in the tables above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Want {
    host: usize,
    method: usize,
    path: usize,
    query: usize,
    body: usize,
    binary: usize,
}

impl Want {
    fn all() -> impl Iterator<Item = Self> {
        (0..128).map(|n| Self {
            host: n & 1,
            method: n >> 1 & 1,
            path: n >> 2 & 3,
            query: n >> 4 & 1,
            body: n >> 5 & 1,
            binary: n >> 6 & 1,
        })
    }

    fn shown(self) -> Fingerprint {
        Fingerprint::of(None, None, BODIES[self.body], false)
    }

    fn intent(self) -> OwnedIntent {
        let (pid, ancestors) = (1, Box::default());
        let process = Process { pid, binary: BINARIES[self.binary].into(), ancestors };
        OwnedIntent {
            client: Client::Seen(Arc::new(process)),
            scheme: Scheme::Https,
            target: Authority::parse(HOSTS[self.host], Some(Port::HTTPS)).unwrap(),
            ask: OwnedAsk::Request {
                method: METHODS[self.method].into(),
                path: Path::parse(PATHS[self.path]).unwrap().into_owned(),
                query: QUERIES[self.query].map(Into::into),
                websocket: false,
                body: None,
            },
        }
    }

    fn asked(self, policy: &Policy, question: Question) -> Asked {
        Asked {
            kind: Kind::Http,
            intent: self.intent(),
            headers: Vec::new(),
            body: self.shown(),
            preview: Preview::default(),
            facts: Vec::new(),
            question,
            known_host: false,
            policy: policy.id(),
            reason: None,
        }
    }
}

/// A grant as the reference sees it: `like` is what was shown when it was made.
struct Stands {
    id: u64,
    answer: Answer,
    breadth: Breadth,
    like: Want,
    any: bool,
    until: SystemTime,
}

/// An answer for one request.
struct Token {
    entry: u64,
    like: Want,
    spent: bool,
}

/// The reference. What the world must agree with is `verdict`.
#[derive(Default)]
struct Reference {
    policy: usize,
    grants: Vec<Stands>,
    tokens: Vec<Token>,
}

impl Reference {
    fn verdict(&self, want: Want, now: SystemTime) -> Option<Answer> {
        let covers = |grant: &&Stands| {
            let (like, same) =
                (grant.like, grant.like == Want { binary: grant.like.binary, ..want });
            let folder = |path| if path == 1 || path == 2 { 1 } else { path };
            now < grant.until
                && like.host == want.host
                && (grant.any || like.binary == want.binary)
                && match grant.breadth {
                    Breadth::Host => true,
                    Breadth::Path => {
                        like.method == want.method && folder(like.path) == folder(want.path)
                    }
                    Breadth::Exact => same,
                }
        };
        let said = self.grants.iter().filter(covers).map(|grant| grant.answer);
        // A rule first; of the answers the denial wins.
        RULES[self.policy](&want).or_else(|| said.max_by_key(|answer| *answer == Answer::Deny))
    }
}

/// What is done to the world, by numbers that are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    Ask(usize),
    Answer { entry: usize, deny: bool, once: bool, breadth: usize, any: bool, long: bool },
    Undo(usize),
    Revoke(usize),
    Later(u64),
    Reload(usize),
    Restart,
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer =
        (any::<usize>(), any::<[bool; 4]>(), 0..3_usize).prop_map(|(entry, b, breadth)| {
            let [deny, once, any, long] = b;
            Step::Answer { entry, deny, once, breadth, any, long }
        });
    let step = prop_oneof![
        6 => (0..128_usize).prop_map(Step::Ask),
        5 => answer,
        2 => any::<usize>().prop_map(Step::Undo),
        1 => any::<usize>().prop_map(Step::Revoke),
        1 => prop_oneof![Just(1), Just(599), Just(601), Just(4000)].prop_map(Step::Later),
        1 => (0..3_usize).prop_map(Step::Reload),
        1 => Just(Step::Restart),
        1 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What lives, and the answer for one request that it lives by.
type Live = (Want, Option<(Arc<Ticket>, u64)>);

/// The real queue and rules, and the reference beside them.
struct World {
    now: SystemTime,
    policies: Vec<Arc<Policy>>,
    ruling: Arc<Ruling>,
    queue: Arc<Queue>,
    /// What a restart finds of the numbers and grants.
    block: u64,
    kept: Vec<Arc<Grant>>,
    attended: tokio::sync::watch::Sender<usize>,
    held: Vec<(Want, Hold)>,
    /// What has passed and still runs, with its ticket and that ticket's place in the reference.
    live: Vec<Live>,
    reference: Reference,
}

fn queue(
    ruling: &Arc<Ruling>,
    numbers: Numbers,
    attended: &tokio::sync::watch::Sender<usize>,
    grants: Vec<Arc<Grant>>,
) -> Arc<Queue> {
    let publishes = ruling.clone();
    Queue::new(Parts {
        sandbox: "model".into(),
        settings: Settings {
            mode: Mode::Hold,
            about: About::Any,
            timeout: Duration::from_secs(1 << 30),
            unattended: Duration::from_secs(1 << 30),
            session: Duration::from_secs(3600),
            keep: Duration::from_secs(86_400),
            max_held: 16,
            max_pending: 32,
        },
        numbers: Arc::new(numbers),
        attended: attended.subscribe(),
        changed: Arc::default(),
        publish: Box::new(move |overlay| publishes.set_overlay(overlay)),
        risk: Box::new(|_| Vec::new()),
        grants,
    })
}

impl World {
    fn new() -> Self {
        let policies = policies();
        let ruling = Ruling::new(policies[0].clone(), false);
        let attended = tokio::sync::watch::Sender::new(1);
        Self {
            now: SystemTime::now(),
            queue: queue(&ruling, Numbers::new(1, 1, 1000), &attended, Vec::new()),
            policies,
            ruling,
            block: 1,
            kept: Vec::new(),
            attended,
            held: Vec::new(),
            live: Vec::new(),
            reference: Reference::default(),
        }
    }

    fn judge(&self, want: Want, ticket: Option<TicketUse<'_>>) -> Verdict {
        want.intent().judge(&self.ruling.load(), self.now, Some(&want.shown()), ticket).unwrap()
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask(n) => self.ask(Want::all().nth(n).unwrap()),
            Step::Answer { entry, deny, once, breadth, any, long } => {
                let answer = if deny { Answer::Deny } else { Answer::Approve };
                let breadth = [Breadth::Exact, Breadth::Path, Breadth::Host][breadth];
                self.answer(entry, (answer, once, breadth), any, long);
            }
            Step::Undo(n) => self.undo(n),
            Step::Revoke(n) => {
                let grants = self.queue.grants();
                if let Some(grant) = pick(&grants, n) {
                    self.queue.revoke(grant.id).unwrap();
                    self.forget(grant.id.0);
                }
            }
            Step::Later(seconds) => {
                self.now += Duration::from_secs(seconds);
                let ended = self.queue.sweep(self.now);
                self.kept.retain(|kept| !ended.iter().any(|grant| grant.id == kept.id));
            }
            Step::Reload(policy) => {
                self.reference.policy = policy;
                self.ruling.set_policy(self.policies[policy].clone());
                self.queue.rules_changed(&self.ruling.load(), self.now);
            }
            Step::Restart => self.restart(),
            Step::Leave(n) => {
                if !self.held.is_empty() {
                    drop(self.held.swap_remove(n % self.held.len()));
                }
            }
        }
        self.wake().await;
        self.agrees();
    }

    fn ask(&mut self, want: Want) {
        let question = match self.judge(want, None) {
            Verdict::Allow(_) | Verdict::Audit(_) => return self.passes(want, None),
            Verdict::Deny(_) => return,
            Verdict::Unknown(question) => question,
        };
        let asked = want.asked(&self.ruling.load().policy, question);
        match self.queue.ask_now(asked, true, self.now) {
            Asking::Ticket(ticket) => self.tries(want, ticket),
            Asking::Held(hold) => self.held.push((want, hold)),
            Asking::Full(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Leaves with a ticket, if it is good.
    fn tries(&mut self, want: Want, ticket: Arc<Ticket>) {
        let verdict = self.judge(want, Some(TicketUse::Spend(&ticket)));
        if matches!(verdict, Verdict::Allow(_)) {
            self.passes(want, Some(ticket));
        }
    }

    /// Something leaves: the reference must know why.
    fn passes(&mut self, want: Want, ticket: Option<Arc<Ticket>>) {
        if self.reference.verdict(want, self.now) == Some(Answer::Approve) {
            return self.live.push((want, None));
        }
        let ticket = ticket.unwrap_or_else(|| panic!("{want:?} passed by nothing"));
        let mut tokens = self.reference.tokens.iter_mut();
        let token = tokens.find(|t| !t.spent && t.like == want && t.entry == ticket.number());
        token.unwrap_or_else(|| panic!("{want:?} passed by an answer to something else")).spent =
            true;
        let number = ticket.number();
        self.live.push((want, Some((ticket, number))));
    }

    fn answer(
        &mut self,
        n: usize,
        (answer, once, breadth): (Answer, bool, Breadth),
        any: bool,
        long: bool,
    ) {
        let mut entries = self.queue.entries();
        entries.retain(|entry| entry.state == State::Pending);
        let Some(entry) = pick(&entries, n) else { return };
        let lasts = if long { Duration::from_secs(3600) } else { Duration::from_secs(600) };
        let decision = Decision {
            answer,
            scope: if once { Scope::Once } else { Scope::Session },
            breadth,
            path: None,
            methods: None,
            any_process: any,
            lasts: Lasts::For(lasts),
            reason: None,
            digest: entry.digest.clone(),
        };
        let who = Who { name: "ana".into(), uid: 1000, via: "api".into() };
        let plan = self.queue.plan(entry.number, &decision, &who, self.now).unwrap();
        self.queue.carry_out(&plan, None, self.now).unwrap();
        let like = Want::all().find(|want| want.matches(&entry.asked)).unwrap();
        match &plan.grant {
            Some(grant) => {
                self.kept.push(grant.clone());
                let (id, until) = (grant.id.0, self.now + lasts);
                self.reference.grants.push(Stands { id, answer, breadth, like, any, until });
            }
            None if answer == Answer::Approve => {
                self.reference.tokens.push(Token { entry: entry.number, like, spent: false });
            }
            None => {}
        }
    }

    fn undo(&mut self, n: usize) {
        let mut entries = self.queue.entries();
        entries.retain(|entry| entry.decided.is_some());
        let Some(entry) = pick(&entries, n) else { return };
        let number = entry.number;
        let once = entry.decided.as_ref().map(|decided| decided.outcome.clone());
        if let portcullis::approval::Undone::Grant(grant) = self.queue.undo(number).unwrap() {
            self.forget(grant.id.0);
        } else if matches!(once, Some(Outcome::Ticket(_))) {
            // Of several answers to one entry the last is taken back: this, and no denial after it.
            let at = self.reference.tokens.iter().rposition(|token| token.entry == number);
            at.map(|at| self.reference.tokens.remove(at));
        }
    }

    fn forget(&mut self, id: u64) {
        self.kept.retain(|grant| grant.id.0 != id);
        self.reference.grants.retain(|grant| grant.id != id);
    }

    fn restart(&mut self) {
        self.held.clear();
        self.live.clear();
        self.block += 1000;
        self.ruling = Ruling::new(self.policies[self.reference.policy].clone(), false);
        let grants = self.kept.iter().filter(|grant| grant.stands(self.now)).cloned().collect();
        self.queue =
            queue(&self.ruling, Numbers::new(self.block, self.block, 1000), &self.attended, grants);
        self.reference.tokens.clear();
    }

    /// Whoever was released is judged again.
    async fn wake(&mut self) {
        let mut waiting = std::mem::take(&mut self.held);
        while let Some((want, mut hold)) = waiting.pop() {
            let release = tokio::time::timeout(Duration::ZERO, hold.next()).await;
            match release {
                Err(_) => self.held.push((want, hold)),
                Ok(Release::Ticket(ticket)) => self.tries(want, ticket),
                Ok(Release::Denied(_)) => {}
                Ok(Release::TimedOut) => panic!("nobody waits that long"),
                Ok(Release::Judge) => match self.judge(want, None) {
                    Verdict::Allow(_) => self.passes(want, None),
                    Verdict::Audit(_) => panic!("no policy audits"),
                    Verdict::Deny(_) => {}
                    Verdict::Unknown(_) => waiting.push((want, hold)),
                },
            }
        }
    }

    /// The rules agree with the reference on every request there is, and on what is live.
    fn agrees(&mut self) {
        for want in Want::all() {
            let says = match self.judge(want, None) {
                Verdict::Allow(_) | Verdict::Audit(_) => Some(Answer::Approve),
                Verdict::Deny(_) => Some(Answer::Deny),
                Verdict::Unknown(_) => None,
            };
            assert_eq!(says, self.reference.verdict(want, self.now), "{want:?}");
        }
        for (want, ticket) in std::mem::take(&mut self.live) {
            let again = ticket.as_ref().map(|(ticket, _)| TicketUse::Again(ticket));
            let passes = matches!(self.judge(want, again), Verdict::Allow(_));
            let said = self.reference.verdict(want, self.now);
            let tokens = self.reference.tokens.iter();
            let standing = ticket.as_ref().is_some_and(|(_, number)| {
                tokens.clone().any(|token| token.spent && token.entry == *number)
            });
            let may = said == Some(Answer::Approve) || (said.is_none() && standing);
            assert!(may || !passes, "{want:?} lives on");
            if passes {
                self.live.push((want, ticket));
            }
        }
        let counts = self.queue.counts();
        assert!(counts.held == self.held.len() && counts.held <= 16 && counts.pending <= 32);
    }
}

impl Want {
    fn matches(self, asked: &Asked) -> bool {
        let (method, path, query) = asked.request().unwrap();
        asked.intent.target.host.to_string() == HOSTS[self.host]
            && method == METHODS[self.method]
            && path == PATHS[self.path]
            && query == QUERIES[self.query]
            && asked.body == self.shown()
            && asked.binary() == Some(BINARIES[self.binary])
    }
}

fn pick<T>(all: &[T], n: usize) -> Option<&T> {
    if all.is_empty() { None } else { all.get(n % all.len()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_answers_expiries_reloads_and_restarts_lets_pass_what_nothing_live_covers(
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.step(step).await;
            }
        });
    }
}

/// Two wait with the same question; one is let go, the other denied, and the denial taken back.
#[tokio::test(start_paused = true)]
async fn a_denial_that_is_taken_back_takes_no_answer_before_it_along() {
    let answer =
        |deny| Step::Answer { entry: 0, deny, once: true, breadth: 0, any: false, long: false };
    let mut world = World::new();
    for step in [Step::Ask(14), Step::Ask(14), answer(false), answer(true), Step::Undo(0)] {
        world.step(step).await;
    }
    assert_eq!(world.live.len(), 1, "what was let go lives on");
}

/// The question about the `n`th of all wants, put into the queue.
async fn put(world: &World, n: usize) -> Asking {
    let want = Want::all().nth(n).unwrap();
    let Verdict::Unknown(question) = world.judge(want, None) else { panic!("it is known") };
    let asked = want.asked(&world.ruling.load().policy, question);
    world.queue.ask(asked, true, world.now).await
}

/// Numbers are written down before they are given, which takes its time: a sandbox that uses up
/// what there is takes no other's question away.
#[tokio::test(start_paused = true)]
async fn a_question_waits_for_its_number_and_is_dropped_where_none_comes() {
    let mut world = World::new();
    world.queue = queue(&world.ruling, Numbers::new(1, 1, 2), &world.attended, Vec::new());
    let unknown: Vec<usize> = (0..128)
        .filter(|n| {
            let want = Want::all().nth(*n).unwrap();
            matches!(world.judge(want, None), Verdict::Unknown(_))
        })
        .collect();
    let Asking::Held(one) = put(&world, unknown[0]).await else { panic!("it was not held") };
    let numbers = world.queue.numbers().clone();
    assert_eq!((one.number(), numbers.left().0), (1, 1));
    let Asking::Held(two) = put(&world, unknown[1]).await else { panic!("it was not held") };
    numbers.wanted().await;
    let began = tokio::time::Instant::now();
    let more = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        numbers.more_requests(1);
    };
    let (asking, ()) = tokio::join!(put(&world, unknown[2]), more);
    let Asking::Held(three) = asking else { panic!("{asking:?}") };
    assert_eq!((two.number(), three.number()), (2, 3));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(matches!(put(&world, unknown[3]).await, Asking::Full(None)));
    assert_eq!((world.queue.counts().pending, world.queue.counts().dropped), (3, 1));
}
