//! Resolve, guard, dial: nothing is dialled but a pinned target (I2).
//!
//! Owns the way out: what a permitted name resolves to, which addresses may be dialled, the
//! connection itself, and the parent proxy. Not TLS (the house brings its own), not HTTP.
//!
//! The order is fixed: a [`Permit`] comes first (I1), the name is resolved once, *every* address
//! of the answer is checked by the guard, and the addresses that were checked are the only ones
//! that can be dialled: [`Pinned`] has private fields and is built here alone. `TcpStream::connect`
//! stands in `dial` and nowhere else.
//!
//! ```text
//! pin(&Permit) -> Pinned        literal | upstream.hosts | /etc/hosts | localhost | DNS, then the guard
//! dial(&Pinned, Payload)        direct (RFC 8305) or through the parent proxy -> Dialed
//! recheck(&Permit, Reached)     a pooled connection, before it is used again
//! ```

mod corked;
mod dial;
mod dns;
mod error;
pub mod flights;
mod guard;
mod hosts;
pub mod http;
pub mod http2;
mod names;
mod own;
mod parent;
mod pinned;
pub mod pool;
mod settings;
pub mod stream;
#[cfg(test)]
mod tests;
mod watched;

pub use dial::{Dialed, Payload, Reached, Route};
pub use error::{DialError, LookupError, PinError};
pub use parent::ReplyError;
pub use pinned::{Pinned, Source};
pub use settings::{Credential, NoProxy, Parent, Resolve, Settings, SettingsError, SystemFiles};

use crate::addr::{Authority, Host};
use crate::policy::Permit;
use guard::{Opened, Refusal};
use names::Names;
use own::Own;
use pinned::{Addresses, Way};
use std::net::SocketAddr;
use std::time::Duration;

/// The way out, shared by every runtime of the process.
///
/// `Send + Sync`. Names are resolved by one resolver per tokio runtime (see `dns`), so a runtime
/// that ends takes nothing with it that another one waits for.
#[derive(Debug)]
pub struct Upstream {
    names: Names,
    allow_internal: Box<[ipnet::IpNet]>,
    own: Own,
    parent: Option<parent::Hop>,
    connect_timeout: Duration,
}

impl Upstream {
    /// Builds the way out. Nothing is read or resolved before it is needed: an unreadable
    /// `/etc/resolv.conf` makes names fail, each with a sentence that says so, and nothing else.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        if settings.connect_timeout.is_zero() {
            return Err(SettingsError::ZeroTimeout);
        }
        Ok(Self {
            names: Names::new(&settings)?,
            allow_internal: settings.allow_internal.into(),
            own: Own::new(settings.own),
            parent: settings.proxy.map(|parent| parent::Hop::new(parent, settings.mark)),
            connect_timeout: settings.connect_timeout,
        })
    }

    /// Adds a listener of the gateway: from now on nothing is dialled there. For listeners on port
    /// 0 and those that are opened later.
    pub fn add_own(&self, listener: SocketAddr) {
        self.own.add(listener);
    }

    /// Resolves the permit's host once and checks every address of the answer.
    ///
    /// An answer with any refused address is refused whole. Literals, `upstream.hosts` and
    /// `/etc/hosts` are answered without waiting; their addresses are checked all the same.
    pub async fn pin(&self, permit: &Permit) -> Result<Pinned, PinError> {
        self.pin_target(permit.target(), Opened::by(permit)).await
    }

    /// Checks a pooled connection against the guard as `permit` opens it now, before it is used
    /// again. The caller matches the authority; this matches the address.
    pub fn recheck(&self, permit: &Permit, reached: Reached) -> Result<(), PinError> {
        self.recheck_target(permit.target(), Opened::by(permit), reached)
    }

    /// Connects to a pinned target, or through the parent proxy, within the connect timeout.
    pub async fn dial(&self, pinned: &Pinned, payload: Payload) -> Result<Dialed, DialError> {
        let dialling = self.dial_within(pinned, payload);
        match tokio::time::timeout(self.connect_timeout, dialling).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout {
                target: pinned.authority().clone(),
                after: self.connect_timeout,
                parent: self.parent_on(pinned),
            }),
        }
    }

    /// The `Proxy-Authorization` of requests on a [`Route::ParentForward`] connection, marked
    /// sensitive. Tunnels have sent their own.
    pub fn parent_authorization(&self) -> Option<::http::HeaderValue> {
        self.parent.as_ref().and_then(parent::Hop::authorization)
    }

    /// Replaces the credential of the parent proxy at `authority`, for a source that has changed. One
    /// that is for another proxy than this was built with goes nowhere. Connections that stand stay as
    /// they are.
    pub fn set_parent_credential(&self, authority: &Authority, credential: Option<&Credential>) {
        if let Some(parent) = self.parent.as_ref().filter(|p| p.authority() == authority) {
            parent.set_credential(credential);
        }
    }

    async fn pin_target(&self, target: &Authority, opened: Opened<'_>) -> Result<Pinned, PinError> {
        let (answer, source) = match &target.host {
            Host::Ip(ip) => (Addresses::One(ip.to_canonical()), Source::Literal),
            Host::Name(name) => match self.names.local(name) {
                Some(found) => found,
                None if self.parent_resolves(&target.host) => return unchecked(target, opened),
                None => (Box::pin(self.names.dns(name)).await?, Source::Dns),
            },
        };
        self.guard(target, answer.as_slice(), target.port.get(), opened)?;
        let direct = self.parent.as_ref().is_none_or(|p| p.skips(&target.host, answer.as_slice()));
        let way = if direct { Way::Direct(answer) } else { Way::Parent(answer) };
        Ok(Pinned::new(target.clone(), way, source))
    }

    fn recheck_target(
        &self,
        target: &Authority,
        opened: Opened<'_>,
        reached: Reached,
    ) -> Result<(), PinError> {
        match reached {
            Reached::Address(at) => {
                self.guard(target, &[at.ip().to_canonical()], at.port(), opened)
            }
            Reached::ByParent { .. } if self.parent_resolves(&target.host) => {
                unchecked(target, opened).map(drop)
            }
            Reached::ByParent { .. } => Err(PinError::Unchecked { target: target.clone() }),
        }
    }

    fn guard(
        &self,
        target: &Authority,
        addresses: &[std::net::IpAddr],
        port: u16,
        opened: Opened<'_>,
    ) -> Result<(), PinError> {
        let opened = opened.also(&self.allow_internal);
        guard::check(addresses, port, opened, &self.own).map_err(|refusal| refused(target, refusal))
    }

    fn parent_resolves(&self, host: &Host) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.resolves(host))
    }

    fn parent_on(&self, pinned: &Pinned) -> Option<Authority> {
        let parent = self.parent.as_ref().filter(|_| !pinned.is_direct())?;
        Some(parent.authority().clone())
    }
}

/// A name that only the parent can resolve. Where policy says which addresses the name must
/// resolve into, that can't be checked, and what can't be checked is refused.
fn unchecked(target: &Authority, opened: Opened<'_>) -> Result<Pinned, PinError> {
    if opened.only {
        return Err(PinError::Unchecked { target: target.clone() });
    }
    Ok(Pinned::new(target.clone(), Way::ParentResolves, Source::Parent))
}

fn refused(target: &Authority, refusal: Refusal) -> PinError {
    let target = target.clone();
    match refusal {
        Refusal::Class { address, class } => PinError::AddressRefused { target, address, class },
        Refusal::Outside { address } => PinError::OutsideAllowed { target, address },
        Refusal::Own { address } => PinError::Own { target, address },
        Refusal::Nothing => PinError::NoAddress { target },
    }
}
