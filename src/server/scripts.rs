//! The check of a script in the worker's scripts folder, before a job that names it is accepted.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

use super::Refusal;

const MAX_BYTES: u64 = 64 << 20;

/// Refuses a `path` that is not a readable regular file beneath `scripts_dir`.
///
/// Nothing is opened for reading before it is known to be a regular file: opening a FIFO would wait for its
/// writer, and opening a device can already do something.
pub(super) fn check(scripts_dir: Option<&Path>, path: &str) -> Result<(), Refusal> {
    let Some(dir) = scripts_dir else {
        return Err(Refusal::invalid("path", "this worker has no scripts folder"));
    };
    let folder = open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Refusal::unavailable("the scripts folder cannot be opened", &io::Error::from(errno)))?;
    // Beneath: neither .. nor a link leads out. Magic links lead to descriptors of this very process.
    let script = openat2(
        &folder,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(refused_lookup)?;
    let found = fstat(&script)
        .map_err(|errno| Refusal::unavailable("the script cannot be examined", &io::Error::from(errno)))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Refusal::invalid("path", "not a regular file"));
    }
    if found.st_size.cast_unsigned() > MAX_BYTES {
        return Err(Refusal::invalid("path", format!("longer than {MAX_BYTES} bytes")));
    }
    // The same file, whatever the name means by now. To the file this server is as much a stranger as a job is.
    let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&script));
    match rustix::fs::openat(
        CWD,
        itself,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::ScriptUnreadable),
    }
}

fn refused_lookup(errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Refusal::invalid("path", "no such script"),
        Errno::XDEV | Errno::LOOP => {
            Refusal::invalid("path", "leads out of the scripts folder, or in circles")
        }
        Errno::ACCESS => Refusal::ScriptUnreadable,
        _ => Refusal::invalid("path", "not a usable name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn reason(dir: &Path, path: &str) -> String {
        check(Some(dir), path).expect_err(path).to_string()
    }

    #[test]
    fn scripts_and_links_within_the_folder_pass() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("sub")).expect("mkdir");
        std::fs::write(dir.path().join("sub/a.sh"), "true").expect("write");
        symlink("sub/a.sh", dir.path().join("link")).expect("symlink");
        for path in ["sub/a.sh", "link", "./sub/a.sh"] {
            check(Some(dir.path()), path).expect(path);
        }
    }

    #[test]
    fn what_is_not_there_or_leads_out_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        symlink("/etc/passwd", dir.path().join("absolute")).expect("symlink");
        symlink("../outside", dir.path().join("climbing")).expect("symlink");
        symlink("circle", dir.path().join("circle")).expect("symlink");
        symlink("/proc/self/fd/0", dir.path().join("magic")).expect("symlink");
        for path in [
            "missing",
            "absolute",
            "climbing",
            "circle",
            "magic",
            "../x",
            "/etc/passwd",
        ] {
            let text = reason(dir.path(), path);
            assert!(text.starts_with("path: "), "{path}: {text}");
            assert!(!text.contains(dir.path().to_str().expect("text")), "{text}");
        }
        assert!(check(None, "x").is_err());
    }

    #[test]
    fn only_regular_files_of_bounded_size_pass() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("folder")).expect("mkdir");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let _listener = UnixListener::bind(at("socket")).expect("socket");
        std::fs::File::create(at("sparse"))
            .and_then(|file| file.set_len(1 << 40))
            .expect("sparse file");
        for (path, expected) in [
            ("folder", "regular"),
            ("fifo", "regular"),
            ("socket", "regular"),
            ("sparse", "longer"),
        ] {
            assert!(reason(dir.path(), path).contains(expected), "{path}");
        }
    }
}
