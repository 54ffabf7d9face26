//! Path patterns: literals, `*` and its kin inside a segment, `**` for whole segments.
//!
//! A request's path is canonical before it comes here, so a pattern is made canonical by the same
//! parser; a pattern that no canonical path could match is refused when it is read.

use super::glob::{self, GlobError, Parsed, alternatives};
use super::language::{Language, Step};
use crate::addr::{Path, PathError};
use std::borrow::Cow;

/// Characters that the path parser leaves as they are, and that hardly any pattern holds.
const STAND_INS: [char; 6] = ['|', '^', '`', '"', '<', '>'];

/// A pattern over a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    shape: Shape,
    written: Box<str>,
}

/// Equal patterns are written alike.
impl std::hash::Hash for PathPattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// `**`, `/**`: every path, also `*` (RFC 9112 §3.2.4).
    Everything,
    /// No metacharacter.
    Exact(Box<str>),
    /// The segments after the first `/`.
    Segments(Box<[Segment]>),
    /// `{a,b}`.
    Either(Box<[Shape]>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    /// `**`: any number of segments, none included.
    Deep,
    /// One segment.
    One(Parsed),
}

/// What is wrong with a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It does not start with `/`, and is not `**`.
    #[error("a path pattern starts with '/' (or is \"**\", every path)")]
    NotAbsolute,
    /// No canonical path matches it.
    #[error("{0}, and no path that is forwarded ever has one")]
    NeverForwarded(PathError),
    /// `[é]`, `[ a]`, `[%20]`.
    #[error(
        "a class in a path holds visible ASCII characters but `%` alone; write {{a,b}} for others"
    )]
    Class,
    /// A glob in it.
    #[error(transparent)]
    Glob(#[from] GlobError),
}

impl PathPattern {
    /// Compiles a pattern over request paths.
    pub fn parse(pattern: &str) -> Result<Self, PathPatternError> {
        if pattern == "**" {
            return Ok(Self::everything(pattern));
        }
        if odd_class(pattern) {
            return Err(PathPatternError::Class);
        }
        let encoded = encode(pattern);
        let read = |text: &str| match Path::parse(text) {
            Ok(path) => Ok(path.as_str().to_owned()),
            Err(PathError::NotAbsolute) => Err(PathPatternError::NotAbsolute),
            Err(error) => Err(PathPatternError::NeverForwarded(error)),
        };
        if !encoded.contains('?') {
            return Self::compile(&read(&encoded)?, pattern, true);
        }
        // One character here, the end of a path there: what the pattern lacks stands in for it.
        let stand_in = STAND_INS.into_iter().find(|c| !encoded.contains(*c));
        let stand_in = stand_in.ok_or(PathPatternError::NeverForwarded(PathError::BadEscape))?;
        let canonical = read(&encoded.replace('?', &stand_in.to_string()))?;
        Self::compile(&canonical.replace(stand_in, "?"), pattern, true)
    }

    /// Compiles a pattern over file names (executables): bytes as they are.
    pub fn parse_file(pattern: &str) -> Result<Self, PathPatternError> {
        if pattern == "**" {
            return Ok(Self::everything(pattern));
        }
        Self::compile(pattern, pattern, false)
    }

    fn everything(written: &str) -> Self {
        Self { shape: Shape::Everything, written: written.into() }
    }

    fn compile(pattern: &str, written: &str, escapes: bool) -> Result<Self, PathPatternError> {
        let mut shapes = Vec::new();
        for pattern in alternatives(pattern)? {
            shapes.push(shape(&pattern, escapes)?);
        }
        if shapes.contains(&Shape::Everything) {
            return Ok(Self::everything(written));
        }
        let shape = match <[Shape; 1]>::try_from(shapes) {
            Ok([shape]) => shape,
            Err(shapes) => Shape::Either(shapes.into()),
        };
        Ok(Self { shape, written: written.into() })
    }

    /// The pattern as it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether it matches the path.
    pub fn matches(&self, path: &str) -> bool {
        self.shape.matches(path)
    }

    /// The paths that it matches (besides `*`, which is everything's alone).
    pub(in crate::policy) fn language(&self) -> Language {
        let mut language = Language::new(Some('/'));
        self.shape.add_to(&mut language);
        language
    }

    /// Whether it matches every path.
    pub fn is_everything(&self) -> bool {
        self.shape == Shape::Everything
    }
}

/// Whether a class holds what a path holds escaped alone, or spells an escape.
fn odd_class(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '[' => match glob::class(&mut chars) {
                Ok(class) if class.all(|c| c.is_ascii_graphic() && c != '%') => {}
                Ok(_) => return true,
                // Said where it is compiled.
                Err(_) => return false,
            },
            _ => {}
        }
    }
    false
}

/// What no request path holds raw: spaces and what lies outside ASCII.
fn encode(pattern: &str) -> Cow<'_, str> {
    if pattern.bytes().all(|b| b.is_ascii() && b != b' ') {
        return Cow::Borrowed(pattern);
    }
    let mut encoded = String::with_capacity(pattern.len());
    for byte in pattern.bytes() {
        match byte {
            0x80.. | b' ' => encoded.push_str(&format!("%{byte:02X}")),
            byte => encoded.push(char::from(byte)),
        }
    }
    Cow::Owned(encoded)
}

impl Shape {
    fn add_to(&self, language: &mut Language) {
        match self {
            Self::Everything => language.add([Step::All]),
            Self::Exact(text) => language.add(text.chars().map(Step::Char)),
            Self::Segments(segments) => language.add(steps(segments)),
            Self::Either(shapes) => shapes.iter().for_each(|shape| shape.add_to(language)),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Exact(exact) => **exact == *path,
            Self::Segments(segments) => {
                path.strip_prefix('/').is_some_and(|rest| walk(segments, rest))
            }
            Self::Either(shapes) => shapes.iter().any(|shape| shape.matches(path)),
        }
    }
}

fn shape(pattern: &str, escapes: bool) -> Result<Shape, PathPatternError> {
    let rest = pattern.strip_prefix('/').ok_or(PathPatternError::NotAbsolute)?;
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        if segment == "**" {
            if segments.last() != Some(&Segment::Deep) {
                segments.push(Segment::Deep);
            }
        } else {
            let parsed = if escapes { Parsed::parse_escaped } else { Parsed::parse };
            segments.push(Segment::One(parsed(segment)?));
        }
    }
    if segments == [Segment::Deep] {
        return Ok(Shape::Everything);
    }
    if segments.iter().all(|segment| matches!(segment, Segment::One(Parsed::Exact(_)))) {
        let unescaped: Vec<&str> = segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::One(Parsed::Exact(text)) => Some(&**text),
                _ => None,
            })
            .collect();
        return Ok(Shape::Exact(format!("/{}", unescaped.join("/")).into()));
    }
    // A last `**` wants one segment at least: "/repos/**" is not "/repos".
    if segments.last() == Some(&Segment::Deep) {
        segments.insert(segments.len() - 1, Segment::One(Parsed::Any));
    }
    Ok(Shape::Segments(segments.into()))
}

/// Matches segments against what follows the first `/`. A `**` that fails is retried one segment
/// further; only the last one needs to be, since the others may keep the least they can.
fn walk(segments: &[Segment], rest: &str) -> bool {
    let (mut at, mut rest) = (0, Some(rest));
    let mut retry: Option<(usize, &str)> = None;
    loop {
        match (segments.get(at), rest) {
            (None, None) => return true,
            (Some(Segment::Deep), _) => {
                at += 1;
                if at == segments.len() {
                    return true;
                }
                retry = rest.map(|rest| (at, rest));
                continue;
            }
            (Some(Segment::One(pattern)), Some(text)) => {
                let (segment, next) = first(text);
                if pattern.matches(segment) {
                    (at, rest) = (at + 1, next);
                    continue;
                }
            }
            (None, Some(_)) | (Some(Segment::One(_)), None) => {}
        }
        let Some((deep, from)) = retry else { return false };
        let (_, Some(next)) = first(from) else { return false };
        (at, rest) = (deep, Some(next));
        retry = Some((deep, next));
    }
}

/// As [`walk`] goes: each segment but the first has the separator before it, unless a `**` took it.
fn steps(segments: &[Segment]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut separated = false;
    for (i, segment) in segments.iter().enumerate() {
        match segment {
            Segment::Deep if i + 1 == segments.len() => steps.extend([Step::Rest, Step::All]),
            Segment::Deep => {
                if !separated {
                    steps.push(Step::Char('/'));
                }
                steps.extend([Step::Deep, Step::Within]);
                separated = true;
            }
            Segment::One(pattern) => {
                if !separated {
                    steps.push(Step::Char('/'));
                }
                pattern.steps(&mut steps);
                separated = false;
            }
        }
    }
    steps
}

fn first(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (text, None),
    }
}
