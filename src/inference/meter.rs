//! What an answer cost, read from a tee: plain JSON, newline-delimited JSON, server-sent events.
//!
//! The bytes are never held back or changed, and a meter's size does not grow with the answer.
//! Where a provider does not say (OpenAI's streams without `stream_options.include_usage`, any
//! stream that breaks off, an answer that is no JSON), the count is an estimate from bytes and says
//! so.

use super::call::Work;
use super::made::Made;
use super::scan::{Fact, Place, Scan};

/// Bytes of text a token: what an estimate divides by.
const BYTES: u64 = 4;

/// Tokens that were read and made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, cached ones included.
    pub input: u64,
    /// Of the answer, thoughts included.
    pub output: u64,
    /// The provider did not say: counted from bytes.
    pub estimated: bool,
}

impl Tokens {
    /// Both.
    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Reads an answer as it goes by.
#[derive(Debug)]
pub struct Meter {
    framing: Framing,
    scan: Scan,
    counts: Counts,
    work: Work,
    /// Bytes of the request.
    asked: u64,
}

#[derive(Debug)]
enum Framing {
    /// One document.
    Whole,
    /// A document a line.
    Lines,
    /// Server-sent events (WHATWG HTML §9.2.6), a document each.
    Events(Line),
}

/// Where in a line of server-sent events the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// At its start, this many bytes of `data:` read.
    Start(usize),
    /// In the value of `data`.
    Data,
    /// In a line that is something else.
    Skip,
    /// Behind a carriage return: a line feed belongs to it.
    Return,
}

const DATA: &[u8] = b"data:";

#[derive(Debug, Default)]
struct Counts {
    input: Option<u64>,
    /// Parts of the prompt that are counted beside it.
    input_beside: [u64; 3],
    output: Option<u64>,
    /// Thoughts, where they are counted beside the output.
    output_beside: u64,
    /// What a stream's opening says of its output.
    opening: u64,
    /// Bytes of text in the answer.
    text: u64,
    /// Bytes in it that may be text too.
    other: u64,
    /// Bytes of the answer.
    seen: u64,
    id: Option<Box<str>>,
    /// It is worked on, and what is said of its cost is not the last word.
    unfinished: bool,
}

impl Meter {
    /// A meter for an answer of this `Content-Type` to a request of `asked` bytes for `work`.
    pub fn new(content_type: Option<&str>, (work, asked): (Work, u64)) -> Self {
        let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or("").trim();
        let framing = if kind.eq_ignore_ascii_case("text/event-stream") {
            Framing::Events(Line::Start(0))
        } else if kind.eq_ignore_ascii_case("application/x-ndjson") {
            Framing::Lines
        } else {
            Framing::Whole
        };
        Self { framing, scan: Scan::new(), counts: Counts::default(), work, asked }
    }

    /// Whether the answer comes in events or lines.
    pub fn streams(&self) -> bool {
        !matches!(self.framing, Framing::Whole)
    }

    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { framing, scan, counts, .. } = self;
        counts.seen += bytes.len() as u64;
        let mut found = |fact: Fact<'_>| counts.note(fact);
        match framing {
            Framing::Whole => scan.feed(bytes, &mut found),
            Framing::Lines => {
                for line in bytes.split_inclusive(|b| *b == b'\n') {
                    scan.feed(line, &mut found);
                    if line.ends_with(b"\n") {
                        scan.reset();
                    }
                }
            }
            Framing::Events(line) => events(line, bytes, scan, &mut found),
        }
    }

    /// Whether the model has begun to answer.
    pub fn began(&self) -> bool {
        self.counts.text > 0 || self.counts.output.is_some_and(|n| n > 0)
    }

    /// The id of the response, where it can be asked for later.
    pub fn response_id(&self) -> Option<&str> {
        self.counts.id.as_deref().filter(|_| self.work == Work::Response)
    }

    /// What it cost, as far as it was read.
    pub fn tokens(&self) -> Tokens {
        let counts = &self.counts;
        if counts.unfinished {
            let (input, output) = (self.asked.div_ceil(BYTES), counts.estimate());
            return Tokens { input, output, estimated: true };
        }
        let beside = counts.input_beside.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
        let input = counts.input.map(|input| input.saturating_add(beside));
        let output = match counts.output {
            Some(output) => Some(output.saturating_add(counts.output_beside)),
            None if self.work == Work::Embedding => Some(0),
            None if counts.text + counts.other == 0 && input.is_some() && counts.opening == 0 => {
                Some(0)
            }
            None => None,
        };
        Tokens {
            input: input.unwrap_or(self.asked.div_ceil(BYTES)),
            output: output.unwrap_or_else(|| counts.estimate()),
            estimated: input.is_none() || output.is_none(),
        }
    }
}

/// Reads server-sent events: the data of each is a document, ended by a blank line.
fn events(line: &mut Line, bytes: &[u8], scan: &mut Scan, found: &mut impl FnMut(Fact<'_>)) {
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        match *line {
            Line::Return => {
                *line = Line::Start(0);
                if byte == b'\n' {
                    rest = &rest[1..];
                }
            }
            Line::Start(read) => match byte {
                b'\n' | b'\r' => {
                    if read == 0 {
                        scan.reset();
                    }
                    *line = if byte == b'\r' { Line::Return } else { Line::Start(0) };
                    rest = &rest[1..];
                }
                _ if DATA.get(read) == Some(&byte) => {
                    *line = if read + 1 == DATA.len() { Line::Data } else { Line::Start(read + 1) };
                    rest = &rest[1..];
                }
                _ => *line = Line::Skip,
            },
            Line::Data | Line::Skip => {
                let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
                let until = end.unwrap_or(rest.len());
                if *line == Line::Data {
                    // The line's end is whitespace between two tokens.
                    scan.feed(&rest[..end.map_or(until, |end| end + 1)], found);
                }
                let Some(end) = end else { return };
                *line = if rest[end] == b'\r' { Line::Return } else { Line::Start(0) };
                rest = &rest[end + 1..];
            }
        }
    }
}

impl Counts {
    /// What the text of an answer may have cost. One that shows none is counted as a whole: it is
    /// in a form that is not read here.
    fn estimate(&self) -> u64 {
        let text = match self.text {
            0 if self.input.is_none() => self.seen,
            text => text.saturating_add(self.other),
        };
        self.opening.max(text.div_ceil(BYTES))
    }

    fn note(&mut self, fact: Fact<'_>) {
        match fact {
            Fact::Text(bytes) => self.text += bytes as u64,
            Fact::Other(bytes) => self.other += bytes as u64,
            Fact::Status(status) => {
                self.unfinished = matches!(status, b"queued" | b"in_progress");
            }
            Fact::Id(id) => {
                if self.id.is_none() {
                    let id = std::str::from_utf8(id).ok().filter(|id| Made::is_id(id));
                    self.id = id.map(Into::into);
                }
            }
            Fact::Number(Place::Root, name, number) => match name {
                b"prompt_eval_count" => self.input = Some(number),
                b"eval_count" => self.output = Some(number),
                _ => {}
            },
            Fact::Number(place, name, number) => match name {
                b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" => {
                    self.input = Some(number);
                }
                b"cache_creation_input_tokens" => self.input_beside[0] = number,
                b"cache_read_input_tokens" => self.input_beside[1] = number,
                b"toolUsePromptTokenCount" => self.input_beside[2] = number,
                b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" => match place {
                    Place::Opening => self.opening = number,
                    _ => self.output = Some(number),
                },
                b"thoughtsTokenCount" => {
                    self.output_beside = number;
                    self.output.get_or_insert(0);
                }
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(kind: &str, chunks: &[&str]) -> Meter {
        let mut meter = Meter::new(Some(kind), (Work::Response, 400));
        for chunk in chunks {
            meter.feed(chunk.as_bytes());
        }
        meter
    }

    fn said(input: u64, output: u64) -> Tokens {
        Tokens { input, output, estimated: false }
    }

    const SSE: &str = "text/event-stream; charset=utf-8";

    #[test]
    fn openai_says_it_in_its_last_event_or_not_at_all() {
        let delta = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"Hello\"}}],\
                     \"usage\":null}\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
                     \"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n";
        let done = "data: [DONE]\n\n";
        let meter = read(SSE, &[delta, delta, usage, done]);
        assert_eq!(meter.tokens(), said(9, 2));
        assert!(meter.began() && meter.streams());
        let meter = read(SSE, &[delta, delta, done]);
        assert_eq!(meter.tokens(), Tokens { input: 100, output: 3, estimated: true });
    }

    #[test]
    fn responses_say_it_in_the_completed_event() {
        let events = [
            "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\
             \"resp_67cc\",\"usage\":null}}\r\n\r\n",
            "event: response.output_text.delta\r\ndata: {\"delta\":\"Hi\"}\r\n\r\n",
            "event: response.completed\r\ndata: {\"response\":{\"id\":\"resp_67cc\",\"output\":[{\
             \"content\":[{\"text\":\"Hi\"}]}],\"usage\":{\"input_tokens\":5,\"output_tokens\":7,\
             \"input_tokens_details\":{\"cached_tokens\":0}}}}\r\n\r\n",
        ];
        let meter = read(SSE, &events);
        assert_eq!(meter.tokens(), said(5, 7));
        assert_eq!(meter.response_id(), Some("resp_67cc"));
    }

    #[test]
    fn anthropic_says_the_prompt_first_and_the_answer_last() {
        let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\
                     \"msg_1\",\"usage\":{\"input_tokens\":3,\"cache_creation_input_tokens\":10,\
                     \"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n";
        let text = "event: content_block_delta\ndata: {\"delta\":{\"type\":\"text_delta\",\"text\":\
                    \"twelve bytes\"}}\n\n";
        let end = "event: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n";
        assert_eq!(read(SSE, &[start, text, end]).tokens(), said(113, 15));
        let broken = read(SSE, &[start, text]).tokens();
        assert_eq!(broken, Tokens { input: 113, output: 3, estimated: true });
    }

    #[test]
    fn gemini_repeats_it_and_the_last_counts_also_in_an_array() {
        let one = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\
                   \"usageMetadata\":{\"promptTokenCount\":4,\"totalTokenCount\":4}}";
        let two = "{\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":4,\
                   \"candidatesTokenCount\":6,\"thoughtsTokenCount\":30}}";
        let events = format!("data: {one}\n\ndata: {two}\n\n");
        assert_eq!(read(SSE, &[&events]).tokens(), said(4, 36));
        let array = format!("[{one}\n,\n{two}]");
        assert_eq!(read("application/json", &[&array]).tokens(), said(4, 36));
    }

    #[test]
    fn ollama_says_it_in_its_last_line() {
        let lines = [
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":fal",
            "se}\n{\"model\":\"m\",\"done\":true,\"eval_duration\":5,\"prompt_eval_count\":26,",
            "\"eval_count\":298}\n",
        ];
        assert_eq!(read("application/x-ndjson", &lines).tokens(), said(26, 298));
    }

    #[test]
    fn embeddings_make_nothing() {
        let answer = "{\"data\":[{\"embedding\":[0.1,2]}],\"usage\":{\"prompt_tokens\":8,\
                      \"total_tokens\":8}}";
        assert_eq!(read("application/json", &[answer]).tokens(), said(8, 0));
        let mut unsaid = Meter::new(None, (Work::Embedding, 400));
        unsaid.feed(br#"{"data":[{"embedding":[0.1,2]}]}"#);
        assert_eq!(unsaid.tokens(), Tokens { input: 100, output: 0, estimated: true });
    }

    #[test]
    fn an_answer_in_a_form_that_is_not_read_is_counted_as_a_whole() {
        let bytes = "\u{8}\u{1}".repeat(2000);
        let counted = read("application/x-protobuf", &[&bytes]).tokens();
        assert_eq!(counted, Tokens { input: 100, output: 1000, estimated: true });
    }

    proptest! {
        #[test]
        fn what_is_counted_does_not_depend_on_where_the_chunks_break(
            (words, at) in (proptest::collection::vec(prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just("\""), Just(":"), Just(","),
                Just("\\"), Just(" "), Just("\n"), Just("\r"), Just("12"), Just("abc"),
                Just("\"input\":{"), Just("\"args\":["), Just("\"status\":\"queued\""),
                Just("\"id\":\"r\""), Just("\"usage\":{"), Just("\"output_tokens\":"),
                Just("\"response\":{"), Just("\"content\":\""), Just("\n\ndata: "),
            ], 0..40), any::<usize>())
        ) {
            let text = words.concat();
            let at = at % (text.len() + 1);
            for kind in [SSE, "application/x-ndjson", "application/json"] {
                let (whole, cut) = (read(kind, &[&text]), read(kind, &[&text[..at], &text[at..]]));
                prop_assert_eq!(whole.tokens(), cut.tokens());
                prop_assert_eq!(whole.response_id(), cut.response_id());
            }
        }
    }

    /// A model writes in more places than its text: all of it counts where nobody says what it cost.
    #[test]
    fn what_stands_under_other_names_is_in_the_estimate() {
        let event = |delta: &str| {
            format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\
                 \"system_fingerprint\":\"fp_1\",\"choices\":[{{\"delta\":{delta}}}]}}\n\n"
            )
        };
        let long = "x".repeat(4000);
        let begun = event("{\"role\":\"assistant\",\"content\":\"abcd\"}");
        for delta in [
            format!("{{\"tool_calls\":[{{\"id\":\"t\",\"custom\":{{\"input\":\"{long}\"}}}}]}}"),
            format!("{{\"audio\":{{\"transcript\":\"{long}\"}}}}"),
            format!("{{\"anything\":\"{long}\"}}"),
            // Names that say something elsewhere are a model's own in what it calls a tool with.
            format!("{{\"args\":{{\"id\":\"{long}\"}}}}"),
            format!("{{\"input\":{{\"{long}\":1}}}}"),
            format!("{{\"arguments\":{{\"a\":[{}]}}}}", "1,".repeat(2000)),
        ] {
            let counted = read(SSE, &[&begun, &event(&delta)]).tokens();
            assert!((1000..1020).contains(&counted.output), "{counted:?}: {delta}");
            let cut = delta.len() / 2;
            let event = event(&delta);
            let cut = read(SSE, &[&begun, &event[..cut], &event[cut..]]).tokens();
            assert_eq!(cut, counted, "{delta}");
        }
        let many = event("{\"content\":\"abcd\"}").repeat(100);
        assert_eq!(read(SSE, &[&many]).tokens().output, 100, "what a provider says is not counted");
        let echo = "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\
                    \"instructions\":\"the whole request again\",\"tools\":[{\"input\":{\"a\":1}}]}}\n\n\
                    data: {\"type\":\"response.output_text.delta\",\"delta\":\"abcd\"}\n\n";
        assert_eq!(read(SSE, &[echo]).tokens().output, 1, "nor what it repeats");
    }

    #[test]
    fn what_is_not_finished_has_not_said_what_it_cost() {
        let answer = |status: &str| {
            format!(
                "{{\"id\":\"resp_1\",\"status\":\"{status}\",\"output\":[{{\"status\":\"completed\"}}],\
                 \"usage\":{{\"input_tokens\":0,\"output_tokens\":0}}}}"
            )
        };
        for (status, estimated) in [
            ("queued", true),
            ("in_progress", true),
            ("completed", false),
            ("failed", false),
            ("incomplete", false),
        ] {
            let tokens = read("application/json", &[&answer(status)]).tokens();
            assert_eq!(tokens.estimated, estimated, "{status}");
        }
    }

    #[test]
    fn an_event_may_have_its_data_on_several_lines_and_break_anywhere() {
        let event = "id: 1\ndata: {\"usage\":\ndata: {\"prompt_tokens\":9,\ndata:\"completion_tokens\"\
                     :2}}\n\n: comment {\"usage\":{\"prompt_tokens\":1}}\n\ndata: {\"usage\":{\n\n";
        for end in ["\n", "\r\n", "\r"] {
            let event = event.replace('\n', end);
            for at in 0..event.len() {
                let (one, two) = event.split_at(at);
                assert_eq!(read(SSE, &[one, two]).tokens(), said(9, 2), "broken at {at}");
            }
        }
    }
}
