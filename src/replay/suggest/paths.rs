//! From paths to patterns: a `*` stands only where enough different values were seen.
//!
//! Values of a segment are merged where what follows them is the same, or where they are names of
//! single things (numbers, hashes, UUIDs). Invariant: every path is matched by a pattern.

use super::super::shape::shape;
use std::collections::{BTreeMap, BTreeSet};

/// A pattern, and the paths that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) paths: BTreeSet<String>,
}

/// Paths with the same beginning: what may come next, and which paths end here.
#[derive(Clone, Debug, Default)]
struct Tree {
    next: BTreeMap<String, Tree>,
    ends: BTreeSet<String>,
}

/// The patterns for these paths, in order. `merge`: so many values make a `*`.
pub(super) fn patterns(paths: &BTreeSet<String>, merge: Option<usize>) -> Vec<Pattern> {
    let mut tree = Tree::default();
    let mut patterns = Vec::new();
    for path in paths {
        match path.strip_prefix('/') {
            Some(rest) => tree.insert(rest, path),
            // `OPTIONS *`: nothing narrower names it.
            None => patterns
                .push(Pattern { text: "**".to_owned(), paths: BTreeSet::from([path.clone()]) }),
        }
    }
    if let Some(merge) = merge {
        tree.merge(merge.max(2));
    }
    tree.collect("", &mut patterns);
    patterns
}

impl Tree {
    fn insert(&mut self, rest: &str, path: &str) {
        let (segment, rest) = match rest.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (rest, None),
        };
        let next = self.next.entry(literal(segment)).or_default();
        match rest {
            Some(rest) => next.insert(rest, path),
            None => {
                next.ends.insert(path.to_owned());
            }
        }
    }

    fn merge(&mut self, least: usize) {
        self.next.values_mut().for_each(|next| next.merge(least));
        // An empty segment is no value of anything.
        let values = || self.next.keys().filter(|key| !key.is_empty());
        let single: BTreeSet<String> =
            values().filter(|key| shape(key).starts_with('*')).cloned().collect();
        self.join(&single, least);
        let mut alike: BTreeMap<BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
        for (key, next) in self.next.iter().filter(|(key, _)| !key.is_empty()) {
            alike.entry(next.form()).or_default().insert(key.clone());
        }
        for keys in alike.values() {
            self.join(keys, least);
        }
    }

    /// Makes one `*` of these values, if they are enough.
    fn join(&mut self, keys: &BTreeSet<String>, least: usize) {
        if keys.len() < least {
            return;
        }
        let mut joined = self.next.remove("*").unwrap_or_default();
        for key in keys {
            if let Some(next) = self.next.remove(key) {
                joined.add(next);
            }
        }
        joined.merge(least);
        self.next.insert("*".to_owned(), joined);
    }

    fn add(&mut self, other: Self) {
        self.ends.extend(other.ends);
        for (key, next) in other.next {
            self.next.entry(key).or_default().add(next);
        }
    }

    /// What it looks like from above: its patterns.
    fn form(&self) -> BTreeSet<String> {
        let mut patterns = Vec::new();
        self.collect("", &mut patterns);
        patterns.into_iter().map(|pattern| pattern.text).collect()
    }

    fn collect(&self, before: &str, into: &mut Vec<Pattern>) {
        if !self.ends.is_empty() {
            into.push(Pattern { text: before.to_owned(), paths: self.ends.clone() });
        }
        for (segment, next) in &self.next {
            next.collect(&format!("{before}/{segment}"), into);
        }
    }
}

/// A text as a glob that matches it alone.
pub(super) fn literal(text: &str) -> String {
    let mut glob = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '?' | '[' | '{' | '}' => glob.extend(['[', c, ']']),
            '\\' => glob.push_str("\\\\"),
            c => glob.push(c),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str], merge: Option<usize>) -> Vec<String> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        patterns(&paths, merge).into_iter().map(|pattern| pattern.text).collect()
    }

    #[test]
    fn a_star_needs_three_values_with_the_same_behind_them() {
        let three = ["/r/a/issues", "/r/b/issues", "/r/c/issues"];
        assert_eq!(of(&three, Some(3)), ["/r/*/issues"]);
        assert_eq!(of(&three[..2], Some(3)), ["/r/a/issues", "/r/b/issues"]);
        assert_eq!(of(&three, None), three);
        assert_eq!(of(&three, Some(4)), three);
        assert_eq!(of(&["/a/x", "/b/y", "/c/z"], Some(3)), ["/a/x", "/b/y", "/c/z"]);
        let things = ["/i/1/a", "/i/2/b", "/i/3/a"];
        assert_eq!(of(&things, Some(3)), ["/i/*/a", "/i/*/b"]);
        assert_eq!(of(&["/s/a/", "/s/b/", "/s/c/", "/s/"], Some(3)), ["/s/", "/s/*/"]);
    }

    #[test]
    fn what_looks_like_a_glob_is_taken_as_it_stands() {
        assert_eq!(of(&["/a*b/{x}/[y]"], None), ["/a[*]b/[{]x[}]/[[]y]"]);
        assert_eq!(of(&["*"], None), ["**"]);
        for path in ["/a*b/{x}/[y]", "/**", "/%5Bz%5D"] {
            let text = of(&[path], None).remove(0);
            let pattern = crate::policy::pattern::PathPattern::parse(&text).unwrap();
            assert!(pattern.matches(path) && !pattern.matches("/ab/x/y"), "{text}");
        }
    }
}
