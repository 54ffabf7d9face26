//! gzip members (RFC 1952), byte by byte as they come.

use super::decode::{DecodeError, Step, run};
use flate2::{Crc, Decompress};

/// The longest header of a member: its extra field, name and comment.
const HEADER: usize = 8 * 1024;
const TRAILER: usize = 8;

/// Flags of a member's header.
const CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// A gzip stream under way: one member after another.
pub(super) struct Gzip {
    at: At,
    /// A whole member came.
    whole: bool,
}

enum At {
    Header(Vec<u8>),
    Data(Decompress, Crc),
    Trailer(Vec<u8>, Crc),
}

impl Default for Gzip {
    fn default() -> Self {
        Self { at: At::Header(Vec::new()), whole: false }
    }
}

impl Gzip {
    /// Whether a member has ended and none has begun since.
    pub(super) fn between_members(&self) -> bool {
        self.whole && matches!(&self.at, At::Header(header) if header.is_empty())
    }

    pub(super) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<(Step, usize), DecodeError> {
        let on = |taken| Step { taken, ended: false };
        match &mut self.at {
            At::Header(header) => {
                let before = header.len();
                header.extend_from_slice(&input[..input.len().min(HEADER - before)]);
                match length(header)? {
                    Some(length) => {
                        self.at = At::Data(Decompress::new(false), Crc::new());
                        // What was read beyond the header stays in the input.
                        Ok((on(length - before), 0))
                    }
                    None if header.len() >= HEADER => Err(DecodeError::Malformed),
                    None => Ok((on(header.len() - before), 0)),
                }
            }
            At::Data(inflate, crc) => {
                let (step, made) = run(inflate, input, out)?;
                crc.update(&out[..made]);
                if step.ended {
                    let crc = std::mem::take(crc);
                    self.at = At::Trailer(Vec::with_capacity(TRAILER), crc);
                }
                Ok((on(step.taken), made))
            }
            At::Trailer(trailer, crc) => {
                let taken = input.len().min(TRAILER - trailer.len());
                trailer.extend_from_slice(&input[..taken]);
                if let [a, b, c, d, e, f, g, h] = trailer[..] {
                    let sums = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
                    if sums != (crc.sum(), crc.amount()) {
                        return Err(DecodeError::Malformed);
                    }
                    *self = Self { at: At::Header(Vec::new()), whole: true };
                }
                Ok((on(taken), 0))
            }
        }
    }
}

/// The length of a header; `None`: it is not all there.
fn length(header: &[u8]) -> Result<Option<usize>, DecodeError> {
    let known = header.len().min(4);
    let flags = header.get(3).copied().unwrap_or(0);
    if header[..known.min(3)] != [0x1f, 0x8b, 8][..known.min(3)] || flags & RESERVED != 0 {
        return Err(DecodeError::Malformed);
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let Some(&[low, high]) = header.get(at..at + 2).and_then(|two| two.first_chunk()) else {
            return Ok(None);
        };
        at += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let Some(end) = header.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0))
            else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    if flags & CRC != 0 {
        at += 2;
    }
    Ok((header.len() >= at).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that is held of a header: whatever an origin sends, byte by byte, costs no more
    /// than to look through this for each of its bytes.
    const MOST: usize = 8 * 1024;

    /// Reads `wire` in pieces of `size`: what it made, and how much it took before it was refused.
    fn read(wire: &[u8], size: usize) -> (Vec<u8>, usize, Result<(), DecodeError>) {
        let (mut gzip, mut made, mut taken) = (Gzip::default(), Vec::new(), 0);
        for mut piece in wire.chunks(size) {
            while !piece.is_empty() {
                let mut out = [0; 64];
                match gzip.step(piece, &mut out) {
                    Ok((step, n)) => {
                        made.extend_from_slice(&out[..n]);
                        taken += step.taken;
                        piece = &piece[step.taken..];
                    }
                    Err(error) => return (made, taken, Err(error)),
                }
                let held = if let At::Header(header) = &gzip.at { header.capacity() } else { 0 };
                assert!(held <= MOST, "{held} bytes are held");
            }
        }
        (made, taken, Ok(()))
    }

    fn header(flags: u8, rest: &[u8]) -> Vec<u8> {
        [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0xff], rest].concat()
    }

    #[test]
    fn a_header_without_an_end_is_refused_at_eight_kib_however_it_is_cut() {
        let endless = vec![b'x'; 200_000];
        for flags in [NAME, COMMENT, NAME | COMMENT, EXTRA, EXTRA | CRC] {
            for size in [1, 7, 4096, endless.len()] {
                let (made, taken, read) = read(&header(flags, &endless), size);
                assert_eq!(read, Err(DecodeError::Malformed), "{flags} in pieces of {size}");
                assert!(made.is_empty() && taken <= MOST, "{taken} of {flags} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_header_that_is_long_and_ends_is_read() {
        let name = [&vec![b'n'; MOST - 11][..], &[0]].concat();
        // "hi", stored, and its sums.
        let data = b"\x01\x02\0\xfd\xffhi\xac\x2a\x93\xd8\x02\0\0\0";
        for wire in [
            [&header(NAME, &name)[..], data].concat(),
            [&header(EXTRA | NAME, b"\x02\0xxname\0")[..], data].concat(),
        ] {
            for size in [1, 7, wire.len()] {
                assert_eq!(read(&wire, size), (b"hi".to_vec(), wire.len(), Ok(())), "{size}");
            }
        }
    }
}
