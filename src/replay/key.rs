//! By what two records are the same to a policy, and to the report.

use crate::traffic::read::{Facts, Recorded, Seen};

/// Appends everything that the verdict and the group depend on. Each text is followed by its length and
/// each list of names by its count, so that no two requests share a key.
pub(super) fn write(record: &Recorded<'_>, key: &mut Vec<u8>) {
    let mut text = |text: &str| {
        key.extend_from_slice(text.as_bytes());
        key.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    };
    text(record.sandbox.as_deref().unwrap_or_default());
    text(&record.host);
    text(record.path.as_deref().unwrap_or_default());
    text(record.query.as_deref().unwrap_or_default());
    text(record.method.as_deref().unwrap_or_default());
    let seen = match &record.process {
        Seen::Unsaid => 0,
        Seen::Unseen => 1,
        Seen::Whole(binary, names) => {
            text(binary);
            names.iter().for_each(&mut text);
            text(&names.iter().count().to_string());
            2
        }
        Seen::Partly(binary, names) => {
            text(binary);
            names.iter().for_each(&mut text);
            text(&names.iter().count().to_string());
            3
        }
    };
    let facts = match &record.facts {
        Facts::Unsaid => 0,
        Facts::Empty => 1,
        Facts::Graphql(lines) => {
            lines.iter().for_each(|line| text(line));
            2
        }
        Facts::Rpc(calls) => {
            for (method, tool) in calls {
                text(method);
                tool.iter().for_each(|tool| text(tool));
                text(if tool.is_some() { "+" } else { "" });
            }
            3
        }
        Facts::Whole { kind, text: body } => {
            text(kind.as_deref().unwrap_or_default());
            text(body);
            4
        }
    };
    let raw = record.method.is_none() || record.path.is_none();
    if raw {
        text(record.code.as_deref().unwrap_or_default());
    }
    let said = [record.query.is_some(), raw, record.websocket];
    key.extend_from_slice(&[seen, facts, record.scheme as u8]);
    key.extend_from_slice(&said.map(u8::from));
    key.extend_from_slice(&record.port.to_le_bytes());
}
