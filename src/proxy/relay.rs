//! Raw tunnels: bytes both ways, half-close kept, idle time bounded, cut when policy says so.
//!
//! What is bulk moves inside the kernel (`bulk`): after 256 KiB one way.

use super::bulk::{Filled, Pipe, Source};
use super::io::Raw;
use super::live::{End, Live};
use super::sandbox::Reach;
use crate::policy::Code;
use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes that move through a buffer before a direction is taken for bulk.
const BULK: u64 = 256 * 1024;
/// The buffer of a direction that is not bulk yet.
const BUFFER: usize = 16 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both sides said their end.
    Closed,
    /// One side broke off; the code says which.
    Broken(Code),
    /// The gateway cut it.
    Cut(End),
    /// It is over a limit.
    Over(Code),
}

/// What one direction counts.
struct Counter<'a> {
    live: &'a Live,
    idle: Duration,
    /// The tunnel's place, beside which a pipe needs places too.
    reach: &'a Reach,
    bytes: &'a AtomicU64,
    /// It goes up, and so against the sandbox's day.
    up: bool,
}

/// Relays between `client` and `origin` until both directions have ended, counting in `live`.
/// `to_client` and `to_origin` are bytes that were read before and go first.
pub(crate) async fn relay(
    client: &mut Raw,
    origin: &mut Raw,
    (to_origin, to_client): (BytesMut, BytesMut),
    (live, idle): (&Live, Duration),
    reach: &Reach,
) -> Ended {
    let counter = |bytes, up| Counter { live, idle, reach, bytes, up };
    live.extend(idle);
    let (client, origin) = (&*client, &*origin);
    let mut up = pin!(one_way(client, origin, to_origin, counter(&live.upload, true)));
    let mut down = pin!(one_way(origin, client, to_client, counter(&live.download, false)));
    let (mut up_done, mut down_done) = (false, false);
    poll_fn(|cx| {
        if let Poll::Ready(end) = live.poll_cut(cx) {
            return Poll::Ready(Ended::Cut(end));
        }
        for (way, done) in
            [(&mut up.as_mut() as &mut dyn Way, &mut up_done), (&mut down.as_mut(), &mut down_done)]
        {
            if !*done {
                match way.poll_way(cx) {
                    Poll::Ready(Ok(())) => *done = true,
                    Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                    Poll::Pending => {}
                }
            }
        }
        if up_done && down_done { Poll::Ready(Ended::Closed) } else { Poll::Pending }
    })
    .await
}

/// A direction under way, whatever its future's type.
trait Way {
    fn poll_way(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>>;
}

impl<F: Future<Output = Result<(), Ended>>> Way for Pin<&mut F> {
    fn poll_way(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        self.as_mut().poll(cx)
    }
}

async fn one_way(from: &Raw, to: &Raw, first: BytesMut, counter: Counter<'_>) -> Result<(), Ended> {
    write_all(to, first, &counter).await?;
    let mut buffer = BytesMut::new();
    let mut most = BUFFER;
    loop {
        if counter.bytes.load(Ordering::Relaxed) >= BULK && most == BUFFER {
            match Pipe::open(counter.reach) {
                Some(pipe) => {
                    if let Filled::End = spliced(from, to, pipe, &counter).await? {
                        break;
                    }
                    most = 4 * BUFFER;
                }
                // Without one the bytes go through the buffer.
                None => most = 4 * BUFFER,
            }
        }
        from.ready(Interest::READABLE).await.map_err(|_| counter.no_more())?;
        buffer.reserve(most);
        match from.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // An idle direction holds no buffer.
                buffer = BytesMut::new();
                continue;
            }
            Err(_) => return Err(counter.no_more()),
        }
        buffer = write_all(to, buffer, &counter).await?;
    }
    to.shut_write().map_err(|_| counter.not_taken())
}

async fn write_all(
    to: &Raw,
    mut bytes: BytesMut,
    counter: &Counter<'_>,
) -> Result<BytesMut, Ended> {
    counter.take(bytes.len())?;
    while !bytes.is_empty() {
        match to.try_write(&bytes) {
            Ok(n) => {
                bytes.advance(n);
                counter.moved(n);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                to.ready(Interest::WRITABLE).await.map_err(|_| counter.not_taken())?;
            }
            Err(_) => return Err(counter.not_taken()),
        }
    }
    Ok(bytes)
}

/// Moves bytes through `pipe` until `from` ends, or what it has goes through none.
async fn spliced(from: &Raw, to: &Raw, pipe: Pipe, counter: &Counter<'_>) -> Result<Filled, Ended> {
    let mut source = Source::new(from);
    loop {
        let mut held = match source.fill(&pipe).await.map_err(|_| counter.no_more())? {
            Filled::Some(bytes) => bytes,
            filled => {
                source.tell_of_each();
                return Ok(filled);
            }
        };
        counter.take(held)?;
        while held > 0 {
            let moved = pipe.empty(to, held).await.map_err(|_| counter.not_taken())?;
            held -= moved;
            counter.moved(moved);
        }
    }
}

impl Counter<'_> {
    /// Takes what was read and is about to be written from the day's upload.
    fn take(&self, n: usize) -> Result<(), Ended> {
        if self.up && n > 0 { self.live.take_upload(n as u64).map_err(Ended::Over) } else { Ok(()) }
    }

    /// The side that is read from broke off.
    fn no_more(&self) -> Ended {
        Ended::Broken(if self.up { Code::ClientGone } else { Code::UpstreamClosed })
    }

    /// The side that is written to did.
    fn not_taken(&self) -> Ended {
        Ended::Broken(if self.up { Code::UpstreamClosed } else { Code::ClientGone })
    }

    fn moved(&self, n: usize) {
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        self.live.extend(self.idle);
    }
}

impl Raw {
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.ready(interest).await.map(drop),
            Self::Unix(s) => s.ready(interest).await.map(drop),
        }
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_read_buf(buffer),
            Self::Unix(s) => s.try_read_buf(buffer),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_write(bytes),
            Self::Unix(s) => s.try_write(bytes),
        }
    }

    pub(super) async fn async_io<R>(
        &self,
        interest: Interest,
        mut io: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(s) => s.async_io(interest, || io(TcpStream::as_fd(s))).await,
            Self::Unix(s) => s.async_io(interest, || io(UnixStream::as_fd(s))).await,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }

    /// Says the end in one direction; the other goes on.
    pub(crate) fn shut_write(&self) -> io::Result<()> {
        match rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Write) {
            // It is gone already: the other direction will say how.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
