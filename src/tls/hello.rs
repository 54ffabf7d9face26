//! The ClientHello reader: who a TLS connection is for, from its first bytes.
//!
//! Owns the parsing of TLS records up to the end of the first handshake message (RFC 8446 §4.1.2,
//! §5.1) and of three extensions: server_name (RFC 6066 §3), ALPN (RFC 7301), and whether
//! encrypted_client_hello is there. Consumes nothing: the bytes are handed on as they came, to
//! rustls or, with `tls: skip`, to the origin. Pure. Invariants: what it reads is bounded by
//! [`LIMIT`]; a hello that two readers could understand differently is [`Hello::Bad`] (I3), and so is
//! what this reader would call no TLS and a forgiving server reads as TLS all the same.

use std::borrow::Cow;
use std::str;

use super::AlpnSet;
use crate::addr::{Host, HostError};

/// The longest beginning of a connection that is read to find the ClientHello, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// Clients send one record; those that fragment to pass middleboxes send a handful.
const MOST_RECORDS: usize = 64;
const RECORD_HEADER: usize = 5;
const LONGEST_FRAGMENT: usize = 1 << 14;
/// What a server may allow for a record to be longer than its fragment (RFC 5246 §6.2.3).
const EXPANSION: usize = 2048;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const HEARTBEAT: u8 = 24;
const CLIENT_HELLO: u8 = 1;
/// The first byte of SSL 2's form: a record of up to 1,023 bytes.
const SSL2: std::ops::RangeInclusive<u8> = 0x80..=0x83;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Too few to say: read more, and ask again with all of them.
    NeedMore,
    /// Not a TLS handshake.
    NotTls,
    /// TLS, but not a ClientHello that may pass.
    Bad(HelloError),
    /// A whole ClientHello.
    Client(ClientHello),
}

/// What a ClientHello says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The server_name: a name, or an address literal, which RFC 6066 does not allow but some
    /// clients send: it must agree with the target like a name (rustls ignores it).
    pub sni: Option<Host>,
    /// What of `h2` and `http/1.1` is offered.
    pub alpn: AlpnSet,
    /// Whether ALPN offers anything else.
    pub other_alpn: bool,
    /// Whether an encrypted_client_hello extension is there. GREASE looks the same (RFC 9849).
    pub ech: bool,
}

/// Why a ClientHello may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A record that no TLS stack sends.
    #[error("a TLS record is empty, over 16 KiB, or not a handshake record")]
    Record,
    /// Over [`LIMIT`].
    #[error("the ClientHello is longer than 64 KiB")]
    TooLong,
    /// Over 64 records.
    #[error("the ClientHello is spread over more than 64 records")]
    TooManyRecords,
    /// Another handshake message comes first.
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    /// A length that does not fit, or bytes left over.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension that is read stands there twice.
    #[error("the ClientHello has an extension twice")]
    Repeated,
    /// None, several, or of another type than host_name.
    #[error("the server_name extension does not hold exactly one host name")]
    ServerNames,
    /// A byte outside ASCII.
    #[error("the server name has a byte outside ASCII")]
    NonAscii,
    /// Not a host.
    #[error("the server name is not valid: {0}")]
    Name(#[from] HostError),
}

/// Reads the first bytes of a connection: all that have come, from the very first on.
pub fn parse(bytes: &[u8]) -> Hello {
    match bytes {
        [HANDSHAKE, 3, ..] => {}
        _ => {
            return match resembles(bytes) {
                None => Hello::NeedMore,
                Some(true) => Hello::Bad(HelloError::Record),
                Some(false) => Hello::NotTls,
            };
        }
    }
    match message(bytes) {
        Ok(None) if bytes.len() >= LIMIT => Hello::Bad(HelloError::TooLong),
        Ok(None) => Hello::NeedMore,
        Ok(Some(body)) => client_hello(&body).map_or_else(Hello::Bad, Hello::Client),
        Err(error) => Hello::Bad(error),
    }
}

/// Whether what begins with no handshake record of TLS is TLS to some server: a record's version is to be
/// ignored (RFC 8446 §5.1; Java's does), an alert may come before the hello (Java's skips it), and a hello
/// may have SSL 2's form (RFC 5246 §E.2). Other protocols begin with such bytes too, but not with all of them.
fn resembles(bytes: &[u8]) -> Option<bool> {
    let kind = *bytes.first()?;
    if SSL2.contains(&kind) {
        return match bytes.get(2..) {
            None | Some([] | [CLIENT_HELLO] | [CLIENT_HELLO, 0 | 3]) => None,
            Some([CLIENT_HELLO, 3, 0..=4, ..] | [CLIENT_HELLO, 0, 2, ..]) => Some(true),
            Some(_) => Some(false),
        };
    }
    if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) {
        return Some(false);
    }
    let [_, major, _, high, low, rest @ ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let begins = |wanted: &[u8]| rest.first().map(|byte| wanted.contains(byte));
    match (kind, length) {
        (CHANGE_CIPHER_SPEC, 1) => begins(&[1]),
        // Its level, and what is left of it in another record.
        (ALERT, 1 | 2) => begins(&[1, 2]),
        // An empty record, and behind it another.
        (CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE, 0) => {
            begins(&[CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE])
        }
        (HANDSHAKE, _) => begins(&[CLIENT_HELLO]),
        (CHANGE_CIPHER_SPEC | ALERT, _) => Some(false),
        _ => Some(*major == 3 && (1..=LONGEST_FRAGMENT + EXPANSION).contains(&length)),
    }
}

/// The body of the first handshake message, put together from its records.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, HelloError> {
    let mut rest = bytes;
    let mut whole: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    for _ in 0..MOST_RECORDS {
        let Some((fragment, after, complete)) = record(rest)? else { return Ok(None) };
        if whole.is_empty() {
            whole = Cow::Borrowed(fragment);
        } else {
            whole.to_mut().extend_from_slice(fragment);
        }
        if let [kind, a, b, c, body @ ..] = &*whole {
            if *kind != CLIENT_HELLO {
                return Err(HelloError::NotClientHello);
            }
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > LIMIT {
                return Err(HelloError::TooLong);
            }
            // More in the same record than the message: RFC 8446 §5.1 has nothing follow it.
            if body.len() > length {
                return Err(HelloError::Malformed);
            }
            if body.len() == length && complete {
                return Ok(Some(without_header(whole)));
            }
        }
        if !complete {
            return Ok(None);
        }
        rest = after;
    }
    Err(HelloError::TooManyRecords)
}

fn without_header(message: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match message {
        Cow::Borrowed(message) => Cow::Borrowed(&message[4..]),
        Cow::Owned(mut message) => Cow::Owned(message.split_off(4)),
    }
}

/// What has come of the next record's fragment, what follows it, and whether it is complete.
/// `None`: its header has not come.
type Record<'a> = Option<(&'a [u8], &'a [u8], bool)>;

fn record(bytes: &[u8]) -> Result<Record<'_>, HelloError> {
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != 3)
    {
        return Err(HelloError::Record);
    }
    let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > LONGEST_FRAGMENT {
        return Err(HelloError::Record);
    }
    Ok(Some(match rest.split_at_checked(length) {
        Some((fragment, rest)) => (fragment, rest, true),
        None => (rest, &[], false),
    }))
}

fn client_hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut body = Reader(body);
    body.take(2 + 32)?;
    let session_id = body.vector8()?;
    let suites = body.vector16()?;
    let compressions = body.vector8()?;
    let odd = suites.0.is_empty() || suites.0.len() % 2 == 1;
    if session_id.0.len() > 32 || odd || compressions.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut hello = ClientHello { sni: None, alpn: AlpnSet::None, other_alpn: false, ech: false };
    if body.0.is_empty() {
        return Ok(hello);
    }
    let mut list = body.vector16()?;
    body.end()?;
    let mut seen = [false; 3];
    while !list.0.is_empty() {
        let kind = list.u16()?;
        let mut extension = list.vector16()?;
        let at = match kind {
            SERVER_NAME => 0,
            ALPN => 1,
            ENCRYPTED_CLIENT_HELLO => 2,
            _ => continue,
        };
        if std::mem::replace(&mut seen[at], true) {
            return Err(HelloError::Repeated);
        }
        match kind {
            SERVER_NAME => hello.sni = Some(server_name(&mut extension)?),
            ALPN => (hello.alpn, hello.other_alpn) = alpn(&mut extension)?,
            _ => hello.ech = true,
        }
    }
    Ok(hello)
}

fn server_name(extension: &mut Reader<'_>) -> Result<Host, HelloError> {
    let mut list = extension.vector16()?;
    extension.end()?;
    if list.0.is_empty() || list.take(1)? != [0] {
        return Err(HelloError::ServerNames);
    }
    let name = list.vector16()?.0;
    if !list.0.is_empty() {
        return Err(HelloError::ServerNames);
    }
    if !name.is_ascii() {
        return Err(HelloError::NonAscii);
    }
    let name = str::from_utf8(name).map_err(|_| HelloError::NonAscii)?;
    Ok(Host::parse(name)?)
}

fn alpn(extension: &mut Reader<'_>) -> Result<(AlpnSet, bool), HelloError> {
    let mut list = extension.vector16()?;
    extension.end()?;
    let (mut known, mut other) = (AlpnSet::None, false);
    if list.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    while !list.0.is_empty() {
        let protocol = list.vector8()?.0;
        if protocol.is_empty() {
            return Err(HelloError::Malformed);
        }
        let with = known.with(protocol);
        other |= with == known && !matches!(protocol, super::alpn::H2 | super::alpn::HTTP1);
        known = with;
    }
    Ok((known, other))
}

/// Bytes of a TLS structure that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with a length of one byte (RFC 8446 §3.4).
    fn vector8(&mut self) -> Result<Self, HelloError> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length).map(Self)
    }

    /// A vector with a length of two bytes.
    fn vector16(&mut self) -> Result<Self, HelloError> {
        let length = usize::from(self.u16()?);
        self.take(length).map(Self)
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloError::Malformed) }
    }
}
