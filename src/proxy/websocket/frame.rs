//! One WebSocket frame: its header, strictly (RFC 6455 §5.2), and how one is written.

use bytes::{BufMut, Bytes, BytesMut};

/// The longest payload of a control frame, bytes (RFC 6455 §5.5).
pub const MAX_CONTROL: usize = 125;

/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Who sends the frames: a client masks each, a server none (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Frames are masked.
    Client,
    /// Frames are not masked.
    Server,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before it.
    Continuation,
    /// A text message, or its begin.
    Text,
    /// A binary message, or its begin.
    Binary,
    /// The sender is done.
    Close,
    /// Answer with a pong.
    Ping,
    /// The answer to a ping, or none.
    Pong,
}

/// Why a stream of frames was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// An extension that was not negotiated (RSV1 is `permessage-deflate`).
    #[error("a WebSocket frame has a reserved bit set")]
    Reserved,
    /// An opcode that RFC 6455 does not define.
    #[error("a WebSocket frame has an unknown opcode")]
    Opcode,
    /// A client's frame without a mask, or a server's with one.
    #[error("a WebSocket frame is masked and must not be, or must be and is not")]
    Mask,
    /// A length in more bytes than it needs, or over 2^63.
    #[error("a WebSocket frame spells its length in more bytes than it needs")]
    Length,
    /// A control frame in fragments or with over 125 bytes.
    #[error("a WebSocket control frame is fragmented or longer than 125 bytes")]
    Control,
    /// A continuation of nothing, or a new message before the last one ended.
    #[error("WebSocket fragments come out of order")]
    Order,
    /// A text message over the limit, or in more fragments than are taken.
    #[error("a WebSocket text message is longer than the limit for judging it")]
    TooLong,
    /// A text message or a close reason that is not UTF-8.
    #[error("a WebSocket text is not UTF-8")]
    Utf8,
    /// A close frame with one byte, or a code that no endpoint may send (RFC 6455 §7.4).
    #[error("a WebSocket close frame has no valid code")]
    CloseCode,
    /// Bytes after a close frame.
    #[error("bytes follow a WebSocket close frame")]
    AfterClose,
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of the header itself.
    pub(super) size: usize,
    /// Bytes of payload after it.
    pub(super) payload: u64,
}

impl Opcode {
    /// Close, ping and pong: they may come between the fragments of a message.
    pub fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn from_code(code: u8) -> Result<Self, FrameError> {
        let all =
            [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| opcode.code() == code).ok_or(FrameError::Opcode)
    }
}

impl Header {
    /// Reads a header from the begin of `bytes`; `None` where more bytes are needed. What the
    /// first two bytes give away is refused without waiting for the rest.
    pub(super) fn parse(bytes: &[u8], side: Side) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::from_code(first & 0x0f)?;
        let masked = second & 0x80 != 0;
        if masked != (side == Side::Client) {
            return Err(FrameError::Mask);
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!fin || usize::from(short) > MAX_CONTROL) {
            return Err(FrameError::Control);
        }
        let (payload, width) = match (short, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 0),
        };
        let least = match short {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        if payload < least || payload >= 1 << 63 {
            return Err(FrameError::Length);
        }
        let mask = match (masked, rest.get(width..).and_then(|rest| rest.first_chunk())) {
            (false, _) => None,
            (true, Some(mask)) => Some(*mask),
            (true, None) => return Ok(None),
        };
        let size = 2 + width + if masked { 4 } else { 0 };
        Ok(Some(Self { fin, opcode, mask, size, payload }))
    }
}

/// Masks or unmasks a payload, in place (RFC 6455 §5.3).
pub(super) fn apply(mask: Option<[u8; 4]>, payload: &mut [u8]) {
    let Some(mask) = mask else { return };
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// One whole frame (FIN set). With `mask`, as a client sends it: the key must be fresh and random
/// (RFC 6455 §5.3); without, as a server does. A control frame's payload is at most
/// [`MAX_CONTROL`] bytes.
pub fn encode(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    encode_frame((opcode, true), payload, mask)
}

/// One frame, the last of its message or not. `mask` as in [`encode`].
pub(super) fn encode_frame(
    (opcode, fin): (Opcode, bool),
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> Bytes {
    debug_assert!(!opcode.is_control() || (fin && payload.len() <= MAX_CONTROL));
    let mut frame = BytesMut::with_capacity(MAX_HEADER + payload.len());
    let bit = if mask.is_some() { 0x80 } else { 0 };
    frame.put_u8(if fin { 0x80 } else { 0 } | opcode.code());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.put_u8(bit | length),
        (_, Ok(length)) => {
            frame.put_u8(bit | 126);
            frame.put_u16(length);
        }
        (_, Err(_)) => {
            frame.put_u8(bit | 127);
            frame.put_u64(payload.len() as u64);
        }
    }
    frame.put_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    let header = frame.len();
    frame.put_slice(payload);
    apply(mask, &mut frame[header..]);
    frame.freeze()
}

/// A close frame with a code (1008: policy violation, RFC 6455 §7.4.1) and as much of `reason` as
/// fits. `mask` as in [`encode`].
pub fn encode_close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.put_u16(code);
    payload.put_slice(&reason.as_bytes()[..end]);
    encode(Opcode::Close, &payload, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        Header::parse(bytes, Side::Client)
    }

    #[test]
    fn the_examples_of_the_rfc_hold() {
        let masked = encode(Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(&masked[..], b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(&encode(Opcode::Text, b"Hello", None)[..], b"\x81\x05Hello");
        let header = Header::parse(&encode(Opcode::Binary, &[0; 256], None), Side::Server);
        assert_eq!(header.unwrap().unwrap().payload, 256);
        let header = Header::parse(&encode(Opcode::Binary, &[0; 65_536], None), Side::Server);
        assert_eq!(header.unwrap().map(|h| (h.size, h.payload)), Some((10, 65_536)));
    }

    #[test]
    fn a_bad_header_is_refused_as_soon_as_it_shows() {
        for (bytes, error) in [
            (&b"\xc1\x80"[..], FrameError::Reserved),
            (b"\xa1\x80", FrameError::Reserved),
            (b"\x91\x80", FrameError::Reserved),
            (b"\x83\x80", FrameError::Opcode),
            (b"\x8b\x80", FrameError::Opcode),
            (b"\x8f\x80", FrameError::Opcode),
            (b"\x81\x05", FrameError::Mask),
            (b"\x09\x80", FrameError::Control),
            (b"\x89\xfe", FrameError::Control),
            (b"\x88\xff", FrameError::Control),
            (b"\x81\xfe\x00\x7d", FrameError::Length),
            (b"\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff", FrameError::Length),
            (b"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00", FrameError::Length),
        ] {
            assert_eq!(client(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(Header::parse(b"\x81\x80", Side::Server), Err(FrameError::Mask));
    }

    #[test]
    fn a_header_in_parts_waits_for_the_rest() {
        let whole = b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00mask";
        for end in 0..whole.len() {
            assert_eq!(client(&whole[..end]), Ok(None), "{end}");
        }
        let header = client(whole).unwrap().unwrap();
        assert_eq!((header.size, header.payload, header.mask), (14, 65_536, Some(*b"mask")));
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let frame = encode_close(1008, &"ü".repeat(100), None);
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(&encode_close(1008, "no", None)[..], b"\x88\x04\x03\xf0no");
    }
}
