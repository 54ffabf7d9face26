//! What an HTTP/2 client may send beside requests and their bodies: a budget of frames.
//!
//! A PING, a SETTINGS, a WINDOW_UPDATE or an empty DATA costs its sender a few bytes, is in no record
//! and under no limit of requests, and is work here all the same (RFC 9113 §10.5). Each takes one from
//! the budget of its connection, which grows with what gives a client reason to send them: answers,
//! requests, time. What may be saved of it is bounded, but for WINDOW_UPDATE: of what was sent a client
//! may read long after, and then says so. When nothing is left the connection ends with ENHANCE_YOUR_CALM.
//!
//! Frames are told by their headers alone, in both directions, under `h2` and over TLS.

use super::super::gate::Connection;
use super::super::io::ClientIo;
use super::super::refuse::Refusal;
use super::super::serve;
use crate::policy::Code;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection begins with, and the most that it can save.
const FIRST: u32 = 1_000;
const MOST: u32 = 10_000;
/// What comes back: for a frame of an answer and each such part of it (a client that reads little at a
/// time gives the windows of stream and connection back each time), for a request, each second.
const FOR_ANSWER: u32 = 4;
const PART: usize = 1024;
const FOR_REQUEST: u32 = 2;
const FOR_SECOND: u32 = 100;

/// The client's preface (RFC 9113 §3.4), which comes before its first frame.
const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 11;

/// A client's stream whose frames are counted.
pub(crate) struct Counted {
    io: ClientIo,
    connection: Arc<Connection>,
    budget: Budget,
}

/// What a client may still send.
struct Budget {
    came: Walk,
    left: Walk,
    /// The last stream that the client began.
    stream: u32,
    saved: u32,
    /// WINDOW_UPDATEs for what it was sent and has not said to have read.
    unread: u64,
    filled: Instant,
}

/// Where one direction is among its frames.
#[derive(Default)]
struct Walk {
    header: [u8; HEADER],
    have: usize,
    skip: usize,
}

/// What a frame says of itself.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
    stream: u32,
}

impl Frame {
    /// Whether it says something that is answered or answers, rather than carries it.
    fn is_control(self) -> bool {
        match self.kind {
            HEADERS => false,
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            _ => true,
        }
    }
}

impl Walk {
    fn behind(skip: usize) -> Self {
        Self { skip, ..Self::default() }
    }

    /// Goes on over `bytes`, and tells of each frame that begins in them.
    fn over(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER {
                let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
                let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
                (self.have, self.skip) = (0, length);
                each(Frame { kind, flags, length, stream });
            }
        }
    }

    fn is_between(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
}

impl Budget {
    fn new() -> Self {
        Self {
            came: Walk::behind(PREFACE),
            left: Walk::default(),
            stream: 0,
            saved: FIRST,
            unread: 0,
            filled: Instant::now(),
        }
    }

    /// Whether what came is within it.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let (mut spent, mut got) = (0u32, 0u32);
        let (stream, unread) = (&mut self.stream, &mut self.unread);
        self.came.over(bytes, |frame| {
            if frame.kind == WINDOW_UPDATE && *unread > 0 {
                *unread -= 1;
            } else if frame.is_control() {
                spent += 1;
            } else if frame.kind == HEADERS {
                got += FOR_REQUEST;
                *stream = frame.stream.max(*stream);
            }
        });
        self.get(got);
        if spent > self.saved {
            let seconds = u32::try_from(self.filled.elapsed().as_secs()).unwrap_or(u32::MAX);
            if seconds > 0 {
                self.filled = Instant::now();
                self.get(seconds.saturating_mul(FOR_SECOND));
            }
        }
        let left = self.saved.checked_sub(spent);
        self.saved = left.unwrap_or_default();
        left.is_some()
    }

    fn wrote<'a>(&mut self, bufs: impl IntoIterator<Item = &'a [u8]>, mut wrote: usize) {
        let mut got = 0;
        for buf in bufs {
            let part = &buf[..buf.len().min(wrote)];
            wrote -= part.len();
            self.left.over(part, |frame| {
                if !frame.is_control() {
                    // A length has 24 bits.
                    got += FOR_ANSWER + (frame.length / PART) as u32;
                }
            });
            if wrote == 0 {
                break;
            }
        }
        self.unread = self.unread.saturating_add(got.into());
        self.get(got);
    }

    fn get(&mut self, more: u32) {
        self.saved = self.saved.saturating_add(more).min(MOST);
    }
}

impl Counted {
    pub(crate) fn new(io: ClientIo, connection: Arc<Connection>) -> Self {
        Self { io, connection, budget: Budget::new() }
    }

    /// Says why the connection ends, where no frame is cut by it and there is room.
    fn calm(&mut self, cx: &mut Context<'_>) {
        if !self.budget.left.is_between() {
            return;
        }
        let mut goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
        goaway[HEADER..HEADER + 4].copy_from_slice(&self.budget.stream.to_be_bytes());
        // There is nothing more to be done for who does not read.
        if let Poll::Ready(Ok(_)) = Pin::new(&mut self.io).poll_write(cx, &goaway) {
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if !this.budget.read(&buf.filled()[before..]) {
            this.calm(cx);
            let detail = "more HTTP/2 control frames came than a client has use for";
            serve::record(
                &this.connection,
                &Refusal::unjudged(Code::TooManyRequests, detail),
                None,
            );
            return Poll::Ready(Err(io::Error::other(detail)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.budget.wrote([buf], wrote);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        this.budget.wrote(bufs.iter().map(|buf| &**buf), wrote);
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEADER + payload, 0xff);
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_found_however_they_are_cut(
            frames in prop::collection::vec((0u8..12, 0u8..2, 0u32..9, 0usize..60), 0..20),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|f| frame(f.0, f.1, f.2, f.3)).collect();
            let mut walk = Walk::default();
            let mut seen = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at(rest.len().min(*cut));
                walk.over(part, |f| seen.push((f.kind, f.flags, f.stream, f.length)));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(walk.is_between());
        }
    }

    /// Go's client gives stream and connection back for each 4 KiB that it reads, and others less.
    #[test]
    fn who_reads_little_at_a_time_may_say_so_for_as_long_as_answers_come() {
        let mut budget = Budget::new();
        assert!(budget.read(&[0; PREFACE]));
        let windows = frame(8, 0, 1, 4).repeat(2);
        for _ in 0..10_000 {
            let answer = frame(DATA, 0, 1, 16 * 1024);
            budget.wrote([&answer[..]], answer.len());
            assert!((0..4).all(|_| budget.read(&windows)));
        }
        assert!(!budget.read(&frame(6, 0, 0, 8).repeat(MOST as usize + 1)), "for nothing");
    }

    /// It may hold megabytes of each of its streams, and read them when all has come.
    #[test]
    fn who_reads_late_may_say_so_then() {
        let mut budget = Budget::new();
        assert!(budget.read(&[0; PREFACE]));
        let parts = 400 << 20 >> 14;
        for _ in 0..parts {
            let answer = frame(DATA, 0, 1, 16 * 1024);
            budget.wrote([&answer[..]], answer.len());
        }
        let windows = frame(WINDOW_UPDATE, 0, 1, 4).repeat(2);
        assert!((0..parts * 4).all(|_| budget.read(&windows)));
        let more = frame(WINDOW_UPDATE, 0, 1, 4).repeat(MOST as usize * 100);
        assert!(!budget.read(&more), "for nothing");
    }

    #[test]
    fn what_carries_something_is_free_and_the_rest_is_not() {
        let control = |kind, flags, length| Frame { kind, flags, length, stream: 1 }.is_control();
        assert!(!control(HEADERS, 0, 0) && !control(DATA, 0, 1) && !control(DATA, END_STREAM, 0));
        // SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, what is not known.
        for kind in [4, 6, 8, 3, 2, 0xee] {
            assert!(control(kind, 0, 8));
        }
        assert!(control(DATA, 0, 0));
    }
}
