//! How origins are reached: roots, fixed names, the operator's exceptions, the parent proxy.

use super::error::ConfigError;
use super::raw::{RawCredential, RawProxy, RawResolve, RawUpstream};
use super::settings::{CredentialSource, NoProxy, ParentProxy, Resolve, Upstream};
use super::settle::Reading;
use super::source::{At, Place};
use super::units::Net;
use crate::addr::{Authority, Host, Name, Port, Shown};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The credentials of a config, by name.
type Credentials = BTreeMap<String, At<RawCredential>>;

/// Settles `upstream`; `credentials` is looked into for the parent proxy's alone.
pub(super) fn settle(
    reading: &Reading<'_>,
    raw: &RawUpstream,
    credentials: &Credentials,
) -> Result<Upstream, ConfigError> {
    let files = |names: &[String]| {
        names.iter().map(|name| reading.path(name, Place::default())).collect::<Result<_, _>>()
    };
    Ok(Upstream {
        ca_files: files(&raw.ca_files)?,
        hosts: raw
            .hosts
            .iter()
            .map(|(name, addresses)| fixed(reading, name, addresses))
            .collect::<Result<_, _>>()?,
        allow_internal: raw.allow_internal.iter().map(|net| net.0).collect(),
        crl_files: files(&raw.crl_files)?,
        nameservers: raw
            .nameservers
            .iter()
            .map(|text| nameserver(reading, text))
            .collect::<Result<_, _>>()?,
        proxy: raw.proxy.as_ref().map(|p| parent(reading, p, credentials)).transpose()?,
    })
}

fn fixed(
    reading: &Reading<'_>,
    name: &str,
    addresses: &At<Vec<IpAddr>>,
) -> Result<(Name, Vec<IpAddr>), ConfigError> {
    let shown = Shown::new(name);
    let Ok(Host::Name(name)) = Host::parse(name) else {
        let what = format!("`{shown}` is not a host name");
        return Err(reading.fault(
            addresses.place,
            what,
            "write hosts: { origin.test: [192.0.2.1] }",
        ));
    };
    if addresses.value.is_empty() {
        let what = format!("`{shown}` has no address");
        return Err(reading.fault(addresses.place, what, "name an address, or remove the line"));
    }
    Ok((name, addresses.value.iter().map(IpAddr::to_canonical).collect()))
}

fn nameserver(reading: &Reading<'_>, text: &At<String>) -> Result<SocketAddr, ConfigError> {
    if let Ok(ip) = text.value.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 53));
    }
    text.value.parse().map_err(|_| {
        let what = format!("`{}` is not a resolver's address", Shown::new(&text.value));
        reading.fault(text.place, what, "write an IP address, or one with a port: 10.0.0.53:5353")
    })
}

fn parent(
    reading: &Reading<'_>,
    raw: &At<RawProxy>,
    credentials: &Credentials,
) -> Result<ParentProxy, ConfigError> {
    let raw = &raw.value;
    Ok(ParentProxy {
        address: parent_address(reading, &raw.url)?,
        credential: raw
            .credential
            .as_ref()
            .map(|name| parent_credential(reading, name, credentials))
            .transpose()?,
        no_proxy: raw
            .no_proxy
            .iter()
            .map(|entry| no_proxy(reading, entry))
            .collect::<Result<_, _>>()?,
        resolve: match raw.resolve {
            None | Some(RawResolve::Local) => Resolve::Local,
            Some(RawResolve::Proxy) => Resolve::Proxy,
        },
    })
}

/// `http://HOST:PORT` and nothing else. What follows an `@` is never printed: it may be a secret.
fn parent_address(reading: &Reading<'_>, url: &At<String>) -> Result<Authority, ConfigError> {
    const FIX: &str = "write url: \"http://proxy.corp:3128\"";
    let fault = |what: &str, fix: &str| reading.secret_fault(url.place, what, fix);
    let Some(rest) = url.value.strip_prefix("http://") else {
        return Err(fault("the parent proxy's URL does not start with http://", FIX));
    };
    if rest.contains('@') {
        let fix =
            "put user:password into a file, name it under `credentials:`, and the credential here";
        return Err(fault("the parent proxy's URL holds a user or password", fix));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    Authority::parse(authority, Some(Port::HTTP))
        .map_err(|e| fault(&format!("the parent proxy's URL is not http://HOST:PORT: {e}"), FIX))
}

fn parent_credential(
    reading: &Reading<'_>,
    name: &At<String>,
    credentials: &Credentials,
) -> Result<CredentialSource, ConfigError> {
    let Some(credential) = credentials.get(&name.value) else {
        let what = format!("no credential is named `{}`", Shown::new(&name.value));
        let fix = "add it: credentials: { corp: { file: ~/secrets/proxy } }";
        return Err(reading.fault(name.place, what, fix));
    };
    let place = credential.place;
    let raw = &credential.value;
    match (&raw.file, &raw.env, &raw.command) {
        (Some(file), None, None) => Ok(CredentialSource::File(reading.path(file, place)?)),
        (None, Some(name), None) if !name.is_empty() => Ok(CredentialSource::Env(name.clone())),
        (None, None, Some(_)) => {
            let what = "the parent proxy's credential comes from a file or a variable";
            Err(reading.fault(place, what, "use file: or env:"))
        }
        _ => {
            let what = "a credential has exactly one source";
            Err(reading.fault(place, what, "write file: PATH or env: NAME"))
        }
    }
}

fn no_proxy(reading: &Reading<'_>, entry: &At<String>) -> Result<NoProxy, ConfigError> {
    let text = entry.value.as_str();
    let wrong = || {
        let what = format!("`{}` is neither a name nor a network", Shown::new(text));
        reading.fault(entry.place, what, "write .corp, host.corp or 10.0.0.0/8")
    };
    if let Some(suffix) = text.strip_prefix('.') {
        return match Host::parse(suffix) {
            Ok(Host::Name(name)) => Ok(NoProxy::Suffix(name)),
            Ok(Host::Ip(_)) | Err(_) => Err(wrong()),
        };
    }
    if text.contains('/') {
        return text.parse::<Net>().map(|net| NoProxy::Net(net.0)).map_err(|_| wrong());
    }
    Host::parse(text).map(NoProxy::Host).map_err(|_| wrong())
}
