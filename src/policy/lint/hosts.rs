//! What the host of an endpoint means: model providers, places where uploads leak, names that
//! belong to others.

use super::overlap::is_everything;
use super::{FindingCode, Found, Says, Spot};
use crate::addr::Host;
use crate::policy::document::{Access, Protocol};
use crate::policy::pattern::HostPattern;

/// Hosts that answer model calls.
const PROVIDERS: &[&str] = &[
    "api.anthropic.com",
    "api.cerebras.ai",
    "api.cohere.ai",
    "api.cohere.com",
    "api.deepseek.com",
    "api.fireworks.ai",
    "api.groq.com",
    "api.mistral.ai",
    "api.moonshot.ai",
    "api.openai.com",
    "api.perplexity.ai",
    "api.together.ai",
    "api.together.xyz",
    "api.x.ai",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "inference-api.nvidia.com",
    "integrate.api.nvidia.com",
    "openrouter.ai",
    "router.huggingface.co",
];

/// Hosts where whoever uploads can show it to others: code, paste, files, chat, webhooks.
const LEAKY: &[&str] = &[
    "api.github.com",
    "api.telegram.org",
    "bitbucket.org",
    "content.dropboxapi.com",
    "discord.com",
    "dpaste.com",
    "file.io",
    "gist.github.com",
    "github.com",
    "gitlab.com",
    "hooks.slack.com",
    "huggingface.co",
    "paste.rs",
    "pastebin.com",
    "pipedream.net",
    "registry.npmjs.org",
    "slack.com",
    "storage.googleapis.com",
    "s3.amazonaws.com",
    "transfer.sh",
    "upload.pypi.org",
    "uploads.github.com",
    "webhook.site",
    "0x0.st",
];

/// Looks at the host of one endpoint.
pub(super) fn check(spot: &Spot<'_>, found: &mut Found) {
    let Some(host) = &spot.endpoint.host else { return };
    let Ok(pattern) = HostPattern::parse(host) else { return };
    let names = |list: &[&'static str]| {
        list.iter().copied().find(|name| Host::parse(name).is_ok_and(|name| pattern.matches(&name)))
    };
    if allows_something(spot)
        && let Some(provider) = names(PROVIDERS)
    {
        let what =
            format!("{provider} answers model calls: allowed here, they bypass `inference.local`");
        let fix = "remove the endpoint once the client uses http://inference.local";
        found.push(FindingCode::InferenceHost, spot.at(host), spot.name(), Says::new(what, fix));
    }
    if allows_everything(spot)
        && let Some(leaky) = names(LEAKY)
    {
        let what =
            format!("everything is allowed on {leaky}, where an upload can be seen by others");
        let fix =
            "protocol: rest with `access: read-only`, or `rules` for the paths that are needed";
        found.push(FindingCode::UploadsLeak, spot.at(host), spot.name(), Says::new(what, fix));
    }
    if let HostPattern::Wild(wild) = &pattern {
        let suffix = wild.suffix();
        // A label in front of a public suffix is somebody's registration.
        let shared = psl::suffix_str(&format!("x.{suffix}")) == Some(suffix);
        if shared {
            let what = format!("anyone can have a name under {suffix}: this spans other people's");
            let fix = format!("name your own: my-project.{suffix}");
            found.push(FindingCode::SharedDomain, spot.at(host), spot.name(), Says::new(what, fix));
        }
        let what = format!(
            "each label that {} leaves open reaches the DNS servers of {suffix}: a channel out",
            spot.host()
        );
        let fix = "name the hosts; distinct names a minute are capped in any case";
        found.push(FindingCode::WildcardHost, spot.at(host), spot.name(), Says::new(what, fix));
    }
}

fn allows_something(spot: &Spot<'_>) -> bool {
    let endpoint = &spot.endpoint;
    endpoint.rules.is_some() || endpoint.access.is_some() || endpoint.deny_rules.is_none()
}

/// Whether any method on any path passes.
fn allows_everything(spot: &Spot<'_>) -> bool {
    let endpoint = &spot.endpoint;
    match endpoint.protocol_meant() {
        None | Some(Protocol::Tcp) => true,
        Some(Protocol::Rest | Protocol::Websocket) => {
            let full = endpoint.access.as_ref().is_some_and(|access| **access == Access::Full);
            let rules = endpoint.rules.iter().flat_map(|rules| rules.iter());
            let wide = rules.map(|rule| rule.allow.matched()).any(|rule| {
                rule.method == Some("*")
                    && rule.path.is_some_and(is_everything)
                    && rule.query.is_empty()
            });
            full || wide
        }
        Some(Protocol::Graphql | Protocol::JsonRpc | Protocol::Mcp | Protocol::Sql) => false,
    }
}
