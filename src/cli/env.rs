//! `portcullis env`: the variables and mounts that point a program or container at the gateway.
//!
//! Owns the list of variables that programs read. It starts nothing and asks no gateway: what it
//! prints follows from the config alone.

use super::output;
use super::settings::ConfigArgs;
use super::shape::{Shape, ShapeArgs};
use super::yaml;
use crate::addr::Shown;
use crate::config::{Config, DEFAULT_SANDBOX, Flags, ListenAddress, ListenMode};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// Where a container finds the CA bundle.
const MOUNTED: &str = "/etc/portcullis/ca-bundle.pem";

/// What goes past the proxy: the client's own host, which the gateway would refuse anyway.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Variables that name a file of PEM roots. Each replaces the program's own roots, so that the
/// bundle (system roots and our CA) is what they get.
const ROOTS: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    // A `cafile` in an npmrc would stand before Node's.
    "npm_config_cafile",
    "DENO_CERT",
    "AWS_CA_BUNDLE",
    "BUNDLE_SSL_CA_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
];

/// The flags of `env`.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("form").multiple(false)),
    after_help = "Examples:\n  \
        eval \"$(portcullis env)\"\n  \
        docker run $(portcullis env --docker -s agent) IMAGE\n  \
        portcullis env --compose -s agent >> compose.override.yaml"
)]
pub(super) struct EnvArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The sandbox whose listener is meant [default: default, or the only one].
    #[arg(short, long, value_name = "NAME", env = "PORTCULLIS_SANDBOX")]
    sandbox: Option<String>,
    /// The loopback address that `gateway --listen` was given.
    #[arg(long, value_name = "IP:PORT", env = "PORTCULLIS_LISTEN", value_parser = super::typed::address)]
    listen: Option<SocketAddr>,
    /// The name or address by which clients reach the gateway's host.
    #[arg(long, value_name = "HOST", env = "PORTCULLIS_HOST")]
    host: Option<String>,
    #[command(flatten)]
    form: FormArgs,
    /// Print the variables as json or yaml instead.
    #[arg(
        short = 'o',
        long = "output",
        alias = "format",
        value_name = "FORMAT",
        default_value = "text"
    )]
    output: Shape,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "four flags that exclude each other, as typed")]
struct FormArgs {
    /// `export` lines for a POSIX shell (the default).
    #[arg(long, env = "PORTCULLIS_SHELL")]
    shell: bool,
    /// Arguments for `docker run`.
    #[arg(long, env = "PORTCULLIS_DOCKER")]
    docker: bool,
    /// A service's `environment` and `volumes` for compose.
    #[arg(long, env = "PORTCULLIS_COMPOSE")]
    compose: bool,
    /// A container's `env` and `volumeMounts`, and the pod's `volumes`.
    #[arg(long, env = "PORTCULLIS_K8S")]
    k8s: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Shell,
    Docker,
    Compose,
    Kubernetes,
}

/// Prints the variables.
pub(super) fn run(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let flags = Flags { listen: args.listen, ..Flags::default() };
    let config = args.config.load(flags)?.config;
    let form = args.form.meant();
    let proxy = proxy(&config, args, form)?;
    let bundle = config.state_dir.join("ca-bundle.pem");
    if !bundle.exists() {
        output::note("there is no CA yet: it is made when `portcullis gateway` first starts");
    }
    let bundle = bundle.to_str().context("the state directory's path is not UTF-8")?;
    if args.output != Shape::Text {
        let seen = if form == Form::Shell { bundle } else { MOUNTED };
        let all: BTreeMap<String, String> = variables(&proxy, seen).into_iter().collect();
        // Not by `PORTCULLIS_OUTPUT`: the shell would be given JSON to run.
        return ShapeArgs { shape: args.output }.one(&all, |_| String::new());
    }
    if form == Form::Docker && !plain(bundle, b"") {
        // The shell splits what `$(…)` gave at blanks, and reads no quotes in it.
        bail!(
            "`docker run $(…)` can't take the path {} as it is\n  fix: start the gateway with a state \
             directory of letters, digits and `-_./` alone, and name it: --state-dir DIR; or use --compose",
            quoted(bundle)
        );
    }
    output::print(&rendered(form, &proxy, bundle))
}

impl FormArgs {
    fn meant(&self) -> Form {
        match self {
            Self { docker: true, .. } => Form::Docker,
            Self { compose: true, .. } => Form::Compose,
            Self { k8s: true, .. } => Form::Kubernetes,
            Self { .. } => Form::Shell,
        }
    }
}

/// The TCP addresses of proxies, and whose they are.
fn proxies(config: &Config) -> impl Iterator<Item = (&str, SocketAddr)> {
    let proxies = config.listeners.iter().filter(|l| l.mode == ListenMode::Proxy);
    proxies.filter_map(|listener| match &listener.address {
        ListenAddress::Tcp(address) => Some((&*listener.sandbox, *address)),
        ListenAddress::Unix(_) => None,
    })
}

/// The sandbox that is named; else `default` where that can be reached, else the only one that can.
fn sandbox(config: &Config, named: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = named.filter(|name| config.sandboxes.contains_key(*name)) {
        return Ok(name.to_owned());
    }
    let mut names: Vec<&str> = match named {
        Some(_) => config.sandboxes.keys().map(|name| &**name).collect(),
        None => proxies(config).map(|(name, _)| name).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let shown: Vec<String> = names.iter().map(|name| Shown::new(name).to_string()).collect();
    match (named, names.as_slice()) {
        (Some(name), _) => bail!(
            "no sandbox is named `{}`\n  fix: which sandbox? {}: add -s NAME",
            Shown::new(name),
            shown.join(", ")
        ),
        (None, names) if names.is_empty() || names.contains(&DEFAULT_SANDBOX) => {
            Ok(DEFAULT_SANDBOX.to_owned())
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => bail!("which sandbox? {}: add -s NAME", shown.join(", ")),
    }
}

/// The proxy's URL as the client must write it.
fn proxy(config: &Config, args: &EnvArgs, form: Form) -> anyhow::Result<String> {
    let sandbox = sandbox(config, args.sandbox.as_deref())?;
    let shown = Shown::new(&sandbox);
    let own = proxies(config).filter(|(name, _)| *name == sandbox);
    let mut addresses: Vec<SocketAddr> = own.map(|(_, address)| address).collect();
    // A container reaches no loopback of the host, a program on the host reaches either.
    addresses.sort_by_key(|a| a.ip().is_loopback() == (form != Form::Shell));
    let Some(address) = addresses.first() else {
        bail!(
            "the sandbox `{shown}` has no TCP proxy listener\n  fix: add one: listen: [{{ address: \"127.0.0.1:3128\", sandbox: {shown} }}]"
        );
    };
    let host = match &args.host {
        Some(host) => crate::addr::Host::parse(host)
            .with_context(|| format!("--host {}", Shown::new(host)))?
            .to_string(),
        None if form != Form::Shell && address.ip().is_loopback() => bail!(
            "a container can't reach {address}\n  fix: listen where it can: listen: [{{ address: \"172.17.0.1:3129\", sandbox: {shown}, allow_from: [172.17.0.0/16] }}]"
        ),
        None if !address.ip().is_unspecified() => address.ip().to_string(),
        None if form == Form::Shell => "127.0.0.1".to_owned(),
        None => bail!(
            "{address} is every address of this host\n  fix: say by which one the container reaches it: --host 172.17.0.1"
        ),
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(format!("http://{bracketed}:{}", address.port()))
}

/// Every variable and its value.
fn variables(proxy: &str, bundle: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let both = [
        ("HTTP_PROXY", proxy),
        ("HTTPS_PROXY", proxy),
        ("ALL_PROXY", proxy),
        ("NO_PROXY", NO_PROXY),
    ];
    for (name, value) in both {
        all.push((name.to_owned(), value.to_owned()));
        all.push((name.to_lowercase(), value.to_owned()));
    }
    all.extend(ROOTS.iter().map(|name| ((*name).to_owned(), bundle.to_owned())));
    // Node looks at the variables above only when told to.
    all.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    all
}

fn rendered(form: Form, proxy: &str, bundle: &str) -> String {
    let seen = if form == Form::Shell { bundle } else { MOUNTED };
    let variables = variables(proxy, seen);
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    match form {
        Form::Shell => {
            variables
                .iter()
                .for_each(|(name, value)| line(format!("export {name}={}", quoted(value))));
        }
        Form::Docker => {
            // Not a value in quotes: they would reach docker.
            line(format!("--volume {bundle}:{MOUNTED}:ro"));
            variables.iter().for_each(|(name, value)| line(format!("--env {name}={value}")));
        }
        Form::Compose => {
            line("environment:".into());
            variables
                .iter()
                .for_each(|(name, value)| line(format!("  {name}: {}", yaml::word(value))));
            line("volumes:".into());
            line(format!("  - {}", yaml::word(&format!("{bundle}:{MOUNTED}:ro"))));
        }
        Form::Kubernetes => {
            let directory = Path::new(MOUNTED).parent().map_or("/", |p| p.to_str().unwrap_or("/"));
            line("# kubectl create configmap portcullis-ca \\".into());
            line(format!("#   --from-file=ca-bundle.pem={}", word(bundle)));
            line("env:".into());
            for (name, value) in &variables {
                line(format!("  - {{ name: {name}, value: {} }}", yaml::word(value)));
            }
            line("volumeMounts:".into());
            line(format!("  - {{ name: portcullis-ca, mountPath: {directory}, readOnly: true }}"));
            line("volumes: # of the pod".into());
            line("  - { name: portcullis-ca, configMap: { name: portcullis-ca } }".into());
        }
    }
    out
}

/// One word for a POSIX shell, always quoted.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One word for a shell, quoted where it must be. zsh looks for files that match `[::1]`.
pub(super) fn word(text: &str) -> String {
    if plain(text, b":,=@%") && !text.is_empty() { text.to_owned() } else { quoted(text) }
}

/// Whether a shell takes it as it is, with these characters besides.
fn plain(text: &str, more: &[u8]) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./+".contains(&b) || more.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_every_variable_and_no_surprise() {
        let text = rendered(Form::Shell, "http://127.0.0.1:3128", "/home/o'hara/ca-bundle.pem");
        assert!(text.contains("export https_proxy='http://127.0.0.1:3128'\n"));
        assert!(text.contains("export HTTPS_PROXY='http://127.0.0.1:3128'\n"));
        assert!(text.contains("export NODE_USE_ENV_PROXY='1'\n"));
        assert!(text.contains(r"export SSL_CERT_FILE='/home/o'\''hara/ca-bundle.pem'"));
        assert!(text.lines().all(|line| line.starts_with("export ")));
    }

    #[test]
    fn a_container_sees_the_bundle_where_it_is_mounted() {
        let docker = rendered(Form::Docker, "http://172.17.0.1:3129", "/s/ca-bundle.pem");
        assert!(docker.starts_with("--volume /s/ca-bundle.pem:/etc/portcullis/ca-bundle.pem:ro\n"));
        assert!(docker.contains("--env GIT_SSL_CAINFO=/etc/portcullis/ca-bundle.pem\n"));
        for form in [Form::Compose, Form::Kubernetes] {
            let yaml = rendered(form, "http://172.17.0.1:3129", "/s/ca-bundle.pem");
            serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap();
            assert!(yaml.contains(MOUNTED) || yaml.contains("mountPath: /etc/portcullis"));
        }
    }
}
