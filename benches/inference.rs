//! `inference.local`, measured: what a model call costs the gateway beside the plain intercepted
//! path, how late an event leaves, and what a thousand streams at once take.
//!
//! `cargo bench --bench inference -- --help`. Origin, load and gateway share one machine: what the
//! load takes is missing to the gateway, so delays are upper bounds.

#![expect(clippy::disallowed_methods, reason = "a load generator dials, and its tasks end with it")]

#[path = "gateway/stop.rs"]
mod stop;
#[path = "gateway/tls.rs"]
mod tls;

use clap::Parser;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A chat request of 4 KiB, as the goal has it.
const CHAT: usize = 4096;
/// Clock ticks a second in `/proc`.
const TICKS: u64 = 100;

/// What can be asked for.
#[derive(Debug, Parser)]
#[command(name = "inference")]
struct Args {
    /// Requests of each kind for the cost of a call.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    requests: u32,
    /// Streams at once.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    streams: usize,
    /// Events a second on each stream.
    #[arg(long, value_name = "N", default_value_t = 50)]
    events: u64,
    /// How long the streams run.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Another build of the gateway.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_portcullis"))]
    gateway: PathBuf,
    /// What cargo passes; of no meaning.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let ca = tls::OriginCa::new(&["origin.test"]);
    let origin = Origin::start(&ca, args.events, args.seconds);
    let gateway = Gateway::start(&args.gateway, &ca, &origin);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        calls(&gateway, &origin, args.requests).await;
        one_stream(&gateway).await;
        streams(&gateway, &args, None).await;
        streams(&gateway, &args, Some(origin.plain)).await;
    });
}

/// The gateway's CPU for a call of 4 KiB through `inference.local`, and for the same request to
/// the origin by its own name; both inside TLS that the gateway ends, both ways over TLS.
async fn calls(gateway: &Gateway, origin: &Origin, requests: u32) {
    let own = format!("origin.test:{}", origin.tls.port());
    let mut costs = [Duration::ZERO; 2];
    for (at, authority) in [own.as_str(), "inference.local:443"].into_iter().enumerate() {
        let mut stream = gateway.tunnel(authority).await;
        ask(&mut stream, authority, requests / 10).await;
        let before = gateway.cpu();
        ask(&mut stream, authority, requests).await;
        costs[at] = (gateway.cpu() - before) / requests;
    }
    let [plain, call] = costs.map(|cost| cost.as_secs_f64() * 1e6);
    println!(
        "cpu of a 4 KiB chat     plain {plain:.0} us, inference.local {call:.0} us, more {:.0} us (goal < 150)",
        call - plain
    );
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), authority: &str, times: u32) {
    let request = chat(authority, "/v1/chat/completions", ("m", false));
    let mut buffer = vec![0; 16 << 10];
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await.expect("a request");
        stream.flush().await.expect("a request");
        let mut read = 0;
        // With a length, or in chunks where the answer is looked through for the credential.
        while ![&b"}}"[..], b"\r\n0\r\n\r\n"].iter().any(|end| buffer[..read].ends_with(end)) {
            let more = stream.read(&mut buffer[read..]).await.expect("an answer");
            let refused = read == 0 && !buffer.starts_with(b"HTTP/1.1 200");
            assert!(!refused, "{}", String::from_utf8_lossy(&buffer[..more]));
            assert!(more > 0, "no answer: {}", String::from_utf8_lossy(&buffer[..read]));
            read += more;
        }
        assert!(
            buffer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&buffer[..read])
        );
    }
}

fn chat(authority: &str, target: &str, (model, stream): (&str, bool)) -> String {
    let mut body = format!(
        "{{\"model\":\"{model}\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\""
    );
    let rest = CHAT - body.len() - 4;
    body.extend(std::iter::repeat_n('x', rest));
    body.push_str("\"}]}");
    let host = authority.trim_end_matches(":443");
    format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Authorization: Bearer placeholder\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// How late the events of one stream are on an idle gateway.
async fn one_stream(gateway: &Gateway) {
    let mut late = stream(gateway.proxy).await;
    late.sort_unstable();
    let at = |share: f64| quantile(&late, share);
    println!(
        "an event, one stream    p50 {} us, p99 {} us, most {} us of {} (goal < 1000)",
        at(0.5),
        at(0.99),
        at(1.0),
        late.len()
    );
}

/// Many streams at once, and for comparison from the origin itself: what load and origin do alone.
async fn streams(gateway: &Gateway, args: &Args, origin: Option<SocketAddr>) {
    let (rss, cpu) = (gateway.rss(), gateway.cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..args.streams {
        let at = origin.unwrap_or(gateway.proxy);
        tasks.spawn(async move {
            // They begin within a second, not all at once.
            tokio::time::sleep(Duration::from_micros(number as u64 * 1000)).await;
            stream(at).await
        });
    }
    tokio::time::sleep(Duration::from_secs(args.seconds / 2 + 1)).await;
    let most = gateway.rss();
    let mut late: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    late.sort_unstable();
    let over = late.iter().filter(|late| **late > 100_000).count();
    println!(
        "{} streams, {}/s each{}   p50 {} us, p99 {} us, most {} us, {over} of {} over 100 ms (goal 0)",
        args.streams,
        args.events,
        if origin.is_some() { ", no gateway" } else { "" },
        quantile(&late, 0.5),
        quantile(&late, 0.99),
        quantile(&late, 1.0),
        late.len()
    );
    if origin.is_none() {
        let each = most.saturating_sub(rss) / args.streams as u64;
        println!("memory of a stream      {each} KiB (goal < 64)");
        let cpu = (gateway.cpu() - cpu).as_secs_f64() * 1e6 / late.len().max(1) as f64;
        println!("cpu of an event         {cpu:.1} us");
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into the samples"
)]
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(at).copied().unwrap_or(0)
}

/// Takes the events of one stream to its end; how late each was, in microseconds.
async fn stream(proxy: SocketAddr) -> Vec<u64> {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy");
    let target = "http://inference.local/v1/chat/completions";
    let request = chat("inference.local", target, ("local", true));
    stream.write_all(request.as_bytes()).await.expect("a request");
    let (mut late, mut text) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.expect("a stream");
        let arrived = now();
        text.extend_from_slice(&buffer[..read]);
        while let Some(at) = find(&text, b"\"at\":") {
            let Some(end) = text[at..].iter().position(|b| *b == b'}') else { break };
            let sent = std::str::from_utf8(&text[at + 5..at + end]).expect("digits");
            late.push(arrived.saturating_sub(sent.parse().expect("a time")));
            text.drain(..at + end);
        }
        if read == 0 || text.ends_with(b"\r\n0\r\n\r\n") {
            assert!(!late.is_empty(), "no stream: {}", String::from_utf8_lossy(&text));
            return late;
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A provider on a thread of its own: with TLS for calls, without for streams.
struct Origin {
    tls: SocketAddr,
    plain: SocketAddr,
}

impl Origin {
    fn start(ca: &tls::OriginCa, events: u64, seconds: u64) -> Self {
        let mut config = rustls::ServerConfig::clone(&ca.server);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let tls = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let at = |listener: &TcpListener| listener.local_addr().expect("an address");
                tell.send(Self { tls: at(&tls), plain: at(&plain) }).expect("a listener");
                loop {
                    tokio::select! {
                        Ok((stream, _)) = plain.accept() => {
                            tokio::spawn(serve(stream, events, seconds));
                        }
                        Ok((stream, _)) = tls.accept() => {
                            let acceptor = acceptor.clone();
                            tokio::spawn(async move {
                                let stream = acceptor.accept(stream).await.expect("TLS");
                                serve(stream, events, seconds).await;
                            });
                        }
                    }
                }
            });
        });
        told.recv().expect("an origin")
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, events: u64, seconds: u64) {
    let mut text = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        // A request of this bench ends with its messages.
        while !text.ends_with(b"\"}]}") {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => text.extend_from_slice(&buffer[..read]),
            }
        }
        let streams = find(&text, b"\"stream\":true").is_some();
        text.clear();
        let answer = if streams {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            let mut every = tokio::time::interval(Duration::from_micros(1_000_000 / events));
            for _ in 0..events * seconds {
                every.tick().await;
                let event = format!(
                    "data: {{\"choices\":[{{\"delta\":{{\"content\":\"word\"}}}}],\"at\":{}}}\n\n",
                    now()
                );
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                if stream.write_all(chunk.as_bytes()).await.is_err()
                    || stream.flush().await.is_err()
                {
                    return;
                }
            }
            "0\r\n\r\n".to_owned()
        } else {
            let body = "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"ok\"}}],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":1}}";
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The gateway as a process of its own; dropping it ends it.
struct Gateway {
    child: Child,
    proxy: SocketAddr,
    ca: String,
    #[expect(dead_code, reason = "held for its drop")]
    dir: tempfile::TempDir,
}

impl Gateway {
    fn start(program: &Path, ca: &tls::OriginCa, origin: &Origin) -> Self {
        // It is started in another directory.
        let program = std::path::absolute(program).expect("a path");
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("a file");
        };
        let (tls, plain) = (origin.tls.port(), origin.plain);
        write("origin-ca.pem", &ca.pem);
        write(
            "policy.yaml",
            &format!(
                "version: 1\nnetwork_policies:\n  bench:\n    endpoints:\n      - {{ host: origin.test, port: {tls}, protocol: rest, enforcement: enforce, access: full }}\n"
            ),
        );
        write(
            "config.yaml",
            &format!(
                "version: 1\nstate_dir: state\nlisten: [{{ address: \"127.0.0.1:0\" }}]\n\
             sandboxes:\n  default: {{ policy: [policy.yaml], inference: main }}\n\
             credentials: {{ key: {{ env: BENCH_KEY }} }}\ninference:\n  main:\n    routes:\n      \
             - {{ match: local, provider: vllm, endpoint: \"http://{plain}/v1\", credential: key }}\n      \
             - {{ provider: openai, endpoint: \"https://origin.test:{tls}/v1\", credential: key }}\n\
             upstream:\n  ca_files: [origin-ca.pem]\n  allow_internal: [127.0.0.1/32]\n  hosts: {{ origin.test: [127.0.0.1] }}\n"
            ),
        );
        let mut command = Command::new(program);
        command.args(["gateway", "--config", "config.yaml"]).current_dir(dir.path());
        command.env("BENCH_KEY", "sk-bench-0123456789").env("NO_COLOR", "1").stdin(Stdio::null());
        let errors = std::fs::File::create(dir.path().join("stderr.log")).expect("a file");
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("a process");
        // The banner is one write.
        let mut banner = vec![0; 64 << 10];
        let read = child.stdout.as_mut().map_or(0, |out| out.read(&mut banner).unwrap_or(0));
        let banner = String::from_utf8_lossy(&banner[..read]).into_owned();
        let first = |line: &str| line.split_whitespace().next()?.parse().ok();
        let proxy = banner.lines().find_map(first).expect("a banner with the address");
        let ca = std::fs::read_to_string(dir.path().join("state/ca.pem")).expect("its CA");
        Self { child, proxy, ca, dir }
    }

    async fn tunnel(&self, authority: &str) -> impl AsyncRead + AsyncWrite + Unpin {
        let mut stream = TcpStream::connect(self.proxy).await.expect("the proxy");
        stream.set_nodelay(true).expect("a socket");
        let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(connect.as_bytes()).await.expect("a CONNECT");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("an answer"));
        }
        let name = authority.split(':').next().unwrap_or(authority).to_owned();
        let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
        let config = tls::client(&self.ca, "http/1.1", false);
        tokio_rustls::TlsConnector::from(config).connect(name, stream).await.expect("TLS")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("a gateway")
    }

    /// What it used so far.
    fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        Duration::from_millis((number(11) + number(12)) * 1000 / TICKS)
    }

    /// What it holds, in KiB.
    fn rss(&self) -> u64 {
        let status = self.proc("status");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        stop::stop(&mut self.child);
    }
}
