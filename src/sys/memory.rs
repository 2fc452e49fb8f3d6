//! How much of this process is kept in memory.

use rustix::mm::{Advice, madvise};

/// Lets all threads of this process share one heap arena.
///
/// By default the C library gives every thread one of its own, each of which grows to the largest need of
/// that thread and keeps it. Must be called before the first thread is made.
pub fn share_heap() {
    // SAFETY: mallopt changes a parameter of the allocator and touches no memory of ours.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives free pages of the heap back to the kernel, which else copies them to each fork.
pub fn release_heap() {
    // SAFETY: of the allocator's own memory, what nobody has.
    unsafe { libc::malloc_trim(0) };
}

/// Gives the pages of the program and its libraries back that cannot be written to: what is needed again comes from the page
/// cache.
///
/// They count as this process's for as long as it runs, and most of them were for the start alone.
pub fn release_program() {
    // SAFETY: the function has the signature that is asked for, and takes nothing of the second argument.
    unsafe { libc::dl_iterate_phdr(Some(release_object), std::ptr::null_mut()) };
}

/// Of one program or library; 0 has the rest follow.
unsafe extern "C" fn release_object(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller, the C library, has it live for the call.
    let object = unsafe { &*object };
    // SAFETY: so many there are, for as long as it is loaded.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for segment in headers.iter().filter(|segment| is_as_in_its_file(segment)) {
        // An object may be loaded below where it was linked for.
        let start = object.dlpi_addr.wrapping_add(segment.p_vaddr);
        let Some((start, bytes)) = whole_pages(start, segment.p_memsz) else {
            continue;
        };
        // SAFETY: pages of a file that differ nowhere from it are read again as they were. Where it is none (the kernel's own
        // object) the call fails.
        let _ = unsafe {
            madvise(
                std::ptr::without_provenance_mut(start),
                bytes,
                Advice::LinuxDontNeed,
            )
        };
    }
    0
}

/// Loaded, and writable at no time: the part that is written while it is loaded, and then protected, is of a writable segment.
fn is_as_in_its_file(segment: &libc::Elf64_Phdr) -> bool {
    segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0
}

/// Start and size of those in `bytes` from `start`, if there are any.
fn whole_pages(start: u64, bytes: u64) -> Option<(usize, usize)> {
    let page = page_size()?;
    let end = usize::try_from(start.checked_add(bytes)?).ok()? / page * page;
    let start = usize::try_from(start).ok()?.checked_next_multiple_of(page)?;
    end.checked_sub(start)
        .filter(|bytes| *bytes > 0)
        .map(|bytes| (start, bytes))
}

/// As the C library knows it. rustix may look it up in /proc/self/auxv, and panics where it may not read that: before Linux 6.4 an
/// ordinary user's process that is not dumpable may not.
fn page_size() -> Option<usize> {
    // SAFETY: it takes a number and gives one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_whole_pages_are_given_back() {
        let page = page_size().expect("a size");
        let size = page as u64;
        assert_eq!(whole_pages(size, 2 * size), Some((page, 2 * page)));
        assert_eq!(whole_pages(size + 1, 3 * size - 1), Some((2 * page, 2 * page)));
        assert_eq!(whole_pages(size + 1, size), None);
        assert_eq!(whole_pages(u64::MAX, 1), None);
    }

    /// By proc_pid_pagemap(5): 8 bytes a page, the topmost bit of which tells.
    fn is_present(address: &u8) -> bool {
        let pagemap = std::fs::File::open("/proc/self/pagemap").expect("pagemap");
        let page = std::ptr::from_ref(address).addr() / page_size().expect("a size");
        let mut entry = [0; 8];
        pagemap
            .read_exact_at(&mut entry, page as u64 * 8)
            .expect("an entry");
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        /// So large that nobody else touches a page near its middle, which would bring that along.
        static KEPT: [u8; 1 << 20] = [7; 1 << 20];
        let middle = std::hint::black_box(&KEPT[KEPT.len() / 2]);
        assert_eq!(*middle, 7);
        assert!(is_present(middle));
        release_program();
        assert!(!is_present(middle));
        assert_eq!(*std::hint::black_box(middle), 7);
    }
}
