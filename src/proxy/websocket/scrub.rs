//! An origin's frames without the values that it was given.
//!
//! Owns the re-framing: a message keeps its kind and its bytes but for the values, and is written in
//! frames of our own. Invariant (I4): a value is found however the origin cuts a message into
//! frames, and no byte that may begin one leaves before it is known that it does not.

use super::frame::{FrameError, Header, MAX_CONTROL, Opcode, Side, encode, encode_frame};
use crate::secret::{Scrubber, Watchlist};
use bytes::{Bytes, BytesMut};

/// Takes an origin's direction of a WebSocket after the handshake.
///
/// Push what was read, then take frames until there is none, then read again.
#[derive(Debug)]
pub struct Scrubbed {
    known: Watchlist,
    input: BytesMut,
    message: Option<Message>,
    /// The data frame under way: payload to come, and whether it ends its message.
    frame: Option<(u64, bool)>,
    closed: bool,
}

#[derive(Debug)]
struct Message {
    /// What its next frame is.
    opcode: Opcode,
    scrubber: Scrubber,
}

impl Scrubbed {
    /// Frames without the values that are known.
    pub fn new(known: Watchlist) -> Self {
        Self { known, input: BytesMut::new(), message: None, frame: None, closed: false }
    }

    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next frame to forward; `None` where more bytes are needed.
    ///
    /// # Errors
    /// The stream is not well-formed: nothing more of it may be forwarded.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends at None; this goes on")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some((left, fin)) = self.frame {
                if left > 0 && self.input.is_empty() {
                    return Ok(None);
                }
                if let Some(frame) = self.payload(left, fin) {
                    return Ok(Some(frame));
                }
                continue;
            }
            if self.closed {
                return if self.input.is_empty() { Ok(None) } else { Err(FrameError::AfterClose) };
            }
            let Some(header) = Header::parse(&self.input, Side::Server)? else { return Ok(None) };
            if header.opcode.is_control() {
                return Ok(self.control(header));
            }
            match (header.opcode, &self.message) {
                (Opcode::Continuation, Some(_)) => {}
                (Opcode::Text | Opcode::Binary, None) => {
                    let scrubber = Scrubber::new(self.known.needles());
                    self.message = Some(Message { opcode: header.opcode, scrubber });
                }
                _ => return Err(FrameError::Order),
            }
            drop(self.input.split_to(header.size));
            self.frame = Some((header.payload, header.fin));
        }
    }

    /// More of a data frame's payload, as a frame if any of it may leave.
    fn payload(&mut self, left: u64, fin: bool) -> Option<Bytes> {
        let have = self.input.len();
        let size = usize::try_from(left).map_or(have, |left| left.min(have));
        let chunk = self.input.split_to(size).freeze();
        let left = left - size as u64;
        let ends = left == 0 && fin;
        self.frame = (left > 0).then_some((left, fin));
        let message = self.message.as_mut()?;
        message.scrubber.renew(&self.known.needles());
        let mut out = BytesMut::from(message.scrubber.push(chunk));
        if ends {
            out.extend_from_slice(&message.scrubber.finish());
        } else if out.is_empty() {
            return None;
        }
        let opcode = std::mem::replace(&mut message.opcode, Opcode::Continuation);
        if ends {
            self.message = None;
        }
        Some(encode_frame((opcode, ends), &out, None))
    }

    fn control(&mut self, header: Header) -> Option<Bytes> {
        let payload = usize::try_from(header.payload).ok()?;
        if self.input.len() < header.size + payload {
            return None;
        }
        let wire = self.input.split_to(header.size + payload);
        self.closed = header.opcode == Opcode::Close;
        let payload = &wire[header.size..];
        let needles = self.known.needles();
        if !needles.found_in(payload) {
            return Some(wire.freeze());
        }
        let mut masked = needles.mask(payload).into_owned();
        masked.truncate(MAX_CONTROL);
        Some(encode(header.opcode, &masked, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Needles, Secret};

    const VALUE: &str = "sk-live-0123456789abcdef";

    fn scrubbed() -> Scrubbed {
        let secret = Secret::read(VALUE.into()).unwrap();
        let known = Watchlist::default();
        known.set(Needles::new([&secret]));
        Scrubbed::new(known)
    }

    /// The messages in `wire`, each with its kind.
    fn messages(wire: &[u8]) -> Vec<(Opcode, Vec<u8>)> {
        let (mut rest, mut out, mut open) = (wire, Vec::new(), None);
        while let Some(header) = Header::parse(rest, Side::Server).unwrap() {
            let end = header.size + usize::try_from(header.payload).unwrap();
            let payload = &rest[header.size..end];
            rest = &rest[end..];
            if header.opcode.is_control() {
                out.push((header.opcode, payload.to_vec()));
                continue;
            }
            let (_, gathered) = open.get_or_insert((header.opcode, Vec::new()));
            gathered.extend_from_slice(payload);
            if header.fin {
                out.push(open.take().unwrap());
            }
        }
        assert!(rest.is_empty() && open.is_none());
        out
    }

    #[test]
    fn a_value_is_found_wherever_frames_and_reads_cut_it() {
        let text = format!("{{\"you sent\":\"{VALUE}\"}}");
        for cut in 0..=text.len() {
            let (one, two) = text.as_bytes().split_at(cut);
            let mut wire = encode_frame((Opcode::Text, false), one, None).to_vec();
            wire.extend_from_slice(&encode(Opcode::Ping, VALUE.as_bytes(), None));
            wire.extend_from_slice(&encode_frame((Opcode::Continuation, true), two, None));
            wire.extend_from_slice(&encode(Opcode::Binary, text.as_bytes(), None));
            for step in [1, 7, wire.len()] {
                let (mut scrubbed, mut out) = (scrubbed(), Vec::new());
                for read in wire.chunks(step) {
                    scrubbed.push(read);
                    while let Some(frame) = scrubbed.next().unwrap() {
                        out.extend_from_slice(&frame);
                    }
                }
                let clean = b"{\"you sent\":\"***\"}".to_vec();
                let mut came = messages(&out);
                came.sort_by_key(|(opcode, _)| *opcode == Opcode::Ping);
                let expected = [
                    (Opcode::Text, clean.clone()),
                    (Opcode::Binary, clean),
                    (Opcode::Ping, b"***".to_vec()),
                ];
                assert_eq!(came, expected, "cut at {cut}, read {step} at a time");
            }
        }
    }

    #[test]
    fn what_holds_no_value_is_one_frame_for_one() {
        let mut scrubbed = scrubbed();
        let wire = encode(Opcode::Text, b"hello", None);
        scrubbed.push(&wire);
        assert_eq!(scrubbed.next(), Ok(Some(wire)));
        assert_eq!(scrubbed.next(), Ok(None));
        let close = super::super::encode_close(1000, VALUE, None);
        scrubbed.push(&close);
        let closed = scrubbed.next().unwrap().unwrap();
        assert_eq!(&closed[..], b"\x88\x05\x03\xe8***");
        scrubbed.push(b"\x81\x00");
        assert_eq!(scrubbed.next(), Err(FrameError::AfterClose));
    }

    #[test]
    fn what_is_no_frame_of_a_server_ends_the_stream() {
        for (wire, error) in [
            (&b"\xc1\x00"[..], FrameError::Reserved),
            (b"\x81\x80\0\0\0\0", FrameError::Mask),
            (b"\x80\x00", FrameError::Order),
            (b"\x01\x00\x01\x00", FrameError::Order),
        ] {
            let mut scrubbed = scrubbed();
            scrubbed.push(wire);
            let error_of = loop {
                match scrubbed.next() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(error_of, Err(error), "{wire:?}");
        }
    }
}
