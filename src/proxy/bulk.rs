//! Bulk through a pipe, inside the kernel (`splice(2)`): pages change hands, and nothing is copied.
//!
//! What is left is what it takes to be woken: the sender of a fast stream wakes whoever reads it for every
//! few packets, and each time costs as much as the pages do. So a socket that has brought much is asked to tell
//! only when much is there (`SO_RCVLOWAT`, socket(7)), as long as that never takes long (ADR 0031).

use super::io::Raw;
use super::sandbox::Reach;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The capacity asked for a pipe; the kernel may grant less.
const PIPE: usize = 1024 * 1024;

/// What a source brings before it is asked to gather: of one whose bytes never came to be that many in time,
/// twice as much each time, up to the most.
const STREAM: usize = 4 * 1024 * 1024;
const STREAM_MOST: usize = 1024 * 1024 * 1024;
/// How much it gathers.
const GATHERED: usize = 512 * 1024;
/// How long that is waited for; the runtime's clock makes two of it. A stream that takes longer is slow, or at
/// its end, or waits for what its answers say: what is there goes on, and the next byte is told of.
const PAUSE: Duration = Duration::from_millis(1);

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A pipe, and the places of its two descriptors among those of connections to origins: they are
/// bounded, and shared fairly, as sockets are.
pub(super) struct Pipe<P = [Reach; 2]> {
    out: OwnedFd,
    into: OwnedFd,
    capacity: usize,
    #[expect(dead_code, reason = "held for their drop, after the descriptors'")]
    places: P,
}

impl Pipe {
    /// `None` where there are no places, or no pipes: they are a budget of the user's too.
    pub(super) fn open(reach: &Reach) -> Option<Self> {
        Self::in_places(reach.two_to_spare()?)
    }
}

impl<P> Pipe<P> {
    fn in_places(places: P) -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let capacity = rustix::pipe::fcntl_setpipe_size(&into, PIPE).unwrap_or(64 * 1024);
        Some(Self { out, into, capacity, places })
    }

    fn take(&self, from: BorrowedFd<'_>) -> io::Result<usize> {
        splice(from, None, self.into.as_fd(), None, self.capacity, FLAGS).map_err(io::Error::from)
    }

    /// Moves some of the `held` bytes in it to `to`.
    pub(super) async fn empty(&self, to: &Raw, held: usize) -> io::Result<usize> {
        let out = self.out.as_fd();
        let give = |to: BorrowedFd<'_>| splice(out, None, to, None, held, FLAGS);
        to.async_io(Interest::WRITABLE, |to| give(to).map_err(io::Error::from)).await
    }
}

/// Where bulk comes from.
pub(super) struct Source<'a> {
    raw: &'a Raw,
    /// It tells only when [`GATHERED`] bytes are there.
    gathers: bool,
    /// What it has brought since it last began to gather, or to tell of every byte.
    brought: usize,
    /// How much it brings before it gathers.
    stream: usize,
}

/// What became of an attempt to take bytes out of a socket without copying them.
pub(super) enum Filled {
    /// So many are in the pipe.
    Some(usize),
    /// There will be no more.
    End,
    /// There are some that a pipe does not take: what follows urgent data (RFC 6093) is only read.
    Stuck,
}

impl<'a> Source<'a> {
    pub(super) fn new(raw: &'a Raw) -> Self {
        Self { raw, gathers: false, brought: 0, stream: STREAM }
    }

    /// Moves what is there into `pipe`, which is empty.
    pub(super) async fn fill<P>(&mut self, pipe: &Pipe<P>) -> io::Result<Filled> {
        if self.gathers {
            let gathered = self.raw.async_io(Interest::READABLE, |from| {
                if is_readable(from) {
                    take(pipe, from)
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
            });
            match tokio::time::timeout(PAUSE, gathered).await {
                Ok(taken) => return taken.inspect(|taken| self.brings(taken)),
                Err(_) => self.tell_all(),
            }
            // What was there before is not told of again.
            match take(pipe, self.raw.fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return taken,
            }
        }
        let taken = self.raw.async_io(Interest::READABLE, |from| take(pipe, from)).await?;
        self.brings(&taken);
        if !self.gathers && self.brought >= self.stream {
            self.gathers = pipe.capacity >= GATHERED && self.tells_of(GATHERED);
            self.brought = 0;
        }
        Ok(taken)
    }

    fn brings(&mut self, taken: &Filled) {
        let Filled::Some(bytes) = taken else { return };
        self.brought = self.brought.saturating_add(*bytes);
        // It has gathered as much as it was waited for.
        if self.gathers && self.brought >= self.stream {
            self.stream = (self.stream / 2).max(STREAM);
            self.brought = 0;
        }
    }

    fn tell_all(&mut self) {
        self.gathers = false;
        self.brought = 0;
        self.stream = (self.stream * 2).min(STREAM_MOST);
        self.tells_of(1);
    }

    /// From now on it is read from by others.
    pub(super) fn tell_of_each(self) {
        if self.gathers {
            self.tells_of(1);
        }
    }

    /// How many bytes it is to tell of; whether it does.
    fn tells_of(&self, bytes: usize) -> bool {
        match self.raw {
            Raw::Tcp(socket) => set_low_water(socket, bytes).is_ok(),
            Raw::Unix(_) => false,
        }
    }
}

/// Takes what is there. A pipe takes nothing that stands behind urgent data, and says so as if nothing were
/// there, or nothing came any more.
fn take<P>(pipe: &Pipe<P>, from: BorrowedFd<'_>) -> io::Result<Filled> {
    let taken = match pipe.take(from) {
        Ok(0) => Ok(Filled::End),
        Ok(bytes) => return Ok(Filled::Some(bytes)),
        Err(error) => Err(error),
    };
    let mut first = [0; 1];
    match recv(from, &mut first, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        // It may have come in between.
        Ok((n, _)) if n > 0 => match pipe.take(from) {
            Ok(bytes) if bytes > 0 => Ok(Filled::Some(bytes)),
            _ => Ok(Filled::Stuck),
        },
        Ok(_) | Err(_) => taken,
    }
}

/// Whether a socket has what it tells of, or its end.
fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::IN)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    // Where it can't be told, to read is to see.
    poll(&mut fds, Some(&zero)).map_or(true, |ready| ready > 0)
}

fn set_low_water(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&bytes)).expect("a few bytes");
    #[expect(unsafe_code, reason = "no safe interface has SO_RCVLOWAT")]
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the option is an integer, of which
    // the pointer and the length are (setsockopt(2)).
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// A client, and what was accepted of it.
    async fn pair() -> (TcpStream, Raw) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test dials itself")]
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (client, Raw::Tcp(accepted))
    }

    #[tokio::test]
    async fn a_socket_that_gathers_tells_of_much_or_of_its_end() {
        let (mut client, raw) = pair().await;
        let source = Source::new(&raw);
        assert!(source.tells_of(1000));
        client.write_all(&[0; 999]).await.unwrap();
        // It is there, and not told of.
        while !matches!(recv(raw.fd(), &mut [0; 1000], RecvFlags::PEEK), Ok((999, _))) {
            tokio::time::sleep(PAUSE).await;
        }
        assert!(!is_readable(raw.fd()));
        source.tells_of(1);
        assert!(is_readable(raw.fd()));
        source.tells_of(1000);
        assert!(!is_readable(raw.fd()));
        drop(client);
        while !is_readable(raw.fd()) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    #[tokio::test]
    async fn a_stream_is_gathered_and_what_comes_behind_it_is_not_waited_for() {
        let (mut client, raw) = pair().await;
        let pipe = Pipe::in_places(()).unwrap();
        assert!(pipe.capacity >= GATHERED, "a pipe of {} bytes", pipe.capacity);
        let mut source = Source::new(&raw);
        let (sent, mut taken, mut gathered) = (3 * STREAM, 0, false);
        let writes = async {
            client.write_all(&vec![0; sent]).await.unwrap();
            tokio::time::sleep(10 * PAUSE).await;
            client.write_all(&[0; 10]).await.unwrap();
            client
        };
        let takes = async {
            let mut sink = vec![0; PIPE];
            while taken < sent + 10 {
                let Filled::Some(mut held) = source.fill(&pipe).await.unwrap() else { panic!() };
                (taken, gathered) = (taken + held, gathered || source.gathers);
                while held > 0 {
                    held -= rustix::io::read(&pipe.out, &mut sink[..held]).unwrap();
                }
            }
        };
        let both = futures_util::future::join(writes, takes);
        let (_client, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert!(gathered && !source.gathers);
        assert_eq!(taken, sent + 10);
    }

    #[tokio::test]
    async fn what_never_gathers_in_time_is_asked_to_ever_later() {
        let (_client, raw) = pair().await;
        let mut source = Source::new(&raw);
        for times in [2, 4, 8] {
            source.gathers = true;
            source.tell_all();
            assert_eq!((source.stream, source.gathers), (times * STREAM, false));
        }
        (source.gathers, source.stream) = (true, STREAM_MOST);
        source.tell_all();
        assert_eq!(source.stream, STREAM_MOST);
        // And sooner again when it has gathered as much as was waited for, and not before.
        (source.gathers, source.stream) = (true, 4 * STREAM);
        source.brings(&Filled::Some(4 * STREAM - 1));
        assert_eq!(source.stream, 4 * STREAM);
        source.brings(&Filled::Some(1));
        assert_eq!((source.stream, source.brought), (2 * STREAM, 0));
    }
}
