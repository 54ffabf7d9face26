//! The allocator's one knob: what a thread has freed goes back to the system when it is told to.

/// Gives memory that the calling thread has freed back to the system. Takes well under a
/// millisecond; touches nothing that is in use.
pub(super) fn give_back() {
    #[expect(unsafe_code, reason = "the allocator's C interface")]
    // SAFETY: `mi_collect` takes no pointer, may be called on any thread at any time, and frees
    // nothing that is allocated (mimalloc, `mi_collect`).
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
