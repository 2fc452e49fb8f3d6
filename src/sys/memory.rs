//! How much of this process is kept in memory.

use std::fs;
use std::io;

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

/// Gives the pages of the program's file back that nobody has written to: what is needed again comes from the page
/// cache.
///
/// They count as this process's for as long as it runs, and most of them were for the start alone.
pub fn release_program() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for (start, bytes) in unwritten(&maps) {
        // SAFETY: pages of a file, none of which differs from the file, are read again as they were.
        unsafe {
            madvise(
                std::ptr::without_provenance_mut(start),
                bytes,
                Advice::LinuxDontNeed,
            )
        }?;
    }
    Ok(())
}

/// Start and size of each mapping of /proc/self/smaps that is of a file, cannot be written, and never was.
fn unwritten(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        match line.split_once(':') {
            Some(("Anonymous", bytes)) if bytes.trim() == "0 kB" => found.extend(candidate.take()),
            Some((name, _)) if !name.contains(' ') => {}
            _ => candidate = read_only_file(line),
        }
    }
    found
}

/// Start and size, of the first line of such a mapping.
fn read_only_file(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (permissions, _offset, _device, inode) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (matches!(permissions, "r--p" | "r-xp") && inode != "0").then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
1000-3000 r--p 00000000 fe:00 1234                       /usr/bin/stockade
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-9000 r-xp 00002000 fe:00 1234                       /usr/bin/a: strange name
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 1234                       /usr/bin/stockade
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 1234                       /usr/bin/stockade
Anonymous:             0 kB
b000-c000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        assert_eq!(unwritten(MAPS), [(0x1000, 0x2000), (0x3000, 0x6000)]);
        for nonsense in ["", "Anonymous: 0 kB", "x-y r-xp 0 0 1\nAnonymous: 0 kB", "\n\n"] {
            assert_eq!(unwritten(nonsense), [], "{nonsense}");
        }
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        const KEPT: &[u8; 16] = b"is read again...";
        let before = std::hint::black_box(KEPT).to_vec();
        release_program().expect("madvise");
        assert_eq!(std::hint::black_box(KEPT)[..], before[..]);
    }
}
