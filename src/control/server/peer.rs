//! Who is at the other end, as the kernel says it (`SO_PEERCRED`).

use crate::control::Who;
use std::io;
use tokio::net::UnixStream;

/// A peer that may ask: the gateway's own user, or root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(u32);

/// Why a peer may not.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stranger {
    #[error("its peer has uid {uid}; only uid {own} and root may use it")]
    OtherUid { uid: u32, own: u32 },
    #[error("its peer is not known: {0}")]
    Unknown(io::Error),
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Result<Self, Stranger> {
        let uid = stream.peer_cred().map_err(Stranger::Unknown)?.uid();
        let own = rustix::process::geteuid().as_raw();
        if uid == own || uid == 0 { Ok(Self(uid)) } else { Err(Stranger::OtherUid { uid, own }) }
    }

    /// With the name that `/etc/passwd` has for it. Users of a directory service go by their uid.
    pub(super) fn who(self) -> Who {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name(&passwd, self.0).map_or_else(|| self.0.to_string(), str::to_owned);
        Who { uid: self.0, name }
    }
}

/// passwd(5): `name:password:uid:…`.
fn name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found = fields.nth(1)?.parse::<u32>().ok()?;
        (found == uid).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_has_the_first_name_that_passwd_gives_it() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\n+::::::\nana:x:1000:1000\nalso:x:1000:1\nbroken:x\n";
        assert_eq!(name(passwd, 0), Some("root"));
        assert_eq!(name(passwd, 1000), Some("ana"));
        assert_eq!(name(passwd, 7), None);
    }
}
