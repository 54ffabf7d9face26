//! The table of routes: what the server knows, and what its description is made of.

use http::Method;
use percent_encoding::percent_decode_str;

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; a segment in braces stands for any.
    pub path: &'static str,
    /// What it is for, in one sentence.
    pub summary: &'static str,
    pub(super) does: Does,
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Status,
    Events,
    Sandboxes,
    Sandbox,
    SandboxGrants,
    SandboxCredentials,
    Policy,
    Apply,
    Rollback,
    Unpin,
    Requests,
    Request,
    Decide,
    Undo,
    Grants,
    Grant,
    Revoke,
    History,
    Reload,
    Inference,
    SetInference,
    UnsetInference,
    Probe,
    Credentials,
    TestCredential,
    RefreshCredential,
}

const fn route(
    method: &'static str,
    path: &'static str,
    does: Does,
    summary: &'static str,
) -> Route {
    Route { method, path, summary, does }
}

/// Every route.
pub const ROUTES: &[Route] = &[
    route("GET", "/v1/status", Does::Status, "How the gateway does."),
    route("GET", "/v1/events", Does::Events, "What happens, as server-sent events."),
    route("GET", "/v1/sandboxes", Does::Sandboxes, "The sandboxes."),
    route("GET", "/v1/sandboxes/{name}", Does::Sandbox, "One sandbox."),
    route("GET", "/v1/sandboxes/{name}/grants", Does::SandboxGrants, "The grants of a sandbox."),
    route(
        "GET",
        "/v1/sandboxes/{name}/credentials",
        Does::SandboxCredentials,
        "The credentials that go somewhere for a sandbox.",
    ),
    route("GET", "/v1/sandboxes/{name}/policy", Does::Policy, "The policy in force."),
    route("PUT", "/v1/sandboxes/{name}/policy", Does::Apply, "Sets the runtime layer."),
    route(
        "POST",
        "/v1/sandboxes/{name}/policy/rollback",
        Does::Rollback,
        "Goes back to a version and pins it.",
    ),
    route("POST", "/v1/sandboxes/{name}/policy/unpin", Does::Unpin, "Follows the files again."),
    route(
        "GET",
        "/v1/sandboxes/{name}/inference",
        Does::Inference,
        "What is behind inference.local, and what it has cost.",
    ),
    route(
        "PUT",
        "/v1/sandboxes/{name}/inference",
        Does::SetInference,
        "Puts other routes behind inference.local, once they have been tried.",
    ),
    route(
        "DELETE",
        "/v1/sandboxes/{name}/inference",
        Does::UnsetInference,
        "Goes back to the routes of the config.",
    ),
    route(
        "POST",
        "/v1/sandboxes/{name}/inference/probe",
        Does::Probe,
        "Tries every route with real requests.",
    ),
    route("GET", "/v1/requests", Does::Requests, "The entries of the queue."),
    route("GET", "/v1/requests/{request}", Does::Request, "One entry."),
    route("POST", "/v1/requests/{request}/decision", Does::Decide, "Answers an entry."),
    route("DELETE", "/v1/requests/{request}/decision", Does::Undo, "Takes an answer back."),
    route("GET", "/v1/grants", Does::Grants, "What was granted."),
    route("POST", "/v1/grants", Does::Grant, "Grants ahead."),
    route("DELETE", "/v1/grants/{grant}", Does::Revoke, "Takes a grant back."),
    route("GET", "/v1/policy/history", Does::History, "The versions of the policies."),
    route("GET", "/v1/credentials", Does::Credentials, "The credentials, never their values."),
    route(
        "POST",
        "/v1/credentials/{credential}/test",
        Does::TestCredential,
        "Reads a source and changes nothing.",
    ),
    route(
        "POST",
        "/v1/credentials/{credential}/refresh",
        Does::RefreshCredential,
        "Reads a source, and uses what it says.",
    ),
    route("POST", "/v1/reload", Does::Reload, "Reads the files again."),
];

/// What a method and a path come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A route, and what stands for the segment in braces.
    Route(Does, String),
    /// The path is known, and goes with these methods.
    Methods(Vec<&'static str>),
    /// Neither.
    Nothing,
}

pub(super) fn find(method: &Method, path: &str) -> Found {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(segment) = captured(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Found::Route(route.does, segment);
        }
        allowed.push(route.method);
    }
    if allowed.is_empty() { Found::Nothing } else { Found::Methods(allowed) }
}

/// The decoded segment that stands for the one in braces, empty where there is none; `None` where
/// the path is another.
fn captured(template: &str, path: &str) -> Option<String> {
    let (mut theirs, mut segment) = (path.split('/'), String::new());
    for ours in template.split('/') {
        let given = theirs.next()?;
        if ours.starts_with('{') {
            segment = percent_decode_str(given).decode_utf8().ok()?.into_owned();
            if segment.is_empty() {
                return None;
            }
        } else if ours != given {
            return None;
        }
    }
    theirs.next().is_none().then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_by_its_whole_path_and_method() {
        let get = |path| find(&Method::GET, path);
        assert_eq!(get("/v1/status"), Found::Route(Does::Status, String::new()));
        assert_eq!(get("/v1/requests/r41"), Found::Route(Does::Request, "r41".into()));
        assert_eq!(get("/v1/sandboxes/a%2Fb/policy"), Found::Route(Does::Policy, "a/b".into()));
        for path in
            ["/", "", "/v1", "/v1/status/", "/v1/requests/", "/v1/sandboxes/%ff", "/v2/status"]
        {
            assert_eq!(get(path), Found::Nothing, "{path}");
        }
        let methods = find(&Method::DELETE, "/v1/sandboxes/a/policy");
        assert_eq!(methods, Found::Methods(vec!["GET", "PUT"]));
    }
}
