//! What an origin may read otherwise than it was written: escapes in a path, names in a query.
//!
//! Owns which readings a deny rule is held against besides those that every rule is, which values
//! a query has, and so whether the messages after a handshake are judged. Invariant: these
//! readings only ever refuse; what is allowed is allowed as it is forwarded. Nothing is allocated
//! where nothing printable is escaped, or no deny rule covers.

use super::cover::Covering;
use super::{Form, Policy, Subject, Why, messages};
use crate::addr::Decoded;
use crate::policy::body::parameter_resembles;
use crate::policy::compile::Endpoint;
use std::borrow::Cow;

impl Policy {
    /// An origin may undo escapes that stay in a forwarded path, `%2F` among them, before it looks
    /// at it: deny rules are held against what it sees then, too.
    pub(super) fn behind_escapes(
        &self,
        covering: &Covering,
        subject: &Subject<'_>,
    ) -> Option<Why<'_>> {
        if subject.path.has_escapes() && self.hides(covering) {
            let denied = |Decoded { path, query }: Decoded| {
                let mut asked = subject.reading(&path);
                let joined = query.map(|first| match asked.query {
                    Some(rest) => format!("{first}&{rest}"),
                    None => first,
                });
                asked.query = joined.as_deref().or(asked.query);
                self.denied(covering, &asked)
            };
            if let Some(why) = subject.path.decoded().find_map(denied) {
                return Some(why);
            }
        }
        (subject.path.has_encoded_slash() && !self.keeps_slash(covering, subject))
            .then_some(Why::EncodedSlash)
    }

    /// Whether for every reading some endpoint keeps `%2F`.
    fn keeps_slash(&self, covering: &Covering, subject: &Subject<'_>) -> bool {
        subject.path.readings().iter().all(|path| {
            self.covered(covering).any(|endpoint| {
                endpoint.flags.keeps_slash && !endpoint.flags.deny_only && endpoint.in_scope(path)
            })
        })
    }

    /// Whether the text messages after this handshake are judged one by one.
    pub(super) fn judges(
        &self,
        covering: &Covering,
        allowing: &Endpoint,
        subject: &Subject<'_>,
    ) -> bool {
        if subject.form == Form::Plain {
            return false;
        }
        let readings = subject.path.readings();
        let decoded: Vec<String> = subject.path.decoded().map(|reading| reading.path).collect();
        let in_scope = |endpoint: &Endpoint| {
            readings.iter().chain(decoded.iter().map(String::as_str)).any(|p| endpoint.in_scope(p))
        };
        messages::restricts(allowing)
            || self
                .covered(covering)
                .any(|e| !e.denies.is_empty() && messages::denies_some(e) && in_scope(e))
    }

    /// Whether rules speak of the messages of this WebSocket, whoever allowed its handshake.
    pub(super) fn restricts(&self, covering: &Covering, subject: &Subject<'_>) -> bool {
        subject.form != Form::Plain
            && self.covered(covering).any(|endpoint| {
                messages::denies_some(endpoint)
                    || (!endpoint.flags.deny_only
                        && endpoint.kind.inspected()
                        && messages::restricts(endpoint))
            })
    }
}

/// The values of a key, decoded (borrowed where nothing is escaped), and whether the pair is
/// plainly of that key. The others are those that some server would take for it: some read `;` as
/// `&`, `name[]` as `name`, or fold the spelling of names.
pub(super) fn values<'q>(
    query: Option<&'q str>,
    key: &str,
) -> impl Iterator<Item = (Cow<'q, str>, bool)> {
    let pairs = query.unwrap_or_default().split('&');
    let parts = pairs.clone().filter(|pair| pair.contains(';')).flat_map(|pair| pair.split(';'));
    let whole = pairs.map(|pair| (pair, true));
    whole.chain(parts.map(|pair| (pair, false))).filter_map(move |(pair, whole)| {
        let (name, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
        let plain = whole && name == key;
        (plain || parameter_resembles(&name, key)).then_some((value, plain))
    })
}

/// Every value that a rule about `key` is held against.
pub(crate) fn query_values<'q>(
    query: Option<&'q str>,
    key: &str,
) -> impl Iterator<Item = Cow<'q, str>> {
    values(query, key).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_every_split() {
        let all = |query| values(Some(query), "a").collect::<Vec<_>>();
        let pair = |value: &'static str, plain| (Cow::Borrowed(value), plain);
        assert_eq!(all("a=1&b=2&a=3"), [pair("1", true), pair("3", true)]);
        assert_eq!(all("a=1;a=2"), [pair("1;a=2", true), pair("1", false), pair("2", false)]);
        assert_eq!(all("b;a&&A=4"), [pair("4", false), pair("", false)]);
        assert!(all("").is_empty() && values(None, "a").next().is_none());
    }
}
