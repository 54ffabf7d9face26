//! Settings become a running gateway: each room is built here and handed to the next.

use super::earlier::{Earlier, Sinks};
use super::lock::StateLock;
use super::operator::{Accounts, Facts, Models, Operator, SandboxFacts};
use super::policies::{self, Why};
use super::run::Running;
use crate::addr::Host;
use crate::config::{
    ApprovalMode, Config, CredentialSource, Identity, ListenAddress, ListenMode, Loaded, NoProxy,
    Resolve,
};
use crate::identity::Peers;
use crate::metrics::{Gauges, Registry};
use crate::proxy::inject::{Buffers, Injector};
use crate::proxy::{
    self, Bound, Gate, Limits, Listener, Mode, Parts, Sandbox, SandboxSettings, Served, Timeouts,
    Unknown, Workers,
};
use crate::record::Event;
use crate::tasks::Tasks;
use crate::tls::{Ca, Intercept, Leaves, Origins};
use crate::traffic::Recorder;
use crate::upstream::{self, Upstream};
use crate::vault::{Cause, FingerprintKey, Vault};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// The backlog of a listener.
const BACKLOG: i32 = 1024;
/// File descriptors that are not connections: files, pipes, the resolver, netlink.
const OTHER_FILES: u64 = 256;

/// Builds everything and starts it. What fails here is said with its fix, and nothing was served.
#[expect(clippy::too_many_lines, reason = "the one list of the rooms and of what each is handed")]
pub(super) async fn assemble(loaded: &Loaded, said: Said) -> anyhow::Result<Running> {
    let config = &loaded.config;
    let lock = StateLock::take(&config.state_dir)?;
    let files = raise_limits();
    let tasks = Tasks::new();
    let vault = vault(config, &tasks).await?;
    super::logs::mask(vault.watchlist());
    let earlier = Earlier::read(config).await?;
    let compiled = earlier.compile(config).await?;
    let ca = Ca::load_or_create(&config.state_dir)?;
    let origins = Arc::new(Origins::new(&trust(config))?);
    if origins.root_count() == 0 {
        tracing::warn!("no root certificates: every https origin will be refused");
    }
    let bundle = ca.write_bundle(&config.state_dir, origins.roots())?;
    let gauges = Arc::new(Gauges::default());
    let (registry, counts) = Registry::new(gauges.clone());
    let told = Sinks::new(&config.state_dir);
    let feed = crate::control::feed::Feed::new();
    let sinks = told.sinks(vec![Box::new(counts), Box::new(feed.clone())]);
    let (recorder, writer) =
        crate::traffic::start(traffic(config, &vault), sinks).context("traffic records")?;
    let policies = earlier.policies(&recorder);
    let shared = earlier.shared(said.observe, told.seen.clone(), vault.watchlist());
    let mut sandboxes = BTreeMap::new();
    for (name, compiled) in compiled {
        policies.announce(config, &name, &compiled, &Why::itself("start")).await;
        let settings = sandbox_settings(config, &name);
        let grants = earlier.grants(&name);
        let asked = shared.open(config, &name, compiled.1.clone(), grants);
        let sandbox = Sandbox::new(settings, asked, recorder.for_sandbox(&name));
        sandbox.show_agent(policies::agent_view(&compiled.0));
        sandboxes.insert(name, sandbox);
    }
    super::operator::restore(&policies.state, &sandboxes).await?;
    let listeners = bind(config, &sandboxes, &recorder)?;
    let metrics = config.metrics.map(metrics_listener).transpose()?;
    let control = crate::control::server::bind(&said.socket)?;
    let own = listeners
        .iter()
        .filter_map(|l| l.socket.address())
        .chain(metrics.iter().filter_map(|m| m.local_addr().ok()));
    let mark = proxy::loop_mark();
    let way_out = upstream_settings(config, own.collect())?;
    let way_out = upstream::Settings { mark: Some(mark.clone()), ..way_out };
    let upstream = Arc::new(Upstream::new(way_out)?);
    let tasks = Tasks::new();
    let gate = Gate::new(Parts {
        settings: proxy::Settings {
            timeouts: timeouts(config),
            connections: slots(files),
            give_back: super::memory::give_back,
        },
        upstream,
        origins,
        intercept: Arc::new(Intercept::new(Arc::new(Leaves::new(&ca)?))?),
        peers: Arc::new(Peers::open().context("looking up local clients (sock_diag)")?),
        gauges,
        vault: vault.clone(),
        tasks,
        mark,
    });
    // What is served has its routes from the first connection on.
    let models = Models::new(gate.clone(), sandboxes.clone(), recorder.clone(), config);
    let workers = Workers::start(gate.clone(), &listeners, worker_count())?;
    if recorder.event(Event::GatewayStart { version: env!("CARGO_PKG_VERSION").into() }).is_err() {
        anyhow::bail!("the traffic record can't be written in {}", config.state_dir.display());
    }
    let (orders, ordered) = tokio::sync::mpsc::channel(16);
    let operator = Arc::new(Operator {
        started: (std::time::SystemTime::now(), std::time::Instant::now()),
        facts: facts(loaded, &said),
        sandboxes: sandboxes.clone(),
        listeners: addresses(&listeners),
        state: policies.state.clone(),
        vault: vault.clone(),
        recorder: recorder.clone(),
        events: policies.events.clone(),
        attended: shared.attended.clone(),
        changed: shared.changed.clone(),
        orders,
        shown: policies.shown.clone(),
        tally: told.tally.clone(),
        gauges: gate.gauges.clone(),
        models,
        accounts: Arc::new(Accounts::new(policies.state.clone(), sandboxes.clone())),
    });
    Ok(Running {
        loaded: loaded.clone(),
        gate,
        workers,
        sandboxes,
        listeners,
        recorder,
        writer,
        registry,
        metrics,
        ca,
        bundle,
        lock,
        policies,
        operator,
        ordered,
        control,
        feed,
    })
}

/// What the command line says beside the config.
pub(super) struct Said {
    /// The config file that was read.
    pub(super) config: Option<String>,
    /// Where the control socket is.
    pub(super) socket: std::path::PathBuf,
    /// What nothing knows is let through and marked.
    pub(super) observe: bool,
}

/// The credentials. One without a value is said, and is no reason not to start: who needs it gets
/// a 502 until it is there. A value that could never be used is a mistake.
async fn vault(config: &Config, tasks: &Tasks) -> anyhow::Result<Arc<Vault>> {
    let sources = config.credentials.iter().map(|(name, source)| (name.clone(), source.clone()));
    let key = fingerprint_key(&config.state_dir)?;
    let vault = Vault::new(sources, |name| std::env::var_os(name), key, tasks);
    for error in vault.check().await {
        if matches!(error.cause, Cause::Value(_)) {
            return Err(error.into());
        }
    }
    Ok(Arc::new(vault))
}

/// The key of the fingerprints: kept, so that they can be compared over restarts.
fn fingerprint_key(state_dir: &Path) -> anyhow::Result<FingerprintKey> {
    let path = state_dir.join("fingerprint-key");
    let unreadable = || format!("the key of the fingerprints, {}", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(key) => Ok(FingerprintKey::new(key)),
            Err(_) => anyhow::bail!("{} is damaged; fix: remove it", path.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = FingerprintKey::random();
            key.write(&path).with_context(unreadable)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(unreadable),
    }
}

/// The bindings of a sandbox's credentials; `paid` are the hosts that routes to models pay with
/// one.
pub(super) fn injector(
    config: &Config,
    name: &str,
    vault: &Arc<Vault>,
    paid: &[Host],
) -> Option<Arc<Injector>> {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let buffers =
        Buffers { placeholder: size(config.buffer.placeholder), sigv4: size(config.buffer.sigv4) };
    let attached = &config.sandboxes.get(name)?.credentials;
    Injector::new(&config.inject, attached, credentialed(config, attached, paid), (vault, buffers))
}

/// The hosts that get credentials beside those in `attached`, from other sandboxes or from routes
/// to models: they could tell one sandbox what they got of another.
fn credentialed(config: &Config, attached: &[Arc<str>], paid: &[Host]) -> Vec<Host> {
    let others = |name: &Arc<str>| {
        !attached.contains(name) && config.sandboxes.values().any(|s| s.credentials.contains(name))
    };
    let bound = config.inject.iter().filter(|binding| others(&binding.credential));
    let bound = bound.filter(|binding| binding.goes_up_whole()).map(|b| b.host.clone());
    let mut hosts: Vec<Host> = bound.chain(paid.iter().cloned()).collect();
    hosts.sort_by_key(ToString::to_string);
    hosts.dedup();
    hosts
}

fn facts(loaded: &Loaded, said: &Said) -> Facts {
    let config = &loaded.config;
    let each = |(name, sandbox): (&Arc<str>, &crate::config::Sandbox)| {
        let presets = sandbox.presets.iter().map(|preset| match preset.access {
            crate::policy::preset::Access::ReadOnly => preset.name.to_string(),
            access => format!("{}={}", preset.name, access.as_str()),
        });
        let facts = SandboxFacts {
            tier: sandbox.tier.to_string(),
            presets: presets.collect(),
            notifies: !sandbox.approval.notify.is_empty(),
        };
        (name.clone(), facts)
    };
    Facts {
        state_dir: config.state_dir.display().to_string(),
        config: said.config.clone(),
        observe: said.observe,
        notes: super::banner::notes(loaded),
        sandboxes: config.sandboxes.iter().map(each).collect(),
    }
}

fn addresses(listeners: &[Listener]) -> BTreeMap<Arc<str>, Vec<String>> {
    let mut all: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
    for listener in listeners {
        let at = listener.socket.describe();
        all.entry(listener.sandbox.name().clone()).or_default().push(at);
    }
    all
}

fn worker_count() -> usize {
    let asked = std::env::var("PORTCULLIS_WORKERS").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Raises the file limit, and keeps the process's memory out of core dumps and other processes'
/// reach (security.md 15). The soft limit of open files comes back.
fn raise_limits() -> u64 {
    use rustix::process::{
        DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit,
    };
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        tracing::warn!("core dumps could not be switched off");
    }
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}

/// Two descriptors a connection: the client's and the origin's.
fn slots(files: u64) -> usize {
    let slots = (files - OTHER_FILES.min(files / 2)) / 2;
    usize::try_from(slots.clamp(8, 1 << 20)).unwrap_or(1 << 20)
}

pub(super) fn trust(config: &Config) -> crate::tls::Settings {
    crate::tls::Settings {
        ca_files: config.upstream.ca_files.clone(),
        crl_files: config.upstream.crl_files.clone(),
    }
}

fn traffic(config: &Config, vault: &Vault) -> crate::traffic::Settings {
    crate::traffic::Settings {
        watchlist: vault.watchlist(),
        rotate: config.traffic.rotate,
        keep_for: config.traffic.keep_for,
        max_size: config.traffic.max_size,
        keep: config.traffic.max_files.map(|most| most.get() as usize),
        ..crate::traffic::Settings::in_state_dir(&config.state_dir)
    }
}

fn timeouts(config: &Config) -> Timeouts {
    let t = &config.timeout;
    Timeouts {
        header: t.header,
        connect: t.connect,
        first_byte: t.first_byte,
        idle: t.idle,
        drain: t.drain,
        total: t.total,
    }
}

fn sandbox_settings(config: &Config, name: &Arc<str>) -> SandboxSettings {
    let meant = &config.sandboxes[name];
    SandboxSettings {
        name: name.clone(),
        unknown: match meant.approval.mode {
            ApprovalMode::Deny => Unknown::Deny,
            ApprovalMode::Hold | ApprovalMode::Queue => Unknown::Inspect,
        },
        identity: match meant.identity {
            Identity::Required => proxy::Identity::Required,
            Identity::Ignore => proxy::Identity::Ignore,
        },
        limits: Limits {
            connections: meant.limits.connections.map(|n| n as usize),
            request_body: meant.limits.request_body,
            requests_per_second: meant.limits.requests_per_second,
            upload_per_day: meant.limits.upload_per_day,
        },
        bodies: policies::bodies(config),
        agent_api: meant.agent_api,
    }
}

fn upstream_settings(config: &Config, own: Vec<SocketAddr>) -> anyhow::Result<upstream::Settings> {
    let meant = &config.upstream;
    let nameservers = (!meant.nameservers.is_empty()).then(|| meant.nameservers.clone());
    let proxy = match &meant.proxy {
        None => None,
        Some(parent) => Some(upstream::Parent {
            authority: parent.address.clone(),
            credential: parent_credential(config)?,
            no_proxy: parent.no_proxy.iter().map(no_proxy).collect(),
            resolve: match parent.resolve {
                Resolve::Local => upstream::Resolve::Local,
                Resolve::Proxy => upstream::Resolve::Proxy,
            },
        }),
    };
    Ok(upstream::Settings {
        hosts: meant.hosts.iter().map(|(n, a)| (n.clone(), a.clone())).collect(),
        allow_internal: meant.allow_internal.clone(),
        own,
        nameservers,
        proxy,
        connect_timeout: config.timeout.connect,
        ..upstream::Settings::default()
    })
}

/// What the parent proxy asks for, read now.
pub(super) fn parent_credential(config: &Config) -> anyhow::Result<Option<upstream::Credential>> {
    let source = config.upstream.proxy.as_ref().and_then(|proxy| proxy.credential.as_ref());
    source.map(credential).transpose()
}

fn credential(source: &CredentialSource) -> anyhow::Result<upstream::Credential> {
    let value = match source {
        CredentialSource::Env(name) => std::env::var(name)
            .map_err(|_| anyhow::anyhow!("the variable {name} of the parent proxy is not set"))?,
        CredentialSource::File(path) => std::fs::read_to_string(path)
            .with_context(|| format!("the parent proxy's credential {}", path.display()))?,
    };
    Ok(upstream::Credential::new(value.trim_end_matches(['\r', '\n']))?)
}

fn no_proxy(meant: &NoProxy) -> upstream::NoProxy {
    match meant {
        NoProxy::Suffix(name) => upstream::NoProxy::Under(name.clone()),
        NoProxy::Host(crate::addr::Host::Name(name)) => upstream::NoProxy::Name(name.clone()),
        NoProxy::Host(crate::addr::Host::Ip(ip)) => upstream::NoProxy::Net((*ip).into()),
        NoProxy::Net(net) => upstream::NoProxy::Net(*net),
    }
}

fn bind(
    config: &Config,
    sandboxes: &BTreeMap<Arc<str>, Arc<Sandbox>>,
    recorder: &Recorder,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for meant in &config.listeners {
        let sandbox = sandboxes
            .get(&meant.sandbox)
            .with_context(|| format!("no sandbox is named {}", meant.sandbox))?
            .clone();
        let bound = match &meant.address {
            ListenAddress::Tcp(at) => bind_tcp(*at, meant.mode),
            ListenAddress::Unix(path) => bind_unix(path, meant.unix_mode),
        };
        let socket = bound.map_err(|why| unbound(meant, &why))?;
        let address = meant.address.to_string();
        let event = Event::Listener { sandbox: meant.sandbox.clone(), address, error: None };
        if recorder.event(event).is_err() {
            tracing::warn!("the listener could not be recorded");
        }
        let own = rustix::process::geteuid().as_raw();
        let uids = match &meant.allow_uids {
            Some(uids) => uids.clone(),
            None => vec![own],
        };
        listeners.push(Listener {
            socket,
            mode: match meant.mode {
                ListenMode::Proxy => Mode::Proxy,
                ListenMode::Transparent => Mode::Transparent,
            },
            served: Served { uids, from: meant.allow_from.clone() },
            sandbox,
        });
    }
    Ok(listeners)
}

/// What an address that can't be bound is told with.
fn unbound(meant: &crate::config::Listener, why: &std::io::Error) -> anyhow::Error {
    let (address, sandbox) = (&meant.address, &meant.sandbox);
    let fix = match address {
        ListenAddress::Tcp(_) if **sandbox == *crate::config::DEFAULT_SANDBOX => {
            "free it, or name another: --listen IP:PORT, or `address` under `listen` in the config"
                .into()
        }
        ListenAddress::Tcp(_) => {
            format!("free it, or name another `address` for {sandbox} under `listen` in the config")
        }
        ListenAddress::Unix(path) => match path.parent().filter(|parent| !parent.is_dir()) {
            Some(parent) => format!(
                "make the directory, which is not there: mkdir -p {}",
                crate::cli::env::word(&parent.to_string_lossy())
            ),
            None => "free it, or name another `address` under `listen` in the config".into(),
        },
    };
    anyhow::anyhow!("can't listen on {address}: {why}\n  fix: {fix}")
}

fn bind_tcp(at: SocketAddr, mode: ListenMode) -> std::io::Result<Bound> {
    let domain = socket2::Domain::for_address(at);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if mode == ListenMode::Transparent {
        // Needed for TPROXY alone, and only root may ask for it; REDIRECT works without.
        drop(socket.set_ip_transparent_v4(true));
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(Bound::Tcp(socket.into()))
}

/// Binds a Unix socket with its mode from the first moment: it is made under another name in the
/// same directory and renamed into place.
fn bind_unix(path: &Path, mode: u32) -> std::io::Result<Bound> {
    #[expect(clippy::disallowed_methods, reason = "our own socket: does another gateway serve it?")]
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    let mut making = path.as_os_str().to_owned();
    making.push(format!(".{}", std::process::id()));
    let making = std::path::PathBuf::from(making);
    drop(std::fs::remove_file(&making));
    let socket = std::os::unix::net::UnixListener::bind(&making)?;
    std::fs::set_permissions(&making, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&making, path)?;
    socket.set_nonblocking(true)?;
    Ok(Bound::Unix(socket, path.to_owned()))
}

fn metrics_listener(at: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(at).with_context(|| {
        format!("can't serve metrics on {at}\n  fix: free it, or name another: --metrics IP:PORT")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
