//! Credentials on their way up (I4): which request gets which, and where it goes in.
//!
//! [`Binding`]s say where a credential goes. An [`Injector`] holds those of one sandbox. Between
//! the permit and the head that goes up stands one place: first a [`Plan`] is made, before anything
//! is dialled, which refuses what must not go on and fetches the values; then the plan is carried
//! out on the head, for a connection that it fits. Where there are no credentials there is no
//! injector, and nothing is paid.
//!
//! Invariants: a value goes only to the host, port, path and method that it is bound to, over
//! verified TLS, on a permit of the policy; the client's own copies go first; what carries a value
//! has no `Debug`.

mod aws_chunked;
mod binding;
mod draft;
mod fill;
mod place;
mod plan;
mod road;
mod sigv4;

pub(crate) use aws_chunked::Unframed;
pub use binding::{Binding, Place, Spot, Within};
pub(crate) use place::same;
pub(crate) use plan::{Messages, Outbound, Plan};

use crate::addr::Host;
use crate::secret::Placeholders;
use crate::vault::{Credential, Vault};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How much of a body is read in order to rewrite it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// A body in which placeholders are looked for.
    pub placeholder: usize,
    /// A body that is signed.
    pub sigv4: usize,
}

/// The bindings of one sandbox.
#[derive(Debug)]
pub struct Injector {
    bound: Box<[Bound]>,
    /// Hosts that get credentials which are not this sandbox's.
    elsewhere: Box<[Host]>,
    words: Option<Placeholders>,
    vault: Arc<Vault>,
    buffers: Buffers,
    /// When a misuse was last put into the record as an event of its own.
    told: Mutex<Option<Instant>>,
}

/// A binding with its credential.
#[derive(Debug)]
struct Bound {
    binding: Binding,
    credential: Arc<Credential>,
    /// The placeholder that it fills, by its place in `words`.
    word: Option<usize>,
}

impl Injector {
    /// The bindings that are in force here.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bound.iter().map(|bound| &bound.binding)
    }

    /// Whether a request to `host` may have to do with credentials: a placeholder has no business
    /// with any other host, so where there are some every request is looked through.
    pub(crate) fn concerns(&self, host: &Host) -> bool {
        self.words.is_some() || self.scrubs(host)
    }

    /// Whether what comes from `host` is scrubbed.
    pub(crate) fn scrubs(&self, host: &Host) -> bool {
        self.elsewhere.contains(host) || self.bound.iter().any(|bound| bound.binding.host == *host)
    }

    /// The injector of a sandbox to which the credentials in `attached` are attached. What comes from
    /// the hosts `elsewhere`, which get credentials of others, is scrubbed too. `None` where nothing
    /// is bound and no host gets any.
    pub fn new(
        bindings: &[Binding],
        attached: &[Arc<str>],
        elsewhere: Vec<Host>,
        (vault, buffers): (&Arc<Vault>, Buffers),
    ) -> Option<Arc<Self>> {
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut bound = Vec::new();
        for binding in bindings.iter().filter(|binding| attached.contains(&binding.credential)) {
            // One that came with a reload is there after a restart.
            let Some(credential) = vault.find(&binding.credential).cloned() else { continue };
            let word = match &binding.place {
                Place::Placeholder { word, .. } => {
                    let known = texts.iter().position(|text| text == word);
                    Some(known.unwrap_or_else(|| {
                        texts.push(word.clone());
                        texts.len() - 1
                    }))
                }
                _ => None,
            };
            bound.push(Bound { binding: binding.clone(), credential, word });
        }
        if bound.is_empty() && elsewhere.is_empty() {
            return None;
        }
        let elsewhere = elsewhere.into();
        let words =
            (!texts.is_empty()).then(|| Placeholders::new(texts.iter().map(|text| &**text)));
        let told = Mutex::default();
        Some(Arc::new(Self {
            bound: bound.into(),
            elsewhere,
            words,
            vault: vault.clone(),
            buffers,
            told,
        }))
    }
}
