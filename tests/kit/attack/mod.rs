//! What the attack tests share: an origin that takes nothing but well-formed HTTP/1, and the three
//! places where a client can say bytes: to the proxy, in a plain tunnel, in intercepted TLS.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

pub mod by_hand;
pub mod frames;
pub mod strict;

use crate::common::{Gateway, Origin, PATIENCE, Setup, Tls};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use strict::{Heard, Listening};

/// Where the attack is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the proxy, in absolute-form.
    Forward,
    /// As plain HTTP/1 inside a tunnel.
    Tunnel,
    /// Inside intercepted TLS.
    Inside,
}

pub const PLACES: [Place; 3] = [Place::Forward, Place::Tunnel, Place::Inside];

/// A gateway, and a plain and a TLS origin of it that hear only well-formed HTTP/1. On both,
/// everything is allowed but what begins with `/evil`.
pub struct Bench {
    pub gateway: Gateway,
    plain: Origin,
    secure: Origin,
    pub heard: Listening,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|setup| setup)
    }

    /// A bench whose gateway has more in its config.
    pub fn with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let heard = Listening::default();
        let (on_plain, on_secure) = (heard.clone(), heard.clone());
        let plain = Origin::plain(move |mut stream| strict::serve(&mut stream, &on_plain));
        let secure = Origin::tls(&["origin.test"], &["http/1.1"], move |mut stream| {
            strict::serve(&mut stream, &on_secure);
        });
        let endpoint = |port: u16| {
            format!(
                "      - host: origin.test\n        port: {port}\n        protocol: rest\n        \
                 enforcement: enforce\n        access: full\n        deny_rules:\n          \
                 - {{ method: \"*\", path: \"/evil\" }}\n          - {{ method: \"*\", path: \"/evil/**\" }}\n"
            )
        };
        let policy = format!(
            "  test:\n    endpoints:\n{}{}",
            endpoint(plain.port()),
            endpoint(secure.port())
        );
        let gateway = more(Setup::policy(&policy)).start();
        Self { gateway, plain, secure, heard }
    }

    /// The port of the origin behind `place`.
    pub fn port(&self, place: Place) -> u16 {
        if place == Place::Inside { self.secure.port() } else { self.plain.port() }
    }

    /// `host:port` of the origin behind `place`.
    pub fn authority(&self, place: Place) -> String {
        format!("origin.test:{}", self.port(place))
    }

    /// `attack` as bytes, one per character: `{T}` becomes what stands before a path in a request
    /// line, `{H}` the right `Host`, `{P}` the port.
    pub fn bytes(&self, place: Place, attack: &str) -> Vec<u8> {
        let host = self.authority(place);
        let target = if place == Place::Forward { format!("http://{host}") } else { String::new() };
        let text = attack
            .replace("{T}", &target)
            .replace("{H}", &host)
            .replace("{P}", &self.port(place).to_string());
        text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    }

    /// A connection on which `place` is reached.
    pub fn open(&self, place: Place) -> Client {
        let authority = self.authority(place);
        match place {
            Place::Forward => Client::Plain(self.gateway.connect()),
            Place::Tunnel => Client::Plain(self.gateway.tunnel(&authority)),
            Place::Inside => {
                Client::Tls(Box::new(self.gateway.tls(&authority, "origin.test", &["http/1.1"])))
            }
        }
    }

    /// Says `attack` on a connection of its own and reads until the gateway ends it. With `end`
    /// the client says its own end first; without, closing is up to the gateway.
    pub fn say(&self, place: Place, attack: &str, end: bool) -> String {
        let mut client = self.open(place);
        // It may answer and close before it has read all.
        let said = client.write_all(&self.bytes(place, attack)).and_then(|()| client.flush());
        if said.is_ok() && end {
            client.end();
        }
        String::from_utf8_lossy(&rest(&mut client)).into_owned()
    }

    /// Waits for the record of everything said, and checks that there are exactly `count`: a
    /// request of its own comes last.
    pub fn exactly(&self, count: usize) -> Vec<Value> {
        let last = self.say(Place::Forward, "GET {T}/last HTTP/1.1\r\nHost: {H}\r\n\r\n", true);
        assert!(last.starts_with("HTTP/1.1 200"), "{last}");
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let mut records = self.gateway.records_now("default");
            if let Some(at) = records.iter().position(|r| r["path"] == "/last")
                && (records.len() > count || std::time::Instant::now() > until)
            {
                records.remove(at);
                let lines: Vec<String> = records
                    .iter()
                    .map(|r| format!("{} {} {} {}", r["method"], r["path"], r["code"], r["status"]))
                    .collect();
                assert_eq!(records.len(), count, "{}", lines.join("\n"));
                return records;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// What the origins heard since the last time.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

/// All that comes until the gateway ends it, in whatever way.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut some) {
            Ok(0) => return bytes,
            Ok(n) => bytes.extend(&some[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("it is not ended: {:?}", String::from_utf8_lossy(&bytes))
            }
            Err(_) => return bytes,
        }
    }
}

/// A client's stream.
pub enum Client {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Client {
    /// Says the end; the other direction goes on.
    pub fn end(&mut self) {
        match self {
            Self::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                drop(stream.flush());
                drop(stream.sock.shutdown(Shutdown::Write));
            }
        }
    }

    /// The socket under it.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Client {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Client {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The final responses in what a client read: their status codes.
pub fn statuses(answer: &str) -> Vec<u16> {
    let lines = answer.match_indices("HTTP/1.").map(|(at, _)| &answer[at..]);
    lines.filter_map(|line| line.get(9..12)?.parse().ok()).filter(|status| *status >= 200).collect()
}

/// Resident memory of a process in KiB.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
