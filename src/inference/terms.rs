//! What a call says of its cost and of what follows it: the most that a model may write, and whether it
//! works on when the client has gone.
//!
//! Read for the budget, never changed. Of members that stand there twice, or in two spellings, the
//! dearer one counts.

use super::call::Work;
use super::members::{each_element, each_member};
use super::shape::Shape;
use serde_json::value::RawValue;

/// What a call that states no limit is taken to write, in tokens.
const UNSTATED: u64 = 4096;
/// The same of one that is worked on in the background, where nobody sees it come: as much as any
/// model writes at once.
const UNSEEN: u64 = 131_072;

/// The terms of one body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// The limit for text.
    text: Option<u64>,
    /// The limit of OpenAI's responses.
    response: Option<u64>,
    /// How many answers are asked for.
    times: Option<u64>,
    /// How many prompts there are, where there is a list of them.
    prompts: Option<u64>,
    /// It is worked on in the background.
    pub(super) background: bool,
}

impl Terms {
    /// Notes a member of the body's root, whatever its spelling.
    pub(super) fn note(&mut self, shape: Shape, name: &str, value: &RawValue) {
        let is = |names: &[&str]| names.iter().any(|each| same_name(name, each));
        match shape {
            Shape::OpenAi if is(&["max_tokens", "max_completion_tokens"]) => {
                raise(&mut self.text, number(value));
            }
            Shape::OpenAi if is(&["max_output_tokens"]) => raise(&mut self.response, number(value)),
            Shape::OpenAi if is(&["n", "best_of"]) => raise(&mut self.times, number(value)),
            Shape::OpenAi if is(&["prompt"]) => raise(&mut self.prompts, Some(prompts(value))),
            Shape::OpenAi if is(&["background"]) => {
                self.background |= !matches!(value.get(), "false" | "null");
            }
            Shape::Anthropic if is(&["max_tokens"]) => raise(&mut self.text, number(value)),
            Shape::Gemini if is(&["generationConfig", "generation_config"]) => {
                self.nested(
                    value,
                    &[
                        ("maxOutputTokens", false),
                        ("max_output_tokens", false),
                        ("candidateCount", true),
                        ("candidate_count", true),
                    ],
                );
            }
            Shape::Ollama if is(&["options"]) => self.nested(value, &[("num_predict", false)]),
            Shape::OpenAi | Shape::Anthropic | Shape::Gemini | Shape::Ollama => {}
        }
    }

    /// Notes members one level down: `true` where it says how many answers.
    fn nested(&mut self, value: &RawValue, names: &[(&str, bool)]) {
        each_member(value.get(), |name, value| {
            for (each, times) in names {
                if same_name(name, each) {
                    let slot = if *times { &mut self.times } else { &mut self.text };
                    raise(slot, number(value));
                }
            }
        });
    }

    /// The most that a model may write for `work`, as far as it is said, in tokens.
    pub(super) fn output(&self, work: Work) -> u64 {
        let (limit, times) = match work {
            Work::Text => (self.text, self.times.unwrap_or(1).max(1)),
            Work::Response => (self.response, 1),
            Work::Embedding | Work::Free => return 0,
        };
        let unstated = if self.background { UNSEEN } else { UNSTATED };
        let prompts = self.prompts.unwrap_or(1).max(1);
        limit.unwrap_or(unstated).saturating_mul(times).saturating_mul(prompts)
    }
}

/// Whether a reader could take `name` for `wanted`, which is in small ASCII letters but for its
/// spelling: without regard to case, as Go's does (it folds U+017F and U+212A too).
pub(super) fn same_name(name: &str, wanted: &str) -> bool {
    let folded = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(folded).eq(wanted.chars().map(folded))
}

/// How many prompts there are: a list of texts or of lists of tokens is many, a list of tokens one.
fn prompts(value: &RawValue) -> u64 {
    let mut many = 0;
    let read = each_element(value, |prompt| {
        many += u64::from(prompt.get().starts_with(['"', '[']));
    });
    if read { many.max(1) } else { 1 }
}

/// A limit that is a whole number. Others (Ollama's -1) are none.
fn number(value: &RawValue) -> Option<u64> {
    serde_json::from_str(value.get()).ok()
}

fn raise(slot: &mut Option<u64>, number: Option<u64>) {
    // A limit that is none, beside one that is: nobody knows which one counts.
    let number = number.unwrap_or(UNSTATED);
    *slot = Some(slot.map_or(number, |had| had.max(number)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Body, BodyError};
    use bytes::Bytes;

    fn output(shape: Shape, work: Work, text: &'static str) -> u64 {
        Body::read(Bytes::from_static(text.as_bytes()), shape).unwrap().output(work)
    }

    #[test]
    fn each_shape_says_its_limit_in_its_own_way() {
        use {Shape::*, Work::*};
        for (shape, work, text, tokens) in [
            (OpenAi, Text, r#"{"max_tokens":10}"#, 10),
            (OpenAi, Text, r#"{"max_tokens":10,"max_completion_tokens":20,"n":3}"#, 60),
            (OpenAi, Response, r#"{"max_output_tokens":7,"max_tokens":1,"n":9}"#, 7),
            (Anthropic, Text, r#"{"max_tokens":32000}"#, 32_000),
            (Gemini, Text, r#"{"generationConfig":{"maxOutputTokens":5,"candidateCount":2}}"#, 10),
            (Gemini, Text, r#"{"generation_config":{"max_output_tokens":6}}"#, 6),
            (Ollama, Text, r#"{"options":{"num_predict":8}}"#, 8),
            (OpenAi, Text, r#"{"max_tokens":10,"prompt":"a"}"#, 10),
            (OpenAi, Text, r#"{"max_tokens":10,"prompt":[1,2,3]}"#, 10),
            (OpenAi, Text, r#"{"max_tokens":10,"prompt":["a","b","c"],"n":2}"#, 60),
            (OpenAi, Text, r#"{"max_tokens":10,"prompt":[[1],[2]]}"#, 20),
            (OpenAi, Text, r#"{"max_tokens":10,"prompt":[1,"a","b"]}"#, 20),
            (OpenAi, Response, r#"{"background":true}"#, UNSEEN),
            (OpenAi, Response, r#"{"background":true,"max_output_tokens":5}"#, 5),
            (OpenAi, Embedding, r#"{"max_tokens":10}"#, 0),
            (OpenAi, Free, "{}", 0),
        ] {
            assert_eq!(output(shape, work, text), tokens, "{text}");
        }
    }

    #[test]
    fn what_states_no_limit_or_hides_it_is_taken_for_more() {
        use {Shape::*, Work::*};
        for (shape, work, text) in [
            (OpenAi, Text, "{}"),
            (OpenAi, Response, r#"{"max_tokens":1}"#),
            (OpenAi, Text, r#"{"max_tokens":1,"Max_Tokens":4096}"#),
            (OpenAi, Text, r#"{"max_tokens":1,"max_tokens":4096}"#),
            (OpenAi, Text, r#"{"max_tokens":null}"#),
            (OpenAi, Text, r#"{"max_tokens":"1"}"#),
            (OpenAi, Text, r#"{"max_tokens":4096,"n":0}"#),
            (Ollama, Text, r#"{"max_tokens":1,"options":{"num_predict":-1}}"#),
            (Ollama, Text, r#"{"options":{"num_predict":4096,"num_predict":1}}"#),
            (
                Ollama,
                Text,
                "{\"options\":{\"num_predict\":1},\"option\u{17f}\":{\"num_predict\":4096}}",
            ),
            (Gemini, Text, r#"{"max_tokens":1,"generationConfig":[]}"#),
        ] {
            assert_eq!(output(shape, work, text), UNSTATED, "{text}");
        }
        let much = r#"{"max_tokens":18446744073709551615,"n":18446744073709551615}"#;
        assert_eq!(output(OpenAi, Text, much), u64::MAX);
    }

    #[test]
    fn what_goes_on_without_its_client_and_what_it_follows() {
        let body = |text: &'static str| {
            Body::read(Bytes::from_static(text.as_bytes()), Shape::OpenAi).unwrap()
        };
        for (text, background) in [
            (r#"{"background":true}"#, true),
            (r#"{"background":1}"#, true),
            (r#"{"background":false,"Background":true}"#, true),
            ("{\"bac\u{212a}ground\":true}", true),
            (r#"{"background":false}"#, false),
            (r#"{"background":null}"#, false),
            ("{}", false),
        ] {
            assert_eq!(body(text).in_background(), background, "{text}");
        }
        let follows = |text| body(text).follows().map(str::to_owned);
        assert_eq!(follows(r#"{"previous_response_id":"resp_1"}"#).as_deref(), Some("resp_1"));
        assert_eq!(follows(r#"{"previous_response_id":7}"#).as_deref(), Some(""));
        assert_eq!(follows(r#"{"previous_response_id":null}"#), None);
        // One would be looked up, and another gone on from.
        for twice in [
            r#"{"previous_response_id":"resp_1","previous_response_id":"resp_2"}"#,
            r#"{"previous_response_id":"resp_1","Previous_Response_Id":"resp_2"}"#,
            r#"{"previous_response_id":null,"previous_response_id":"resp_2"}"#,
            r#"{"Previous_response_id":"resp_2"}"#,
            "{\"previou\u{17f}_response_id\":\"resp_1\"}",
        ] {
            let read = Body::read(Bytes::from_static(twice.as_bytes()), Shape::OpenAi);
            assert_eq!(read.unwrap_err(), BodyError::Twice("previous_response_id"), "{twice}");
        }
    }
}
