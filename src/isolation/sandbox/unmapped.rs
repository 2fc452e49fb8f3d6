//! A writable root over a file system that takes no id mapping: its files belong to nobody inside, so a job's root
//! could change none of its folders. The upper ones are made anew in the upper layer, owned by the job.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

/// Enough for where packages put files; a whole /usr has ten times the folders.
const DEPTH: u32 = 3;

/// Told in the receipt for each such layer.
pub(super) fn describe(target: &str) -> String {
    format!(
        "root: no id mapping beneath {target}: files that are there can be replaced but not changed, and folders deeper than \
         {DEPTH} not written"
    )
}

/// Makes the folders of `lower` in `upper`, which an overlay merges with them.
pub(super) fn repeat_folders(lower: &Path, upper: &Path, owner: u32) -> io::Result<()> {
    repeat(lower, upper, owner, DEPTH)
}

fn repeat(lower: &Path, upper: &Path, owner: u32, depth: u32) -> io::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    let entries = match fs::read_dir(lower) {
        // What the launcher may not read its job may not either.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let target = upper.join(entry.file_name());
        // Never set-group-id: the group is another.
        let mode = entry.metadata()?.permissions().mode() & 0o1777;
        fs::DirBuilder::new().mode(0o700).create(&target)?;
        chown(&target, Some(owner), Some(owner))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        repeat(&entry.path(), &target, owner, depth - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_repeated_to_a_depth_and_links_are_not_followed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        fs::create_dir_all(lower.join("a/b/c/d")).expect("mkdir");
        fs::create_dir(&upper).expect("mkdir");
        fs::write(lower.join("a/file"), "x").expect("write");
        std::os::unix::fs::symlink("/etc", lower.join("link")).expect("symlink");
        fs::set_permissions(lower.join("a/b"), fs::Permissions::from_mode(0o2751)).expect("chmod");
        let owner = rustix::process::geteuid().as_raw();
        repeat_folders(&lower, &upper, owner).expect("repeated");
        assert!(upper.join("a/b/c").is_dir());
        assert!(!upper.join("a/b/c/d").exists(), "deeper than told");
        assert!(!upper.join("a/file").exists() && !upper.join("link").exists());
        let mode = fs::metadata(upper.join("a/b"))
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o751);
    }
}
