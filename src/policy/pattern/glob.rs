//! The smallest matcher: one glob over one stretch of text without separators (a label, a path
//! segment, a query value).
//!
//! Owns `*`, `?`, `[a-z]`, `[!a]`, `\x` and the expansion of `{a,b*}`. Invariant: matching is
//! linear in text times pattern and allocates nothing.

use super::language::Step;
use crate::addr::escaped;

/// At most this many alternatives may one pattern stand for.
const MOST_ALTERNATIVES: usize = 256;

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) struct Glob {
    tokens: Box<[Token]>,
    /// An escape (RFC 3986 §2.1) in the text is the one character that it stands for.
    escapes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Token {
    Text(Box<str>),
    Star,
    One,
    Class { negated: bool, ranges: Box<[(char, char)]> },
}

/// What is wrong with a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// `[` without `]`.
    #[error("a '[' is never closed; write \"[[]\" for the character itself")]
    Class,
    /// `[b-a]`.
    #[error("a range in a class runs backwards")]
    Range,
    /// `{` without `}`, or the other way round.
    #[error("a '{{' or '}}' has no partner; write \"[{{]\" for the character itself")]
    Alternates,
    /// It stands for more patterns than anyone can read.
    #[error("the alternates stand for more than 256 patterns; write several rules")]
    TooMany,
    /// A trailing `\`.
    #[error("a '\\' at the end escapes nothing")]
    Escape,
}

/// What a glob turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum Parsed {
    /// No metacharacters: compare.
    Exact(Box<str>),
    /// Only stars.
    Any,
    /// Anything else.
    Glob(Glob),
}

impl Parsed {
    /// Compiles one glob without alternates.
    pub(in crate::policy) fn parse(pattern: &str) -> Result<Self, GlobError> {
        Self::parse_over(pattern, false)
    }

    /// The same, over text in which escapes are characters.
    pub(super) fn parse_escaped(pattern: &str) -> Result<Self, GlobError> {
        Self::parse_over(pattern, true)
    }

    fn parse_over(pattern: &str, escapes: bool) -> Result<Self, GlobError> {
        if !pattern.contains(['*', '?', '[', '\\']) {
            return Ok(Self::Exact(pattern.into()));
        }
        let mut tokens = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' => Token::Star,
                '?' => Token::One,
                '[' => class(&mut chars)?,
                '\\' => {
                    text.push(chars.next().ok_or(GlobError::Escape)?);
                    continue;
                }
                c => {
                    text.push(c);
                    continue;
                }
            };
            if !text.is_empty() {
                tokens.push(Token::Text(std::mem::take(&mut text).into()));
            }
            if token != Token::Star || tokens.last() != Some(&Token::Star) {
                tokens.push(token);
            }
        }
        if tokens.is_empty() {
            return Ok(Self::Exact(text.into()));
        }
        if !text.is_empty() {
            tokens.push(Token::Text(text.into()));
        }
        if tokens == [Token::Star] {
            return Ok(Self::Any);
        }
        Ok(Self::Glob(Glob { tokens: tokens.into(), escapes }))
    }

    /// Whether it matches the whole text.
    pub(in crate::policy) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Any => true,
            Self::Glob(glob) => glob.matches(text),
        }
    }
}

impl Glob {
    /// The glob as steps of a language.
    pub(super) fn steps(&self, out: &mut Vec<Step>) {
        for token in &self.tokens {
            match token {
                Token::Text(text) => out.extend(text.chars().map(Step::Char)),
                Token::Star => out.push(Step::Star),
                Token::One => out.push(Step::One),
                Token::Class { negated, ranges } => {
                    out.push(Step::Class { negated: *negated, ranges: ranges.clone() });
                }
            }
        }
    }

    /// Whether it matches the whole text. A star that fails is retried one character further.
    pub(in crate::policy) fn matches(&self, text: &str) -> bool {
        let (mut at, mut rest) = (0, text);
        let mut retry: Option<(usize, &str)> = None;
        loop {
            match self.tokens.get(at) {
                None if rest.is_empty() => return true,
                Some(Token::Star) => {
                    at += 1;
                    if at == self.tokens.len() {
                        return true;
                    }
                    retry = Some((at, rest));
                    continue;
                }
                Some(token) => {
                    if let Some(next) = token.eat(rest, self.escapes) {
                        (at, rest) = (at + 1, next);
                        continue;
                    }
                }
                None => {}
            }
            let Some((star, from)) = retry else { return false };
            let Some(fewer) = one_less(from, self.escapes) else { return false };
            (at, rest) = (star, fewer);
            retry = Some((star, rest));
        }
    }
}

impl Token {
    /// Whether all that a class names is `wanted`.
    pub(super) fn all(&self, wanted: impl Fn(char) -> bool) -> bool {
        let Self::Class { ranges, .. } = self else { return true };
        ranges.iter().all(|(low, high)| wanted(*low) && wanted(*high))
    }

    fn eat<'t>(&self, text: &'t str, escapes: bool) -> Option<&'t str> {
        let one = |wanted: &dyn Fn(char) -> bool| {
            if escapes && let Some((c, rest)) = escaped(text) {
                // A slash that is escaped no glob of one segment stands for.
                return (c != '/' && wanted(c)).then_some(rest);
            }
            let mut chars = text.chars();
            chars.next().filter(|c| wanted(*c)).map(|_| chars.as_str())
        };
        match self {
            Self::Text(exact) => text.strip_prefix(&**exact),
            Self::Star => None,
            Self::One => one(&|_| true),
            Self::Class { negated, ranges } => {
                one(&|c| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated)
            }
        }
    }
}

/// What follows the first character.
fn one_less(text: &str, escapes: bool) -> Option<&str> {
    if escapes && let Some((_, rest)) = escaped(text) {
        return Some(rest);
    }
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

/// The rest of a class, after its `[`.
pub(super) fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, GlobError> {
    let mut peeked = chars.as_str().chars();
    let negated = matches!(peeked.next(), Some('!' | '^'));
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = chars.next().ok_or(GlobError::Class)?;
        if low == ']' && !ranges.is_empty() {
            return Ok(Token::Class { negated, ranges: ranges.into() });
        }
        let mut ahead = chars.as_str().chars();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                chars.next();
                chars.next();
                high
            }
            _ => low,
        };
        if low > high {
            return Err(GlobError::Range);
        }
        ranges.push((low, high));
    }
}

/// The patterns without alternates that `pattern` stands for (itself, where it has none).
pub(in crate::policy) fn alternatives(pattern: &str) -> Result<Vec<String>, GlobError> {
    if !pattern.contains(['{', '}']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        match group(&pattern)? {
            None => done.push(pattern),
            Some((before, choices, after)) => {
                open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
            }
        }
        if done.len() + open.len() > MOST_ALTERNATIVES {
            return Err(GlobError::TooMany);
        }
    }
    Ok(done)
}

type Group<'p> = (&'p str, Vec<&'p str>, &'p str);

/// The first group of alternates: what stands before it, its choices, what stands after it.
fn group(pattern: &str) -> Result<Option<Group<'_>>, GlobError> {
    let mut depth = 0_usize;
    let mut start = 0;
    let mut choice = 0;
    let mut choices = Vec::new();
    let mut marks = Marks { rest: pattern.char_indices() };
    while let Some((i, mark)) = marks.next()? {
        match mark {
            '{' => {
                if depth == 0 {
                    (start, choice) = (i, i + 1);
                }
                depth += 1;
            }
            ',' if depth == 1 => {
                choices.push(&pattern[choice..i]);
                choice = i + 1;
            }
            '}' if depth == 0 => return Err(GlobError::Alternates),
            '}' => {
                depth -= 1;
                if depth == 0 {
                    choices.push(&pattern[choice..i]);
                    return Ok(Some((&pattern[..start], choices, &pattern[i + 1..])));
                }
            }
            _ => {}
        }
    }
    if depth == 0 { Ok(None) } else { Err(GlobError::Alternates) }
}

/// The characters of a pattern that are neither escaped nor inside a class.
struct Marks<'p> {
    rest: std::str::CharIndices<'p>,
}

impl Marks<'_> {
    fn next(&mut self) -> Result<Option<(usize, char)>, GlobError> {
        match self.rest.next() {
            Some((_, '\\')) => {
                self.rest.next().ok_or(GlobError::Escape)?;
                self.next()
            }
            Some((_, '[')) => {
                let mut chars = self.rest.as_str().chars();
                class(&mut chars)?;
                let skip = self.rest.as_str().len() - chars.as_str().len();
                let until = self.rest.offset() + skip;
                while self.rest.offset() < until {
                    self.rest.next();
                }
                self.next()
            }
            other => Ok(other),
        }
    }
}
