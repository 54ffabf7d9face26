//! DNS, through hickory, with the system's nameservers or the operator's.
//!
//! A hickory resolver spawns its exchanges on the tokio runtime that is current when it is asked,
//! and shares connections between the askers. The gateway runs one current-thread runtime per
//! core: a resolver shared by all of them could hand one core a connection whose driver stands
//! still, or is gone, with another. So each runtime has its own, keyed by the runtime's id: the
//! driver of a lookup lives exactly as long as whoever waits for it, a cached answer costs no hop
//! between threads, and the price is one cache per core.
//!
//! Names are asked as they were judged: absolute, with no search list.

use super::error::LookupError;
use super::pinned::Addresses;
use super::settings::{Settings, SettingsError};
use super::watched::Watched;
use crate::addr::{Name, Shown};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Handle, Id};

/// Cached responses per runtime.
const CACHE: u64 = 2048;
/// No answer is believed for longer, whatever its TTL.
const LONGEST: Duration = Duration::from_secs(3600);
/// No "no such name" is believed for longer.
const LONGEST_NO: Duration = Duration::from_secs(60);
/// Runtimes whose resolvers are kept: many more than a gateway has cores.
const RUNTIMES: usize = 256;

/// The resolvers of all runtimes.
pub(super) struct Dns {
    servers: Servers,
    /// In the order of their making; only a handful, so a list.
    resolvers: Mutex<Vec<Bound>>,
    deadline: Duration,
}

enum Servers {
    /// `upstream.nameservers`.
    Named(Box<Parts>),
    /// `/etc/resolv.conf`, followed as it changes.
    System(Watched<Result<Parts, String>>),
}

/// What a resolver is built from.
#[derive(Clone)]
struct Parts {
    servers: Vec<NameServerConfig>,
    options: ResolverOpts,
}

/// A resolver and the runtime that drives it.
struct Bound {
    runtime: Id,
    version: u64,
    resolver: TokioResolver,
}

impl Dns {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        let servers = match &settings.nameservers {
            Some(named) if named.is_empty() => return Err(SettingsError::NoNameservers),
            Some(named) => Servers::Named(Box::new(Parts {
                servers: named.iter().copied().map(nameserver).collect(),
                options: ResolverOpts::default(),
            })),
            None => Servers::System(Watched::new(settings.files.resolv_conf.clone(), read_system)),
        };
        let resolvers = Mutex::new(Vec::new());
        Ok(Self { servers, resolvers, deadline: settings.connect_timeout })
    }

    /// Every A and AAAA record of the name.
    pub(super) async fn lookup(&self, name: &Name) -> Result<Addresses, LookupError> {
        let unconfigured = |reason| LookupError::Unconfigured { name: name.clone(), reason };
        let failed = |error: NetError| failure(name, &error);
        let resolver = self.here().map_err(|error| match error {
            Unusable::System(reason) => unconfigured(reason),
            Unusable::Build(error) => failed(error),
        })?;
        let absolute = hickory_resolver::proto::rr::Name::from_ascii(format!("{name}."))
            .map_err(|error| failed(error.into()))?;
        match tokio::time::timeout(self.deadline, resolver.lookup_ip(absolute)).await {
            Ok(Ok(found)) => Ok(Addresses::new(found.iter())),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(LookupError::Timeout { name: name.clone(), after: self.deadline }),
        }
    }

    /// The resolver of the current runtime, for the servers as they are now.
    fn here(&self) -> Result<TokioResolver, Unusable> {
        let runtime = Handle::current().id();
        let system;
        let (parts, version) = match &self.servers {
            Servers::Named(parts) => (&**parts, 0),
            Servers::System(watched) => {
                system = watched.get();
                let parts = system.meaning.as_ref().map_err(|e| Unusable::System(e.clone()))?;
                (parts, system.number)
            }
        };
        let mut resolvers = self.resolvers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = resolvers.iter().find(|b| b.runtime == runtime && b.version == version)
        {
            return Ok(bound.resolver.clone());
        }
        let resolver = parts.build().map_err(Unusable::Build)?;
        resolvers.retain(|bound| bound.runtime != runtime);
        if resolvers.len() >= RUNTIMES {
            resolvers.remove(0);
        }
        resolvers.push(Bound { runtime, version, resolver: resolver.clone() });
        Ok(resolver)
    }
}

enum Unusable {
    System(String),
    Build(NetError),
}

impl Parts {
    fn build(&self) -> Result<TokioResolver, NetError> {
        let config = ResolverConfig::from_name_servers(self.servers.clone());
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        let options = builder.options_mut();
        *options = self.options.clone();
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = CACHE;
        options.positive_max_ttl = Some(LONGEST);
        options.negative_max_ttl = Some(LONGEST_NO);
        builder.build()
    }
}

fn nameserver(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.into())
}

fn read_system(path: &Path, content: io::Result<Vec<u8>>) -> Result<Parts, String> {
    let told = |error: &dyn fmt::Display| {
        let error = error.to_string();
        format!("{}: {}", path.display(), Shown::new(&error))
    };
    let content = content.map_err(|error| told(&error))?;
    let (config, options) = parse_resolv_conf(content).map_err(|error| told(&error))?;
    let (_, _, servers) = config.into_parts();
    Ok(Parts { servers, options })
}

fn failure(name: &Name, error: &NetError) -> LookupError {
    let name = name.clone();
    if error.is_nx_domain() || error.is_no_records_found() {
        return LookupError::NotFound { name };
    }
    let said = error.to_string();
    LookupError::Failed { name, reason: Shown::new(&said).to_string() }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_resolv_conf_the_servers_and_options_count_and_the_search_list_does_not() {
        let text = b"nameserver 192.0.2.53\nsearch corp.test\noptions ndots:5 timeout:1\n";
        let parts = read_system(Path::new("resolv.conf"), Ok(text.to_vec())).unwrap();
        assert_eq!(parts.servers.len(), 1);
        assert_eq!(parts.options.timeout, Duration::from_secs(1));
        let resolver = parts.build().unwrap();
        assert_eq!(resolver.options().use_hosts_file, ResolveHosts::Never);
    }

    #[test]
    fn a_resolv_conf_without_a_server_says_so_by_its_path() {
        let error = read_system(Path::new("resolv.conf"), Ok(Vec::new())).err().unwrap();
        assert!(error.starts_with("resolv.conf: "), "{error}");
    }
}
