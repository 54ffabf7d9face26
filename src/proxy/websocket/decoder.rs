//! A stream of frames, as events: whole text messages to judge, all else as it comes.
//!
//! Owns the order of fragments, the limit on what is gathered, UTF-8 and close codes. Memory: at
//! most the limit, the headers of 1,024 fragments and what was pushed since the last `None`.

use super::frame::{FrameError, Header, Opcode, Side, apply};
use bytes::{Bytes, BytesMut};

/// How many fragments a text message may come in: empty ones would fill memory below any limit.
const MAX_FRAGMENTS: usize = 1024;

/// Takes one direction of a WebSocket after the handshake.
///
/// Push what was read, then take events until there is none, then read again.
#[derive(Debug)]
pub struct Decoder {
    side: Side,
    /// The longest text message, bytes of payload.
    limit: usize,
    input: BytesMut,
    state: State,
}

/// What a stream says next, in the order in which it may be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole text message. Control frames between its fragments came out before it.
    Text {
        /// The message, unmasked.
        text: String,
        /// All its frames as they came: forward these once it is allowed.
        wire: Bytes,
    },
    /// Bytes of a binary message, not gathered. Whether it passes is decided at its first part.
    Binary {
        /// Frame bytes as they came, headers and masks with them.
        wire: Bytes,
        /// Where in the message they stand.
        part: Part,
    },
    /// A ping or a pong.
    Beat {
        /// The frame as it came.
        wire: Bytes,
    },
    /// A close frame. Nothing may follow it.
    Close {
        /// The code, if it has one.
        code: Option<u16>,
        /// The frame as it came.
        wire: Bytes,
    },
}

/// Which part of a binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its begin.
    First,
    /// Neither begin nor end.
    Middle,
    /// Its end.
    Last,
}

#[derive(Debug)]
enum State {
    /// Between messages.
    Idle,
    /// Within a text message that comes in fragments.
    Text(Gathered),
    /// Within a binary message, before a frame header.
    Binary,
    /// Within the payload of a binary frame: bytes to come, and whether the frame ends the message.
    Streaming { left: u64, fin: bool },
    /// After a close frame.
    Closed,
    /// Given up: the reason is given again.
    Failed(FrameError),
}

#[derive(Debug, Default)]
struct Gathered {
    payload: Vec<u8>,
    wire: BytesMut,
    fragments: usize,
}

impl Decoder {
    /// A decoder for the frames of `side`, that gathers text messages up to `limit` bytes.
    pub fn new(side: Side, limit: usize) -> Self {
        Self { side, limit, input: BytesMut::new(), state: State::Idle }
    }

    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next event; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The stream is not well-formed, or a text message is over the limit. The same error comes
    /// again at each call, and nothing else.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends at None; this goes on")]
    pub fn next(&mut self) -> Result<Option<Event>, FrameError> {
        let event = self.step();
        if let Err(error) = event {
            self.state = State::Failed(error);
            self.input = BytesMut::new();
        }
        event
    }

    /// Whether the stream may end here: between messages or after a close frame, with no byte
    /// left over.
    pub fn is_at_rest(&self) -> bool {
        self.input.is_empty() && matches!(self.state, State::Idle | State::Closed)
    }

    fn step(&mut self) -> Result<Option<Event>, FrameError> {
        match self.state {
            State::Failed(error) => return Err(error),
            State::Closed if self.input.is_empty() => return Ok(None),
            State::Closed => return Err(FrameError::AfterClose),
            State::Streaming { left, fin } => return Ok(self.stream(left, fin)),
            State::Idle | State::Text(_) | State::Binary => {}
        }
        loop {
            let Some(header) = Header::parse(&self.input, self.side)? else { return Ok(None) };
            let event = match (header.opcode, &self.state) {
                (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => self.control(header)?,
                (Opcode::Text, State::Idle) | (Opcode::Continuation, State::Text(_)) => {
                    match self.text(header)? {
                        // A fragment was taken in; the next frame may be here already.
                        Fragment::Taken => continue,
                        Fragment::Missing => None,
                        Fragment::Last(event) => Some(event),
                    }
                }
                (Opcode::Binary, State::Idle) => Some(self.binary(header, true)),
                (Opcode::Continuation, State::Binary) => Some(self.binary(header, false)),
                (Opcode::Continuation | Opcode::Text | Opcode::Binary, _) => {
                    return Err(FrameError::Order);
                }
            };
            return Ok(event);
        }
    }

    /// A whole frame and its unmasked payload, if all of it is here.
    fn take(&mut self, header: Header) -> Option<(BytesMut, Vec<u8>)> {
        let payload = usize::try_from(header.payload).ok()?;
        let whole = header.size.checked_add(payload)?;
        if self.input.len() < whole {
            return None;
        }
        let wire = self.input.split_to(whole);
        let mut payload = wire[header.size..].to_vec();
        apply(header.mask, &mut payload);
        Some((wire, payload))
    }

    fn control(&mut self, header: Header) -> Result<Option<Event>, FrameError> {
        let Some((wire, payload)) = self.take(header) else { return Ok(None) };
        let wire = wire.freeze();
        if header.opcode != Opcode::Close {
            return Ok(Some(Event::Beat { wire }));
        }
        let code = match payload.split_first_chunk() {
            None if payload.is_empty() => None,
            None => return Err(FrameError::CloseCode),
            Some((code, reason)) => {
                std::str::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
                Some(u16::from_be_bytes(*code))
            }
        };
        if code.is_some_and(|code| !is_sendable(code)) {
            return Err(FrameError::CloseCode);
        }
        self.state = State::Closed;
        Ok(Some(Event::Close { code, wire }))
    }

    fn text(&mut self, header: Header) -> Result<Fragment, FrameError> {
        let (before, fragments) = match &self.state {
            State::Text(gathered) => (gathered.payload.len(), gathered.fragments),
            _ => (0, 0),
        };
        let room = self.limit.saturating_sub(before) as u64;
        if header.payload > room || fragments == MAX_FRAGMENTS {
            return Err(FrameError::TooLong);
        }
        let Some((wire, payload)) = self.take(header) else { return Ok(Fragment::Missing) };
        let gathered = match std::mem::replace(&mut self.state, State::Idle) {
            State::Text(mut gathered) => {
                gathered.payload.extend_from_slice(&payload);
                gathered.wire.extend_from_slice(&wire);
                gathered.fragments += 1;
                gathered
            }
            _ => Gathered { payload, wire, fragments: 1 },
        };
        if !header.fin {
            self.state = State::Text(gathered);
            return Ok(Fragment::Taken);
        }
        let text = String::from_utf8(gathered.payload).map_err(|_| FrameError::Utf8)?;
        Ok(Fragment::Last(Event::Text { text, wire: gathered.wire.freeze() }))
    }

    /// The header of a binary frame and what is here of its payload.
    fn binary(&mut self, header: Header, first: bool) -> Event {
        let have = (self.input.len() - header.size) as u64;
        let payload = header.payload.min(have);
        let left = header.payload - payload;
        let size = usize::try_from(payload).expect("no more than the input holds");
        let wire = self.input.split_to(header.size + size).freeze();
        self.state = after_binary(left, header.fin);
        let part = match (first, left == 0 && header.fin) {
            (true, true) => Part::Whole,
            (true, false) => Part::First,
            (false, false) => Part::Middle,
            (false, true) => Part::Last,
        };
        Event::Binary { wire, part }
    }

    /// More of a binary frame's payload.
    fn stream(&mut self, left: u64, fin: bool) -> Option<Event> {
        if self.input.is_empty() {
            return None;
        }
        let size =
            usize::try_from(left).map_or(self.input.len(), |left| left.min(self.input.len()));
        let wire = self.input.split_to(size).freeze();
        let left = left - size as u64;
        self.state = after_binary(left, fin);
        let part = if left == 0 && fin { Part::Last } else { Part::Middle };
        Some(Event::Binary { wire, part })
    }
}

enum Fragment {
    /// Not the last: gathered.
    Taken,
    /// Not all here yet.
    Missing,
    /// The last: the message.
    Last(Event),
}

fn after_binary(left: u64, fin: bool) -> State {
    match (left, fin) {
        (0, true) => State::Idle,
        (0, false) => State::Binary,
        (left, fin) => State::Streaming { left, fin },
    }
}

/// Codes that may stand in a close frame: those of the IANA registry that are not reserved, and
/// the ranges for libraries and applications (RFC 6455 §7.4).
fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
