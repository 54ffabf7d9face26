//! Do two path globs overlap, does one cover the other?
//!
//! Works on the globs as written. Both answers are given on the safe side of silence: `overlap`
//! may say yes where only an exotic class would say no, `covers` says yes only where it is sure.

use crate::addr::escaped;

/// A glob's alternates expanded, each as segments.
type Segments = Vec<Vec<String>>;

/// Whether some path may match both.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let b = segments(b);
    segments(a).iter().any(|a| b.iter().any(|b| segments_overlap(a, b)))
}

/// Whether every path that `narrow` matches is surely one that `wide` matches.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    let wide = segments(wide);
    segments(narrow).iter().all(|narrow| wide.iter().any(|wide| segments_cover(wide, narrow)))
}

/// Whether the path matches everything.
pub(super) fn is_everything(path: &str) -> bool {
    matches!(path, "**" | "/**")
}

fn segments(glob: &str) -> Segments {
    alternates(glob)
        .into_iter()
        .map(|glob| {
            let rest = glob.strip_prefix('/').unwrap_or(&glob);
            rest.split('/').map(str::to_owned).collect()
        })
        .collect()
}

/// Expands `{a,b}`, nested too. What has no partner stands for itself; beyond 256 alternates the
/// glob is taken as everything.
fn alternates(glob: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![glob.to_owned()];
    while let Some(next) = open.pop() {
        if done.len() + open.len() > 256 {
            return vec!["/**".to_owned()];
        }
        match first_braces(&next) {
            Some((start, end, choices)) => {
                for choice in choices {
                    open.push(format!("{}{choice}{}", &next[..start], &next[end..]));
                }
            }
            None => done.push(next),
        }
    }
    done
}

/// The first `{…}`: where it starts, where it ends, its choices.
fn first_braces(glob: &str) -> Option<(usize, usize, Vec<String>)> {
    let start = glob.find('{')?;
    let (mut depth, mut choices, mut choice) = (0usize, Vec::new(), String::new());
    for (i, c) in glob[start..].char_indices() {
        match c {
            '{' if depth == 0 => depth = 1,
            '}' if depth == 1 => {
                choices.push(choice);
                return Some((start, start + i + 1, choices));
            }
            ',' if depth == 1 => choices.push(std::mem::take(&mut choice)),
            c => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                choice.push(c);
            }
        }
    }
    None
}

fn segments_overlap(a: &[String], b: &[String]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([deep, rest @ ..], other) | (other, [deep, rest @ ..]) if deep == "**" => {
            // None of the other's segments, or one more of them.
            segments_overlap(rest, other)
                || other.split_first().is_some_and(|(_, fewer)| segments_overlap_after(a, b, fewer))
        }
        ([x, xs @ ..], [y, ys @ ..]) => text_overlap(x, y) && segments_overlap(xs, ys),
        ([], _) | (_, []) => false,
    }
}

/// One of the two starts with `**`; the other one goes on with `fewer`.
fn segments_overlap_after(a: &[String], b: &[String], fewer: &[String]) -> bool {
    if a.first().is_some_and(|first| first == "**") {
        segments_overlap(a, fewer)
    } else {
        segments_overlap(fewer, b)
    }
}

/// Two segment globs: is there a text that both match?
fn text_overlap(a: &str, b: &str) -> bool {
    let (a, b) = (tokens(a), tokens(b));
    // reach[j]: the first i tokens of a and the first j of b may match the same text.
    let mut reach = vec![vec![false; b.len() + 1]; a.len() + 1];
    reach[0][0] = true;
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if !reach[i][j] {
                continue;
            }
            if a.get(i) == Some(&Token::Star) {
                reach[i + 1][j] = true;
                if j < b.len() {
                    reach[i][j + 1] = true;
                }
            }
            if b.get(j) == Some(&Token::Star) {
                reach[i][j + 1] = true;
                if i < a.len() {
                    reach[i + 1][j] = true;
                }
            }
            if let (Some(x), Some(y)) = (a.get(i), b.get(j))
                && x.meets(*y)
            {
                reach[i + 1][j + 1] = true;
            }
        }
    }
    reach[a.len()][b.len()]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    /// `?` or a class.
    Any,
    Star,
}

impl Token {
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => a == b,
            (Self::Star, _) | (_, Self::Star) => false,
            // One that is escaped.
            (Self::Any, Self::One('/')) | (Self::One('/'), Self::Any) => false,
            (Self::Any, _) | (_, Self::Any) => true,
        }
    }
}

fn tokens(glob: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = glob.chars();
    loop {
        // An escape is the character that it stands for.
        if let Some((c, rest)) = escaped(chars.as_str()) {
            tokens.push(Token::One(c));
            chars = rest.chars();
            continue;
        }
        let Some(c) = chars.next() else { return tokens };
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => chars.next().map_or(Token::Any, Token::One),
            '[' => {
                class(&mut chars);
                Token::Any
            }
            c => Token::One(c),
        });
    }
}

/// Passes over a class: its first character may be a `]`.
fn class(chars: &mut std::str::Chars<'_>) {
    let mut first = true;
    for c in chars.by_ref() {
        match c {
            '!' | '^' if first => continue,
            ']' if !first => return,
            _ => first = false,
        }
    }
}

fn segments_cover(wide: &[String], narrow: &[String]) -> bool {
    match (wide, narrow) {
        ([], []) => true,
        // A last `**` wants one segment at least.
        ([deep], narrow) if deep == "**" => !narrow.is_empty(),
        ([deep, rest @ ..], narrow) if deep == "**" => {
            segments_cover(rest, narrow)
                || narrow.split_first().is_some_and(|(_, fewer)| segments_cover(wide, fewer))
        }
        ([w, ws @ ..], [n, ns @ ..]) => segment_covers(w, n) && segments_cover(ws, ns),
        ([], _) | (_, []) => false,
    }
}

fn segment_covers(wide: &str, narrow: &str) -> bool {
    if narrow == "**" {
        return false;
    }
    let plain = !narrow.contains(['*', '?', '[', '\\']);
    wide == "*" || wide == narrow || (plain && !wide.contains('[') && text_overlap(wide, narrow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_one_character() {
        assert!(!overlap("/a???b", "/a%20b") && !covers("/a???b", "/a%20b"));
        assert!(overlap("/a?b", "/a%20b") && covers("/a?b", "/a%20b"));
        assert!(overlap("/a?b", "/a%c3%A9b") && overlap("/aéb", "/a%C3%A9b"));
        assert!(!overlap("/a?b", "/a%2Fb") && overlap("/a*b", "/a%2Fb"));
    }

    #[test]
    fn a_star_stays_in_its_segment() {
        assert!(!overlap("/repos/*/pulls/*/reviews", "/repos/*/*/pulls/*/reviews"));
        assert!(overlap("/repos/*/pulls/*/reviews", "/repos/**"));
        assert!(overlap("/a/*", "/*/b"));
        assert!(!overlap("/a/*", "/a/b/c"));
        assert!(overlap("/**/x", "/a/**"));
        assert!(!overlap("/**/x", "/a/y"));
        assert!(overlap("/a{b,c*}", "/acd"));
        assert!(!overlap("/a{b,c*}", "/ad"));
        assert!(overlap("/x*z", "/xy*"));
        assert!(!overlap("/x*z", "/y*"));
    }

    #[test]
    fn covering_is_said_only_where_it_is_sure() {
        assert!(covers("/**", "/a/b"));
        assert!(covers("/repos/**", "/repos/*/*/pulls"));
        assert!(!covers("/repos/**", "/repos"));
        assert!(covers("/repos/*/*", "/repos/a/b*"));
        assert!(!covers("/repos/*", "/repos/**"));
        assert!(covers("/{a,b}/*", "/a/c"));
        assert!(covers("/a*", "/abc"));
        assert!(!covers("/a[bc]", "/ab"), "classes are not looked into");
    }
}
