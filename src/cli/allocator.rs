//! The program's allocator: mimalloc, asked for an alignment only where its own is not enough.
//!
//! The usual binding asks `mi_malloc_aligned` for everything, which gives most sizes that are no power
//! of two a block of the next larger kind, by a slower way ([ADR 0034](../../docs/adr/0034-allocator.md)).

use libmimalloc_sys as mi;
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

/// mimalloc. For the program's `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// What every block of 16 bytes or more is aligned to (mimalloc, `MI_MAX_ALIGN_SIZE`). A smaller one has
/// 8 bytes, and is aligned to them.
const ALIGNED: usize = 16;

/// Whether any block of `size` bytes is aligned as it has to be.
const fn natural(size: usize, align: usize) -> bool {
    align <= 8 || (align <= ALIGNED && size >= ALIGNED)
}

#[expect(unsafe_code, reason = "an allocator is unsafe to write")]
// SAFETY: every block comes from mimalloc, which keeps to what `GlobalAlloc` asks: it never unwinds, and
// frees or resizes a block by its address alone, whichever of its functions gave it (`mi_free`,
// `mi_realloc`). Blocks are aligned: by `natural`, or because mimalloc was asked to.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: they take numbers; `align` is a power of two because a layout's is.
        unsafe {
            match natural(size, align) {
                true => mi::mi_malloc(size).cast(),
                false => mi::mi_malloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as in `alloc`.
        unsafe {
            match natural(size, align) {
                true => mi::mi_zalloc(size).cast(),
                false => mi::mi_zalloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from here and frees it once.
        unsafe { mi::mi_free(block.cast::<c_void>()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let block = block.cast::<c_void>();
        // SAFETY: the caller has it from here. What stays in its place is aligned already, and what moves
        // gets a new block as in `alloc`.
        unsafe {
            match natural(size, layout.align()) {
                true => mi::mi_realloc(block, size).cast(),
                false => mi::mi_realloc_aligned(block, size, layout.align()).cast(),
            }
        }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "an allocator is unsafe to use")]
mod tests {
    use super::*;

    const SIZES: [usize; 19] = [
        1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 48, 100, 161, 1023, 1025, 4097, 8192, 100_000, 3_000_000,
    ];

    fn fill(block: *mut u8, size: usize, with: u8) {
        // SAFETY: the block has `size` bytes.
        unsafe { block.write_bytes(with, size) };
    }

    fn holds(block: *const u8, size: usize, what: u8) -> bool {
        // SAFETY: the block has `size` bytes, all of which were written.
        unsafe { std::slice::from_raw_parts(block, size) }.iter().all(|byte| *byte == what)
    }

    #[test]
    fn a_block_is_no_larger_than_its_size_needs() {
        for size in [48, 80, 112, 160, 320] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the layout has a size; the block is freed once, by its own layout.
            let usable = unsafe {
                let block = Allocator.alloc(layout);
                let usable = mi::mi_usable_size(block.cast());
                Allocator.dealloc(block, layout);
                usable
            };
            assert_eq!(usable, size);
        }
    }

    #[test]
    fn blocks_of_every_size_are_aligned_as_asked_and_keep_what_is_in_them() {
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            let mut blocks = Vec::new();
            for (size, round) in SIZES.into_iter().flat_map(|size| (0..20).map(move |n| (size, n)))
            {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout has a size.
                let block = unsafe {
                    if round % 2 == 0 {
                        Allocator.alloc(layout)
                    } else {
                        Allocator.alloc_zeroed(layout)
                    }
                };
                assert!(block.addr().is_multiple_of(align), "{size} bytes at {align}");
                assert!(round % 2 == 0 || holds(block, size, 0), "{size} bytes at {align}");
                fill(block, size, round);
                blocks.push((block, layout, round));
            }
            for (place, (block, layout, round)) in blocks.into_iter().enumerate() {
                let size = layout.size();
                assert!(holds(block, size, round), "{size} bytes at {align}");
                let other = SIZES[place % SIZES.len()];
                // SAFETY: the block has this layout, and the other size is one too.
                let block = unsafe { Allocator.realloc(block, layout, other) };
                assert!(block.addr().is_multiple_of(align), "{size} to {other} bytes at {align}");
                assert!(holds(block, size.min(other), round), "{size} to {other} bytes at {align}");
                // SAFETY: it has this layout now, and is not used again.
                unsafe { Allocator.dealloc(block, Layout::from_size_align(other, align).unwrap()) };
            }
        }
    }
}
