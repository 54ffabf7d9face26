//! A CONNECT, a SOCKS request or a transparent connection, before its first byte.

use super::cover::Covering;
use super::reason;
use crate::addr::Authority;
use crate::policy::code::Code;
use crate::policy::compile::{Endpoint, Kind, Policy};
use crate::policy::intent::Client;
use crate::policy::verdict::{Denial, TunnelPermit, TunnelVerdict};

impl Policy {
    /// Judges host, port and client, as a tunnel. Pure.
    pub fn judge_tunnel(&self, client: &Client, target: &Authority) -> TunnelVerdict {
        let covering = Covering::of(self, client, target);
        if let Some((endpoint, rule)) = self.denied_whole(&covering) {
            let (name, quiet) = (endpoint.deny_name(rule), endpoint.denies[rule].quiet);
            let detail = format!("everything on {target} is denied by {name}");
            let code = Code::DeniedByRule;
            return TunnelVerdict::Deny(Denial { code, rule: Some(name), detail, quiet });
        }
        let mut speaking = self.covered(&covering).filter(|e| !e.flags.deny_only).peekable();
        if speaking.peek().is_none() {
            return TunnelVerdict::Unknown(reason::far(self, client, target));
        }
        // A deny rule must be able to see what it denies: a raw tunnel would hide it.
        let hides = self.covered(&covering).any(|endpoint| !endpoint.denies.is_empty());
        if hides || !speaking.all(|endpoint| endpoint.kind.raw()) {
            return TunnelVerdict::Inspect;
        }
        self.relay(&covering, target)
    }

    /// Every covering endpoint is `tls: skip` or `tcp`. Where one is `tcp`, whatever is sent may
    /// pass, so no SNI is asked for.
    fn relay(&self, covering: &Covering, target: &Authority) -> TunnelVerdict {
        let speaking = || self.covered(covering).filter(|e| !e.flags.deny_only);
        let tcp = speaking().find(|endpoint| endpoint.kind == Kind::Tcp);
        let Some(endpoint) = tcp.or_else(|| speaking().next()) else {
            return TunnelVerdict::Inspect;
        };
        let allows_ech = |e: &Endpoint| matches!(e.kind, Kind::Skip { allow_ech: true });
        let ech = speaking().all(allows_ech);
        let permit = self.permit(target, endpoint, (Code::Allowed, &endpoint.name), false);
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
