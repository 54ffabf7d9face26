//! A client's TLS before any handshake: whether its ClientHello agrees with where the tunnel leads
//! (I3), and the alert that it gets where it does not. Nothing is closed in silence.

use super::io::{LINGER_OTHER, Prefixed, Raw};
use super::live::Live;
use super::refuse::Refusal;
use crate::addr::Host;
use crate::policy::Code;
use crate::tls::hello::{ClientHello, Hello, parse};
use bytes::BytesMut;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// The first byte of a TLS handshake record. Of nothing else a beginning could become a hello.
const HANDSHAKE: u8 = 22;
/// How long a client that is told to go may take to take it.
const ALERTED_WITHIN: Duration = Duration::from_secs(1);

/// Alert descriptions (RFC 8446 §6).
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const UNRECOGNIZED_NAME: u8 = 112;

/// What the ClientHello in a raw tunnel must say.
#[derive(Debug)]
pub(crate) struct Demand {
    /// The name it must ask for, if it asks for any.
    pub(crate) host: Host,
    /// Whether the name may be encrypted.
    pub(crate) allows_ech: bool,
    /// Anything but TLS ends the tunnel.
    pub(crate) tls_alone: bool,
}

/// Whether `hello` asks for `host`, or for no name.
pub(crate) fn names(hello: &ClientHello, host: &Host) -> Result<(), Refusal> {
    match &hello.sni {
        Some(sni) if sni != host => {
            let detail = format!("the TLS client asks for {sni}, the tunnel leads to {host}");
            Err(Refusal::unjudged(Code::SniMismatch, detail))
        }
        _ => Ok(()),
    }
}

impl Demand {
    fn check(&self, hello: &ClientHello) -> Result<(), Refusal> {
        match (hello.ech, self.allows_ech) {
            // The name that can be read is the provider's, not the one that is meant.
            (true, true) => Ok(()),
            (true, false) => {
                let detail = "the TLS client hides the name it asks for (ECH) in a raw tunnel";
                Err(Refusal::unjudged(Code::EncryptedClientHello, detail))
            }
            (false, _) => names(hello, &self.host),
        }
    }

    /// Reads the client's first bytes, however slowly they come; if they are TLS, the ClientHello
    /// must be whole and meet this before any of it goes on. What the origin says meanwhile goes
    /// to the client: it may be the one to speak first.
    pub(crate) async fn met(
        &self,
        io: &mut Prefixed,
        origin: &mut Raw,
        (leftover, live): (&mut BytesMut, &Live),
    ) -> Result<(), Refusal> {
        let broken = |_| Refusal::unjudged(Code::ClientGone, "the client left");
        let mut speaks = true;
        loop {
            match parse(&io.prefix) {
                _ if io.prefix.is_empty() => {}
                Hello::NeedMore => {}
                Hello::Client(hello) => return self.check(&hello),
                Hello::Bad(error) => {
                    return Err(Refusal::unjudged(Code::BadClientHello, error.to_string()));
                }
                Hello::NotTls if self.tls_alone => {
                    let detail = "the operator allowed TLS here, and what came is not TLS";
                    return Err(Refusal::unjudged(Code::ProtocolNotAllowed, detail));
                }
                Hello::NotTls => return Ok(()),
            }
            if !leftover.is_empty() {
                let bytes = std::mem::take(leftover);
                io.write(&bytes).await.map_err(broken)?;
                live.download.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            tokio::select! {
                read = io.fill() => match read.map_err(broken)? {
                    0 if io.prefix.first() == Some(&HANDSHAKE) => {
                        let detail = "the ClientHello ended before its end";
                        return Err(Refusal::unjudged(Code::BadClientHello, detail));
                    }
                    0 if self.tls_alone => {
                        return Err(Refusal::unjudged(Code::ClientGone, "the client left"));
                    }
                    0 => return Ok(()),
                    _ => {}
                },
                // An origin that has said its end may still listen: the hello is checked first.
                read = origin.read_buf(leftover), if speaks && !self.tls_alone => match read {
                    Ok(0) => {
                        speaks = false;
                        io.raw.shut_write().map_err(broken)?;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        return Err(Refusal::unjudged(Code::UpstreamClosed, error.to_string()));
                    }
                },
            }
        }
    }
}

/// Whether what was read of `io` is the beginning of TLS, or may be.
pub(crate) fn is_tls(io: &Prefixed) -> bool {
    !io.prefix.is_empty() && parse(&io.prefix) != Hello::NotTls
}

/// Tells a client that began TLS why it can't go on: a fatal alert, unencrypted since no handshake
/// was begun (RFC 8446 §6). Anything else has no words that its protocol is known to read.
pub(crate) async fn alert(io: &mut Prefixed, refusal: &Refusal) {
    if !is_tls(io) {
        return;
    }
    let description = match refusal.code {
        Code::BadClientHello => DECODE_ERROR,
        Code::SniMismatch | Code::EncryptedClientHello => UNRECOGNIZED_NAME,
        Code::ClientTls => INTERNAL_ERROR,
        _ => ACCESS_DENIED,
    };
    let alert = [21, 3, 3, 0, 2, 2, description];
    let told = io.write(&alert);
    if tokio::time::timeout(ALERTED_WITHIN, told).await.is_ok_and(|told| told.is_ok()) {
        io.raw.linger(LINGER_OTHER).await;
    }
}
