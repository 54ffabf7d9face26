//! A CONNECT, a SOCKS request or a transparent connection, before its first byte.

use super::cover::Covering;
use super::reason;
use crate::addr::Authority;
use crate::policy::code::Code;
use crate::policy::compile::{Endpoint, Kind, Policy};
use crate::policy::intent::Client;
use crate::policy::overlay::{Overlay, Said, Standing, What};
use crate::policy::verdict::{Denial, Source, TunnelPermit, TunnelVerdict};

impl Policy {
    /// Judges host, port and client, as a tunnel, by the rules alone. Pure.
    pub fn judge_tunnel(&self, client: &Client, target: &Authority) -> TunnelVerdict {
        let overlay = Overlay::default();
        self.judge_tunnel_under(client, target, &Standing::nothing(&overlay, self.epoch()))
    }

    /// Judges host, port and client, as a tunnel, with what the operator answered. Pure, but for
    /// the ticket that it may spend: one about TLS that can't be ended.
    pub fn judge_tunnel_under(
        &self,
        client: &Client,
        target: &Authority,
        standing: &Standing<'_>,
    ) -> TunnelVerdict {
        self.tunnelled(&Covering::of(self, client, target), client, target, standing)
    }

    pub(super) fn tunnelled(
        &self,
        covering: &Covering,
        client: &Client,
        target: &Authority,
        standing: &Standing<'_>,
    ) -> TunnelVerdict {
        if let Some((endpoint, rule)) = self.denied_whole(covering) {
            let (name, quiet) = (endpoint.deny_name(rule), endpoint.denies[rule].quiet);
            let detail = format!("everything on {target} is denied by {name}");
            let (code, rule, answer) = (Code::DeniedByRule, Some(name), None);
            return TunnelVerdict::Deny(Denial { code, rule, detail, quiet, answer });
        }
        // A deny rule must be able to see what it denies: a raw tunnel would hide it.
        let hides = self.hides(covering);
        let mut speaking = self.covered(covering).filter(|e| !e.flags.deny_only).peekable();
        let known = speaking.peek().is_some();
        if !hides && known && speaking.all(|e| e.kind.raw()) {
            return self.relay(covering, (target, standing.epoch));
        }
        let denied = standing.overlay.denies_some(client, target, standing.now);
        if !hides
            && !denied
            && let Some(source) = opaque(standing, client, target)
        {
            let at = (target, standing.epoch);
            let permit = self.beside_rules(at, covering, source, false);
            return TunnelVerdict::Relay(TunnelPermit { permit, sni: true, ech: false });
        }
        if known || standing.observe || standing.overlay.names(client, target, standing.now) {
            return TunnelVerdict::Inspect;
        }
        TunnelVerdict::Unknown(reason::far(self, client, target))
    }

    /// Whether bytes that nobody reads could be what a rule or the operator denies here. Then no
    /// answer lets them through.
    pub(super) fn blind(
        &self,
        (client, target): (&Client, &Authority),
        overlay: &Overlay,
        now: std::time::SystemTime,
    ) -> bool {
        self.hides(&Covering::of(self, client, target)) || overlay.denies_some(client, target, now)
    }

    /// Every covering endpoint is `tls: skip` or `tcp`. Where one is `tcp`, whatever is sent may
    /// pass, so no SNI is asked for.
    fn relay(&self, covering: &Covering, (target, epoch): (&Authority, u64)) -> TunnelVerdict {
        let speaking = || self.covered(covering).filter(|e| !e.flags.deny_only);
        let tcp = speaking().find(|endpoint| endpoint.kind == Kind::Tcp);
        let Some(endpoint) = tcp.or_else(|| speaking().next()) else {
            return TunnelVerdict::Inspect;
        };
        let allows_ech = |e: &Endpoint| matches!(e.kind, Kind::Skip { allow_ech: true });
        let ech = speaking().all(allows_ech);
        let code = (Code::Allowed, &endpoint.name);
        let permit = self.permit((target, epoch), endpoint, code, false);
        TunnelVerdict::Relay(TunnelPermit { permit, sni: tcp.is_none(), ech })
    }

    /// Whether a `tcp` endpoint covers (or `sql`, which is never parsed either), so that silence
    /// may be a protocol whose server speaks first.
    pub fn covers_tcp(&self, client: &Client, target: &Authority) -> bool {
        let covering = Covering::of(self, client, target);
        self.covered(&covering)
            .any(|e| !e.flags.deny_only && matches!(e.kind, Kind::Tcp | Kind::Sql))
    }
}

/// The operator's approval of TLS to the target that can't be ended, if there is one.
fn opaque(standing: &Standing<'_>, client: &Client, target: &Authority) -> Option<Source> {
    let said = standing.overlay.raw(&What::Opaque, (client, target), standing.now);
    match said.or_else(|| standing.ticket())? {
        Said::Allowed(by, approval, wild) => Some(Source::Grant { by, approval, wild }),
        Said::Denied(..) => None,
    }
}
