//! Hosts that are known for what they do: inference providers, paste services, webhook catchers,
//! tunnels; and the Public Suffix List.
//!
//! Product data for advice (`policy check`, the words beside a question), never for judging: a
//! host that is missing here is not safe. Invariant: the table is sorted and its names canonical.

mod hosts;

use crate::addr::{Host, Name};
use hosts::HOSTS;

/// What a host is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Serves language models: a direct rule goes past the gateway's own inference route.
    Inference,
    /// Keeps text or files that anybody posts: a place to leak to.
    Paste,
    /// Shows a stranger whatever is sent to it: a place to leak to.
    Webhook,
    /// Lends a public name to a machine anywhere: the name says nothing about who answers.
    Tunnel,
}

/// What `host` is known for: it, or the nearest domain above it, stands in the table.
pub fn service(host: &Host) -> Option<Service> {
    let mut name = host.name()?.as_str();
    loop {
        if let Ok(at) = HOSTS.binary_search_by(|(known, _)| (*known).cmp(name)) {
            return Some(HOSTS[at].1);
        }
        name = name.split_once('.')?.1;
    }
}

/// The public suffix of a name (`co.uk`, `github.io`); `None` for an address.
pub fn public_suffix(host: &Host) -> Option<&str> {
    host.name().map(Name::public_suffix)
}

/// The registrable domain of a name; `None` for an address and for a public suffix itself.
pub fn registrable(host: &Host) -> Option<&str> {
    host.name().and_then(Name::registrable)
}

/// Whether the names right under `domain` belong to different people: it is a public suffix that
/// the list knows, of a registry (`co.uk`) or of a company that lends names (`github.io`).
/// `domain` is a canonical name, as after the `*.` of a host pattern.
pub fn is_shared(domain: &str) -> bool {
    psl::suffix(domain.as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes() == domain.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).expect(text)
    }

    #[test]
    fn the_table_is_sorted_and_its_names_are_canonical() {
        assert!(HOSTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (name, _) in HOSTS {
            assert_eq!(host(name).to_string(), *name);
        }
    }

    #[test]
    fn a_row_stands_for_itself_and_every_name_below_it() {
        assert_eq!(service(&host("api.openai.com")), Some(Service::Inference));
        assert_eq!(service(&host("me.openai.azure.com")), Some(Service::Inference));
        assert_eq!(service(&host("a.b.ngrok-free.app")), Some(Service::Tunnel));
        assert_eq!(service(&host("webhook.site")), Some(Service::Webhook));
        assert_eq!(service(&host("pastebin.com")), Some(Service::Paste));
        assert_eq!(service(&host("notpastebin.com")), None);
        assert_eq!(service(&host("openai.com")), None);
        assert_eq!(service(&host("127.0.0.1")), None);
    }

    #[test]
    fn a_public_suffix_is_shared_by_different_people() {
        for shared in ["github.io", "co.uk", "com", "s3.amazonaws.com"] {
            assert!(is_shared(shared), "{shared}");
        }
        for own in ["github.com", "example.co.uk", "internal", ""] {
            assert!(!is_shared(own), "{own}");
        }
        assert_eq!(registrable(&host("a.b.co.uk")), Some("b.co.uk"));
        assert_eq!(public_suffix(&host("a.b.co.uk")), Some("co.uk"));
        assert_eq!(registrable(&host("::1")), None);
    }
}
