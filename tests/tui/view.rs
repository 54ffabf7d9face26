//! What the pane looks like: every screen, question and the help, at three sizes, without colours.

use crate::tui_kit::{Pane, samples};
use crossterm::event::KeyCode;
use portcullis::control::wire::Event;
use portcullis::tui::{Link, Msg, Read, Refusal, Theme};
use ratatui::style::{Color, Modifier};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 12)];

/// Snapshots of what `play` brings about, at each size.
fn show(name: &str, play: impl Fn(&mut Pane)) {
    for (columns, rows) in SIZES {
        let mut pane = Pane::with_samples(columns, rows);
        play(&mut pane);
        insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), pane.screen());
    }
}

#[test]
fn pending() {
    show("pending", |_| {});
    show("pending_marked_and_sorted", |pane| pane.press("  s"));
    show("pending_search", |pane| pane.press("/github"));
}

#[test]
fn pending_with_a_thousand_entries() {
    show("pending_thousand", |pane| {
        pane.read(Read::Requests(samples::many(1000)));
        pane.press("G");
        for _ in 0..500 {
            pane.press("k");
        }
    });
}

#[test]
fn nothing_waits() {
    show("pending_nothing", |pane| pane.read(Read::Requests(Vec::new())));
    for (columns, rows) in SIZES {
        let mut pane = Pane::new(columns, rows);
        insta::assert_snapshot!(format!("starting_{columns}x{rows}"), pane.screen());
        pane.read(Read::Requests(samples::requests()));
        pane.send(Msg::Link(Link::Gone { again: 12_500 }));
        insta::assert_snapshot!(format!("gateway_gone_{columns}x{rows}"), pane.screen());
    }
}

#[test]
fn detail() {
    show("detail", Pane::enter);
    show("detail_upload", |pane| {
        pane.press("j");
        pane.enter();
    });
    show("detail_upload_end", |pane| {
        pane.press("j");
        pane.enter();
        pane.press("G");
    });
}

#[test]
fn traffic() {
    show("traffic_silent", |pane| pane.press("2"));
    show("traffic", |pane| {
        pane.press("2");
        pane.event(Event::Traffic(samples::batch()));
        pane.pass(1000);
    });
    show("traffic_filtered", |pane| {
        pane.press("2 vvvv");
        pane.event(Event::Traffic(samples::batch()));
        pane.press(" ");
        pane.press(" ");
        pane.event(Event::Traffic(samples::batch()));
    });
}

#[test]
fn grants() {
    show("grants", |pane| pane.press("3"));
    show("grants_none", |pane| {
        pane.press("3");
        pane.read(Read::Grants(Vec::new()));
    });
    show("revoke", |pane| {
        pane.press("3");
        pane.pass(300);
        pane.ask('r');
    });
}

#[test]
fn policy() {
    show("policy", |pane| {
        pane.press("4");
        pane.read(Read::Policy(Box::new(samples::policy("agent"))));
    });
    show("policy_search", |pane| {
        pane.press("4");
        pane.read(Read::Policy(Box::new(samples::policy("agent"))));
        pane.press("/crates");
    });
}

#[test]
fn sandboxes() {
    show("sandboxes_unread", |pane| pane.press("5"));
    show("sandboxes", models);
    show("sandboxes_scrolled", |pane| {
        models(pane);
        for _ in 0..14 {
            pane.press("j");
        }
    });
    show("sandboxes_failed", |pane| {
        models(pane);
        let text = "the gateway did not answer within 30 seconds".into();
        let refusal = Refusal { code: "unreachable".into(), text };
        pane.read(Read::Inference(vec![("ci".into(), Err(refusal))]));
        pane.press("G");
    });
}

fn models(pane: &mut Pane) {
    pane.press("5");
    let one = |name: &str| (name.to_owned(), Ok(samples::inference(name)));
    pane.read(Read::Inference(vec![one("agent"), one("ci")]));
}

#[test]
fn help() {
    show("help", |pane| pane.press("?"));
    show("help_end", |pane| pane.press("?G"));
}

#[test]
fn questions() {
    show("approve", |pane| pane.ask('a'));
    show("approve_path", |pane| {
        pane.ask('a');
        pane.key(KeyCode::Tab);
    });
    show("approve_host_for_an_hour", |pane| {
        pane.ask('a');
        pane.key(KeyCode::BackTab);
        pane.key(KeyCode::Down);
        pane.key(KeyCode::Down);
        pane.ctrl('p');
    });
    show("once", |pane| pane.ask('o'));
    show("always", |pane| pane.ask('p'));
    show("deny", |pane| {
        pane.press("j");
        pane.ask('x');
        pane.press("not to a paste service");
    });
    show("deny_session", |pane| pane.ask('X'));
    show("all", |pane| pane.ask('A'));
}

#[test]
fn a_question_whose_entry_changed_or_went() {
    show("approve_changed", |pane| {
        pane.ask('a');
        let mut changed = samples::requests().remove(0);
        changed.digest = "sha256:other".into();
        pane.event(Event::Pending(Box::new(changed)));
    });
    show("approve_gone", |pane| {
        pane.ask('a');
        pane.event(Event::Decided(Box::new(samples::requests().remove(0))));
    });
}

#[test]
fn at_forty_columns_host_method_and_path_wrap_whole() {
    for request in samples::requests() {
        let mut pane = Pane::new(40, 12);
        pane.hello();
        let host = request.host.clone();
        let path = portcullis::addr::Shown::new(request.path.as_deref().unwrap_or("")).to_string();
        let method = request.method.clone().unwrap_or("TCP".into());
        pane.read(Read::Requests(vec![request]));
        let shown = pane.run_on();
        assert!(shown.contains(&method) && shown.contains(&host), "{host}\n{}", pane.screen());
        assert!(shown.contains(&path), "{path}\n{}", pane.screen());
    }
}

#[test]
fn the_screen_is_drawn_in_colours_and_without() {
    let mut pane = Pane::with_samples(80, 24);
    let styled = |pane: &Pane| {
        let buffer = pane.buffer();
        buffer.content().iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    let dark = pane.buffer();
    assert!(styled(&pane) > 20);
    pane.model.setting.theme = Theme::Light;
    let light = pane.buffer();
    assert!(styled(&pane) > 20);
    assert!(!light.content().iter().any(|cell| matches!(cell.fg, Color::Yellow | Color::Cyan)));
    pane.model.setting.theme = Theme::Plain;
    let plain = pane.buffer();
    assert_eq!(styled(&pane), 0);
    for buffer in [&dark, &light, &plain] {
        let ground = buffer.content().iter().any(|cell| cell.bg != Color::Reset);
        let named =
            buffer.content().iter().any(|c| matches!(c.fg, Color::Rgb(..) | Color::Indexed(_)));
        assert!(!ground && !named, "the user's own sixteen colours, on the user's own ground");
        let reversed = buffer.content().iter().filter(|c| c.modifier.contains(Modifier::REVERSED));
        assert_eq!(reversed.count(), 80, "the row under the cursor, and nothing else");
        let text: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
        let words: Vec<&str> = dark.content().iter().map(|cell| cell.symbol()).collect();
        assert_eq!(text, words, "colours change no word");
    }
}

#[test]
fn no_size_is_too_small_to_draw() {
    for columns in 1..50 {
        for rows in 1..14 {
            let mut pane = Pane::with_samples(columns, rows);
            for keys in ["a", "\u{1b}", "A", "2", "3", "4", "5", "?"] {
                pane.press(keys);
                pane.screen();
                pane.key(KeyCode::Esc);
            }
        }
    }
}

#[test]
fn the_docs_carry_the_table_of_keys_as_it_is() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/approval.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = portcullis::tui::markdown();
    assert!(page.contains(&table), "docs/approval.md, \"The pane\", should have:\n{table}");
}

#[test]
fn the_help_and_the_footers_say_only_what_the_table_says() {
    let mut pane = Pane::with_samples(200, 200);
    pane.press("?");
    let help = pane.run_on();
    for binding in portcullis::tui::KEYS {
        let does: String = binding.does.split_whitespace().collect();
        assert!(help.contains(&does), "{}", binding.does);
    }
    pane.press("?");
    let footer = pane.screen().lines().last().unwrap().to_owned();
    for binding in portcullis::tui::KEYS {
        let shown = !binding.short.is_empty() && pane.model.places().contains(&binding.place);
        let hint = format!("{} {}", binding.brief(), binding.short);
        assert_eq!(footer.contains(&hint) && shown, shown, "{hint}\n{footer}");
    }
}
