//! Large files that are removed: given back to their file system in slices, so that no job waits for gigabytes to go.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, fstat, ftruncate, openat2, statat};

/// What one turn gives back: milliseconds for the kernel, where it is in memory. Smaller files go as a whole.
const SLICE: u64 = 16 << 20;
/// Files that are held at one time; beyond, they go as a whole.
const HELD: usize = 64;
/// Between two turns, for whoever else needs the processor.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(super) struct Shrinking(VecDeque<Large>);

/// A file as long as its descriptor is open, whether it has a name or not.
#[derive(Debug)]
pub(super) struct Large {
    file: OwnedFd,
    bytes: u64,
}

impl Large {
    /// Opens a file that is about to be removed, if it is large. Neither a link nor what is mounted on it.
    pub(super) fn open(folder: &OwnedFd, path: &str) -> Option<Self> {
        let stat = statat(folder, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let bytes = u64::try_from(stat.st_size).ok()?;
        if bytes <= SLICE {
            return None;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let file = openat2(folder, path, flags, Mode::empty(), resolve).ok()?;
        Some(Self { file, bytes })
    }

    /// No name is left of it, by which somebody else might want it.
    fn is_nameless(&self) -> bool {
        fstat(&self.file).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

impl Shrinking {
    /// Takes over what is removed by now.
    pub(super) fn add(&mut self, files: impl IntoIterator<Item = Large>) {
        for file in files {
            if self.0.len() < HELD && file.is_nameless() {
                self.0.push_back(file);
            }
        }
    }

    pub(super) fn next_turn(&self) -> Option<Duration> {
        (!self.0.is_empty()).then_some(PAUSE)
    }

    /// Gives back one slice.
    pub(super) fn turn(&mut self) {
        let Some(large) = self.0.front_mut() else { return };
        large.bytes = large.bytes.saturating_sub(SLICE);
        if large.bytes == 0 || ftruncate(&large.file, large.bytes).is_err() {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        let fd = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        (dir, fd.expect("open"))
    }

    #[test]
    fn a_large_file_goes_in_slices_once_it_has_no_name() {
        let (dir, fd) = folder();
        let path = dir.path().join("stdout");
        let file = File::create(&path).expect("create");
        file.set_len(2 * SLICE + 1).expect("length");
        let large = Large::open(&fd, "stdout").expect("large");
        fs::remove_file(&path).expect("remove");
        let mut shrinking = Shrinking::default();
        shrinking.add([large]);
        for left in [SLICE + 1, 1] {
            assert!(shrinking.next_turn().is_some());
            shrinking.turn();
            assert_eq!(file.metadata().expect("stat").len(), left);
        }
        shrinking.turn();
        assert!(shrinking.next_turn().is_none());
    }

    #[test]
    fn what_is_small_or_has_another_name_is_let_be() {
        let (dir, fd) = folder();
        let (path, other) = (dir.path().join("stdout"), dir.path().join("other"));
        let file = File::create(&path).expect("create");
        file.set_len(SLICE).expect("length");
        assert!(Large::open(&fd, "stdout").is_none());
        file.set_len(SLICE + 1).expect("length");
        fs::hard_link(&path, &other).expect("link");
        std::os::unix::fs::symlink("other", dir.path().join("link")).expect("symlink");
        assert!(Large::open(&fd, "link").is_none());
        let large = Large::open(&fd, "stdout").expect("large");
        fs::remove_file(&path).expect("remove");
        let mut shrinking = Shrinking::default();
        shrinking.add([large]);
        assert!(shrinking.next_turn().is_none());
        assert_eq!(fs::metadata(&other).expect("stat").len(), SLICE + 1);
    }
}
