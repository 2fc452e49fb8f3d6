//! Where the kept bytes of a stream go.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

pub const STDOUT_FILE: &str = "stdout";
pub const STDERR_FILE: &str = "stderr";

/// A file, made with the first byte: most file systems take longer to make one than the kernel to run a small job, and
/// many jobs write to one stream alone, or to none.
#[derive(Debug)]
pub(in crate::isolation::supervisor) enum Outlet {
    Open(OwnedFd),
    Later {
        /// The folder of all jobs' output.
        outputs: Arc<OwnedFd>,
        /// Names this job's in it.
        folder: Arc<str>,
        name: &'static str,
    },
}

impl Outlet {
    pub(super) fn file(&mut self) -> Result<&OwnedFd, Errno> {
        if let Self::Later {
            outputs,
            folder,
            name,
        } = self
        {
            *self = Self::Open(make(outputs, folder, name)?);
        }
        match self {
            Self::Open(file) => Ok(file),
            Self::Later { .. } => unreachable!("opened above"),
        }
    }
}

fn make(outputs: &OwnedFd, folder: &str, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(outputs, folder, Mode::from_raw_mode(0o750)) {
        // The other stream, or the launcher, has made it.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let within = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(outputs, folder, within, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&folder, name, flags, Mode::from_raw_mode(0o640))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_before_it_is_needed() {
        let outputs = tempfile::tempdir().expect("tempdir");
        let open = rustix::fs::open(outputs.path(), OFlags::DIRECTORY, Mode::empty()).expect("open");
        let (open, folder) = (Arc::new(open), Arc::from("job"));
        let mut outlets = [STDOUT_FILE, STDERR_FILE].map(|name| Outlet::Later {
            outputs: Arc::clone(&open),
            folder: Arc::clone(&folder),
            name,
        });
        assert!(!outputs.path().join("job").exists());
        for outlet in &mut outlets {
            outlet.file().expect("made");
            outlet.file().expect("still there");
        }
        assert!(outputs.path().join("job").join(STDOUT_FILE).exists());
        assert!(outputs.path().join("job").join(STDERR_FILE).exists());
    }
}
