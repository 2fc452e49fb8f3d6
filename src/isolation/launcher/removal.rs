//! Removal of a job's folder, whatever has come into it: nothing but unlinkat(2) beneath the folder's own descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

/// Entries that one try looks at: more are for the next one, so that nobody waits for a folder full of files.
const ENTRIES: usize = 4096;
const DEPTH: usize = 32;
/// Of a name that is shown.
const NAME_CHARS: usize = 64;

/// What cannot be removed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry}{reason}")]
pub struct Stuck {
    /// Empty for the folder itself; else the name and ": ".
    entry: String,
    reason: String,
}

impl Stuck {
    pub(super) fn new(entry: &CStr, errno: Errno) -> Self {
        let name: String = entry.to_string_lossy().escape_debug().take(NAME_CHARS).collect();
        Self {
            entry: if name.is_empty() {
                name
            } else {
                format!("{name}: ")
            },
            reason: match errno {
                Errno::XDEV => "something is mounted on it".to_owned(),
                Errno::AGAIN => "more in it than one try removes".to_owned(),
                other => other.to_string(),
            },
        }
    }
}

/// Removes the folder `name` in `parent`: first the files that are `expected` in it, then what else there is.
/// A folder that is not there is no error; one entry that stays does not keep the others.
pub(super) fn remove_folder(parent: impl AsFd, name: &str, expected: &[&str]) -> Result<(), Stuck> {
    let folder = match open_beneath(&parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(|errno| Stuck::new(c"", errno))?,
    };
    let mut first = None;
    for file in expected {
        if let Err(stuck) = remove_file(&folder, file) {
            first.get_or_insert(stuck);
        }
    }
    let gone = || unlinkat(&parent, name, AtFlags::REMOVEDIR);
    match gone() {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(first.unwrap_or_else(|| Stuck::new(c"", errno))),
    }
    let mut left = ENTRIES;
    if let Err(stuck) = empty(&folder, &mut left, DEPTH) {
        first.get_or_insert(stuck);
    }
    match gone() {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(first.unwrap_or_else(|| Stuck::new(c"", errno))),
    }
}

/// Removes one file of a folder. One that is not there is no error.
fn remove_file(folder: &OwnedFd, name: &str) -> Result<(), Stuck> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Stuck::new(&CString::new(name).unwrap_or_default(), errno)),
    }
}

/// Never through a link, and never into what is mounted there: that is somebody else's.
fn open_beneath<P: rustix::path::Arg>(folder: impl AsFd, name: P) -> Result<OwnedFd, Errno> {
    openat2(
        folder,
        name,
        OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
    )
}

fn empty(folder: &OwnedFd, left: &mut usize, depth: usize) -> Result<(), Stuck> {
    let entries = Dir::read_from(folder).map_err(|errno| Stuck::new(c"", errno))?;
    let mut first = None;
    for entry in entries {
        let entry = entry.map_err(|errno| Stuck::new(c"", errno))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if *left == 0 {
            return Err(Stuck::new(c"", Errno::AGAIN));
        }
        *left -= 1;
        if let Err(stuck) = remove_entry(folder, name, left, depth) {
            first.get_or_insert(stuck);
        }
    }
    first.map_or(Ok(()), Err)
}

fn remove_entry(folder: &OwnedFd, name: &CStr, left: &mut usize, depth: usize) -> Result<(), Stuck> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(Stuck::new(name, errno)),
    }
    if depth == 0 {
        return Err(Stuck::new(name, Errno::LOOP));
    }
    let inner = open_beneath(folder, name).map_err(|errno| Stuck::new(name, errno))?;
    empty(&inner, left, depth - 1)?;
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Stuck::new(name, errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn parent() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        let fd = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        (dir, fd.expect("open"))
    }

    #[test]
    fn what_links_point_at_stays() {
        let (dir, fd) = parent();
        let (job, precious) = (dir.path().join("job"), dir.path().join("precious"));
        fs::create_dir_all(job.join("a/b/c")).expect("mkdir");
        fs::create_dir(&precious).expect("mkdir");
        fs::write(precious.join("file"), "precious").expect("write");
        fs::write(job.join("stdout"), "x").expect("write");
        fs::write(job.join("a/b/file"), "x").expect("write");
        symlink(&precious, job.join("link")).expect("symlink");
        symlink("../../../precious", job.join("a/b/link")).expect("symlink");
        symlink(precious.join("file"), job.join("stderr")).expect("symlink");
        remove_folder(&fd, "job", &["stdout", "stderr"]).expect("remove");
        assert!(!job.exists());
        assert_eq!(fs::read(precious.join("file")).expect("read"), b"precious");
        remove_folder(&fd, "job", &["stdout"]).expect("what is not there");
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_not_followed() {
        let (dir, fd) = parent();
        fs::create_dir(dir.path().join("precious")).expect("mkdir");
        fs::write(dir.path().join("precious/stdout"), "precious").expect("write");
        symlink("precious", dir.path().join("job")).expect("symlink");
        remove_folder(&fd, "job", &["stdout"]).expect_err("a link");
        assert!(dir.path().join("precious/stdout").exists());
    }

    #[test]
    fn more_than_one_try_removes_goes_in_several() {
        let (dir, fd) = parent();
        let job = dir.path().join("job");
        fs::create_dir(&job).expect("mkdir");
        for number in 0..=ENTRIES {
            fs::write(job.join(number.to_string()), "").expect("write");
        }
        let stuck = remove_folder(&fd, "job", &[]).expect_err("too many for one try");
        assert!(stuck.to_string().contains("more in it"), "{stuck}");
        remove_folder(&fd, "job", &[]).expect("the rest");
        assert!(!job.exists());
    }
}
