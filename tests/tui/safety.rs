//! What the pane must never do: answer what was not shown, or by a key that was not meant
//! (security.md 19-21, I8). Time is handed in, so nothing sleeps.

use crate::tui_kit::{Pane, SETTLED, samples};
use crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use portcullis::addr::{Host, Shown};
use portcullis::control::wire::*;
use portcullis::tui::{Done, Effect, Focus, Link, Msg, Number, Read, Refusal, Screen};
use proptest::prelude::*;

fn number(text: &str) -> Number {
    Number::parse(text).unwrap()
}

/// The answers that were sent.
fn sent(pane: &Pane) -> Vec<(String, Decision)> {
    let decided = pane.effects.iter().filter_map(|effect| match effect {
        Effect::Decide(all) => Some(all.iter().map(|(n, d)| (n.to_string(), d.clone()))),
        _ => None,
    });
    decided.flatten().collect()
}

fn refusal(code: &str) -> Refusal {
    Refusal { code: code.into(), text: "no".into() }
}

fn decided(verdict: Verdict) -> Box<Decided> {
    Box::new(Decided {
        decision: verdict,
        scope: Scope::Session,
        breadth: Breadth::Exact,
        by: "ana".into(),
        uid: 1000,
        via: "term".into(),
        at: "2026-11-24T10:00:00.000Z".into(),
        reason: None,
        grant: Some("g10".into()),
        file: None,
        released: 2,
    })
}

#[test]
fn an_answer_is_what_was_shown_with_its_digest() {
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    assert!(
        pane.run_on().contains("session·exactGETapi.github.com/repos/acme/widget/issues?state=")
    );
    pane.enter();
    let (number, decision) = sent(&pane).remove(0);
    assert_eq!(number, "r41");
    assert_eq!(decision.digest, "sha256:41");
    assert_eq!((decision.decision, decision.scope), (Verdict::Approve, Scope::Session));
    assert_eq!((decision.breadth, decision.any_process), (Breadth::Exact, false));
    assert_eq!(decision.via.as_deref(), Some("term"));
}

#[test]
fn each_key_asks_for_its_own_answer() {
    let cases = [
        ('a', Verdict::Approve, Scope::Session),
        ('o', Verdict::Approve, Scope::Once),
        ('p', Verdict::Approve, Scope::Always),
        ('x', Verdict::Deny, Scope::Once),
        ('X', Verdict::Deny, Scope::Session),
    ];
    for (key, verdict, scope) in cases {
        let mut pane = Pane::with_samples(80, 24);
        pane.ask(key);
        assert!(sent(&pane).is_empty(), "{key} only asks");
        pane.enter();
        let (_, decision) = sent(&pane).remove(0);
        assert_eq!((decision.decision, decision.scope), (verdict, scope), "{key}");
    }
}

#[test]
fn a_question_is_deaf_for_its_first_moment() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("a");
    pane.enter();
    pane.pass(SETTLED - 1);
    pane.enter();
    assert!(sent(&pane).is_empty());
    assert!(pane.screen().contains("that key did nothing"));
    pane.pass(1);
    pane.enter();
    assert_eq!(sent(&pane).len(), 1);
}

#[test]
fn what_is_typed_too_early_is_no_part_of_a_reason() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("xno ");
    pane.send(Msg::Paste("early".into()));
    pane.pass(SETTLED);
    pane.press("not that");
    pane.enter();
    assert_eq!(sent(&pane)[0].1.reason.as_deref(), Some("not that"));
}

#[test]
fn the_cursor_stays_on_its_request_while_others_come_and_go() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("jj");
    pane.event(Event::Decided(Box::new(samples::requests().remove(0))));
    pane.event(Event::Pending(Box::new(samples::request(7, "GET", "new.example.com", "/"))));
    pane.ask('a');
    pane.enter();
    assert_eq!(sent(&pane)[0].0, "r43");
}

#[test]
fn a_key_does_nothing_just_after_another_request_slid_under_the_cursor() {
    let mut pane = Pane::with_samples(80, 24);
    pane.event(Event::Expired(Box::new(samples::requests().remove(0))));
    for key in ['a', 'o', 'p', 'x', 'X', 'A', ' '] {
        pane.press(&key.to_string());
        assert!(pane.model.prompt.is_none(), "{key}");
        assert!(pane.model.queue.marks().is_empty());
        assert!(pane.screen().contains("this has just changed: that key did nothing"));
    }
    pane.enter();
    assert!(matches!(pane.model.screen, Screen::Pending));
    pane.pass(SETTLED);
    pane.ask('a');
    pane.enter();
    assert_eq!(sent(&pane)[0].0, "r42");
}

#[test]
fn a_key_does_nothing_just_after_the_request_under_the_cursor_changed() {
    let mut pane = Pane::with_samples(80, 24);
    let mut changed = samples::requests().remove(0);
    changed.digest = "sha256:other".into();
    changed.path = Some("/user/keys".into());
    pane.event(Event::Pending(Box::new(changed.clone())));
    pane.press("a");
    assert!(pane.model.prompt.is_none());
    // Asked once more, without another content, is no change.
    pane.pass(SETTLED);
    changed.count += 1;
    pane.event(Event::Pending(Box::new(changed)));
    pane.ask('a');
    pane.enter();
    assert_eq!(sent(&pane)[0].1.digest, "sha256:other");
}

#[test]
fn the_first_request_that_ever_comes_is_guarded_too() {
    let mut pane = Pane::new(80, 24);
    pane.hello();
    pane.read(Read::Requests(Vec::new()));
    pane.pass(5_000);
    pane.event(Event::Pending(Box::new(samples::requests().remove(0))));
    pane.press("a");
    assert!(pane.model.prompt.is_none());
}

#[test]
fn a_question_whose_request_changed_takes_no_yes_and_shows_it_anew() {
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    let mut changed = samples::requests().remove(0);
    changed.digest = "sha256:other".into();
    changed.path = Some("/user/keys".into());
    pane.event(Event::Pending(Box::new(changed)));
    assert!(pane.screen().contains("It changed while this was asked"));
    pane.enter();
    assert!(sent(&pane).is_empty());
    assert!(matches!(pane.model.screen, Screen::Detail(_)));
    assert!(pane.screen().contains("/user/keys"));
    pane.press("a");
    assert!(pane.model.prompt.is_none(), "what is shown anew is guarded");
}

#[test]
fn an_answer_that_the_gateway_refuses_as_changed_shows_the_new_entry() {
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    pane.enter();
    let result = Err(refusal("changed"));
    let verdict = Verdict::Approve;
    pane.send(Msg::Done(Done::Decided { number: number("r41"), verdict, result, left: 0 }));
    assert!(pane.effects.contains(&Effect::ReadRequest(number("r41"))));
    assert!(pane.screen().contains("r41 changed meanwhile: not answered"));
    let mut changed = samples::requests().remove(0);
    changed.digest = "sha256:other".into();
    changed.path = Some("/user/keys".into());
    pane.read(Read::Request(Box::new(changed)));
    assert!(pane.screen().contains("/user/keys"));
    pane.press("a");
    assert!(pane.model.prompt.is_none());
}

#[test]
fn where_many_are_asked_about_only_y_is_yes_and_only_at_the_end_of_the_list() {
    for key in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('n'), KeyCode::Char('q')] {
        let mut pane = Pane::with_samples(80, 24);
        pane.ask('A');
        pane.key(key);
        assert!(sent(&pane).is_empty() && pane.model.prompt.is_none(), "{key}");
    }
    let mut pane = Pane::with_samples(40, 12);
    pane.read(Read::Requests(samples::many(30)));
    pane.pass(SETTLED);
    pane.ask('A');
    pane.press("y");
    assert!(sent(&pane).is_empty(), "most of them were never on the screen");
    pane.press("Gy");
    assert!(sent(&pane).is_empty(), "a jump passes over nothing unseen");
    for _ in 0..10 {
        pane.key(KeyCode::PageDown);
    }
    pane.press("y");
    let answers = sent(&pane);
    assert_eq!(answers.len(), 30);
    assert!(answers.iter().all(|(n, d)| d.digest == format!("sha256:{}", &n[1..])));
    assert!(answers.iter().all(|(_, d)| d.breadth == Breadth::Exact));
}

#[test]
fn a_mark_is_lost_when_its_request_changes() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("  ");
    let mut changed = samples::requests().remove(0);
    changed.digest = "sha256:other".into();
    pane.event(Event::Pending(Box::new(changed)));
    pane.pass(SETTLED);
    pane.ask('a');
    pane.press("y");
    let answers = sent(&pane);
    assert_eq!(answers.iter().map(|(n, _)| &**n).collect::<Vec<_>>(), ["r42"]);
}

#[test]
fn the_next_request_is_not_hit_by_a_key_meant_for_the_last() {
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    pane.enter();
    pane.press("a");
    assert!(pane.model.prompt.is_none(), "its answer is on its way");
    let result = Ok(decided(Verdict::Approve));
    let verdict = Verdict::Approve;
    pane.send(Msg::Done(Done::Decided { number: number("r41"), verdict, result, left: 0 }));
    pane.press("a");
    assert!(pane.model.prompt.is_none(), "r42 has just slid under the cursor");
    assert!(sent(&pane).len() == 1);
}

#[test]
fn tab_widens_and_says_what_else_it_covers() {
    let mut pane = Pane::with_samples(120, 40);
    let other = samples::request(60, "GET", "api.github.com", "/repos/acme/other/issues");
    pane.event(Event::Pending(Box::new(other)));
    pane.ask('a');
    pane.key(KeyCode::Tab);
    assert!(pane.run_on().contains("also2othersthatwait"), "the gateway's own count");
    pane.ctrl('u');
    pane.enter();
    assert!(sent(&pane).is_empty() && pane.screen().contains("begins with /"));
    pane.send(Msg::Paste("/repos/acme/*/issues".into()));
    assert!(pane.run_on().contains("also1otherthatwaits"), "{}", pane.screen());
    pane.enter();
    let decision = sent(&pane).remove(0).1;
    assert_eq!(decision.breadth, Breadth::Path);
    assert_eq!(decision.path.as_deref(), Some("/repos/acme/*/issues"));
}

#[test]
fn once_is_never_widened_and_a_session_answer_has_its_length() {
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('o');
    pane.key(KeyCode::Tab);
    pane.key(KeyCode::Down);
    pane.enter();
    let decision = sent(&pane).remove(0).1;
    assert_eq!((decision.breadth, decision.lasts), (Breadth::Exact, None));
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    pane.key(KeyCode::Down);
    pane.key(KeyCode::BackTab);
    pane.enter();
    let decision = sent(&pane).remove(0).1;
    assert_eq!((decision.breadth, decision.lasts.as_deref()), (Breadth::Host, Some("15m")));
}

#[test]
fn the_mouse_selects_and_answers_nothing() {
    let mut pane = Pane::with_samples(80, 24);
    let row = pane.screen().lines().position(|line| line.contains("r43")).unwrap();
    let click = |row: usize| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let row = u16::try_from(row).unwrap();
        Msg::Mouse(MouseEvent { kind, column: 30, row, modifiers: KeyModifiers::NONE })
    };
    pane.send(click(row));
    assert_eq!(pane.model.queue.selected().unwrap().number, number("r43"));
    pane.ask('a');
    for row in 0..24 {
        pane.send(click(row));
    }
    assert!(sent(&pane).is_empty() && pane.model.prompt.is_some());
    assert_eq!(pane.model.queue.selected().unwrap().number, number("r43"));
}

#[test]
fn a_paste_is_never_keys() {
    let mut pane = Pane::with_samples(80, 24);
    pane.send(Msg::Paste("aAy\nq".into()));
    pane.pass(SETTLED);
    pane.send(Msg::Paste("y\n".into()));
    assert!(pane.model.prompt.is_none() && pane.effects.is_empty());
}

#[test]
fn quitting_answers_nothing() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("q");
    assert_eq!(pane.effects, [Effect::Quit]);
    let mut pane = Pane::with_samples(80, 24);
    pane.ask('a');
    pane.ctrl('c');
    pane.ctrl('c');
    assert_eq!(pane.effects, [Effect::Quit]);
}

#[test]
fn nothing_is_answered_while_the_gateway_is_gone_and_everything_is_read_again_after() {
    let mut pane = Pane::with_samples(80, 24);
    pane.send(Msg::Link(Link::Gone { again: pane.model.now.steady + 400 }));
    assert!(pane.screen().contains("gateway gone; trying again"));
    assert!(pane.screen().contains("r41"), "what was known stays");
    pane.press("a");
    assert!(pane.model.prompt.is_none());
    pane.hello();
    assert!(pane.effects.contains(&Effect::ReadRequests));
    assert!(pane.effects.contains(&Effect::ReadGrants));
    pane.effects.clear();
    pane.event(Event::Missed { missed: 9 });
    assert!(pane.effects.contains(&Effect::ReadRequests));
}

#[test]
fn a_list_brings_nothing_back_that_an_event_took_away_meanwhile() {
    let mut pane = Pane::with_samples(80, 24);
    pane.event(Event::Missed { missed: 1 });
    pane.event(Event::Decided(Box::new(samples::requests().remove(0))));
    pane.event(Event::Pending(Box::new(samples::request(99, "GET", "new.example.com", "/"))));
    pane.read(Read::Requests(samples::requests()));
    assert!(pane.model.queue.get(number("r41")).is_none());
    assert!(pane.model.queue.get(number("r99")).is_some());
}

#[test]
fn the_last_answers_are_taken_back() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("u");
    assert!(pane.effects.is_empty());
    for (left, text) in [(1, "r41"), (0, "r42")] {
        let result = Ok(decided(Verdict::Approve));
        let verdict = Verdict::Approve;
        pane.send(Msg::Done(Done::Decided { number: number(text), verdict, result, left }));
    }
    assert!(pane.screen().contains("2 approved"));
    pane.press("u");
    assert_eq!(pane.effects, [Effect::Undo(vec![number("r41"), number("r42")])]);
    let result = Ok(Box::new(samples::requests().remove(0)));
    pane.send(Msg::Done(Done::Undone { number: number("r41"), result }));
    assert!(pane.model.queue.get(number("r41")).is_some());
}

#[test]
fn a_grant_is_revoked_only_after_y() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("3");
    pane.effects.clear();
    pane.press("r");
    assert!(pane.model.prompt.is_none(), "the list has just been opened");
    pane.pass(SETTLED);
    pane.ask('r');
    pane.enter();
    assert!(pane.effects.is_empty());
    pane.ask('r');
    pane.press("y");
    assert_eq!(pane.effects, [Effect::Revoke("g7".into())]);
}

#[test]
fn the_user_is_called_only_while_elsewhere_and_not_too_often() {
    let mut pane = Pane::with_samples(80, 24);
    let new =
        |n| Event::Pending(Box::new(samples::request(n, "GET", "a\u{1b}]9;x.example.com", "/")));
    pane.event(new(100));
    assert!(pane.effects.is_empty());
    pane.send(Msg::Focus(Focus::Elsewhere));
    pane.event(new(101));
    pane.event(new(102));
    assert_eq!(pane.effects.len(), 1);
    let Effect::Call(text) = &pane.effects[0] else { panic!() };
    assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
    pane.pass(2_000);
    pane.event(new(102));
    assert_eq!(pane.effects.len(), 1, "it was known");
    pane.event(new(103));
    assert_eq!(pane.effects.len(), 2);
}

#[test]
fn the_agents_own_words_are_marked_as_such() {
    let mut pane = Pane::with_samples(80, 24);
    pane.press("j");
    pane.enter();
    assert!(pane.run_on().contains("(itsownwords,nottobebelieved)Ineedto\\u{1b}[2Jshare"));
}

#[test]
fn the_registrable_domain_is_whole_beside_a_path_of_eight_thousand_bytes() {
    let label = "x".repeat(60);
    let hosts = [
        "login.github.com.session.accounts.verify.evil-domain-of-some-length.co.uk".to_owned(),
        format!("{label}.{label}.{label}.evil.co.uk"),
        format!("a.{label}.co.uk"),
    ];
    for host in hosts {
        let name = Host::parse(&host).unwrap();
        let domain = name.name().unwrap().registrable().unwrap().to_owned();
        let path = format!("/{}", "p".repeat(8191));
        for (columns, rows) in [(40, 12), (60, 20), (80, 24), (120, 40)] {
            let mut pane = Pane::new(columns, rows);
            pane.hello();
            pane.read(Read::Requests(vec![samples::request(1, "GET", &host, &path)]));
            pane.pass(SETTLED);
            let mut batch = samples::batch();
            batch.rows = vec![samples::row(1, "GET", &host, &path, "refused")];
            pane.event(Event::Traffic(batch));
            for keys in ["1", "a", "A", "2"] {
                pane.press(keys);
                assert!(pane.run_on().contains(&domain), "{keys}\n{}", pane.screen());
                pane.key(KeyCode::Esc);
                pane.pass(SETTLED);
                pane.key(KeyCode::Esc);
            }
            pane.press("1");
            pane.enter();
            assert!(pane.run_on().contains(&domain), "{}", pane.screen());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// security.md 19.
    #[test]
    fn nothing_foreign_reaches_the_screen_unescaped(
        path in "\\PC{0,30}[\u{1b}\u{7}\u{202e}\u{200b}\u{300}]\\PC{0,30}",
        words in "[\u{1b}\u{9b}\u{202e}a-z\u{431}\u{200d}]{1,40}",
        binary in "/[\u{1b}\u{202e}a-z]{1,12}",
    ) {
        let mut request = samples::request(1, "GET", "xn--bcher-kva.de", &path);
        request.agent_reason = Some(words.clone());
        request.client = Some(Client { binary, ancestors: vec![words.clone()], pid: 1 });
        request.headers = vec![(words.clone(), words.clone())];
        request.facts = vec![words.clone()];
        request.sandbox.clone_from(&words);
        let mut pane = Pane::new(100, 40);
        pane.hello();
        pane.read(Read::Requests(vec![request]));
        pane.pass(SETTLED);
        for step in 0..3 {
            match step {
                0 => {}
                1 => pane.enter(),
                _ => pane.ask('x'),
            }
            let screen = pane.screen();
            let chrome = "…↓↑←→·─▏";
            let odd = screen.chars().find(|c| !(c.is_ascii_graphic() || " \n".contains(*c) || chrome.contains(*c)));
            prop_assert_eq!(odd, None, "{}", screen);
        }
        let first: String = Shown::new(&path).to_string().chars().filter(|c| *c != ' ').take(20).collect();
        prop_assert!(pane.run_on().contains(&first));
    }
}
