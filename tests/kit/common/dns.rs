//! A nameserver on loopback, for tests: UDP and TCP on one port, answers that can change, and a
//! count of what was asked. That a name was never resolved is proved by its count.
//!
//! Answers have TTL 0 unless told otherwise, so that no cache stands between a test and the next
//! question. Unknown names get NXDOMAIN.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The nameserver; it stops when dropped.
pub struct DnsServer {
    address: SocketAddr,
    state: Arc<State>,
}

/// What a name gets.
#[derive(Clone, Debug)]
enum Says {
    /// These addresses; each question of one record type takes the next set, the last one stays.
    Addresses { sets: Vec<Vec<IpAddr>>, ttl: u32 },
    /// A CNAME, and the addresses of its target in the same reply.
    Alias(String),
    /// An error.
    Code(ResponseCode),
    /// Nothing at all.
    Silence,
}

#[derive(Default)]
struct State {
    says: Mutex<HashMap<String, Says>>,
    asked: Mutex<Vec<(String, RecordType)>>,
    over_tcp: Mutex<usize>,
    stopped: AtomicBool,
}

impl DnsServer {
    /// Starts on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let (tcp, udp) = bind();
        let address = tcp.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (on_udp, on_tcp) = (Arc::clone(&state), Arc::clone(&state));
        thread::spawn(move || on_udp.serve_udp(&udp));
        thread::spawn(move || on_tcp.serve_tcp(&tcp));
        Self { address, state }
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` has these addresses, with TTL 0.
    pub fn answer(&self, name: &str, addresses: &[&str]) {
        self.script(name, &[addresses]);
    }

    /// As [`Self::answer`], cacheable for `ttl` seconds.
    pub fn answer_for(&self, name: &str, addresses: &[&str], ttl: u32) {
        self.say(name, Says::Addresses { sets: vec![parse(addresses)], ttl });
    }

    /// The first lookup of `name` gets the first set, the next one the next, the last one stays:
    /// what a rebinding origin does. A and AAAA are counted apart.
    pub fn script(&self, name: &str, sets: &[&[&str]]) {
        let sets = sets.iter().map(|set| parse(set)).collect();
        self.say(name, Says::Addresses { sets, ttl: 0 });
    }

    /// From now on `name` is an alias of `target`.
    pub fn alias(&self, name: &str, target: &str) {
        self.say(name, Says::Alias(target.to_owned()));
    }

    /// From now on `name` gets SERVFAIL.
    pub fn fail(&self, name: &str) {
        self.say(name, Says::Code(ResponseCode::ServFail));
    }

    /// From now on questions about `name` get no reply.
    pub fn silence(&self, name: &str) {
        self.say(name, Says::Silence);
    }

    /// Every name asked so far, in order, once per question, lower case, without the last dot.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// How many lookups of `name` came: questions of its most asked record type.
    pub fn lookups(&self, name: &str) -> usize {
        let asked = self.state.asked.lock().unwrap();
        let count = |kind| asked.iter().filter(|(n, k)| n == name && *k == kind).count();
        count(RecordType::A).max(count(RecordType::AAAA))
    }

    /// How many questions came over TCP.
    pub fn over_tcp(&self) -> usize {
        *self.state.over_tcp.lock().unwrap()
    }

    fn say(&self, name: &str, says: Says) {
        self.state.says.lock().unwrap().insert(name.to_owned(), says);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes both threads, which then see the flag.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _woken = socket.send_to(&[], self.address);
        }
        let _woken = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
            let Some(reply) = self.reply(&question) else { continue };
            let mut bytes = reply.to_vec().unwrap();
            if bytes.len() > 512 {
                bytes = reply.truncate().to_vec().unwrap();
            }
            let _sent = socket.send_to(&bytes, from);
        }
    }

    fn serve_tcp(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let state = Arc::clone(self);
            thread::spawn(move || state.serve_stream(stream));
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) {
        let _bounded = stream.set_read_timeout(Some(Duration::from_secs(30)));
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_err() {
                return;
            }
            let Ok(question) = Message::from_vec(&question) else { return };
            *self.over_tcp.lock().unwrap() += 1;
            let Some(reply) = self.reply(&question) else { continue };
            let reply = reply.to_vec().unwrap();
            let mut framed = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
            framed.extend(reply);
            if stream.write_all(&framed).is_err() {
                return;
            }
        }
    }

    fn reply(&self, question: &Message) -> Option<Message> {
        let query = question.queries.first()?;
        let name = text(query.name());
        let kind = query.query_type();
        let mut asked = self.asked.lock().unwrap();
        let turn = asked.iter().filter(|(n, k)| *n == name && *k == kind).count();
        asked.push((name.clone(), kind));
        drop(asked);

        let mut reply = Message::response(question.metadata.id, OpCode::Query);
        reply.metadata.recursion_desired = question.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_query(query.clone());
        let says = self.says.lock().unwrap();
        match says.get(&name) {
            Some(Says::Silence) => return None,
            Some(Says::Code(code)) => reply.metadata.response_code = *code,
            Some(Says::Addresses { sets, ttl }) => {
                add(&mut reply, query.name(), kind, (nth(sets, turn), *ttl));
            }
            Some(Says::Alias(target)) => {
                let target_name = Name::from_ascii(format!("{target}.")).unwrap();
                let alias = RData::CNAME(rdata::CNAME(target_name.clone()));
                reply.add_answer(Record::from_rdata(query.name().clone(), 0, alias));
                if let Some(Says::Addresses { sets, ttl }) = says.get(target) {
                    add(&mut reply, &target_name, kind, (nth(sets, turn), *ttl));
                }
            }
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        Some(reply)
    }
}

fn add(reply: &mut Message, name: &Name, kind: RecordType, (set, ttl): (&[IpAddr], u32)) {
    for address in set {
        let data = match address {
            IpAddr::V4(ip) if kind == RecordType::A => RData::A(rdata::A(*ip)),
            IpAddr::V6(ip) if kind == RecordType::AAAA => RData::AAAA(rdata::AAAA(*ip)),
            IpAddr::V4(_) | IpAddr::V6(_) => continue,
        };
        reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
    }
}

fn nth(sets: &[Vec<IpAddr>], turn: usize) -> &[IpAddr] {
    &sets[turn.min(sets.len() - 1)]
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn parse(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// A free port for both: TCP chooses, and UDP almost always has it too.
fn bind() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
}
