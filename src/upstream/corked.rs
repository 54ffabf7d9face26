//! Bytes that leave with the next write: what nobody waits for needs no packet of its own.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes that were taken for a stream and are not written yet.
#[derive(Default)]
pub(super) struct Corked(Vec<u8>);

/// How many: what they are is nothing for a log.
impl fmt::Debug for Corked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Corked({} bytes)", self.0.len())
    }
}

impl Corked {
    /// Whether all has left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes bytes, behind those that are there.
    pub(super) fn take(&mut self, bufs: &[IoSlice<'_>]) {
        self.0.reserve_exact(bufs.iter().map(|buf| buf.len()).sum());
        bufs.iter().for_each(|buf| self.0.extend_from_slice(buf));
    }

    /// Writes what was taken and then `bufs`, in one go where the stream takes it. Counts of `bufs` alone.
    pub(super) fn poll_write<S: AsyncWrite>(
        &mut self,
        mut stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.0.is_empty() {
            let mut all = Vec::with_capacity(bufs.len() + 1);
            all.push(IoSlice::new(&self.0));
            all.extend_from_slice(bufs);
            let written = ready!(stream.as_mut().poll_write_vectored(cx, &all))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(further) = written.checked_sub(self.0.len()) {
                self.0 = Vec::new();
                if further > 0 {
                    return Poll::Ready(Ok(further));
                }
            } else {
                self.0.drain(..written);
            }
        }
        match bufs {
            [] => Poll::Ready(Ok(0)),
            [buf] => stream.poll_write(cx, buf),
            bufs => stream.poll_write_vectored(cx, bufs),
        }
    }

    /// Writes what was taken, alone.
    pub(super) fn poll_flush<S: AsyncWrite>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_write(stream, cx, &[]).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;

    /// Takes as much of each write as it is told, then nothing for now; an error at the end.
    struct Takes {
        room: Vec<Option<usize>>,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Takes {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.room.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let Some(room) = self.room.remove(0) else { return Poll::Pending };
            let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            all.truncate(room);
            let n = all.len();
            self.writes.push(all);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn stream(room: &[Option<usize>]) -> Takes {
        Takes { room: room.to_vec(), writes: Vec::new() }
    }

    fn write(corked: &mut Corked, stream: &mut Takes, bufs: &[&[u8]]) -> Option<io::Result<usize>> {
        let bufs: Vec<IoSlice<'_>> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
        poll_fn(|cx| corked.poll_write(Pin::new(&mut *stream), cx, &bufs)).now_or_never()
    }

    #[test]
    fn what_was_taken_leaves_first_in_one_write_and_is_not_counted() {
        let (mut corked, mut takes) = (Corked::default(), stream(&[Some(100), Some(100)]));
        corked.take(&[IoSlice::new(b"tick"), IoSlice::new(b"ets")]);
        assert_eq!(format!("{corked:?}"), "Corked(7 bytes)");
        assert_eq!(write(&mut corked, &mut takes, &[b"head", b"body"]).unwrap().unwrap(), 8);
        assert!(corked.is_empty());
        assert_eq!(write(&mut corked, &mut takes, &[b"more"]).unwrap().unwrap(), 4);
        assert_eq!(takes.writes, [b"ticketsheadbody".to_vec(), b"more".to_vec()]);
    }

    #[test]
    fn nothing_is_lost_or_told_twice_where_the_stream_takes_a_part() {
        let room = [Some(3), None, Some(4), Some(2), Some(7), Some(9)];
        let (mut corked, mut takes) = (Corked::default(), stream(&room));
        corked.take(&[IoSlice::new(b"tickets")]);
        assert!(write(&mut corked, &mut takes, &[b"body"]).is_none(), "three, then none for now");
        // The rest of them to the byte, then two of its own.
        assert_eq!(write(&mut corked, &mut takes, &[b"body"]).unwrap().unwrap(), 2);
        assert!(corked.is_empty());
        assert_eq!(takes.writes.concat(), b"ticketsbo");
        // A part of what is corked and of what is not, in one write.
        corked.take(&[IoSlice::new(b"again")]);
        assert_eq!(write(&mut corked, &mut takes, &[b"dy", b""]).unwrap().unwrap(), 2);
        assert_eq!(takes.writes.concat(), b"ticketsboagaindy");
        assert!(poll_fn(|cx| corked.poll_flush(Pin::new(&mut takes), cx)).now_or_never().is_some());
        assert_eq!(takes.room, [Some(9)], "nothing was there to be flushed");
    }

    #[test]
    fn a_stream_that_takes_nothing_or_fails_is_an_error() {
        let mut corked = Corked::default();
        corked.take(&[IoSlice::new(b"tickets")]);
        let error = write(&mut corked, &mut stream(&[Some(0)]), &[b"body"]).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        let error = write(&mut corked, &mut stream(&[]), &[b"body"]).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let mut takes = stream(&[Some(7)]);
        poll_fn(|cx| corked.poll_flush(Pin::new(&mut takes), cx)).now_or_never().unwrap().unwrap();
        assert_eq!(takes.writes, [b"tickets"]);
    }
}
