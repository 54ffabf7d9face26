//! What stands in `policy-schema/` and `examples/` is what the program means. `UPDATE=1` writes
//! the generated files anew.

use portcullis::config::{Config, Flags, Surroundings};
use portcullis::policy::lint::FindingCode;
use portcullis::policy::{Code, Document};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy-schema")
}

/// Compares a generated file with what is checked in.
fn current(path: &Path, text: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == text, "{} is stale: run the test with UPDATE=1", path.display());
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn printed(args: &[&str]) -> String {
    let output = assert_cmd::Command::cargo_bin("portcullis").unwrap().args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_schemas_are_current() {
    for which in ["policy", "config", "traffic", "policy-tests"] {
        current(&root().join(format!("{which}.v1.schema.json")), &printed(&["schema", which]));
    }
}

#[test]
fn the_list_of_codes_is_current() {
    let mut text = String::from(
        "# Codes\n\nPrinted by `tests/policy/schema.rs`. A code is stable: it stands in refusals, records and\n`policy explain`.\n\n| code | error | status | meaning |\n|---|---|--:|---|\n",
    );
    for code in Code::ALL {
        let error = code.error().map(|error| serde_json::to_string(&error).unwrap());
        let error = error.map_or("".into(), |error| format!("`{}`", error.trim_matches('"')));
        let status = if error.is_empty() { String::new() } else { code.status().to_string() };
        writeln!(text, "| `{}` | {error} | {status} | {} |", code.as_str(), code.meaning().trim())
            .unwrap();
    }
    text.push_str(
        "\n# Findings of `policy check`\n\n| code | severity | meaning |\n|---|---|---|\n",
    );
    for code in FindingCode::ALL {
        let severity = serde_json::to_string(&code.severity()).unwrap();
        let (severity, meaning) = (severity.trim_matches('"'), code.meaning().trim());
        writeln!(text, "| `{}` | {severity} | {meaning} |", code.as_str()).unwrap();
    }
    current(&root().join("codes.md"), &text);
}

#[test]
fn every_valid_policy_loads_and_fits_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&printed(&["schema", "policy"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let presets = yaml_files("presets");
    for file in yaml_files("valid").into_iter().chain(presets) {
        let text = std::fs::read_to_string(&file).unwrap();
        Document::parse(&text, "valid")
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
    }
}

#[test]
fn every_invalid_policy_is_refused_with_the_error_beside_it() {
    for file in yaml_files("invalid") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let error = Document::parse(&text, name).expect_err(name);
        current(&file.with_extension("error"), &format!("{error}\n"));
    }
}

#[test]
fn every_example_loads() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        // `ci` is run by `policy_review`.
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("config") {
            let around = Surroundings {
                home: Some("/home/ana".into()),
                state_home: None,
                config_home: None,
                runtime_dir: None,
                current_dir: "/".into(),
                euid: 1000,
                keys: Default::default(),
            };
            let loaded = Config::load(&path, &Flags::default(), &around);
            let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
            for sandbox in config.sandboxes.keys() {
                let layers = config.layers(sandbox).unwrap();
                portcullis::policy::Policy::compile(&layers, 1).unwrap();
            }
            let schema = serde_json::from_str(&printed(&["schema", "config"])).unwrap();
            let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            jsonschema::validate(&schema, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else {
            Document::parse(&text, name).unwrap_or_else(|error| panic!("{error}"));
        }
        seen += 1;
    }
    assert!(seen >= 2);
}
