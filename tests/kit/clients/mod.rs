//! Other people's programs behind a gateway: sites for them to visit, and how they are run, with
//! what `portcullis env` prints and nothing else that would point them anywhere.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use super::common::{self, Gateway, Origin, Setup, header, read_head, tool};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One request that reached a site.
pub struct Ask {
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    pub head: String,
    pub body: Vec<u8>,
}

/// What a site answers.
pub struct Answer {
    pub status: u16,
    /// Header lines, each with its CRLF; `content-length` is added.
    pub fields: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn of(kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, fields: format!("content-type: {kind}\r\n"), body: body.into() }
    }

    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::of("text/plain", body)
    }

    pub fn missing() -> Self {
        Self { status: 404, fields: String::new(), body: b"no such thing\n".to_vec() }
    }
}

impl Ask {
    fn read(stream: &mut (impl Read + Write)) -> Option<Self> {
        let head = read_head(stream);
        let mut words = head.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        if header(&head, "expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let mut body = Vec::new();
        if let Some(length) = header(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            stream.read_exact(&mut body).ok()?;
        } else if header(&head, "transfer-encoding").is_some() {
            while chunk(stream, &mut body)? {}
        }
        Some(Self { method, target, head, body })
    }
}

/// Reads one chunk; false at the last one.
fn chunk(stream: &mut impl Read, body: &mut Vec<u8>) -> Option<bool> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    let size = std::str::from_utf8(&line).ok()?.trim();
    let size = usize::from_str_radix(size, 16).ok()?;
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes).ok()?;
    body.extend_from_slice(&bytes[..size]);
    Some(size > 0)
}

/// A site over TLS and HTTP/1.1 for these names, with a certificate that gateways of `Setup` trust.
pub fn site(names: &[&str], answer: impl Fn(&Ask) -> Answer + Send + Sync + 'static) -> Origin {
    Origin::tls(names, &["http/1.1"], move |mut stream| serve(&mut stream, &answer))
}

/// Answers the requests of one connection.
pub fn serve(stream: &mut (impl Read + Write), answer: &impl Fn(&Ask) -> Answer) {
    while let Some(ask) = Ask::read(stream) {
        let Answer { status, fields, body } = answer(&ask);
        let head = format!("HTTP/1.1 {status} -\r\n{fields}content-length: {}\r\n\r\n", body.len());
        let body: &[u8] = if ask.method == "HEAD" { &[] } else { &body };
        if stream.write_all(head.as_bytes()).is_err() || stream.write_all(body).is_err() {
            return;
        }
    }
}

/// A gateway that lets these rules (YAML, one a line) through to `origin.test` on `port`.
pub fn gateway(port: u16, rules: &[&str]) -> Gateway {
    let mut entries = format!(
        "  site:\n    endpoints:\n      - host: origin.test\n        port: {port}\n        \
         protocol: rest\n        enforcement: enforce\n        allow_encoded_slash: true\n        rules:\n"
    );
    for rule in rules {
        entries += &format!("          - allow: {{ {rule} }}\n");
    }
    Setup::policy(&entries).start()
}

/// What a program said, and whether it was content.
#[derive(Debug)]
pub struct Ran {
    pub ok: bool,
    /// Standard output, then standard error.
    pub said: String,
}

impl Ran {
    /// It ended well; what it said.
    #[track_caller]
    pub fn passed(self) -> String {
        assert!(self.ok, "{}", self.said);
        self.said
    }

    /// It failed, and its user reads why.
    #[track_caller]
    pub fn refused(self, why: &str) -> String {
        assert!(!self.ok, "it was content: {}", self.said);
        assert!(self.said.contains(why), "it does not say {why:?}:\n{}", self.said);
        self.said
    }
}

/// A program with its arguments, its directory and its variables.
pub struct Program {
    command: Command,
}

/// `program` behind the gateway, in `dir`; `None`, said and counted, where it is not installed.
pub fn program(gateway: &Gateway, program: &str, dir: &Path) -> Option<Program> {
    if !tool(program) {
        return None;
    }
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "60", program])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", dir)
        .env("LC_ALL", "C.UTF-8")
        .envs(variables(gateway))
        .stdin(Stdio::null());
    Some(Program { command })
}

impl Program {
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Arguments without spaces, as one line.
    pub fn line(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn run(mut self) -> Ran {
        let output = self.command.output().unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said += &String::from_utf8_lossy(&output.stderr);
        Ran { ok: output.status.success(), said }
    }
}

/// What `portcullis env` tells a shell.
pub fn variables(gateway: &Gateway) -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["env", "--config", "config.yaml", "--listen", &gateway.proxy.to_string()])
        .current_dir(gateway.dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let variable = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        Some((name.to_owned(), value.strip_prefix('\'')?.strip_suffix('\'')?.to_owned()))
    };
    let all: Vec<(String, String)> = text.lines().filter_map(variable).collect();
    assert!(all.iter().any(|(name, _)| name == "https_proxy"), "{text}");
    all
}

/// A door of its own for a program that knows no proxy: each connection to it is a CONNECT tunnel.
pub fn door(gateway: &Gateway, authority: &str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (proxy, authority) = (gateway.proxy, authority.to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut tunnel = std::net::TcpStream::connect(proxy).unwrap();
            common::limits(&client);
            common::limits(&tunnel);
            write!(tunnel, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
            assert!(read_head(&mut tunnel).starts_with("HTTP/1.1 200"));
            pump(client.try_clone().unwrap(), tunnel.try_clone().unwrap());
            pump(tunnel, client);
        }
    });
    at
}

fn pump(mut from: std::net::TcpStream, mut to: std::net::TcpStream) {
    std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Write));
    });
}

/// Files beside a test's gateway.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file and the directories above it.
pub fn write(path: PathBuf, text: impl AsRef<[u8]>) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// The methods and paths of the records so far, with what became of them.
pub fn story(gateway: &Gateway, count: usize) -> Vec<String> {
    let word = |v: &serde_json::Value| v.as_str().unwrap_or("-").to_owned();
    let line = |r: &serde_json::Value| {
        format!("{} {} {}", word(&r["method"]), word(&r["path"]), word(&r["outcome"]))
    };
    gateway.records(count).iter().map(line).collect()
}
