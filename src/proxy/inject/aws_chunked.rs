//! `aws-chunked` bodies whose chunks are signed: what they carry, without their framing.
//!
//! The chunks are signed with the key that the client made up, so no origin would take them. What
//! goes up is the plain body under `UNSIGNED-PAYLOAD`, over TLS that was verified; the checksum of
//! a trailer goes with the framing.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};

/// The longest line of a chunk's size and signature, and all trailers together, in bytes.
const LINE: usize = 1024;
const TRAILERS: usize = 16 * 1024;

/// A body on its way through. Invariant: it carries what its head said, to the byte, or breaks off: the
/// last byte goes up when the last chunk has come.
#[derive(Debug)]
pub(crate) struct Unframed {
    at: At,
    /// Bytes that are still to come, as the head said.
    missing: u64,
    /// The last bytes, until the last chunk has come.
    held: BytesMut,
}

#[derive(Debug)]
enum At {
    Size(Vec<u8>),
    Data(u64),
    /// The line's end behind the data: how much of it is missing.
    Border(u8),
    /// Behind the last chunk: how many bytes came.
    Trailers(usize),
}

impl Default for At {
    fn default() -> Self {
        Self::Size(Vec::new())
    }
}

/// Whether the client signed the chunks of its body.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    let content = headers.get(super::sigv4::CONTENT);
    content.is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-AWS4-"))
}

/// Makes the head that of the plain body, whose length it gives. `None`: it does not say how long that
/// is.
pub(super) fn unframe(headers: &mut HeaderMap) -> Option<u64> {
    let length = headers.remove("x-amz-decoded-content-length")?;
    let length: u64 = length.to_str().ok()?.parse().ok()?;
    if headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.remove("x-amz-trailer");
    headers.remove(header::TRAILER);
    let left: Vec<String> = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|coding| coding.trim().to_owned())
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    headers.remove(header::CONTENT_ENCODING);
    if !left.is_empty() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::try_from(left.join(", ")).ok()?);
    }
    Some(length)
}

impl Unframed {
    /// Of a body that is to carry `length` bytes.
    pub(crate) fn new(length: u64) -> Self {
        Self { at: At::default(), missing: length, held: BytesMut::new() }
    }

    /// Whether all of it came.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing == 0 && matches!(self.at, At::Trailers(_))
    }

    /// The data in `piece`. `None`: this is no such body.
    pub(crate) fn push(&mut self, piece: Bytes) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.held);
        let before = out.len() as u64;
        self.take(piece, &mut out)?;
        self.missing = self.missing.checked_sub(out.len() as u64 - before)?;
        if self.missing == 0 && !self.is_whole() {
            self.held = out.split_off(out.len().saturating_sub(1));
        }
        Some(out.freeze())
    }

    /// Adds the data in `piece` to `out`.
    fn take(&mut self, mut piece: Bytes, out: &mut BytesMut) -> Option<()> {
        while !piece.is_empty() {
            match &mut self.at {
                At::Size(line) => {
                    let end =
                        piece.iter().position(|b| *b == b'\n').map_or(piece.len(), |at| at + 1);
                    line.extend_from_slice(&piece[..end]);
                    piece.advance(end);
                    if line.len() > LINE {
                        return None;
                    }
                    if let Some(line) = line.strip_suffix(b"\r\n") {
                        self.at = match size(line)? {
                            0 => At::Trailers(0),
                            size => At::Data(size),
                        };
                    }
                }
                At::Data(left) => {
                    let take = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    out.extend_from_slice(&piece[..take]);
                    piece.advance(take);
                    *left -= take as u64;
                    if *left == 0 {
                        self.at = At::Border(2);
                    }
                }
                At::Border(missing) => {
                    let wanted = if *missing == 2 { b'\r' } else { b'\n' };
                    if piece.get_u8() != wanted {
                        return None;
                    }
                    *missing -= 1;
                    if *missing == 0 {
                        self.at = At::default();
                    }
                }
                At::Trailers(came) => {
                    *came += piece.len();
                    if *came > TRAILERS {
                        return None;
                    }
                    piece.clear();
                }
            }
        }
        Some(())
    }
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?;
    let plain =
        !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of `body`, and whether that is all that was to come.
    fn unframed(body: &[u8], (length, step): (u64, usize)) -> Option<(Vec<u8>, bool)> {
        let mut unframed = Unframed::new(length);
        let mut out = Vec::new();
        for piece in body.chunks(step) {
            out.extend_from_slice(&unframed.push(Bytes::copy_from_slice(piece))?);
        }
        Some((out, unframed.is_whole()))
    }

    #[test]
    fn the_data_comes_out_however_it_is_cut() {
        let body = b"5;chunk-signature=00\r\nhello\r\nA;chunk-signature=11\r\n, \r\nworld\n\r\n0;chunk-signature=22\r\nx-amz-checksum-crc32:a\r\n\r\n";
        for step in 1..body.len() {
            let (out, whole) = unframed(body, (15, step)).unwrap();
            assert_eq!((&out[..], whole), (&b"hello, \r\nworld\n"[..], true), "{step}");
        }
    }

    #[test]
    fn what_is_cut_off_or_of_another_length_never_goes_up_as_a_whole() {
        let body = b"5;chunk-signature=00\r\nhello\r\n0;chunk-signature=22\r\n\r\n";
        let end = body.len() - 2;
        for step in 1..body.len() {
            for cut in 0..body.len() {
                let (out, whole) = unframed(&body[..cut], (5, step)).unwrap();
                assert_eq!(whole, cut >= end, "{cut} by {step}");
                assert_eq!(out.len() == 5, whole, "{cut} by {step}: {out:?}");
            }
            let short = unframed(body, (6, step)).unwrap();
            assert!(!short.1 && short.0.len() == 5, "{short:?}");
            assert_eq!(unframed(body, (4, step)), None, "more than was said");
        }
        assert_eq!(unframed(b"0;chunk-signature=2\r\n\r\n", (0, 3)), Some((Vec::new(), true)));
    }

    #[test]
    fn what_is_no_such_body_is_refused() {
        for body in
            [&b"hello\r\n"[..], b"5\r\nhelloX\r\n", b";\r\n", b"-1\r\n", b"11112222333344445\r\n"]
        {
            assert_eq!(unframed(body, (100, 3)), None, "{body:?}");
        }
        assert_eq!(unframed(&vec![b'1'; 2000], (100, 100)), None);
    }
}
