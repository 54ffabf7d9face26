//! Patterns over values: query values, tool names, GraphQL names. No separator: `*` takes any
//! character.

use super::glob::{GlobError, Parsed, alternatives};
use super::language::{Language, Step};

/// A pattern over a whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TextPattern(Box<[Parsed]>);

/// What is wrong with a value pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct TextPatternError(#[from] GlobError);

impl TextPattern {
    /// Compiles a pattern.
    pub fn parse(pattern: &str) -> Result<Self, TextPatternError> {
        let parsed: Result<Box<[Parsed]>, GlobError> =
            alternatives(pattern)?.iter().map(|p| Parsed::parse(p)).collect();
        Ok(Self(parsed?))
    }

    /// Whether it matches the whole value.
    pub fn matches(&self, value: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(value))
    }

    /// Whether it matches every value.
    pub fn is_any(&self) -> bool {
        self.0.contains(&Parsed::Any)
    }

    /// The values that it matches.
    pub(in crate::policy) fn language(&self) -> Language {
        let mut language = Language::new(None);
        for pattern in &self.0 {
            let mut steps: Vec<Step> = Vec::new();
            pattern.steps(&mut steps);
            language.add(steps);
        }
        language
    }
}
