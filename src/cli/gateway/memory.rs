//! The gateway's memory, as the system sees it: what is touched is what it has, and what a thread has
//! freed goes back when it is told to.

/// Keeps the kernel from giving a whole huge page where a few KiB are touched: the allocator asks for them,
/// and connections come and go in pieces of some KiB. A page of 2 MiB has to be cleared first, which everything
/// else on its core waits for (milliseconds on a virtual machine), and is resident whether it is used or not.
pub(super) fn small_pages() {
    #[expect(unsafe_code, reason = "no safe interface has PR_SET_THP_DISABLE")]
    // SAFETY: the command takes integers and no pointer (PR_SET_THP_DISABLE(2const)). Where the kernel does not
    // know it, all stays as it is.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

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
