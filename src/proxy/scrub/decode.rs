//! Undoing a content coding, piece by piece (RFC 9110 §8.4.1).
//!
//! Whatever an origin sends, one step makes at most [`STEP`] bytes, and all of them together not
//! more than a bounded multiple of what came.

use super::gzip::Gzip;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// The most that one step makes, in bytes.
const STEP: usize = 16 * 1024;
/// The largest ratio of what is made to what came: what deflate can do at best. Below [`FREE`]
/// nothing is counted.
const RATIO: u64 = 1032;
const FREE: u64 = 1024 * 1024;
/// The largest window of a zstd frame, as a power of two (RFC 9659: 8 MiB).
const ZSTD_WINDOW: u32 = 23;

/// A content coding that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// What a decoder of it may come to keep, in bytes, where that is much: the window (RFC 7932 §9.1, RFC
    /// 9659), and what it works with.
    pub(super) fn keeps(self) -> Option<usize> {
        match self {
            Self::Identity | Self::Gzip | Self::Deflate => None,
            Self::Brotli => Some(20 << 20),
            Self::Zstd => Some(10 << 20),
        }
    }

    /// Whether there is nothing to undo.
    pub(crate) fn is_identity(self) -> bool {
        self == Self::Identity
    }
}

/// Why an answer can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It is not what its `Content-Encoding` says.
    #[error("the origin's answer is not in the coding that it names")]
    Malformed,
    /// It ended before its end.
    #[error("the origin's answer was cut off")]
    Truncated,
    /// It grows beyond any honest answer.
    #[error("the origin's answer grows too much when it is decoded")]
    Bomb,
}

/// A decoder under way.
pub(super) struct Decoder {
    codec: Codec,
    came: u64,
    made: u64,
    /// The coding says that it is over.
    ended: bool,
}

enum Codec {
    Gzip(Box<Gzip>),
    /// zlib, or raw deflate where no zlib header comes: both are called `deflate`.
    Deflate(Deflate),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Box<Zstd<'static>>),
}

enum Deflate {
    Unread(Vec<u8>),
    Reading(Decompress),
}

/// What one step came to.
pub(super) struct Step {
    /// Bytes taken from the input.
    pub(super) taken: usize,
    /// The coding is over.
    pub(super) ended: bool,
}

impl Coding {
    /// The coding of this name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Coding); 6] = [
            ("identity", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("br", Coding::Brotli),
            ("zstd", Coding::Zstd),
        ];
        let found = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|(_, coding)| *coding)
    }
}

impl Decoder {
    /// A decoder of `coding`; `None` where there is nothing to decode.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        let codec = match coding {
            Coding::Identity => return None,
            Coding::Gzip => Codec::Gzip(Box::default()),
            Coding::Deflate => Codec::Deflate(Deflate::Unread(Vec::new())),
            Coding::Brotli => Codec::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Zstd => {
                let mut zstd = Zstd::new().ok()?;
                zstd.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW)).ok()?;
                Codec::Zstd(Box::new(zstd))
            }
        };
        Some(Self { codec, came: 0, made: 0, ended: false })
    }

    /// Decodes some of `input` and appends at most [`STEP`] bytes to `out`. Says how much of
    /// `input` it took; it is done with all of it once it took all and made nothing.
    pub(super) fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, DecodeError> {
        if self.ended {
            // gzip and zstd may go on with another member; gzip sees to that itself.
            return match &mut self.codec {
                Codec::Zstd(_) if !input.is_empty() => {
                    self.ended = false;
                    self.step(input, out)
                }
                _ if input.is_empty() => Ok(0),
                _ => Err(DecodeError::Malformed),
            };
        }
        let start = out.len();
        out.resize(start + STEP, 0);
        let stepped = self.codec.step(input, &mut out[start..]);
        let (step, made) = match stepped {
            Ok(stepped) => stepped,
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        };
        out.truncate(start + made);
        self.came += step.taken as u64;
        self.made += made as u64;
        self.ended = step.ended;
        if self.made > FREE + RATIO * self.came {
            return Err(DecodeError::Bomb);
        }
        Ok(step.taken)
    }

    /// Whether it may end here: at the end of the coding, or before its beginning.
    pub(super) fn may_end(&self) -> bool {
        self.ended
            || self.came == 0
            || matches!(&self.codec, Codec::Gzip(gzip) if gzip.between_members())
    }
}

impl Codec {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(Step, usize), DecodeError> {
        match self {
            Self::Gzip(gzip) => gzip.step(input, out),
            Self::Deflate(deflate) => deflate.step(input, out),
            Self::Brotli(state) => brotli(state, input, out),
            Self::Zstd(zstd) => {
                let (mut input, mut out) = (InBuffer::around(input), OutBuffer::around(out));
                let left = zstd.run(&mut input, &mut out).map_err(|_| DecodeError::Malformed)?;
                let (taken, made) = (input.pos(), out.pos());
                // It says 0 also before the first byte of a frame.
                Ok((Step { taken, ended: left == 0 && (taken > 0 || made > 0) }, made))
            }
        }
    }
}

impl Deflate {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(Step, usize), DecodeError> {
        match self {
            Self::Unread(head) => {
                let wanted = 2 - head.len();
                let taken = wanted.min(input.len());
                head.extend_from_slice(&input[..taken]);
                let [first, second] = head[..] else {
                    return Ok((Step { taken, ended: false }, 0));
                };
                let zlib = first & 0x0f == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
                let mut inflate = Decompress::new(zlib);
                let (step, made) = run(&mut inflate, &[first, second], out)?;
                *self = Self::Reading(inflate);
                Ok((Step { taken, ended: step.ended }, made))
            }
            Self::Reading(inflate) => run(inflate, input, out),
        }
    }
}

/// One run of an inflater.
pub(super) fn run(
    inflate: &mut Decompress,
    input: &[u8],
    out: &mut [u8],
) -> Result<(Step, usize), DecodeError> {
    let (taken, made) = (inflate.total_in(), inflate.total_out());
    let status = inflate
        .decompress(input, out, FlushDecompress::None)
        .map_err(|_| DecodeError::Malformed)?;
    let taken = usize::try_from(inflate.total_in() - taken).map_err(|_| DecodeError::Malformed)?;
    let made = usize::try_from(inflate.total_out() - made).map_err(|_| DecodeError::Malformed)?;
    Ok((Step { taken, ended: status == Status::StreamEnd }, made))
}

fn brotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    input: &[u8],
    out: &mut [u8],
) -> Result<(Step, usize), DecodeError> {
    let (mut left, mut taken) = (input.len(), 0);
    let (mut room, mut made, mut total) = (out.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut left, &mut taken, input, &mut room, &mut made, out, &mut total, state,
    );
    match result {
        BrotliResult::ResultFailure => Err(DecodeError::Malformed),
        BrotliResult::ResultSuccess => Ok((Step { taken, ended: true }, made)),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {
            Ok((Step { taken, ended: false }, made))
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("came", &self.came).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_the_standard_does_not_know_is_refused() {
        // RFC 7932 §9.1 ends at 24 bits; "large window" goes on to 30, a GiB for each answer.
        for (large, taken) in [(false, true), (true, false)] {
            let params = brotli::enc::BrotliEncoderParams {
                large_window: large,
                lgwin: if large { 28 } else { 22 },
                ..Default::default()
            };
            let mut wire = Vec::new();
            brotli::BrotliCompress(&mut &b"hello"[..], &mut wire, &params).unwrap();
            let mut decoder = Decoder::new(Coding::Brotli).unwrap();
            assert_eq!(decoder.step(&wire, &mut Vec::new()).is_ok(), taken, "large: {large}");
        }
    }
}
