//! The allocator, with memory of its own for a process that is forked for one job.
//!
//! A fork's heap is its parent's: what is free in it is spread over all of its pages, each of which the kernel copies when
//! it is first written. A supervisor needs a few pages, takes them one after the other, and ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::io::Errno;

/// The system's allocator, before which [`use_arena`] puts an arena.
#[derive(Debug)]
pub struct Allocator;

/// Where the next allocation begins.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Both 0 without an arena.
static START: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);
/// The end of the heap as it was before the arena, 0 without one.
static OLD_HEAP: AtomicUsize = AtomicUsize::new(0);

/// The kernel gives of it what is written. When it is full, the heap serves on.
const BYTES: usize = 512 << 10;

/// From now on, what this process allocates comes from an arena.
pub fn use_arena() -> Result<(), Errno> {
    let region = super::private_memory(BYTES)?;
    let start = region.as_mut_ptr().expose_provenance();
    // SAFETY: an increment of 0 asks only where the heap ends.
    let heap = unsafe { libc::sbrk(0) };
    OLD_HEAP.store(heap.addr(), Relaxed);
    NEXT.store(start, Relaxed);
    START.store(start, Relaxed);
    END.store(start + region.len(), Relaxed);
    Ok(())
}

/// Takes `layout` off what is left of the arena.
fn take(layout: Layout) -> Option<*mut u8> {
    let end = END.load(Relaxed);
    if end == 0 {
        return None;
    }
    let mut next = NEXT.load(Relaxed);
    loop {
        let start = next.checked_next_multiple_of(layout.align())?;
        let stop = start.checked_add(layout.size()).filter(|&stop| stop <= end)?;
        match NEXT.compare_exchange_weak(next, stop, Relaxed, Relaxed) {
            Ok(_) => return Some(std::ptr::with_exposed_provenance_mut(start)),
            Err(other) => next = other,
        }
    }
}

fn is_in_arena(ptr: *mut u8) -> bool {
    (START.load(Relaxed)..END.load(Relaxed)).contains(&ptr.addr())
}

/// What the parent had before the fork. To give it back would copy a page for the sake of a note that it is free.
fn is_of_parent(ptr: *mut u8) -> bool {
    ptr.addr() < OLD_HEAP.load(Relaxed)
}

/// Sets the end of the last allocation, from `old` bytes to `new`; false if it is not the last, or there is no room.
fn resize_last(ptr: *mut u8, old: usize, new: usize) -> bool {
    let (stop, wanted) = (ptr.addr() + old, ptr.addr().saturating_add(new));
    wanted <= END.load(Relaxed) && NEXT.compare_exchange(stop, wanted, Relaxed, Relaxed).is_ok()
}

// SAFETY: an allocation is of the arena, whose parts are given out once each, or of the system's allocator, which gets
// back what is its own. What is taken back and given out again was the last one, and its owner has let go of it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout.
        take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(ptr) = take(layout) else {
            // SAFETY: the caller's layout.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: just taken, and so long.
        unsafe { ptr.write_bytes(0, layout.size()) };
        ptr
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if is_in_arena(ptr) {
            let _ = resize_last(ptr, layout.size(), 0);
        } else if !is_of_parent(ptr) {
            // SAFETY: it came from there, with this layout.
            unsafe { System.dealloc(ptr, layout) };
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_in_arena(ptr) {
            // SAFETY: it came from there, with this layout.
            return unsafe { System.realloc(ptr, layout, size) };
        }
        if resize_last(ptr, layout.size(), size) {
            return ptr;
        }
        // SAFETY: the caller vouches that size and alignment are a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the size is not 0, which the caller vouches for.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: two allocations, of which each is at least so long.
            unsafe { moved.copy_from_nonoverlapping(ptr, layout.size().min(size)) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn layout(size: usize, align: usize) -> Layout {
        match Layout::from_size_align(size, align) {
            Ok(layout) => layout,
            Err(_) => panic!("no layout"),
        }
    }

    /// One test, for the arena is one, too. The allocator of these tests is another.
    #[test]
    #[allow(clippy::multiple_unsafe_ops_per_block)]
    fn an_arena_gives_each_byte_to_one_owner_and_then_the_heap_does() {
        const SMALL: Layout = layout(24, 8);
        let before = take(SMALL);
        assert_eq!(before, None, "there is none before it is asked for");
        use_arena().expect("memory");
        // SAFETY: layouts of a size above 0; each allocation is used within its size, and given back once.
        unsafe {
            let first = Allocator.alloc(SMALL);
            let odd = Allocator.alloc(layout(3, 1));
            let aligned = Allocator.alloc(layout(64, 64));
            assert!(is_in_arena(first) && is_in_arena(odd) && is_in_arena(aligned));
            assert!(aligned.addr().is_multiple_of(64));
            assert!(first.addr() + 24 <= odd.addr() && odd.addr() + 3 <= aligned.addr());
            // The last one grows where it is, an earlier one moves and keeps what is in it.
            aligned.write_bytes(7, 64);
            assert_eq!(Allocator.realloc(aligned, layout(64, 64), 128), aligned);
            first.write_bytes(9, 24);
            let moved = Allocator.realloc(first, SMALL, 48);
            assert!(moved.addr() >= aligned.addr() + 128);
            assert!(
                std::slice::from_raw_parts(moved, 24)
                    .iter()
                    .all(|byte| *byte == 9)
            );
            // What is given back last is given out again, as zeros where they are wanted.
            moved.write_bytes(9, 48);
            Allocator.dealloc(moved, layout(48, 8));
            let zeroed = Allocator.alloc_zeroed(layout(48, 8));
            assert_eq!(zeroed, moved);
            assert!(
                std::slice::from_raw_parts(zeroed, 48)
                    .iter()
                    .all(|byte| *byte == 0)
            );
            // Never past its end.
            let large = layout(BYTES, 8);
            let outside = Allocator.alloc(large);
            assert!(!outside.is_null() && !is_in_arena(outside));
            // Of the heap, only what was there before is left alone.
            assert!(!is_of_parent(outside));
            assert!(is_of_parent(libc::sbrk(0).cast::<u8>().wrapping_sub(8)) && !is_of_parent(first));
            let larger = Allocator.realloc(outside, large, 2 * BYTES);
            assert!(!larger.is_null() && !is_in_arena(larger));
            Allocator.dealloc(larger, layout(2 * BYTES, 8));
        }
    }
}
