//! `inject` and `sandboxes.*.credentials`: where credentials go, and which sandbox may use them.

use super::error::ConfigError;
use super::raw::{RawConfig, RawInject, RawSandbox, RawSpot};
use super::settle::Reading;
use super::source::At;
use crate::addr::{Host, Port, Shown};
use crate::policy::pattern::{PathPattern, is_reserved};
use crate::proxy::inject::{self, Binding, Spot, Within};
use crate::secret::Placeholders;
use http::{HeaderName, Method};
use std::sync::Arc;

/// Headers that are the connection's, the framing's or the routing's, and so nobody's to set.
const NOT_SET: [&str; 15] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "expect",
    "accept-encoding",
    "range",
];

/// Settles `sandboxes.*.credentials`: those of `defaults` and its own.
pub(super) fn attached(
    reading: &Reading<'_>,
    raw: &RawConfig,
    (defaults, own): (&RawSandbox, &RawSandbox),
) -> Result<Vec<Arc<str>>, ConfigError> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for name in defaults.credentials.iter().chain(&own.credentials) {
        let name = known(reading, raw, name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn known(
    reading: &Reading<'_>,
    raw: &RawConfig,
    name: &At<String>,
) -> Result<Arc<str>, ConfigError> {
    if raw.credentials.contains_key(&name.value) {
        return Ok(name.value.as_str().into());
    }
    let shown = Shown::new(&name.value);
    let what = format!("no credential is named `{shown}`");
    let fix = format!("add it: credentials: {{ {shown}: {{ file: ~/secrets/{shown} }} }}");
    Err(reading.fault(name.place, what, fix))
}

/// Settles `inject`.
pub(super) fn settle(reading: &Reading<'_>, raw: &RawConfig) -> Result<Vec<Binding>, ConfigError> {
    let each = |each: &At<RawInject>| {
        known(reading, raw, &each.value.credential)?;
        let binding = binding(reading, each)?;
        let fixed = raw.upstream.hosts.keys().any(|name| {
            let named = |own| Host::parse(name).is_ok_and(|host| host.name() == Some(own));
            binding.host.name().is_some_and(named)
        });
        if fixed && binding.addresses.is_none() {
            let what = format!(
                "`upstream.hosts` says where {} is, and the binding does not list the address",
                Shown::host(&binding.host)
            );
            let fix = "list where the credential may go: addresses: [127.0.0.1]";
            return Err(reading.fault(each.value.host.place, what, fix));
        }
        Ok(binding)
    };
    raw.inject.iter().map(each).collect()
}

/// What one entry means by itself: whether its credential exists is not looked at.
pub(super) fn binding(reading: &Reading<'_>, each: &At<RawInject>) -> Result<Binding, ConfigError> {
    let own = &each.value;
    let host = host(reading, &own.host)?;
    let port = match &own.port {
        None => Port::HTTPS,
        Some(port) => Port::new(port.value).ok_or_else(|| {
            reading.fault(port.place, "0 is not a port", "write the port, or leave it out: 443")
        })?,
    };
    let place = place(reading, each)?;
    let websocket = own.websocket.unwrap_or(false);
    if let inject::Place::Placeholder { within, .. } = &place
        && within.has(Spot::Websocket)
        && !websocket
    {
        let what = "placeholders in WebSocket messages need a binding for WebSockets";
        return Err(reading.fault(each.place, what, "add websocket: true"));
    }
    Ok(Binding {
        credential: own.credential.value.as_str().into(),
        host,
        port,
        methods: methods(reading, own.methods.as_ref())?,
        path: path(reading, own.path.as_ref())?,
        addresses: own.addresses.as_ref().map(|nets| nets.iter().map(|net| net.0).collect()),
        websocket,
        place,
    })
}

fn host(reading: &Reading<'_>, text: &At<String>) -> Result<Host, ConfigError> {
    let shown = Shown::new(&text.value);
    let host = Host::parse(&text.value).map_err(|error| {
        let what = format!("`{shown}` is not a host: {error}");
        reading.fault(text.place, what, "name one host: a credential goes to no pattern of hosts")
    })?;
    if is_reserved(&host) {
        let what = format!("{shown} is answered by the gateway itself");
        return Err(reading.fault(text.place, what, "name the host that wants the credential"));
    }
    Ok(host)
}

fn methods(
    reading: &Reading<'_>,
    raw: Option<&At<Vec<String>>>,
) -> Result<Vec<Method>, ConfigError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if raw.value.is_empty() {
        let what = "no method gets the credential";
        return Err(reading.fault(raw.place, what, "name them, or write methods: [\"*\"]"));
    }
    if raw.value.iter().any(|method| method == "*") {
        return Ok(Vec::new());
    }
    let each = |method: &String| {
        Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|_| {
            let what = format!("`{}` is not a method", Shown::new(method));
            reading.fault(raw.place, what, "write methods: [GET, POST]")
        })
    };
    raw.value.iter().map(each).collect()
}

fn path(reading: &Reading<'_>, raw: Option<&At<String>>) -> Result<PathPattern, ConfigError> {
    let text = raw.map_or("/**", |at| at.value.as_str());
    PathPattern::parse(text).map_err(|error| {
        let what = format!("`{}` is not a path pattern: {error}", Shown::new(text));
        reading.fault(raw.map(|at| at.place).unwrap_or_default(), what, "write path: \"/api/**\"")
    })
}

fn place(reading: &Reading<'_>, each: &At<RawInject>) -> Result<inject::Place, ConfigError> {
    let own = &each.value;
    if let (Some(format), None) = (&own.format, &own.header) {
        let what = "`format` belongs to `header`";
        return Err(reading.fault(format.place, what, "add header: Authorization, or remove it"));
    }
    if let (Some(within), None) = (&own.within, &own.placeholder) {
        let what = "`in` belongs to `placeholder`";
        return Err(reading.fault(within.place, what, "add placeholder: WORD, or remove it"));
    }
    match (&own.header, &own.basic, &own.query, &own.placeholder, &own.sigv4) {
        (Some(name), None, None, None, None) => header(reading, name, own.format.as_ref()),
        (None, Some(basic), None, None, None) => user(reading, &basic.value.user),
        (None, None, Some(name), None, None) => {
            Ok(inject::Place::Query { name: filled(reading, name, "query")? })
        }
        (None, None, None, Some(word), None) => placeholder(reading, word, own.within.as_ref()),
        (None, None, None, None, Some(sigv4)) => Ok(inject::Place::Sigv4 {
            service: scope(reading, &sigv4.value.service)?,
            region: scope(reading, &sigv4.value.region)?,
        }),
        _ => {
            let what = "a binding has exactly one place";
            let fix = "write one of header, basic, query, placeholder, sigv4";
            Err(reading.fault(each.place, what, fix))
        }
    }
}

fn header(
    reading: &Reading<'_>,
    name: &At<String>,
    format: Option<&At<String>>,
) -> Result<inject::Place, ConfigError> {
    let shown = Shown::new(&name.value);
    let parsed = HeaderName::from_bytes(name.value.as_bytes()).map_err(|_| {
        let what = format!("`{shown}` is not a header's name");
        reading.fault(name.place, what, "write header: Authorization")
    })?;
    let own = parsed.as_str();
    if NOT_SET.contains(&own) || own.starts_with("x-portcullis-") {
        let what = format!("no credential goes into `{shown}`");
        return Err(reading.fault(name.place, what, "name the header that the origin wants it in"));
    }
    let text = format.map_or("{}", |at| at.value.as_str());
    if !text.contains("{}") || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        let what = format!("`{}` has no place for the value", Shown::new(text));
        let place = format.map(|at| at.place).unwrap_or_default();
        return Err(reading.fault(place, what, "write format: \"Bearer {}\""));
    }
    Ok(inject::Place::Header { name: parsed, format: text.into() })
}

fn user(reading: &Reading<'_>, user: &At<String>) -> Result<inject::Place, ConfigError> {
    // RFC 7617 §2: a colon would end it.
    if user.value.contains(':') || user.value.chars().any(char::is_control) {
        let what = format!("`{}` is not a user of Basic", Shown::new(&user.value));
        return Err(reading.fault(user.place, what, "write it without a colon"));
    }
    Ok(inject::Place::Basic { user: user.value.as_str().into() })
}

fn placeholder(
    reading: &Reading<'_>,
    word: &At<String>,
    within: Option<&At<Vec<RawSpot>>>,
) -> Result<inject::Place, ConfigError> {
    Placeholders::check(&word.value).map_err(|error| {
        let what = format!("`{}` can't be a placeholder: {error}", Shown::new(&word.value));
        reading.fault(word.place, what, "write placeholder: TELEGRAM_TOKEN")
    })?;
    let within = match within {
        None => Within::USUAL,
        Some(spots) if spots.value.is_empty() => {
            let what = "the placeholder is looked for nowhere";
            return Err(reading.fault(spots.place, what, "name a place, or leave `in` out"));
        }
        Some(spots) => spots.value.iter().map(|spot| self::spot(*spot)).collect(),
    };
    Ok(inject::Place::Placeholder { word: word.value.as_str().into(), within })
}

fn spot(raw: RawSpot) -> Spot {
    match raw {
        RawSpot::Header => Spot::Header,
        RawSpot::Basic => Spot::Basic,
        RawSpot::Query => Spot::Query,
        RawSpot::Path => Spot::Path,
        RawSpot::Json => Spot::Json,
        RawSpot::Form => Spot::Form,
        RawSpot::Text => Spot::Text,
        RawSpot::Websocket => Spot::Websocket,
    }
}

/// A part of a signature's scope: it stands between slashes.
fn scope(reading: &Reading<'_>, text: &At<String>) -> Result<Box<str>, ConfigError> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.value.is_empty() || !text.value.bytes().all(fine) {
        let what = format!("`{}` is not a service or region", Shown::new(&text.value));
        return Err(reading.fault(
            text.place,
            what,
            "write sigv4: { service: s3, region: eu-west-1 }",
        ));
    }
    Ok(text.value.as_str().into())
}

fn filled(reading: &Reading<'_>, text: &At<String>, key: &str) -> Result<Box<str>, ConfigError> {
    if text.value.is_empty() {
        let what = format!("`{key}` is empty");
        return Err(reading.fault(text.place, what, format!("name the {key} parameter")));
    }
    Ok(text.value.as_str().into())
}
