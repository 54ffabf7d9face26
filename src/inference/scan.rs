//! JSON read byte by byte as it goes by: only the few numbers and words that say what an answer
//! cost, wherever the chunks break, in constant memory.
//!
//! A place is told by its whole path from the root: what a model writes (the arguments of a tool
//! call are JSON too) is never taken for what the provider says.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact<'a> {
    /// A whole number under a name, in a place that counts.
    Number(Place, &'a [u8], u64),
    /// A string under `id` at the root, or in the response of an event.
    Id(&'a [u8]),
    /// A string under `status` there.
    Status(&'a [u8]),
    /// Bytes of text that the model made.
    Text(usize),
    /// Bytes that it may have made: text under a name that is not known, and all that stands in the arguments
    /// of a tool call.
    Other(usize),
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An object that is the whole document, or an element of an array that is.
    Root,
    /// An array that is the whole document.
    List,
    /// `usage`, which says what it cost.
    Usage,
    /// `usage` in the `message` that opens a stream: what it will cost is not known yet.
    Opening,
    /// `response`, the whole answer inside an event.
    Response,
    /// `message`.
    Message,
    /// Anywhere else.
    Other,
}

/// The longest name or word that is kept; a response's id is 53 bytes.
const WORD: usize = 96;
/// How deep places are told apart, and objects from arrays.
const PLACES: usize = 4;
const KINDS: u32 = 64;

/// The reader of one JSON document.
#[derive(Debug)]
pub(super) struct Scan {
    state: State,
    depth: u32,
    /// Bit `n`: the container at depth `n + 1` is an object.
    objects: u64,
    places: [Place; PLACES],
    /// The next string is a member's name.
    names: bool,
    /// The name of the member whose value is read.
    name: Word,
    /// The string or number that is read.
    word: Word,
    /// Bytes of the string that is read.
    length: usize,
    /// How deep a container stands in which a model wrote all: its names too. 0: none does.
    written: u32,
    /// How deep the response inside an event stands, which repeats the request. 0: there is none.
    repeated: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    Text,
    Escape,
    Number,
}

/// A short run of bytes; one that grows too long is no word.
#[derive(Clone, Copy, Debug)]
struct Word {
    bytes: [u8; WORD],
    len: u8,
}

impl Word {
    const EMPTY: Self = Self { bytes: [0; WORD], len: 0 };
    const TOO_LONG: u8 = u8::MAX;

    fn push(&mut self, bytes: &[u8]) {
        let len = usize::from(self.len);
        match self.bytes.get_mut(len..len + bytes.len()) {
            Some(room) if self.len != Self::TOO_LONG => {
                room.copy_from_slice(bytes);
                self.len += u8::try_from(bytes.len()).unwrap_or(0);
            }
            _ => self.len = Self::TOO_LONG,
        }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(b"")
    }
}

impl Scan {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Between,
            depth: 0,
            objects: 0,
            places: [Place::Other; PLACES],
            names: false,
            name: Word::EMPTY,
            word: Word::EMPTY,
            length: 0,
            written: 0,
            repeated: 0,
        }
    }

    /// Begins another document.
    pub(super) fn reset(&mut self) {
        self.state = State::Between;
        self.depth = 0;
        self.names = false;
        self.name.len = 0;
        self.word.len = 0;
        (self.written, self.repeated) = (0, 0);
    }

    /// Reads on.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Fact<'_>)) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let (before, written) = (rest.len(), self.written > 0);
            rest = match self.state {
                State::Between => {
                    self.between(byte);
                    &rest[1..]
                }
                State::Escape => {
                    self.state = State::Text;
                    self.take(&rest[..1]);
                    &rest[1..]
                }
                State::Text => self.text(rest, found),
                State::Number if matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') => {
                    self.word.push(&rest[..1]);
                    &rest[1..]
                }
                State::Number => {
                    self.number(found);
                    rest
                }
            };
            if written && rest.len() < before {
                found(Fact::Other(before - rest.len()));
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'}' | b']' => {
                for depth in [&mut self.written, &mut self.repeated] {
                    if *depth >= self.depth {
                        *depth = 0;
                    }
                }
                self.depth = self.depth.saturating_sub(1);
                self.names = false;
                self.name.len = 0;
            }
            b',' => {
                self.names = self.in_object();
                self.name.len = 0;
            }
            b':' => self.names = false,
            b'"' => {
                self.state = State::Text;
                self.word.len = 0;
                self.length = 0;
            }
            b'0'..=b'9' => {
                self.state = State::Number;
                self.word.len = 0;
                self.word.push(&[byte]);
            }
            _ => {}
        }
    }

    fn in_object(&self) -> bool {
        (1..=KINDS).contains(&self.depth) && self.objects & 1 << (self.depth - 1) != 0
    }

    fn open(&mut self, object: bool) {
        let place = self.inner(object);
        if let Some(slot) = self.places.get_mut(self.depth as usize) {
            *slot = place;
        }
        if self.depth < KINDS {
            let bit = 1 << self.depth;
            self.objects = if object { self.objects | bit } else { self.objects & !bit };
        }
        self.depth = self.depth.saturating_add(1);
        if self.written == 0 && self.repeated == 0 {
            if place == Place::Response {
                self.repeated = self.depth;
            } else if matches!(self.name.get(), b"arguments" | b"args" | b"input") {
                self.written = self.depth;
            }
        }
        self.names = object;
        self.name.len = 0;
    }

    /// The place of a container that is opened under the present name.
    fn inner(&self, object: bool) -> Place {
        if self.depth == 0 {
            return if object { Place::Root } else { Place::List };
        }
        match (self.place(), self.name.get()) {
            (Place::List, _) if object => Place::Root,
            (Place::Root, b"usage" | b"usageMetadata") | (Place::Response, b"usage") if object => {
                Place::Usage
            }
            (Place::Root, b"response") if object => Place::Response,
            (Place::Root, b"message") if object => Place::Message,
            (Place::Message, b"usage") if object => Place::Opening,
            _ => Place::Other,
        }
    }

    fn place(&self) -> Place {
        let at = (self.depth as usize).wrapping_sub(1);
        self.places.get(at).copied().unwrap_or(Place::Other)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.names || matches!(self.name.get(), b"id" | b"status") {
            self.word.push(bytes);
        }
    }

    /// Reads on in a string, to its end or an escape.
    fn text<'a>(&mut self, rest: &'a [u8], found: &mut impl FnMut(Fact<'_>)) -> &'a [u8] {
        let end = rest.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(rest.len());
        self.take(&rest[..end]);
        let Some(last) = rest.get(end) else { return &[] };
        if *last == b'\\' {
            self.state = State::Escape;
            return &rest[end + 1..];
        }
        self.state = State::Between;
        if self.names {
            self.name = self.word;
        } else if self.written > 0 {
            // Counted as it is read.
        } else if made(self.name.get()) {
            found(Fact::Text(self.length));
        } else if self.repeated == 0 && !said(self.name.get()) {
            found(Fact::Other(self.length));
        } else if matches!(self.place(), Place::Root | Place::Response) {
            match self.name.get() {
                b"id" => found(Fact::Id(self.word.get())),
                b"status" => found(Fact::Status(self.word.get())),
                _ => {}
            }
        }
        &rest[end + 1..]
    }

    /// A number has ended. One that is not whole counts for nothing.
    fn number(&mut self, found: &mut impl FnMut(Fact<'_>)) {
        self.state = State::Between;
        let place = self.place();
        if matches!(place, Place::Root | Place::Usage | Place::Opening)
            && let Ok(number) = std::str::from_utf8(self.word.get()).unwrap_or("").parse()
        {
            found(Fact::Number(place, self.name.get(), number));
        }
    }
}

/// Whether strings under this name are text that a model made: what an estimate counts.
fn made(name: &[u8]) -> bool {
    matches!(
        name,
        b"content"
            | b"text"
            | b"delta"
            | b"arguments"
            | b"partial_json"
            | b"thinking"
            | b"reasoning"
            | b"reasoning_content"
            | b"refusal"
            | b"response"
    )
}

/// Whether strings under this name are what a provider says of an answer.
fn said(name: &[u8]) -> bool {
    matches!(
        name,
        b"id"
            | b"object"
            | b"model"
            | b"type"
            | b"role"
            | b"name"
            | b"status"
            | b"phase"
            | b"event"
            | b"created_at"
            | b"createTime"
            | b"system_fingerprint"
            | b"service_tier"
            | b"finish_reason"
            | b"finishReason"
            | b"stop_reason"
            | b"stop_sequence"
            | b"done_reason"
            | b"event_id"
            | b"item_id"
            | b"response_id"
            | b"responseId"
            | b"modelVersion"
            | b"call_id"
            | b"tool_call_id"
            | b"tool_use_id"
            | b"obfuscation"
            | b"signature"
            | b"thoughtSignature"
            | b"encrypted_content"
            | b"category"
            | b"probability"
            | b"severity"
            | b"trafficType"
            | b"modality"
            | b"provider"
            | b"token"
            | b"b64_json"
            | b"blockReason"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(chunks: &[&[u8]]) -> Vec<String> {
        let mut scan = Scan::new();
        let mut all: Vec<String> = Vec::new();
        for chunk in chunks {
            scan.feed(chunk, &mut |fact| {
                let line = match fact {
                    Fact::Number(place, name, number) => {
                        format!("{place:?} {} {number}", String::from_utf8_lossy(name))
                    }
                    Fact::Id(id) => format!("id {}", String::from_utf8_lossy(id)),
                    Fact::Status(status) => format!("status {}", String::from_utf8_lossy(status)),
                    Fact::Text(length) => format!("text {length}"),
                    Fact::Other(length) => {
                        // However it is cut.
                        let before = all.pop_if(|last| last.starts_with("other "));
                        let before = before.map_or(0, |line| line[6..].parse::<usize>().unwrap());
                        format!("other {}", before + length)
                    }
                };
                all.push(line);
            });
        }
        all
    }

    const ANSWER: &[u8] = br#"{"id":"resp_1","x":[{"usage":{"n":1}},{"a":"\"usage\":{\"n\":2}"}],
        "arguments":{"usage":{"output_tokens":0}},"content":"a\"b\u00e9",
        "usage" : { "input_tokens":12,"d":{"n":3},"f":1.5,"g":2e3,"output_tokens": 34}}"#;

    #[test]
    fn what_counts_is_told_from_what_a_model_wrote() {
        assert_eq!(
            facts(&[ANSWER]),
            ["id resp_1", "other 43", "text 8", "Usage input_tokens 12", "Usage output_tokens 34"]
        );
    }

    #[test]
    fn chunks_may_break_anywhere() {
        let whole = facts(&[ANSWER]);
        for at in 0..ANSWER.len() {
            let (one, two) = ANSWER.split_at(at);
            assert_eq!(facts(&[one, two]), whole, "broken at {at}");
        }
        let bytes: Vec<&[u8]> = ANSWER.chunks(1).collect();
        assert_eq!(facts(&bytes), whole);
    }

    #[test]
    fn places_are_told_by_the_whole_path() {
        let of = |text: &str| facts(&[text.as_bytes()]);
        assert_eq!(of(r#"{"response":{"usage":{"n":1},"id":"r"}}"#), ["Usage n 1", "id r"]);
        assert_eq!(of(r#"{"message":{"usage":{"n":1},"id":"m"}}"#), ["Opening n 1"]);
        assert_eq!(
            of(r#"[{"usageMetadata":{"n":1}},{"usageMetadata":{"n":2}}]"#),
            ["Usage n 1", "Usage n 2"]
        );
        assert_eq!(of(r#"{"content":[{"usage":{"n":1}}],"eval_count":7}"#), ["Root eval_count 7"]);
        assert!(of(r#"{"message":{"message":{"usage":{"n":1}}}}"#).is_empty());
        assert!(of(r#"{"usage":[{"n":1}]}"#).is_empty());
        let deep = format!("{}{{\"usage\":{{\"n\":1}}}}", "[".repeat(100));
        assert!(of(&deep).is_empty());
        // A word as long as can be, and longer.
        let long = format!(r#"{{"usage":{{"{}":1,"n":2}}}}"#, "k".repeat(500));
        assert_eq!(of(&long), ["Usage  1", "Usage n 2"]);
    }
}
