//! Folders for what is of use only while this machine is up.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The folder for what is of use only while this machine is up, and written for every job: in memory if it can be.
pub(super) fn memory_dir() -> std::io::Result<&'static Path> {
    const SHARED_MEMORY: &str = "/dev/shm/stockade";
    let run = run_dir()?;
    let in_memory = |path: &Path| rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == libc::TMPFS_MAGIC);
    if in_memory(run) || !in_memory(Path::new("/dev/shm")) {
        return Ok(run);
    }
    // Anybody may make entries there: only a folder of our own is used.
    let path = Path::new(SHARED_MEMORY);
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Ok(run),
        _ => {}
    }
    let found = std::fs::symlink_metadata(path)?;
    let own =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    Ok(if own { path } else { run })
}

/// The folder for what is shared by all workers of this machine while it is up.
pub(super) fn run_dir() -> std::io::Result<&'static Path> {
    let path = Path::new("/run/stockade");
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(path),
    }
}
