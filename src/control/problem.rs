//! The errors of the API, by the code that each stands for.

use super::wire::Problem;

impl Problem {
    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not_found", detail)
    }

    /// The request makes no sense.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "bad_request", detail)
    }

    /// Several sandboxes, and none was named.
    pub fn which_sandbox<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let detail = format!("which sandbox? {}: add -s NAME", names.join(", "));
        Self::new(400, "which_sandbox", detail)
    }

    /// The entry is not what was shown.
    pub fn changed(detail: impl Into<String>) -> Self {
        Self::new(409, "changed", detail)
    }

    /// The entry has its answer.
    pub fn decided(detail: impl Into<String>) -> Self {
        Self::new(409, "decided", detail)
    }

    /// It does not go with what is in force.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, "conflict", detail)
    }

    /// Not now: the disk is full, the gateway is stopping.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, "unavailable", detail)
    }

    pub(super) fn new(status: u16, code: &str, detail: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), detail: detail.into() }
    }
}
