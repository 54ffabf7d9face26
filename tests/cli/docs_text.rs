//! What the pages say is so: their YAML loads, their links lead somewhere, and no key and no code
//! is left out.

use crate::docs_kit::{Page, root};
use portcullis::config::{Config, Flags, Surroundings};
use portcullis::policy::{Code, Document};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn around() -> Surroundings {
    Surroundings {
        home: Some("/home/ana".into()),
        state_home: None,
        config_home: None,
        runtime_dir: None,
        current_dir: "/work".into(),
        euid: 1000,
        keys: Default::default(),
    }
}

/// The code spans and blocks of a page, which is where keys and codes stand.
fn code(page: &Page) -> String {
    let mut out: String = page.blocks().into_iter().map(|block| block.text).collect();
    for line in page.text.lines().filter(|line| !line.starts_with("```")) {
        for span in line.split('`').skip(1).step_by(2) {
            out.push_str(span);
            out.push('\n');
        }
    }
    out
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

#[test]
fn every_policy_and_every_config_in_the_pages_loads() {
    let (mut policies, mut configs) = (0, 0);
    for page in Page::all() {
        for block in page.blocks_of("yaml") {
            let place = format!("{}:{}", page.name(), block.line);
            let has = |key: &str| block.text.lines().any(|l| l.starts_with(&format!("{key}:")));
            if has("network_policies") {
                Document::parse(&block.text, &place).unwrap_or_else(|e| panic!("{place}: {e}"));
                policies += 1;
            } else {
                let known = ["state_dir", "listen", "sandboxes"].iter().any(|key| has(key));
                assert!(known, "{place}: neither a policy nor a config");
                Config::parse(Path::new(&place), &block.text, &Flags::default(), &around())
                    .unwrap_or_else(|e| panic!("{place}: {e}"));
                configs += 1;
            }
        }
    }
    assert!(policies >= 10 && configs >= 3, "{policies} policies, {configs} configs");
}

#[test]
fn every_json_in_the_pages_is_json() {
    for page in Page::all() {
        for block in page.blocks_of("json") {
            serde_json::from_str::<Value>(&block.text)
                .unwrap_or_else(|e| panic!("{}:{}: {e}", page.name(), block.line));
        }
    }
}

/// The targets of Markdown links.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// A heading's anchor, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == ' ' || c == '_';
    heading.trim().to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    for page in Page::all() {
        for link in links(&page.text).into_iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => page.path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.name());
            if heading.is_empty() {
                continue;
            }
            let text = std::fs::read_to_string(&target).unwrap();
            let mut headings = text.lines().filter(|l| l.starts_with('#'));
            let found = headings.any(|l| anchor(l.trim_start_matches('#')) == heading);
            assert!(found, "{}: no heading for {link}", page.name());
        }
    }
}

/// The names of all properties of a JSON schema.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(own)) = map.get("properties") {
                names.extend(own.keys().cloned());
            }
            map.values().for_each(|value| properties(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| properties(value, names)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_config_stands_in_the_operators_page() {
    let schema = std::fs::read(root().join("policy-schema/config.v1.schema.json")).unwrap();
    let mut keys = BTreeSet::new();
    properties(&serde_json::from_slice(&schema).unwrap(), &mut keys);
    assert!(keys.len() > 50, "{keys:?}");
    let page = Page::open("docs/operators.md");
    let code = code(&page);
    let said = words(&code);
    let left_out: Vec<&String> = keys.iter().filter(|key| !said.contains(key.as_str())).collect();
    assert!(left_out.is_empty(), "docs/operators.md does not name {left_out:?}");
}

#[test]
fn every_code_stands_in_the_row_of_its_error_in_the_refusals_page() {
    let page = Page::open("docs/refusals.md");
    for code in Code::ALL {
        let name = format!("`{}`", code.as_str());
        let Some(error) = code.error() else {
            assert!(page.text.contains(&name), "{name}");
            continue;
        };
        let error = serde_json::to_string(&error).unwrap();
        let row = format!("| `{}` |", error.trim_matches('"'));
        let row = page.text.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| {
            panic!("docs/refusals.md has no row for {error}");
        });
        assert!(row.rsplit('|').nth(1).unwrap().contains(&name), "{name} is not in: {row}");
        let status = row.split('|').nth(2).unwrap();
        assert!(status.contains(&code.status().to_string()), "{name}: {row}");
    }
}

#[test]
fn every_openshell_finding_stands_in_its_page() {
    let codes = std::fs::read_to_string(root().join("policy-schema/codes.md")).unwrap();
    let page = Page::open("docs/from-openshell.md").text;
    let names = codes.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
    let openshell: Vec<&str> = names.filter(|name| name.starts_with("openshell_")).collect();
    assert!(openshell.len() >= 5);
    for name in openshell {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_metric_stands_in_the_operators_page() {
    let page = Page::open("docs/operators.md").text;
    for file in ["src/metrics/registry.rs", "src/metrics/gauges.rs"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        for name in text.split('"').filter(|part| part.starts_with("portcullis_")) {
            let name = name.split(|c: char| c != '_' && !c.is_ascii_lowercase()).next().unwrap();
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[test]
fn the_pages_speak_of_no_path_of_the_machine_they_were_written_on() {
    for page in Page::all() {
        for word in ["/root/", "/tmp/", "/work/", ".cargo/registry"] {
            assert!(!page.text.contains(word), "{}: {word}", page.name());
        }
    }
}
