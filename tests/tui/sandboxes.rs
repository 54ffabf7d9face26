//! The page of the sandboxes: when the model routes behind it are read, and what it says of them.

use crate::tui_kit::{Pane, samples};
use portcullis::control::wire::*;
use portcullis::tui::{Effect, Link, Msg, Read, Refusal};
use proptest::prelude::*;

fn looks(pane: &mut Pane) -> Vec<Effect> {
    let effects = std::mem::take(&mut pane.effects).into_iter();
    effects.filter(|effect| matches!(effect, Effect::ReadInference(_))).collect()
}

fn both() -> Vec<Effect> {
    vec![Effect::ReadInference(vec!["agent".into(), "ci".into()])]
}

fn found(names: &[&str]) -> Read {
    let one = |name: &&str| ((*name).to_owned(), Ok(samples::inference(name)));
    Read::Inference(names.iter().map(one).collect())
}

fn refused(name: &str, text: &str) -> Read {
    let refusal = Refusal { code: "unavailable".into(), text: text.into() };
    Read::Inference(vec![(name.to_owned(), Err(refusal))])
}

/// The page at a size that shows all of it.
fn page() -> Pane {
    let mut pane = Pane::with_samples(120, 60);
    pane.press("5");
    pane.effects.clear();
    pane
}

#[test]
fn the_models_are_read_when_the_page_is_opened_and_every_two_seconds_while_it_is_shown() {
    let mut pane = Pane::with_samples(80, 24);
    pane.pass(10_000);
    assert_eq!(looks(&mut pane), [], "nobody looks at them");
    pane.press("5");
    assert_eq!(looks(&mut pane), both());
    pane.pass(2_000 - pane.model.now.wall.rem_euclid(2_000).unsigned_abs());
    assert_eq!(looks(&mut pane), both());
    pane.pass(900);
    pane.pass(900);
    assert_eq!(looks(&mut pane), []);
    pane.pass(200);
    assert_eq!(looks(&mut pane), both());
    pane.press("1");
    pane.pass(10_000);
    assert_eq!(looks(&mut pane), []);
}

#[test]
fn a_gateway_that_is_gone_is_not_asked_and_one_that_is_back_is_at_once() {
    let mut pane = page();
    pane.read(found(&["agent", "ci"]));
    pane.send(Msg::Link(Link::Gone { again: 20_000 }));
    pane.pass(2_000);
    assert_eq!(looks(&mut pane), []);
    assert!(pane.screen().contains("gpt-5-mini"), "what was known stays:\n{}", pane.screen());
    pane.hello();
    assert_eq!(looks(&mut pane), both());
}

#[test]
fn a_page_that_was_opened_before_the_gateway_answered_reads_once_it_does() {
    let mut pane = Pane::new(80, 24);
    pane.press("5");
    assert_eq!(looks(&mut pane), [], "no sandbox is known yet");
    pane.hello();
    assert_eq!(looks(&mut pane), both());
}

#[test]
fn one_sandbox_alone_is_read_where_one_alone_is_shown() {
    let mut pane = Pane::new(80, 24);
    pane.model.setting.only = Some("ci".into());
    pane.hello();
    pane.press("5");
    assert_eq!(looks(&mut pane), [Effect::ReadInference(vec!["ci".into()])]);
}

#[test]
fn what_cannot_be_read_is_said_beside_what_was_known_until_it_can() {
    let mut pane = page();
    assert!(pane.screen().contains("being read…"));
    pane.read(refused("agent", "the gateway does not answer"));
    let screen = pane.screen();
    assert!(
        screen.contains("  inference could not be read: the gateway does not answer"),
        "{screen}"
    );
    pane.read(found(&["agent", "ci"]));
    assert!(!pane.screen().contains("could not be read"), "{}", pane.screen());
    pane.read(refused("agent", "the gateway does not answer"));
    let screen = pane.screen();
    assert!(screen.contains("could not be read") && screen.contains("gpt-5-mini"), "{screen}");
    pane.read(found(&["agent"]));
    assert!(!pane.screen().contains("could not be read"), "{}", pane.screen());
}

#[test]
fn a_sandbox_without_models_takes_one_line() {
    let mut pane = page();
    pane.read(found(&["agent", "ci"]));
    let screen = pane.screen();
    let (_, ci) = screen.split_once("\nci  tier").unwrap();
    let models: Vec<&str> = ci.lines().filter(|line| line.contains("inference")).collect();
    assert_eq!(models, ["  inference no models"]);
    assert!(!ci.contains("today") && !ci.contains("budget"), "{ci}");
}

#[test]
fn a_sandbox_that_went_is_forgotten() {
    let mut pane = page();
    pane.read(found(&["agent", "ci"]));
    let mut status = samples::status();
    status.sandboxes.truncate(1);
    pane.read(Read::Status(Box::new(status)));
    assert_eq!(pane.model.gateway.inference.keys().collect::<Vec<_>>(), ["agent"]);
}

#[test]
fn a_budget_that_is_used_up_has_nothing_left() {
    let mut pane = page();
    let mut spent = samples::inference("agent");
    spent.spent_today = 10_450;
    pane.read(Read::Inference(vec![("agent".into(), Ok(spent))]));
    assert!(pane.screen().contains("0 of 10000 tokens left today (UTC)"), "{}", pane.screen());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_foreign_of_models_reaches_the_screen_unescaped(
        odd in "[\u{1b}\u{9b}\u{202e}a-z\u{431}\u{200d}\n]{1,40}",
    ) {
        let mut inference = samples::inference("agent");
        let route = &mut inference.routes[0];
        for text in [&mut route.name, &mut route.provider, &mut route.endpoint] {
            text.clone_from(&odd);
        }
        (route.matches, route.credential) = (Some(odd.clone()), Some(odd.clone()));
        (route.models, route.fallback) = (vec![odd.clone()], vec![odd.clone()]);
        route.last_error = Some(InferenceFailure { at: odd.clone(), text: odd.clone() });
        route.key_error = Some(CredentialFailure { at: odd.clone(), text: odd.clone() });
        (inference.name, inference.source) = (Some(odd.clone()), odd.clone());
        inference.aliases = [(odd.clone(), odd.clone())].into();
        let refusal = Refusal { code: odd.clone(), text: odd.clone() };
        let mut pane = page();
        pane.read(Read::Inference(vec![("agent".into(), Ok(inference))]));
        pane.read(Read::Inference(vec![("agent".into(), Err(refusal))]));
        let screen = pane.screen();
        let fine = |c: char| c.is_ascii_graphic() || " \n…↓·".contains(c);
        prop_assert_eq!(screen.chars().find(|c| !fine(*c)), None, "{}", screen);
    }
}
