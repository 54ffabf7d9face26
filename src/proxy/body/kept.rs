//! What of a request's body went up and can go up again: an HTTP/2 origin may say that it did nothing with
//! a request of which some was sent (RFC 9113 §8.7).

use super::super::sandbox::Sandbox;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The longest part of a body that is kept until its answer begins: what most origins take of a stream
/// that they have not looked at yet (64 KiB, RFC 9113 §6.5.2), and what is on its way to it.
const MOST: usize = 128 * 1024;

/// What a sandbox's bodies may come to together. More than this does not go up again.
const IN_ALL: usize = 16 * 1024 * 1024;

/// What of a body is kept.
#[derive(Debug)]
pub(super) enum Kept {
    /// All pieces that went up.
    Pieces(Pieces),
    /// All of it, which was read to judge.
    Whole(Bytes),
    /// Not all: it can't go up again.
    Lost,
}

/// Pieces that went up, and their share of what the sandbox may keep.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    gone: Vec<u8>,
    sandbox: Option<Arc<Sandbox>>,
}

impl Default for Kept {
    fn default() -> Self {
        Self::Pieces(Pieces::default())
    }
}

impl Kept {
    /// A piece went up.
    pub(super) fn push(&mut self, sandbox: &Arc<Sandbox>, piece: &[u8]) {
        if let Self::Pieces(pieces) = self
            && !pieces.push(sandbox, piece)
        {
            self.forget();
        }
    }

    /// All of it went up.
    pub(super) fn all(&mut self, bytes: Bytes) {
        if self.holds() {
            *self = Self::Whole(bytes);
        }
    }

    /// Nothing is kept from now on.
    pub(super) fn forget(&mut self) {
        *self = Self::Lost;
    }

    /// Whether it can go up again.
    pub(super) fn holds(&self) -> bool {
        !matches!(self, Self::Lost)
    }

    /// What was read to judge.
    pub(super) fn whole(&self) -> Option<Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes.clone()),
            Self::Pieces(_) | Self::Lost => None,
        }
    }

    /// The pieces that go up before what is left; `None` where they are not all there.
    pub(super) fn gone(&self) -> Option<Bytes> {
        match self {
            Self::Pieces(pieces) => Some(Bytes::copy_from_slice(&pieces.gone)),
            Self::Whole(_) => Some(Bytes::new()),
            Self::Lost => None,
        }
    }
}

impl Pieces {
    fn push(&mut self, sandbox: &Arc<Sandbox>, piece: &[u8]) -> bool {
        let sandbox = self.sandbox.get_or_insert_with(|| sandbox.clone());
        let before = sandbox.kept.fetch_add(piece.len(), Ordering::Relaxed);
        if before + piece.len() > IN_ALL || self.gone.len() + piece.len() > MOST {
            sandbox.kept.fetch_sub(piece.len(), Ordering::Relaxed);
            return false;
        }
        self.gone.extend_from_slice(piece);
        true
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(sandbox) = &self.sandbox {
            sandbox.kept.fetch_sub(self.gone.len(), Ordering::Relaxed);
        }
    }
}
