//! Which uid and which process stands at the other end of an accepted connection.
//!
//! Owns the two questions to the kernel (`sock_diag`, `/proc`), not what follows from the answers:
//! `allow_uids` is the listener's, `binaries` the policy's. Invariant: whatever cannot be seen for
//! certain is `None`, and an entry with `binaries` then matches nothing. For [`Peers::process`]
//! nothing is cached but where to look first: every answer is read from `/proc` anew, through a
//! directory handle that pins the process, so a reused pid or an `exec` is never taken for what was
//! there before. [`Peers::recent_process`] may be a second old and is for records.
//!
//! What an answer means: at some moment between accept and the answer this process held the
//! socket. It is a statement about honest programs. A process of the same uid that means harm can
//! run an allowed binary, preload code into it, trace it, or pass the socket on; what keeps it
//! out is a sandbox, not this module.
//!
//! - Several holders (a socket lives on across `fork`): the eldest on the line from the found
//!   holder up to pid 1 is reported. Its ancestors are ancestors of all the others on that line,
//!   so an entry that matches it matches every one of them. Holders that are not on that line
//!   (siblings whose parent closed the socket, a descriptor passed over a Unix socket) are not
//!   looked for: that would be a scan of all of `/proc` on each connection.
//! - An executable counts only if the path that `/proc/PID/exe` shows leads, from here, to the
//!   very file that runs. A deleted or replaced executable, and one in another mount namespace
//!   under a path that means something else here, is not seen; of an ancestor it is left out.
//! - Only processes that run as the socket's uid are looked at. Threads with a descriptor table
//!   of their own and processes that are not dumpable are not seen.
//!
//! All calls block for as long as the kernel takes. [`Peers::tcp_peer`] and [`unix_peer`] take
//! microseconds and may be made from async code. [`Peers::process`] takes some hundred
//! microseconds for a recent or freshly started client (most of them for its ancestors) and up to
//! [`Peers::DEADLINE`] for others: call it on a blocking thread, and only where a policy has
//! `binaries` or a record wants the name.

mod diag;
mod processes;
mod recent;
mod search;

use crate::policy::Process;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Looks up the peers of accepted connections. One for the whole gateway; cheap to share.
#[derive(Debug)]
pub struct Peers {
    diag: diag::Diag,
    search: search::Search,
}

/// The client's end of a TCP connection on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// The uid that made the socket.
    pub uid: u32,
    /// Its inode, as `/proc/PID/fd` shows it. Never 0.
    pub inode: u64,
}

/// The process that connected a Unix socket (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnixPeer {
    /// Its effective uid when it connected.
    pub uid: u32,
    /// Its effective gid when it connected.
    pub gid: u32,
    /// Its pid when it connected; `None` where it is in a pid namespace that is not below ours.
    pub pid: Option<u32>,
}

/// Why a peer could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The netlink socket or `/proc` can't be opened.
    #[error("the kernel's socket table can't be opened: {0}")]
    Open(io::Error),
    /// The kernel refused the question.
    #[error("the kernel's socket table can't be read: {0}")]
    Query(io::Error),
    /// The kernel's answer is not one to the question.
    #[error("the kernel's socket table gave no answer that can be read")]
    Reply,
    /// `SO_PEERCRED` failed.
    #[error("the peer of a Unix socket can't be read: {0}")]
    Credentials(io::Error),
}

impl Peers {
    /// How long [`process`](Self::process) looks before the process counts as unseen.
    pub const DEADLINE: Duration = Duration::from_millis(500);

    /// Peers in the network namespace of the calling thread.
    pub fn open() -> Result<Self, IdentityError> {
        Self::from_netlink(diag::open().map_err(IdentityError::Open)?)
    }

    /// Peers in the network namespace where `netlink`, a `NETLINK_SOCK_DIAG` socket, was made.
    pub fn from_netlink(netlink: OwnedFd) -> Result<Self, IdentityError> {
        let search = search::Search::open().map_err(IdentityError::Open)?;
        Ok(Self { diag: diag::Diag::new(netlink), search })
    }

    /// The client's end of an accepted connection: `local` and `peer` as the listener's side
    /// sees them. `None` where no process of this network namespace holds it: it is remote, or
    /// closed already (a closed socket would show uid 0).
    pub fn tcp_peer(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Option<Socket>, IdentityError> {
        self.diag.tcp_peer(local, peer)
    }

    /// The process that holds `socket`; `None` where it can't be seen, or not within
    /// [`DEADLINE`](Self::DEADLINE).
    pub fn process(&self, socket: Socket) -> Option<Arc<Process>> {
        self.search.holder(socket, Self::DEADLINE)
    }

    /// The process that holds `socket`, if it was seen a moment ago: some ten microseconds, and
    /// what is said of the process may be a second old. For records, and for policies that do not
    /// tell processes apart.
    pub fn recent_process(&self, socket: Socket) -> Option<Arc<Process>> {
        self.search.recent_holder(socket)
    }

    /// As [`recent_process`](Self::recent_process), and where it was not seen a moment ago it is
    /// searched for, as long as [`process`](Self::process) does. Not to be called from async code.
    pub fn probable_process(&self, socket: Socket) -> Option<Arc<Process>> {
        self.search.probable_holder(socket, Self::DEADLINE)
    }

    /// A connection has ended, and most likely the client's end of it: where its next one is to be
    /// looked for first.
    pub fn left(&self, socket: Socket) {
        self.search.left(socket);
    }

    /// Whose turn it is to search for the processes of `socket`'s uid: of many connections that a new
    /// process opens at once one searches, and what it finds is recent for the others. `None` where
    /// the turn does not come within [`DEADLINE`](Self::DEADLINE).
    pub async fn turn(&self, socket: Socket) -> Option<OwnedSemaphorePermit> {
        let turn = self.search.turns(socket.uid).acquire_owned();
        tokio::time::timeout(Self::DEADLINE, turn).await.ok()?.ok()
    }

    /// The process with this pid now, for [`UnixPeer::pid`]. The pid of a peer that has exited
    /// may have been given to another process since.
    pub fn process_of_pid(&self, pid: u32) -> Option<Arc<Process>> {
        self.search.process_of_pid(pid)
    }
}

/// Who connected `stream`.
pub fn unix_peer(stream: &tokio::net::UnixStream) -> Result<UnixPeer, IdentityError> {
    let peer = stream.peer_cred().map_err(IdentityError::Credentials)?;
    // Pid 0 is what the kernel says of a process that has none in our namespace.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    Ok(UnixPeer { uid: peer.uid(), gid: peer.gid(), pid })
}
