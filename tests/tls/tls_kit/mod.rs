//! What the tests of `tls` share: a CA in a temporary directory, a server on port 0 that ends TLS
//! once, clients that trust one file, and programs that may not be installed.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portcullis::addr::Host;
use portcullis::tls::{AlpnSet, Ca, Intercept, Leaves};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

pub(crate) struct Gateway {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: Ca,
    pub(crate) intercept: Intercept,
}

pub(crate) fn gateway() -> Gateway {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(dir.path()).unwrap();
    let intercept = Intercept::new(Arc::new(Leaves::new(&ca).unwrap())).unwrap();
    Gateway { dir, ca, intercept }
}

pub(crate) fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

impl Gateway {
    pub(crate) fn config(&self, name: &str) -> Arc<ServerConfig> {
        self.intercept.config(&host(name), AlpnSet::Http2AndHttp1).unwrap()
    }

    pub(crate) fn ca_file(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }
}

pub(crate) fn roots(certificate: &CertificateDer<'_>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).unwrap();
    roots
}

/// A client that trusts `certificate` alone.
pub(crate) fn client(certificate: &CertificateDer<'_>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(certificate))
        .with_no_client_auth()
}

/// What the server saw of one connection.
pub(crate) struct Served {
    pub(crate) sni: Option<String>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) resumed: bool,
}

/// Serves one connection: TLS, one read, a small HTTP answer.
pub(crate) fn serve(config: Arc<ServerConfig>) -> (SocketAddr, JoinHandle<io::Result<Served>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || serve_once(&listener, config)))
}

fn serve_once(listener: &TcpListener, config: Arc<ServerConfig>) -> io::Result<Served> {
    let (mut socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut server = ServerConnection::new(config).unwrap();
    while server.is_handshaking() {
        server.complete_io(&mut socket)?;
    }
    let served = Served {
        sni: server.server_name().map(str::to_owned),
        alpn: server.alpn_protocol().map(<[u8]>::to_vec),
        resumed: server.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    };
    let mut stream = rustls::Stream::new(&mut server, &mut socket);
    let read = stream.read(&mut [0; 4096])?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    while server.wants_write() {
        server.write_tls(&mut socket)?;
    }
    Ok(served)
}

/// Ends a server whose client has exited without ever connecting; any other has had its one.
pub(crate) fn release(address: SocketAddr) {
    let _ = TcpStream::connect(address);
}

/// One connection as a client: handshake, a request, the answer read to its end.
pub(crate) fn fetch(
    config: Arc<ClientConfig>,
    address: SocketAddr,
    name: &str,
) -> io::Result<bool> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    let mut stream = rustls::Stream::new(&mut client, &mut socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.ends_with("ok"), "{answer}");
    Ok(client.handshake_kind() == Some(rustls::HandshakeKind::Resumed))
}

/// Runs a program with `input`; `None`, and a word on stderr, where it is not installed.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    // A program that fails at once does not read; its status says why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Some(child.wait_with_output().unwrap())
}

pub(crate) fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

pub(crate) fn write_pem(path: &Path, der: &[u8]) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    std::fs::write(path, pem).unwrap();
}
