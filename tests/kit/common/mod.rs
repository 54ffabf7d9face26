//! A gateway of one's own for a test: the real binary on port 0, its records, its CA; and origins
//! that say and keep exactly the bytes a test wants. Real sockets, no sleeping for a result.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

pub mod dns;
pub mod hello;
pub mod host;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    child: Child,
    /// Where its first listener listens.
    pub proxy: SocketAddr,
    /// All TCP listeners, in the order of the config.
    pub listeners: Vec<SocketAddr>,
    /// Its state directory, and the directory of its files.
    pub dir: tempfile::TempDir,
    /// The banner, as far as the line that names the CA bundle.
    pub banner: String,
}

/// A config for the sandbox `default` with `policy` and more YAML below it.
///
/// `origin.test`, `other.test` and `*.many.test` go to 127.0.0.1; the test CA is trusted; unknown
/// requests are refused at the CONNECT only with `approval: { mode: deny }` in `sandbox`.
pub struct Setup {
    pub policy: String,
    /// More keys of the sandbox, as YAML flow or block lines indented by four spaces.
    pub sandbox: String,
    /// More top-level YAML.
    pub more: String,
    /// Instead of the one proxy listener.
    pub listen: Option<String>,
    /// More lines below `upstream:`, indented by two spaces.
    pub upstream: String,
    /// Variables of the gateway's environment.
    pub env: Vec<(String, String)>,
    /// More files beside the config, as name and text.
    pub files: Vec<(String, String)>,
}

impl Setup {
    /// A gateway under this `network_policies:` body (indented by two spaces).
    pub fn policy(entries: &str) -> Self {
        Self {
            policy: format!("version: 1\nnetwork_policies:\n{entries}\n"),
            sandbox: String::new(),
            more: String::new(),
            listen: None,
            upstream: String::new(),
            env: Vec::new(),
            files: Vec::new(),
        }
    }

    /// A gateway that allows everything (`access: full`, inspected) on these hosts and this port.
    pub fn allow_all(hosts: &[&str], port: u16) -> Self {
        let mut entries = String::from("  test:\n    endpoints:\n");
        for host in hosts {
            entries += &format!(
                "      - {{ host: \"{host}\", port: {port}, protocol: rest, enforcement: enforce, access: full }}\n"
            );
        }
        Self::policy(&entries)
    }

    pub fn sandbox(mut self, yaml: &str) -> Self {
        self.sandbox += yaml;
        self
    }

    pub fn more(mut self, yaml: &str) -> Self {
        self.more += yaml;
        self
    }

    pub fn upstream(mut self, yaml: &str) -> Self {
        self.upstream += yaml;
        self
    }

    pub fn listen(mut self, yaml: &str) -> Self {
        self.listen = Some(yaml.to_owned());
        self
    }

    /// One more file beside the config.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Writes its files into a directory of their own, and starts nothing.
    pub fn write(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        Gateway::write(self, dir.path());
        dir
    }

    /// Starts it.
    pub fn start(self) -> Gateway {
        Gateway::start(&self)
    }
}

/// Unless a test says otherwise, what no rule knows is asked about and nobody is held: there is
/// nobody to answer.
fn asks(sandbox: &str) -> String {
    match sandbox.contains("approval:") {
        true => sandbox.to_owned(),
        false => format!("    approval: {{ mode: queue }}\n{sandbox}"),
    }
}

impl Gateway {
    fn start(setup: &Setup) -> Self {
        Self::spawn(setup.write(), &["--config", "config.yaml"], &setup.env)
    }

    fn write(setup: &Setup, at: &Path) {
        for (name, text) in &setup.files {
            std::fs::write(at.join(name), text).unwrap();
        }
        std::fs::write(at.join("policy.yaml"), &setup.policy).unwrap();
        std::fs::write(at.join("origin-ca.pem"), test_ca().pem.as_bytes()).unwrap();
        let listen = setup
            .listen
            .clone()
            .unwrap_or_else(|| "  - { address: \"127.0.0.1:0\", sandbox: default }\n".to_owned());
        let config = format!(
            "version: 1\nstate_dir: {state}\nlisten:\n{listen}sandboxes:\n  default:\n    policy: [policy.yaml]\n{sandbox}\
             upstream:\n  ca_files: [origin-ca.pem]\n  allow_internal: [\"127.0.0.1/32\", \"::1/128\"]\n  \
             hosts: {{ origin.test: [127.0.0.1], other.test: [127.0.0.1], a.many.test: [127.0.0.1], b.many.test: [127.0.0.1] }}\n{upstream}{more}",
            state = at.join("state").display(),
            listen = listen,
            sandbox = asks(&setup.sandbox),
            upstream = setup.upstream,
            more = setup.more,
        );
        std::fs::write(at.join("config.yaml"), config).unwrap();
    }

    /// Starts it again on the same files, after it ended or was killed.
    pub fn restart(&mut self, env: &[(String, String)]) {
        drop(self.child.kill());
        drop(self.child.wait());
        let args = ["--config", "config.yaml"];
        let (child, listeners, banner) = launch(Path::new(BINARY), self.dir.path(), &args, env);
        (self.child, self.proxy, self.listeners, self.banner) =
            (child, listeners[0], listeners, banner);
    }

    /// Starts the binary in `dir` with `args` behind `gateway`.
    pub fn spawn(dir: tempfile::TempDir, args: &[&str], env: &[(String, String)]) -> Self {
        Self::spawn_as(Path::new(BINARY), dir, args, env)
    }

    /// The same with another program that becomes the binary.
    pub fn spawn_as(
        program: &Path,
        dir: tempfile::TempDir,
        args: &[&str],
        env: &[(String, String)],
    ) -> Self {
        let (child, listeners, banner) = launch(program, dir.path(), args, env);
        let proxy =
            listeners.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 1)));
        Self { child, proxy, listeners, dir, banner }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The gateway's CA certificate file.
    pub fn ca(&self) -> PathBuf {
        self.state().join("ca.pem")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr.log")).unwrap()
    }

    /// A plain connection to the proxy, with time limits.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy).unwrap();
        limits(&stream);
        stream
    }

    /// Sends `bytes` on a new connection and reads until the gateway closes it.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    }

    /// A CONNECT tunnel to `authority`, answered with 200.
    pub fn tunnel(&self, authority: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// A client's TLS inside a tunnel, that trusts the gateway's CA.
    pub fn tls(&self, authority: &str, name: &str, alpn: &[&str]) -> Tls {
        self.tls_over(self.tunnel(authority), name, alpn)
    }

    /// A client's TLS over `stream`.
    pub fn tls_over(&self, stream: TcpStream, name: &str, alpn: &[&str]) -> Tls {
        let pem = std::fs::read(self.ca()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = rustls::ClientConnection::new(client_config(&pem, alpn), name).unwrap();
        rustls::StreamOwned::new(client, stream)
    }

    /// The records of a sandbox so far, in order; events are left out.
    pub fn records_now(&self, sandbox: &str) -> Vec<Value> {
        self.lines(sandbox).into_iter().filter(|l| l.get("verdict").is_some()).collect()
    }

    /// Event lines of a sandbox so far.
    pub fn events(&self, sandbox: &str) -> Vec<Value> {
        self.lines(sandbox).into_iter().filter(|l| l.get("event").is_some()).collect()
    }

    fn lines(&self, sandbox: &str) -> Vec<Value> {
        let dir = self.state().join("traffic").join(sandbox);
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
            .map(|d| d.map(|e| e.unwrap().path()).collect())
            .unwrap_or_default();
        files.sort();
        let mut lines = Vec::new();
        for file in files {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                // Swept away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => panic!("{error}"),
            };
            // A line without its end is being written.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                lines.push(serde_json::from_str(line).expect("every line is JSON"));
            }
        }
        lines
    }

    /// Waits until there are at least `count` records of the sandbox `default`.
    pub fn records(&self, count: usize) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let records = self.records_now("default");
            if records.len() >= count {
                return records;
            }
            assert!(
                Instant::now() < until,
                "only {} of {count} records: {records:#?}\n{}",
                records.len(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last of at least `count` records.
    pub fn record(&self, count: usize) -> Value {
        self.records(count).pop().unwrap()
    }

    /// Writes another policy in place of the present one.
    pub fn write_policy(&self, entries: &str) {
        let at = self.dir.path().join("policy.yaml");
        let new = self.dir.path().join("policy.yaml.new");
        std::fs::write(&new, format!("version: 1\nnetwork_policies:\n{entries}\n")).unwrap();
        std::fs::rename(new, at).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// Waits for it to exit by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        wait_for(PATIENCE, || self.child.try_wait().unwrap())
    }
}

/// Starts the binary in `dir`; gives its TCP listeners, and what it said of them.
fn launch(
    program: &Path,
    dir: &Path,
    args: &[&str],
    env: &[(String, String)],
) -> (Child, Vec<SocketAddr>, String) {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("stderr.log"));
    let mut child = Command::new(program)
        .arg("gateway")
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("HTTPS_PROXY")
        .envs(env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.unwrap())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut listeners = Vec::new();
    let mut said = String::new();
    // The banner ends with "note" lines or the last sentence; the addresses come before.
    for line in stdout.lines() {
        let line = line.unwrap();
        said += &line;
        said.push('\n');
        let first = line.split_whitespace().next().unwrap_or("");
        if line.starts_with("  ")
            && let Ok(at) = first.parse::<SocketAddr>()
        {
            listeners.push(at);
        }
        if line.contains("CA bundle") {
            break;
        }
    }
    if listeners.is_empty() && !said.contains("unix:") {
        let stderr = std::fs::read_to_string(dir.join("stderr.log")).unwrap();
        panic!("the gateway did not start:\n{said}\n{stderr}");
    }
    (child, listeners, said)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.log());
        }
    }
}

/// TLS of a test client.
pub type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

pub fn limits(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Polls `ready` until it gives a value.
pub fn wait_for<T>(patience: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < until, "it did not happen in {patience:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads to the end; a reset is an end.
pub fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
            ) => {}
        Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&bytes)),
    }
    bytes
}

/// Reads one head, byte by byte, so that nothing behind it is taken. Empty at the end.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one response with a Content-Length: head and body.
pub fn read_response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let head = read_head(stream);
    let length = header(&head, "content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// The value of a field in a head.
pub fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (n, v) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
    })
}

/// The JSON body of a refusal.
pub fn problem(response: &[u8]) -> Value {
    let text = String::from_utf8_lossy(response);
    let body = text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}"))
}

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

/// Reads one request with its body (Content-Length or chunked). Empty at the end.
pub fn read_request(stream: &mut impl Read) -> String {
    let head = read_head(stream);
    if let Some(length) = header(&head, "content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).is_err() {
            return String::new();
        }
    } else if header(&head, "transfer-encoding").is_some() {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return String::new(),
            }
        }
    }
    head
}

/// A CA that test origins have their certificates from.
pub struct TestCa {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// The one that gateways of [`Setup`] trust.
pub fn test_ca() -> &'static TestCa {
    static CA: std::sync::OnceLock<TestCa> = std::sync::OnceLock::new();
    CA.get_or_init(|| TestCa::new("Portcullis test origins"))
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: rcgen::Issuer::new(params, key) }
    }

    /// A server's certificate and key.
    pub fn certificate(&self, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
    }

    /// The list, in PEM, that revokes this certificate and no other.
    pub fn revoking(&self, certificate: &CertificateDer<'_>) -> String {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let params = rcgen::CertificateRevocationListParams {
            this_update: (now - hour).into(),
            next_update: (now + hour).into(),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: rcgen::SerialNumber::from(parsed.raw_serial().to_vec()),
                revocation_time: (now - hour).into(),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A server's certificate and key from the test CA.
pub fn certificate(names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    test_ca().certificate(names)
}

/// A server whose certificate from the test CA has expired.
pub fn expired(names: &[&str]) -> Arc<rustls::ServerConfig> {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let certificate = params.signed_by(&key, &test_ca().issuer).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    Arc::new(config.unwrap())
}

pub fn server_config(names: &[&str], alpn: &[&str]) -> Arc<rustls::ServerConfig> {
    server_as(certificate(names), alpn)
}

/// A server with this certificate and key.
pub fn server_as(
    (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
    alpn: &[&str],
) -> Arc<rustls::ServerConfig> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub fn client_config(ca_pem: &[u8], alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Whether a tool is there; if not, the test says so and is counted as skipped.
pub fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// A file's text.
pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
