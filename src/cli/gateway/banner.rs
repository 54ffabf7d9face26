//! What the operator sees when the gateway starts: what it read, where it listens, what to paste.

use super::run::Running;
use crate::addr::Shown;
use crate::cli::env::word;
use crate::cli::output;
use crate::cli::settings::SocketArgs;
use crate::config::{
    ApprovalMode, Config, DEFAULT_SANDBOX, Flags, ListenAddress, ListenMode, Listener, Loaded,
    Span, Surroundings,
};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Prints the banner to stdout.
pub(super) fn print(loaded: &Loaded, file: Option<&Path>, running: &Running) -> anyhow::Result<()> {
    let mut text = String::new();
    let config = &loaded.config;
    let version = env!("CARGO_PKG_VERSION");
    let read = file.map_or("embedded defaults".to_owned(), |f| f.display().to_string());
    writeln!(text, "portcullis {version}  config: {read}")?;
    for listener in &running.listeners {
        let Some(sandbox) = config.sandboxes.get(listener.sandbox.name()) else { continue };
        let presets: Vec<&str> = sandbox.presets.iter().map(|p| &*p.name).collect();
        let name = listener.sandbox.name();
        let at = listener.socket.describe();
        write!(text, "  {at}  sandbox {name}, tier {}", sandbox.tier)?;
        if !presets.is_empty() {
            write!(text, ", presets {}", presets.join(" "))?;
        }
        if !sandbox.policies.is_empty() {
            write!(text, ", {} policy file(s)", sandbox.policies.len())?;
        }
        writeln!(text)?;
    }
    let metrics = running.metrics.as_ref().and_then(|socket| socket.local_addr().ok());
    if let Some(metrics) = metrics {
        writeln!(text, "  http://{metrics}/metrics and /healthz")?;
    }
    writeln!(text, "  CA bundle  {}", running.bundle.display())?;
    writeln!(text, "  records    {}", config.state_dir.join("traffic").display())?;
    text.push_str(&models(running));
    text.push_str(&credentials(config));
    let flags = paste_flags(loaded, file, running);
    writeln!(
        text,
        "\nIn the shell of what is to be kept in, paste:\n  eval \"$(portcullis env{flags})\""
    )?;
    text.push_str(&unknown(loaded, running, file));
    writeln!(
        text,
        "\nWho runs as the same uid on this host could open the control socket and the gateway's\n\
         own files: use another uid or a container to keep what you guard apart."
    )?;
    for notice in &loaded.notices {
        writeln!(text, "note: {notice}")?;
    }
    if std::env::vars_os().any(|(name, _)| name.eq_ignore_ascii_case("https_proxy")) {
        writeln!(
            text,
            "note: HTTPS_PROXY in the gateway's own environment is not used; see upstream.proxy"
        )?;
    }
    output::print(&text)?;
    Ok(())
}

/// What the way it is set up does not keep apart or can't see, as `status` says it.
pub(super) fn notes(loaded: &Loaded) -> Vec<String> {
    let uid = "who runs as the same uid on this host could open the control socket and the gateway's \
               own files: use another uid or a container to keep what you guard apart";
    let notices = loaded.notices.iter().map(ToString::to_string);
    std::iter::once(uid.to_owned()).chain(notices).collect()
}

/// Who answers at `inference.local`, where anybody does.
fn models(running: &Running) -> String {
    let mut text = String::new();
    for (name, sandbox) in &running.sandboxes {
        let Some(routes) = sandbox.calls().routes() else { continue };
        let mut providers: Vec<&str> = routes.routes.iter().map(|r| r.provider.as_str()).collect();
        providers.dedup();
        let providers = providers.join(", ");
        let _ = writeln!(text, "  models     https://inference.local for {name}: {providers}");
    }
    text
}

/// Which credentials each sandbox may use, where they come from and where they go.
fn credentials(config: &Config) -> String {
    let mut text = String::new();
    for (sandbox, settings) in &config.sandboxes {
        for name in &settings.credentials {
            let Some(source) = config.credentials.get(name) else { continue };
            let mut hosts: Vec<String> = Vec::new();
            for binding in config.inject.iter().filter(|binding| binding.credential == *name) {
                let host = Shown::host(&binding.host).to_string();
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
            let goes = if hosts.is_empty() { "nowhere".to_owned() } else { hosts.join(", ") };
            let _ = writeln!(text, "  credential {name} ({source}) for {sandbox}: to {goes}");
        }
    }
    text
}

/// What becomes of what no rule allows, and how to answer.
fn unknown(loaded: &Loaded, running: &Running, file: Option<&Path>) -> String {
    let modes = loaded.config.sandboxes.values().map(|sandbox| sandbox.approval.mode);
    let held = modes.clone().any(|mode| mode == ApprovalMode::Hold);
    let asked = held || modes.clone().any(|mode| mode == ApprovalMode::Queue);
    let mut text = String::from("\n");
    if running.operator.facts.observe {
        text.push_str(
            "OBSERVING: what no rule allows is LET THROUGH and recorded as unknown. This keeps\n\
             nothing in; it is for learning what a policy needs, in a safe place.\n",
        );
    } else if asked {
        let what =
            if held { holds(&loaded.config) } else { "is refused, and you are asked".into() };
        let _ = writeln!(text, "What no rule allows {what}.\nTo answer, in another terminal:");
        let _ = writeln!(text, "  portcullis term{}", term_flags(running, file));
    } else {
        text.push_str("What no rule allows is refused.\n");
    }
    text
}

/// How long what no rule allows is held.
fn holds(config: &Config) -> String {
    let held = config.sandboxes.values().map(|sandbox| &sandbox.approval);
    let mut held = held.filter(|approval| approval.mode == ApprovalMode::Hold);
    let Some(first) = held.next() else { return "is refused".to_owned() };
    if held.any(|a| (a.timeout, a.unattended) != (first.timeout, first.unattended)) {
        return "is held, for longer while a pane is open, and then refused".to_owned();
    }
    let (long, short) = (Span(first.timeout), Span(first.unattended));
    format!("is held for {long} while a pane is open, else {short}, and then refused")
}

/// The flags by which `portcullis term` finds this gateway: none where it is the usual one.
fn term_flags(running: &Running, file: Option<&Path>) -> String {
    let usual = Config::defaults(&Flags::default(), &Surroundings::here());
    let usual = usual.map(|usual| SocketArgs::default().path(&usual.config));
    let path = running.control.1.path();
    match usual {
        Ok(usual) if file.is_none() && usual == path => String::new(),
        _ => format!(" --socket {}", word(&path.to_string_lossy())),
    }
}

/// The sandbox whose listener is meant, where that is not the usual one.
fn sandbox_flag(config: &Config) -> String {
    let mut proxies = config.listeners.iter().filter(|listener| is_proxy(listener));
    let Some(first) = proxies.clone().next() else { return String::new() };
    match proxies.any(|l| *l.sandbox == *DEFAULT_SANDBOX) {
        true => String::new(),
        false => format!(" -s {}", word(&first.sandbox)),
    }
}

fn is_proxy(listener: &Listener) -> bool {
    listener.mode == ListenMode::Proxy && tcp(listener).is_some()
}

fn tcp(listener: &Listener) -> Option<SocketAddr> {
    match &listener.address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    }
}

/// The flags that make `portcullis env` speak of this gateway: the file that it read, and what its own
/// flags say beside that.
fn paste_flags(loaded: &Loaded, file: Option<&Path>, running: &Running) -> String {
    let config = &loaded.config;
    let mut flags = String::new();
    if let Some(file) = file {
        // It may be pasted anywhere.
        let shown = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        flags.push_str(&format!(" --config {}", word(&shown.to_string_lossy())));
    }
    flags.push_str(&sandbox_flag(config));
    let around = Surroundings::here();
    let without = |flags: &Flags| match file {
        Some(file) => Config::load(file, flags, &around),
        None => Config::defaults(flags, &around),
    };
    let usual = match without(&Flags::default()) {
        Ok(usual) if usual.config.state_dir == config.state_dir => Ok(usual),
        _ => {
            let state_dir = &config.state_dir;
            flags.push_str(&format!(" --state-dir {}", word(&state_dir.to_string_lossy())));
            without(&Flags { state_dir: Some(state_dir.clone()), ..Flags::default() })
        }
    };
    flags + &listen_flag(config, usual.ok(), running)
}

/// The address that `env` could not find by itself: one that a flag gave, or that the system chose.
fn listen_flag(config: &Config, usual: Option<Loaded>, running: &Running) -> String {
    let own = |listener: &&Listener| is_proxy(listener) && *listener.sandbox == *DEFAULT_SANDBOX;
    // As `env` chooses for a shell.
    let near = |address: &SocketAddr| !address.ip().is_loopback();
    let found = usual.and_then(|usual| {
        let listeners = usual.config.listeners.iter().filter(own);
        listeners.filter_map(tcp).min_by_key(near)
    });
    // One socket a listener, in their order.
    let bound = config.listeners.iter().zip(&running.listeners);
    let bound = bound.filter(|(listener, _)| own(listener));
    let bound = bound.filter_map(|(_, bound)| bound.socket.address()).min_by_key(near);
    match bound {
        Some(bound) if found != Some(bound) && bound.ip().is_loopback() => {
            format!(" --listen {}", word(&bound.to_string()))
        }
        _ => String::new(),
    }
}
