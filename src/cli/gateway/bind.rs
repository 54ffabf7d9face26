//! The sockets that the gateway is reached at. All are bound before anything is recorded or kept, so
//! that a start that fails at one of them leaves nothing behind.

use crate::config::{Config, ListenAddress, ListenMode};
use crate::control::server::{self, PlaceError, Placed};
use crate::proxy::{Bound, Listener, Mode, Sandbox, Served};
use crate::record::Event;
use crate::traffic::Recorder;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

/// The backlog of a listener.
const BACKLOG: i32 = 1024;

/// All sockets of a gateway.
pub(super) struct Sockets {
    /// Those of the config's listeners, in their order.
    pub(super) bound: Vec<Bound>,
    /// The files of those that have one.
    pub(super) placed: Vec<Placed>,
    pub(super) metrics: Option<TcpListener>,
    /// Where operators reach it.
    pub(super) control: (UnixListener, Placed),
}

impl Sockets {
    /// Binds them all. `control` is the path of the control socket.
    pub(super) fn bind(config: &Config, control: &Path) -> anyhow::Result<Self> {
        let (mut bound, mut placed) = (Vec::new(), Vec::new());
        for meant in &config.listeners {
            bound.push(match &meant.address {
                ListenAddress::Tcp(at) => {
                    bind_tcp(*at, meant.mode).map_err(|why| unbound(meant, &why))?
                }
                ListenAddress::Unix(path) => {
                    let (socket, file) = place(meant, path)?;
                    placed.push(file);
                    socket
                }
            });
        }
        let metrics = config.metrics.map(bind_metrics).transpose()?;
        Ok(Self { bound, placed, metrics, control: server::bind(control)? })
    }

    /// The gateway's own addresses: nobody is let through to them.
    pub(super) fn own(&self) -> Vec<SocketAddr> {
        let metrics = self.metrics.iter().filter_map(|metrics| metrics.local_addr().ok());
        self.bound.iter().filter_map(Bound::address).chain(metrics).collect()
    }
}

/// The listeners of the config, behind the sockets that were bound for them.
pub(super) fn listeners(
    config: &Config,
    bound: Vec<Bound>,
    sandboxes: &BTreeMap<Arc<str>, Arc<Sandbox>>,
    recorder: &Recorder,
) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (meant, socket) in config.listeners.iter().zip(bound) {
        let sandbox = sandboxes
            .get(&meant.sandbox)
            .with_context(|| format!("no sandbox is named {}", meant.sandbox))?
            .clone();
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

/// Binds a Unix socket; most of what can go wrong says its own fix.
fn place(meant: &crate::config::Listener, path: &Path) -> anyhow::Result<(Bound, Placed)> {
    match server::place(path, meant.unix_mode) {
        Ok((socket, file)) => Ok((Bound::Unix(socket, path.to_owned()), file)),
        Err(PlaceError::Io(why)) => Err(unbound(meant, &why)),
        Err(error) => Err(anyhow::anyhow!("can't listen on {}: {error}", meant.address)),
    }
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

fn bind_metrics(at: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(at).map_err(|why| {
        anyhow::anyhow!(
            "can't serve metrics on {at}: {why}\n  fix: free it, or name another: --metrics IP:PORT"
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
