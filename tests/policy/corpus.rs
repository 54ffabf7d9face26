//! Policies that people already have load unchanged, and judge.

use portcullis::policy::{Document, Layer, Policy};

#[test]
fn every_real_policy_loads_and_compiles() {
    let mut loaded = 0;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/openshell-policies");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let document = Document::parse(&text, &name).unwrap_or_else(|error| panic!("{error}"));
        assert!(!document.network_policies.is_empty(), "{name} holds no entry");
        for (key, entry) in &document.network_policies {
            assert!(entry.line > 0, "{name}: the entry {key} has no line");
            for endpoint in &entry.endpoints {
                assert!(endpoint.line > entry.line, "{name}: an endpoint of {key} has no line");
            }
        }
        let layer = Layer { document, source: name.into(), deny_only: false };
        assert!(Policy::compile(&[layer], 1).unwrap().endpoint_count() > 0);
        loaded += 1;
    }
    assert_eq!(loaded, 11);
}
