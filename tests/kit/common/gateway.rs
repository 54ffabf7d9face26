//! A gateway of one's own for a test: the real binary on port 0, its records, its CA.

use super::{PATIENCE, Tls, client_config, limits, read_all, read_head, test_ca, wait_for};
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

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
