//! One question to the kernel's socket table: who made the socket at the other end?
//!
//! Owns the netlink conversation (`sock_diag(7)`), an exact-match request and one reply, never a
//! dump. Invariant: the answer is about the very connection that was asked about.

use super::{IdentityError, Socket};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags,
};
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// No reply to one of these requests is near this long.
const REPLY: usize = 4096;
/// Replies to earlier questions that are passed over: at most one can be left, by a panic.
const STALE: usize = 4;

#[derive(Debug)]
pub(super) struct Diag {
    /// A question and its answer are one conversation.
    conversation: Mutex<Conversation>,
}

#[derive(Debug)]
struct Conversation {
    netlink: OwnedFd,
    sequence: u32,
}

pub(super) fn open() -> io::Result<OwnedFd> {
    let kind = SocketType::DGRAM;
    let protocol = Some(SOCK_DIAG);
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)?)
}

impl Diag {
    pub(super) fn new(netlink: OwnedFd) -> Self {
        Self { conversation: Mutex::new(Conversation { netlink, sequence: 0 }) }
    }

    pub(super) fn tcp_peer(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Option<Socket>, IdentityError> {
        let (source, destination) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let family = match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => AF_INET,
            (IpAddr::V6(_), IpAddr::V6(_)) => AF_INET6,
            _ => return Ok(None),
        };
        let id = SocketId {
            source_port: peer.port(),
            destination_port: local.port(),
            source_address: source,
            destination_address: destination,
            interface_id: scope(peer),
            cookie: [0xff; 8],
        };
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = conversation.ask(family, id.clone())? else { return Ok(None) };
        Ok(holder(&found, &id))
    }
}

/// The kernel falls back to a listener where no connection matches, and shows a closed client
/// (orphaned, or in TIME_WAIT) with inode 0 and uid 0: neither is anybody's end of it.
fn holder(found: &InetResponseHeader, asked: &SocketId) -> Option<Socket> {
    let end = |address: IpAddr, port: u16| (address.to_canonical(), port);
    let id = &found.socket_id;
    let same = end(id.source_address, id.source_port)
        == end(asked.source_address, asked.source_port)
        && end(id.destination_address, id.destination_port)
            == end(asked.destination_address, asked.destination_port);
    let open = found.state != TCP_LISTEN && found.inode != 0;
    (same && open).then_some(Socket { uid: found.uid, inode: u64::from(found.inode) })
}

/// The interface that a link-local address belongs to.
fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

impl Conversation {
    fn ask(
        &mut self,
        family: u8,
        id: SocketId,
    ) -> Result<Option<InetResponseHeader>, IdentityError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = self.request(family, id);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(self.netlink.as_fd(), &request, SendFlags::empty(), &kernel)
            .map_err(|e| IdentityError::Query(e.into()))?;
        let mut reply = [0; REPLY];
        for _ in 0..STALE {
            // The reply is there when the request returns: it is never waited for.
            let (length, _) =
                rustix::net::recv(self.netlink.as_fd(), &mut reply, RecvFlags::DONTWAIT)
                    .map_err(|e| IdentityError::Query(e.into()))?;
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(&reply[..length])
                .map_err(|_| IdentityError::Reply)?;
            let (header, payload) = message.into_parts();
            if header.sequence_number == self.sequence {
                return answer(payload);
            }
        }
        Err(IdentityError::Reply)
    }

    fn request(&self, family: u8, socket_id: SocketId) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id,
        });
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

fn answer(
    payload: NetlinkPayload<SockDiagMessage>,
) -> Result<Option<InetResponseHeader>, IdentityError> {
    match payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
            Ok(Some(found.header))
        }
        NetlinkPayload::Error(error) => match error.to_io() {
            gone if gone.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            refused => Err(IdentityError::Query(refused)),
        },
        _ => Err(IdentityError::Reply),
    }
}
