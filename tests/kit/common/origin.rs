//! Origins that say and keep exactly the bytes a test wants.

use super::{limits, read_request, server_config};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A raw origin on loopback: each connection is given to the closure on a thread of its own; what
/// it reads through [`read_head`] and friends is what the gateway sent.
pub struct Origin {
    pub at: SocketAddr,
    /// Everything that any connection sent, in order of arrival (plain origins only).
    pub seen: Arc<Mutex<Vec<Vec<u8>>>>,
    pub connections: Arc<std::sync::atomic::AtomicUsize>,
}

impl Origin {
    /// A plain origin.
    pub fn plain(serve: impl Fn(Recorded) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let serve = Arc::new(serve);
        let (all, count) = (seen.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                limits(&stream);
                let number = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    all.len() - 1
                };
                let (serve, seen) = (serve.clone(), all.clone());
                std::thread::spawn(move || serve(Recorded { stream, seen, number }));
            }
        });
        Self { at, seen, connections }
    }

    /// A plain origin that answers each request on each connection with 200 and `body`.
    pub fn ok(body: &'static str) -> Self {
        Self::plain(move |mut stream| {
            while !read_request(&mut stream).is_empty() {
                let sent = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                if sent.is_err() {
                    return;
                }
            }
        })
    }

    /// A TLS origin with a certificate of the test CA for `names`.
    pub fn tls(
        names: &[&str],
        alpn: &[&str],
        serve: impl Fn(rustls::StreamOwned<rustls::ServerConnection, TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        Self::tls_as(server_config(names, alpn), serve)
    }

    /// A TLS origin with a server of a test's own.
    pub fn tls_as(
        config: Arc<rustls::ServerConfig>,
        serve: impl Fn(rustls::StreamOwned<rustls::ServerConnection, TcpStream>) + Send + Sync + 'static,
    ) -> Self {
        Self::plain(move |recorded| {
            let server = rustls::ServerConnection::new(config.clone()).unwrap();
            serve(rustls::StreamOwned::new(server, recorded.stream));
        })
    }

    pub fn port(&self) -> u16 {
        self.at.port()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// All bytes of all connections as text.
    pub fn heard(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect()
    }
}

/// A connection of an origin; what is read from it is kept.
pub struct Recorded {
    pub stream: TcpStream,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    number: usize,
}

impl Read for Recorded {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.stream.read(buf)?;
        self.seen.lock().unwrap()[self.number].extend_from_slice(&buf[..n]);
        Ok(n)
    }
}

impl Write for Recorded {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.stream.write(buf)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
