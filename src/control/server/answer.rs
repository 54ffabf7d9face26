//! What each route does: takes the question apart, asks the backend, shapes the answer.

use super::body::{self, Body};
use super::route::{self, Does, Found, ROUTES};
use super::stream;
use crate::control::feed::Feed;
use crate::control::wire::{Filter, GrantRequest, Listen, Problem, Rollback, SandboxStatus, Undo};
use crate::control::{Backend, Change, Who};
use crate::tasks::Tasks;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde::Deserialize;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What all connections share.
pub(super) struct Api<B> {
    pub(super) backend: Arc<B>,
    pub(super) feed: Feed,
    pub(super) tasks: Tasks,
}

/// A query that names a sandbox at most.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    sandbox: Option<String>,
}

/// A query without keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

type Answer = Result<Response<Body>, Problem>;

impl<B: Backend> Api<B> {
    /// The answer to one request.
    pub(super) async fn answer(
        &self,
        who: &Arc<Who>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query());
        let answer = match route::find(&head.method, path) {
            Found::Route(does, segment) if reads(does) => self.read(does, &segment, query).await,
            Found::Route(Does::Undo, segment) => self.undo(who.clone(), segment, query).await,
            Found::Route(does, segment) => match body::query::<Nothing>(query) {
                Ok(Nothing {}) => self.write(does, segment, who.clone(), body).await,
                Err(problem) => Err(problem),
            },
            Found::Methods(allowed) => return wrong_method(path, &allowed),
            Found::Nothing => Err(no_route(path)),
        };
        answer.unwrap_or_else(|problem| body::problem(&problem))
    }

    async fn read(&self, does: Does, segment: &str, query: Option<&str>) -> Answer {
        let named = || -> Result<Option<String>, Problem> {
            let Named { sandbox } = body::query(query)?;
            self.known(sandbox.as_deref())?;
            Ok(sandbox)
        };
        let none = || body::query::<Nothing>(query);
        Ok(match does {
            Does::Status => {
                none()?;
                body::json(&self.backend.status())
            }
            Does::Events => return self.events(query),
            Does::Sandboxes => {
                none()?;
                body::json(&self.backend.status().sandboxes)
            }
            Does::Sandbox | Does::SandboxGrants | Does::Policy | Does::Inference => {
                none()?;
                self.of_sandbox(does, segment)?
            }
            Does::Credentials | Does::SandboxCredentials => {
                return self.credentials(segment, query);
            }
            Does::Requests => {
                let filter: Filter = body::query(query)?;
                self.known(filter.sandbox.as_deref())?;
                body::json(&self.backend.requests(&filter))
            }
            Does::Request => {
                none()?;
                body::json(&self.backend.request(segment)?)
            }
            Does::Grants => body::json(&self.backend.grants(named()?.as_deref())),
            Does::History => {
                let sandbox = named()?;
                body::json(&self.backend.history(sandbox.as_deref()).await?)
            }
            Does::Apply
            | Does::Rollback
            | Does::Unpin
            | Does::Decide
            | Does::Undo
            | Does::Grant
            | Does::Revoke
            | Does::TestCredential
            | Does::RefreshCredential
            | Does::SetInference
            | Does::UnsetInference
            | Does::Probe
            | Does::Reload => unreachable!("`reads` says that it writes"),
        })
    }

    /// What is read of one sandbox.
    fn of_sandbox(&self, does: Does, segment: &str) -> Answer {
        let sandbox = self.sandbox(segment)?;
        Ok(match does {
            Does::SandboxGrants => body::json(&self.backend.grants(Some(&sandbox.name))),
            Does::Policy => body::json(&self.backend.policy(&sandbox.name)?),
            Does::Inference => body::json(&self.backend.inference(&sandbox.name)?),
            _ => body::json(&sandbox),
        })
    }

    async fn write(&self, does: Does, segment: String, who: Arc<Who>, sent: Incoming) -> Answer {
        let backend = self.backend.clone();
        match does {
            Does::Decide => {
                let decision = body::read(sent).await?;
                self.finish(async move { backend.decide(&who, &segment, decision).await }).await
            }
            Does::Grant => {
                let ask = self.whose(body::read(sent).await?)?;
                self.finish(async move { backend.grant(&who, ask).await }).await
            }
            Does::Revoke => self.finish(async move { backend.revoke(&who, &segment).await }).await,
            Does::Apply => {
                let apply = body::read(sent).await?;
                let sandbox = self.sandbox(&segment)?.name;
                self.change(who, Change::Apply { sandbox, apply }).await
            }
            Does::Rollback => {
                let Rollback { version } = body::read(sent).await?;
                let sandbox = self.sandbox(&segment)?.name;
                self.change(who, Change::Rollback { sandbox, version }).await
            }
            Does::Unpin => {
                let sandbox = self.sandbox(&segment)?.name;
                self.change(who, Change::Unpin { sandbox }).await
            }
            Does::Reload => self.change(who, Change::Reload).await,
            Does::SetInference | Does::UnsetInference | Does::Probe => {
                self.models(does, &segment, who, sent).await
            }
            Does::TestCredential | Does::RefreshCredential => {
                let keep = does == Does::RefreshCredential;
                self.finish(async move { backend.check_credential(&segment, keep).await }).await
            }
            Does::Status
            | Does::Events
            | Does::Sandboxes
            | Does::Sandbox
            | Does::SandboxGrants
            | Does::SandboxCredentials
            | Does::Credentials
            | Does::Policy
            | Does::Requests
            | Does::Request
            | Does::Grants
            | Does::Inference
            | Does::History => unreachable!("`reads` says that it reads"),
            Does::Undo => unreachable!("it reads its query by itself"),
        }
    }

    async fn undo(&self, who: Arc<Who>, segment: String, query: Option<&str>) -> Answer {
        let Undo { via } = body::query(query)?;
        let backend = self.backend.clone();
        self.finish(async move { backend.undo(&who, &segment, via.as_deref()).await }).await
    }

    async fn models(&self, does: Does, segment: &str, who: Arc<Who>, sent: Incoming) -> Answer {
        let backend = self.backend.clone();
        let sandbox = self.sandbox(segment)?.name;
        if does == Does::Probe {
            return self.finish(async move { backend.probe(&sandbox).await }).await;
        }
        let set = match does {
            Does::SetInference => Some(body::read(sent).await?),
            _ => None,
        };
        self.finish(async move { backend.set_inference(&who, &sandbox, set).await }).await
    }

    /// The credentials of a sandbox; of all where none is named.
    fn credentials(&self, sandbox: &str, query: Option<&str>) -> Answer {
        body::query::<Nothing>(query)?;
        let name = match sandbox {
            "" => None,
            named => Some(self.sandbox(named)?.name),
        };
        Ok(body::json(&self.backend.credentials(name.as_deref())))
    }

    async fn change(&self, who: Arc<Who>, change: Change) -> Answer {
        let backend = self.backend.clone();
        self.finish(async move { backend.change(&who, change).await }).await
    }

    /// Runs a change to its end, whether or not the client waits for it: half of one is worse than
    /// either.
    async fn finish<T: serde::Serialize + Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Answer {
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            let _ = tell.send(change.await);
        });
        match told.await {
            Ok(done) => Ok(body::json(&done?)),
            Err(_) => {
                let detail = "the change did not come to its end: look at the gateway's log";
                Err(Problem::new(500, "unavailable", detail))
            }
        }
    }

    fn events(&self, query: Option<&str>) -> Answer {
        let listen: Listen = body::query(query)?;
        self.known(listen.sandbox.as_deref())?;
        let events = stream::open(&*self.backend, &self.feed, listen, self.tasks.clone());
        Ok(body::with_kind("text/event-stream", StreamBody::new(events).boxed_unsync()))
    }

    fn sandbox(&self, name: &str) -> Result<SandboxStatus, Problem> {
        let mut sandboxes = self.backend.status().sandboxes;
        match sandboxes.iter().position(|sandbox| sandbox.name == name) {
            Some(at) => Ok(sandboxes.swap_remove(at)),
            None => Err(Problem::not_found(format!(
                "there is no sandbox `{name}`; there is {}",
                names(&sandboxes).join(", ")
            ))),
        }
    }

    fn known(&self, sandbox: Option<&str>) -> Result<(), Problem> {
        sandbox.map_or(Ok(()), |name| self.sandbox(name).map(drop))
    }

    /// The grant with its sandbox named: where there is one sandbox alone it is that.
    fn whose(&self, ask: GrantRequest) -> Result<GrantRequest, Problem> {
        let sandbox = match &ask.sandbox {
            Some(name) => self.sandbox(name)?.name,
            None => match &self.backend.status().sandboxes[..] {
                [one] => one.name.clone(),
                several => return Err(Problem::which_sandbox(names(several))),
            },
        };
        Ok(GrantRequest { sandbox: Some(sandbox), ..ask })
    }
}

/// Whether a route changes nothing.
fn reads(does: Does) -> bool {
    match does {
        Does::Status
        | Does::Events
        | Does::Sandboxes
        | Does::Sandbox
        | Does::SandboxGrants
        | Does::SandboxCredentials
        | Does::Credentials
        | Does::Policy
        | Does::Requests
        | Does::Request
        | Does::Grants
        | Does::Inference
        | Does::History => true,
        Does::Apply
        | Does::Rollback
        | Does::Unpin
        | Does::Decide
        | Does::Undo
        | Does::Grant
        | Does::Revoke
        | Does::SetInference
        | Does::UnsetInference
        | Does::Probe
        | Does::TestCredential
        | Does::RefreshCredential
        | Does::Reload => false,
    }
}

fn names(sandboxes: &[SandboxStatus]) -> Vec<&str> {
    sandboxes.iter().map(|sandbox| sandbox.name.as_str()).collect()
}

fn no_route(path: &str) -> Problem {
    let routes: Vec<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    Problem::not_found(format!("there is no {path}; there is {}", routes.join(", ")))
}

fn wrong_method(path: &str, allowed: &[&str]) -> Response<Body> {
    let allowed = allowed.join(", ");
    let detail = format!("{path} goes with {allowed}");
    let mut response = body::problem(&Problem::new(405, "bad_request", detail));
    let allow = HeaderValue::from_str(&allowed).expect("methods of the table");
    response.headers_mut().insert(header::ALLOW, allow);
    response
}
