//! `approved/<sandbox>.yaml`: answers for good, in a file that is the operator's to edit.
//!
//! Written whole beside itself and renamed into place. An entry is added at the end and taken out
//! by its key; everything else in the file stays as it is.

use crate::addr::Shown;
use crate::policy::Document;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// `text` with the entry `rule` (as `approval::rule` makes it) added.
pub(super) fn with(text: &str, sandbox: &str, rule: &str, number: u64) -> anyhow::Result<String> {
    let empty = text.trim().is_empty();
    let mut new = match empty {
        true => head(sandbox),
        false => text.trim_end().replace("network_policies: {}", "network_policies:"),
    };
    if !new.ends_with('\n') {
        new.push('\n');
    }
    new.push_str(rule);
    let document = Document::parse(&new, "approved")?;
    let key = |word: &str| document.network_policies.contains_key(&format!("{word}-r{number}"));
    anyhow::ensure!(
        key("approved") || key("denied"),
        "the file of answers was edited so that an entry can't be added at its end; put \
         `network_policies` last in it"
    );
    Ok(new)
}

/// `text` without the entry of answer `number`; `None` where it is not in it.
pub(super) fn without(text: &str, number: u64) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let keys = [format!("  approved-r{number}:"), format!("  denied-r{number}:")];
    let at = lines.iter().position(|line| keys.iter().any(|key| line.trim_end() == key))?;
    let ours =
        |line: &str| line.starts_with(&format!("  # r{number} ")) || line.starts_with("  # why: ");
    let above = lines[..at].iter().rev().take_while(|line| ours(line)).count();
    let below = lines[at + 1..]
        .iter()
        .take_while(|line| line.is_empty() || line.starts_with("   "))
        .count();
    let mut kept: Vec<&str> = lines[..at - above].to_vec();
    kept.extend(&lines[at + 1 + below..]);
    let mut new = kept.join("\n");
    new.push('\n');
    // A key without a value would be a mistake.
    let last = new.lines().rev().find(|line| !line.trim_start().starts_with('#'));
    if last.is_some_and(|line| line.trim_end() == "network_policies:") {
        new = new.replace("network_policies:", "network_policies: {}");
    }
    Some(new)
}

fn head(sandbox: &str) -> String {
    format!(
        "# What an operator answered with \"always\" for the sandbox {}. It is loaded like any other\n\
         # policy file of the sandbox, and is yours to edit: keep network_policies last.\n\
         version: 1\n\
         preset: {{ name: approved, description: \"answers for good\" }}\n\
         network_policies:\n",
        Shown::new(sandbox)
    )
}

/// The file's text; empty where it is not there.
pub(super) fn read(path: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Puts `text` in the place of the file, whole or not at all. Where there is none, no file.
pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    if text.is_empty() {
        return std::fs::remove_file(path);
    }
    make_dir(dir)?;
    let beside = path.with_extension(format!("yaml.{}", std::process::id()));
    drop(std::fs::remove_file(&beside));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(dir)?.sync_all()
}

/// Makes the directory, of the operator alone.
pub(in crate::cli::gateway) fn make_dir(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "  # r7 approved by ana (uid 1000) via term at 2026-11-24T10:00:00Z\n  # why: it is fine\n  approved-r7:\n    endpoints:\n      - host: \"a.test\"\n        port: 443\n        protocol: rest\n        enforcement: enforce\n        rules:\n          - allow: { method: \"GET\", path: \"/x\" }\n";

    #[test]
    fn what_is_added_is_taken_out_again_and_the_rest_stays() {
        let eight = RULE.replace("r7", "r8");
        let one = with("", "agent", RULE, 7).unwrap();
        let two = with(&one, "agent", &eight, 8).unwrap();
        assert_eq!(without(&two, 8).unwrap(), one);
        assert_eq!(without(&two, 9), None);
        let seven_gone = without(&two, 7).unwrap();
        assert!(!seven_gone.contains("r7") && seven_gone.contains("approved-r8:"), "{seven_gone}");
        let none = without(&seven_gone, 8).unwrap();
        let document = Document::parse(&none, "x").unwrap();
        assert!(document.network_policies.is_empty());
        assert!(with(&none, "agent", RULE, 7).unwrap().contains("approved-r7:"));
    }

    #[test]
    fn a_file_that_was_edited_so_that_nothing_can_be_added_is_left_alone() {
        let text = "version: 1\nnetwork_policies: {}\npreset: { name: a, description: b }\n";
        assert!(with(text, "agent", RULE, 7).is_err());
        assert!(with("not: [yaml", "agent", RULE, 7).is_err());
    }
}
