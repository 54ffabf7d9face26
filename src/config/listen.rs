//! Listeners: a listener that others can reach serves only whom it names.

use super::error::ConfigError;
use super::raw::RawListener;
use super::settings::{DEFAULT_SANDBOX, ListenAddress, ListenMode, Listener};
use super::settle::Reading;
use super::source::At;
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a listener's address was refused.
const ADDRESS_FIX: &str =
    "write IP:PORT, like \"127.0.0.1:3128\", or \"unix:/run/portcullis/agent.sock\"";

impl Listener {
    /// The listener that is there when nothing is said: 127.0.0.1:3128 for the sandbox `default`,
    /// serving `euid` alone.
    pub(super) fn standard(euid: u32) -> Self {
        Self::loopback(SocketAddr::from(([127, 0, 0, 1], 3128)), euid)
    }

    /// A proxy listener on a loopback address for the sandbox `default`.
    pub(super) fn loopback(address: SocketAddr, euid: u32) -> Self {
        Self {
            address: ListenAddress::Tcp(address),
            mode: ListenMode::Proxy,
            sandbox: DEFAULT_SANDBOX.into(),
            allow_uids: Some(vec![euid]),
            allow_from: Vec::new(),
            unix_mode: 0o600,
        }
    }
}

/// Settles one listener.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &At<RawListener>,
) -> Result<Listener, ConfigError> {
    let sandbox: Arc<str> =
        raw.value.sandbox.as_ref().map_or(DEFAULT_SANDBOX, |name| name.value.as_str()).into();
    let address = &raw.value.address;
    match address.value.strip_prefix("unix:") {
        Some(path) => unix(reading, &raw.value, path, sandbox),
        None => match address.value.parse() {
            Ok(tcp_address) => tcp(reading, &raw.value, tcp_address, sandbox),
            Err(_) => {
                let shown = crate::addr::Shown::new(&address.value);
                let what = format!("`{shown}` is not an address to listen on");
                Err(reading.fault(address.place, what, ADDRESS_FIX))
            }
        },
    }
}

fn tcp(
    reading: &Reading<'_>,
    raw: &RawListener,
    address: SocketAddr,
    sandbox: Arc<str>,
) -> Result<Listener, ConfigError> {
    let mode = match &raw.mode {
        None => ListenMode::Proxy,
        Some(mode) => match mode.value.as_str() {
            "proxy" => ListenMode::Proxy,
            "transparent" => ListenMode::Transparent,
            _ => {
                let what = "the mode of a TCP listener is `proxy` or `transparent`";
                return Err(reading.fault(mode.place, what, "write one of them, or leave it out"));
            }
        },
    };
    let loopback = address.ip().to_canonical().is_loopback();
    let allow_from = networks(reading, raw)?;
    if allow_from.is_empty() && (!loopback || mode == ListenMode::Transparent) {
        let what = match mode {
            ListenMode::Transparent => "a transparent listener without `allow_from`".to_owned(),
            ListenMode::Proxy => {
                format!("others can reach {address}, and it does not say whom it serves")
            }
        };
        let fix = "add the networks that it serves: allow_from: [172.18.0.0/16]";
        return Err(reading.fault(raw.address.place, what, fix));
    }
    let allow_uids = uids(reading, raw)?.or_else(|| {
        let unseen = !allow_from.is_empty() && !loopback;
        (!unseen).then(|| vec![reading.around.euid])
    });
    Ok(Listener {
        address: ListenAddress::Tcp(address),
        mode,
        sandbox,
        allow_uids,
        allow_from,
        unix_mode: 0o600,
    })
}

fn unix(
    reading: &Reading<'_>,
    raw: &RawListener,
    path: &str,
    sandbox: Arc<str>,
) -> Result<Listener, ConfigError> {
    if path.is_empty() {
        return Err(reading.fault(raw.address.place, "`unix:` without a path", ADDRESS_FIX));
    }
    if let Some(from) = &raw.allow_from {
        let what = "`allow_from` on a Unix socket, whose clients have no address";
        return Err(reading.fault(from.place, what, "name uids instead: allow_uids: [1000]"));
    }
    let unix_mode = match &raw.mode {
        None => 0o600,
        Some(mode) => file_mode(&mode.value).ok_or_else(|| {
            let what = "the mode of a Unix socket is its file mode";
            reading.fault(mode.place, what, "write it in octal: mode: \"0660\"")
        })?,
    };
    let allow_uids = uids(reading, raw)?;
    if allow_uids.is_none() && unix_mode & 0o077 != 0 {
        let what = "others can open this socket, and it does not say whom it serves";
        let fix = "add the uids that it serves: allow_uids: [1000]";
        return Err(reading.fault(raw.address.place, what, fix));
    }
    Ok(Listener {
        address: ListenAddress::Unix(reading.path(path, raw.address.place)?),
        mode: ListenMode::Proxy,
        sandbox,
        allow_uids: Some(allow_uids.unwrap_or_else(|| vec![reading.around.euid])),
        allow_from: Vec::new(),
        unix_mode,
    })
}

fn networks(reading: &Reading<'_>, raw: &RawListener) -> Result<Vec<ipnet::IpNet>, ConfigError> {
    match &raw.allow_from {
        Some(from) if from.value.is_empty() => Err(reading.fault(
            from.place,
            "`allow_from` serves nobody",
            "name a network, or leave it out",
        )),
        Some(from) => Ok(from.value.iter().map(|net| net.0).collect()),
        None => Ok(Vec::new()),
    }
}

fn uids(reading: &Reading<'_>, raw: &RawListener) -> Result<Option<Vec<u32>>, ConfigError> {
    match &raw.allow_uids {
        Some(uids) if uids.value.is_empty() => {
            let fix = "name a uid, or leave it out: the gateway's own uid is served";
            Err(reading.fault(uids.place, "`allow_uids` serves nobody", fix))
        }
        Some(uids) => Ok(Some(uids.value.clone())),
        None => Ok(None),
    }
}

fn file_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal =
        (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777)
}
