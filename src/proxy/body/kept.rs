//! What of a request's body went up and can go up again: an HTTP/2 origin may say that it did nothing with
//! a request of which some was sent (RFC 9113 §8.7).

use super::UpBody;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest part of a body that is kept in pieces until its answer begins: what most origins take of a
/// stream that they have not looked at yet (64 KiB, RFC 9113 §6.5.2), and what is on its way to it.
const MOST: usize = 128 * 1024;

/// What a sandbox's bodies may come to together. More than this does not go up again.
const IN_ALL: usize = 16 * 1024 * 1024;

/// What of a body is kept: all of it that went up.
#[derive(Debug)]
pub(super) struct Kept {
    gone: Vec<u8>,
    /// All of it, where it was read to judge.
    whole: Option<Bytes>,
    share: Share,
    /// What is left of it, when its try is over.
    left: Option<Box<UpBody>>,
}

/// A part of what the sandbox may keep.
#[derive(Debug)]
struct Share {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Kept {
    /// Nothing yet; `of` counts what the sandbox keeps.
    pub(super) fn of(of: Arc<AtomicUsize>) -> Self {
        Self { gone: Vec::new(), whole: None, share: Share { of, bytes: 0 }, left: None }
    }

    /// A piece went up; whether it can be kept.
    pub(super) fn push(&mut self, piece: &[u8]) -> bool {
        if self.gone.len() + piece.len() > MOST || !self.share.take(piece.len()) {
            return false;
        }
        self.gone.extend_from_slice(piece);
        true
    }

    /// All of it went up; whether it can be kept.
    pub(super) fn all(&mut self, bytes: &Bytes) -> bool {
        if self.whole.is_none() && !self.share.take(bytes.len()) {
            return false;
        }
        self.whole = Some(bytes.clone());
        true
    }

    /// The try is over; this is what it left.
    pub(super) fn give_back(&mut self, left: UpBody) {
        self.left = Some(Box::new(left));
    }

    /// The body from its beginning, for another try.
    pub(super) fn take_back(&mut self) -> Option<UpBody> {
        let gone = Bytes::copy_from_slice(&self.gone);
        Some(self.left.take()?.with_beginning(gone, self.whole.clone()))
    }
}

impl Share {
    fn take(&mut self, bytes: usize) -> bool {
        if self.of.fetch_add(bytes, Ordering::Relaxed) + bytes > IN_ALL {
            self.of.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_up_to_its_length() {
        let mut kept = Kept::of(Arc::default());
        assert!(kept.push(&[1; MOST - 1]) && kept.push(&[2]));
        assert!(!kept.push(&[3]));
        kept.give_back(UpBody::whole(Bytes::new(), None));
        let body = kept.take_back().unwrap();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(MOST as u64));
    }

    #[test]
    fn bodies_share_what_their_sandbox_may_keep_and_give_it_back() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut many: Vec<_> = (0..IN_ALL / MOST).map(|_| Kept::of(all.clone())).collect();
        assert!(many.iter_mut().all(|kept| kept.push(&[0; MOST])));
        let (mut pieces, mut whole) = (Kept::of(all.clone()), Kept::of(all.clone()));
        assert!(!pieces.push(&[0]) && !whole.all(&Bytes::from_static(b"x")));
        drop(many.pop());
        let judged = Bytes::from(vec![0; MOST]);
        // The same bytes, tried again, count once.
        assert!(whole.all(&judged) && whole.all(&judged) && !pieces.push(&[0]));
        drop((whole, many));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
