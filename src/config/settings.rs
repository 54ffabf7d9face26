//! The config as meant: plain values, every default filled in, every path absolute.
//!
//! What stands here has been checked; nothing in it names a feature that this build lacks.

use crate::addr::{Authority, Host, Name};
use crate::policy::document::Document;
use crate::proxy::inject::Binding;
use crate::vault::Source;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The sandbox that a listener serves when it names none.
pub const DEFAULT_SANDBOX: &str = "default";

/// The whole config of a gateway.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the CA, the CA bundle and the traffic records live. Absolute.
    pub state_dir: PathBuf,
    /// A flag, a variable or the file names the state directory: the control socket is in it then.
    pub state_dir_named: bool,
    /// Where the gateway listens. Never empty.
    pub listeners: Vec<Listener>,
    /// The sandboxes by name. Every listener's sandbox is in it.
    pub sandboxes: BTreeMap<Arc<str>, Sandbox>,
    /// Deny rules that hold for all sandboxes; nothing in it allows.
    pub deny: Option<Arc<Document>>,
    /// Where secret values come from, by name.
    pub credentials: BTreeMap<Arc<str>, Source>,
    /// Where they go.
    pub inject: Vec<Binding>,
    /// The routes behind `inference.local`, by name.
    pub inference: BTreeMap<Arc<str>, Arc<crate::inference::Routes>>,
    /// How origins are reached.
    pub upstream: Upstream,
    /// How long each step may take.
    pub timeout: Timeout,
    /// How much of a body is read in order to judge or rewrite it.
    pub buffer: Buffer,
    /// The traffic records.
    pub traffic: Traffic,
    /// Where `/metrics` and `/healthz` are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// How clients speak to it.
    pub mode: ListenMode,
    /// Whose traffic this is.
    pub sandbox: Arc<str>,
    /// The uids that are served, where the peer's uid can be seen. `None`: not looked at, which
    /// only a listener with `allow_from` may say.
    pub allow_uids: Option<Vec<u32>>,
    /// The networks that are served; empty on loopback and Unix listeners that name none.
    pub allow_from: Vec<IpNet>,
    /// The file mode of a Unix socket.
    pub unix_mode: u32,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket. Absolute.
    Unix(PathBuf),
}

/// How clients speak to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    /// They know that it is a proxy: HTTP forward, CONNECT, SOCKS5.
    Proxy,
    /// They do not: their connections are redirected here.
    Transparent,
}

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Policy files, those of `defaults` first. Absolute.
    pub policies: Vec<PathBuf>,
    /// Presets, those of the tier and of `defaults` first, each once; the nearest mention decides
    /// the access.
    pub presets: Vec<PresetUse>,
    /// The tier that it has.
    pub tier: Arc<str>,
    /// What happens to entries with binaries where the process can't be seen.
    pub identity: Identity,
    /// The credentials that it may use; each exists.
    pub credentials: Vec<Arc<str>>,
    /// What happens to a request that no rule knows.
    pub approval: Approval,
    /// Whether it may ask about itself at `http://policy.local`.
    pub agent_api: bool,
    /// The routes behind its `inference.local`, by a name that is in `Config::inference`.
    pub inference: Option<Arc<str>>,
    /// Its limits.
    pub limits: Limits,
}

/// A preset and what it lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetUse {
    /// Its name; it exists.
    pub name: Arc<str>,
    /// Its access; the preset has it.
    pub access: crate::policy::preset::Access,
}

/// Whether the process behind a connection must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An entry with binaries does not match where the process can't be seen.
    Required,
    /// The binary part of an entry is dropped where the process can't be seen.
    Ignore,
}

/// What happens to a request that no rule knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Whether it is held, queued or refused.
    pub mode: ApprovalMode,
    /// How long it is held.
    pub timeout: Duration,
    /// How long while nobody watches.
    pub unattended: Duration,
    /// What is asked about.
    pub ask: Ask,
    /// How long session grants live.
    pub session: Duration,
    /// How long an unanswered entry stays.
    pub keep: Duration,
    /// Requests held at once.
    pub max_held: u32,
    /// Entries waiting at once.
    pub max_pending: u32,
    /// A program and its arguments that is told of new entries; empty: none.
    pub notify: Vec<String>,
}

/// Whether an unknown request is held, queued or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalMode {
    /// It waits for an answer.
    Hold,
    /// It is answered at once, and asked about.
    Queue,
    /// It is refused and never asked about.
    Deny,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Every unknown request.
    Any,
    /// Hosts that no rule covers.
    NewHosts,
}

/// Limits of a sandbox; `None`: no limit. Never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once.
    pub connections: Option<u32>,
    /// Bytes of one request body.
    pub request_body: Option<u64>,
    /// Requests a second.
    pub requests_per_second: Option<u32>,
    /// Bytes that leave in a day.
    pub upload_per_day: Option<u64>,
}

/// How origins are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// PEM files added to the system's roots. Absolute.
    pub ca_files: Vec<PathBuf>,
    /// Names answered before DNS; no list is empty.
    pub hosts: BTreeMap<Name, Vec<IpAddr>>,
    /// Internal addresses that may be reached.
    pub allow_internal: Vec<IpNet>,
    /// PEM files with revocation lists. Absolute.
    pub crl_files: Vec<PathBuf>,
    /// Resolvers; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// A parent proxy.
    pub proxy: Option<ParentProxy>,
}

impl Upstream {
    /// The files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let credential = self.proxy.iter().filter_map(|proxy| match &proxy.credential {
            Some(CredentialSource::File(file)) => Some(file),
            Some(CredentialSource::Env(_)) | None => None,
        });
        self.ca_files.iter().chain(&self.crl_files).chain(credential)
    }
}

/// A parent proxy, spoken to in plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentProxy {
    /// Where it is.
    pub address: Authority,
    /// Where its `user:password` comes from.
    pub credential: Option<CredentialSource>,
    /// What is reached without it.
    pub no_proxy: Vec<NoProxy>,
    /// Who resolves names.
    pub resolve: Resolve,
}

/// Where a secret value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file. Absolute.
    File(PathBuf),
    /// A variable of the gateway's environment.
    Env(String),
}

/// What is reached without the parent proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProxy {
    /// `.corp`: the name and all below it. Without the dot.
    Suffix(Name),
    /// This host alone.
    Host(Host),
    /// All addresses of a network.
    Net(IpNet),
}

/// Who resolves names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// The gateway, which checks every address.
    Local,
    /// The parent.
    Proxy,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// For a client's head.
    pub header: Duration,
    /// For resolving and connecting, TLS included.
    pub connect: Duration,
    /// For the first byte of a response.
    pub first_byte: Duration,
    /// For a stream that stands still.
    pub idle: Duration,
    /// For what is under way when the gateway stops.
    pub drain: Duration,
    /// For a whole request.
    pub total: Option<Duration>,
}

/// How much of a body is read in order to judge or rewrite it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// A GraphQL request.
    pub graphql: u64,
    /// A JSON-RPC or MCP request.
    pub rpc: u64,
    /// A body in which placeholders are looked for.
    pub placeholder: u64,
    /// A body that is signed.
    pub sigv4: u64,
}

/// The traffic records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The size at which a new file is begun, in bytes.
    pub rotate: u64,
    /// How long files are kept.
    pub keep_for: Duration,
    /// How much all files of a sandbox may take, in bytes.
    pub max_size: u64,
    /// How many files a sandbox may have; `None`: as many as fit.
    pub max_files: Option<std::num::NonZeroU32>,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

impl Default for Approval {
    fn default() -> Self {
        Self {
            mode: ApprovalMode::Hold,
            timeout: Duration::from_secs(MINUTE),
            unattended: Duration::from_secs(5),
            ask: Ask::Any,
            session: Duration::from_secs(12 * HOUR),
            keep: Duration::from_secs(DAY),
            max_held: 256,
            max_pending: 1000,
            notify: Vec::new(),
        }
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(10 * MINUTE),
            drain: Duration::from_secs(30),
            total: None,
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { graphql: 64 << 10, rpc: 64 << 10, placeholder: 256 << 10, sigv4: 10 << 20 }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            rotate: 64 << 20,
            keep_for: Duration::from_secs(30 * DAY),
            max_size: 10 << 30,
            max_files: None,
        }
    }
}

/// As it is written in a config: `127.0.0.1:3128`, `unix:/run/x.sock`.
impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => {
                write!(f, "unix:{}", crate::addr::Shown::new(&path.to_string_lossy()))
            }
        }
    }
}
