//! The sandbox's /etc: harmless files of the host's, and accounts of its own.
//!
//! Files and small folders are copied. A large folder takes longer to copy than all the rest of a template: where the
//! root is read-only it is shown as /usr is. What in it is not for others is kept from jobs by its mode. Small ones are
//! shown, too, where no overlay of their own is needed for that.

mod accounts;
mod host;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::parts::without_umask;
use super::template::Layer;
use crate::job::{Identity, Network, SandboxSpec};
pub(super) use host::{Folders, Host};

const ETC: &str = "/etc";
/// A single file that is larger is left out.
const FILE_BYTES: u64 = 8 << 20;
/// A small buffer, used again and again: each page of a large one would be new to this process.
const COPIED_AT_ONCE: usize = 16 << 10;
/// No more entries are taken: a folder of /etc is small, or not what was meant.
const ENTRIES: usize = 8192;

/// Entries by their path relative to /etc, compared as text: to compare paths takes several times as long.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Etc {
    entries: BTreeMap<OsString, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Folder,
    /// As a file of the host's is.
    Copy {
        of: OsString,
        mode: u32,
        /// Programs know by it whether what they have made of a file is still good, such as Python's bytecode.
        modified: SystemTime,
    },
    Own(String),
    Link(OsString),
}

/// Finds what there is, but for what is a layer, and adds the accounts.
#[must_use]
pub(super) fn collect(spec: &SandboxSpec, host: &mut Host, shown: &[Layer]) -> Etc {
    let mut etc = Etc::default();
    for (path, kind) in &host.named {
        if !shown
            .iter()
            .any(|layer| layer.source.as_os_str() == path.as_os_str())
        {
            etc.take(path, kind, Path::new(ETC), &mut host.folders);
        }
    }
    if spec.network == Network::Host {
        etc.take_resolver(Path::new(ETC), &mut host.folders);
    }
    for (name, content) in accounts::of(spec) {
        etc.put(name, content);
    }
    if spec.identity == Identity::Root {
        for (name, content) in accounts::FOR_ROOT {
            etc.put(name, content.to_owned());
        }
    }
    etc
}

impl Etc {
    fn take(&mut self, path: &Path, kind: &Metadata, etc: &Path, folders: &mut Folders) {
        let Some(relative) = beneath(etc, path) else {
            return;
        };
        if self.entries.len() >= ENTRIES {
            return;
        }
        self.make_parents(relative);
        let others_read = kind.permissions().mode() & 0o004 != 0;
        if kind.is_symlink() {
            if let Ok(target) = fs::read_link(path) {
                self.entries
                    .insert(relative.to_owned(), Entry::Link(target.into()));
            }
        } else if kind.is_dir() && others_read {
            self.entries.insert(relative.to_owned(), Entry::Folder);
            let inner: Vec<PathBuf> = folders
                .names(path)
                .iter()
                .map(|(name, _)| path.join(name))
                .collect();
            for inner in inner {
                if let Ok(kind) = fs::symlink_metadata(&inner) {
                    self.take(&inner, &kind, etc, folders);
                }
            }
        } else if kind.is_file()
            && others_read
            && kind.len() <= FILE_BYTES
            && let Ok(modified) = kind.modified()
        {
            // What the host keeps from others is kept from jobs.
            let copy = Entry::Copy {
                of: path.into(),
                mode: kind.permissions().mode() & 0o755,
                modified,
            };
            self.entries.insert(relative.to_owned(), copy);
        }
    }

    /// In nearly all systems that have systemd-resolved it is a link into /run, which the sandbox lacks: its content counts.
    fn take_resolver(&mut self, etc: &Path, folders: &mut Folders) {
        let path = etc.join("resolv.conf");
        if let Ok(kind) = fs::metadata(&path) {
            self.take(&path, &kind, etc, folders);
        }
    }

    fn put(&mut self, name: &str, content: String) {
        self.make_parents(OsStr::new(name));
        self.entries.insert(name.into(), Entry::Own(content));
    }

    fn make_parents(&mut self, name: &OsStr) {
        let bytes = name.as_bytes();
        for (end, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let parent = OsStr::from_bytes(&bytes[..end]).to_owned();
            self.entries.entry(parent).or_insert(Entry::Folder);
        }
    }

    /// Writes the entries beneath `target`, in which some folders may be.
    pub fn write(&self, target: &impl AsFd) -> io::Result<()> {
        without_umask(|| self.write_without_umask(target.as_fd()))
    }

    fn write_without_umask(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        let mut buffer = vec![0; COPIED_AT_ONCE];
        for (name, entry) in &self.entries {
            match entry {
                // A parent comes before what is in it.
                Entry::Folder => match mkdirat(target, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                },
                Entry::Link(to) => symlinkat(to, target, name)?,
                Entry::Own(content) => create(target, name, 0o644)?.write_all(content.as_bytes())?,
                Entry::Copy { of, mode, modified } => {
                    // One that cannot be read is left out.
                    if let Ok(from) = fs::File::open(of) {
                        let to = create(target, name, *mode)?;
                        copy(from, &to, &mut buffer)?;
                        to.set_modified(*modified)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rest of a path that begins with `folder`.
fn beneath<'a>(folder: &Path, path: &'a Path) -> Option<&'a OsStr> {
    let rest = path
        .as_os_str()
        .as_bytes()
        .strip_prefix(folder.as_os_str().as_bytes())?;
    rest.strip_prefix(b"/").map(OsStr::from_bytes)
}

fn create(folder: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let created = openat(folder, name, flags, Mode::from_raw_mode(mode))?;
    Ok(created.into())
}

fn copy(mut from: fs::File, mut to: &fs::File, buffer: &mut [u8]) -> io::Result<()> {
    let mut left = FILE_BYTES;
    loop {
        let count = from.read(buffer)?;
        to.write_all(&buffer[..count])?;
        left = left.saturating_sub(count as u64);
        // A read that brought less than there is room for needs none after it that finds the end.
        if count < buffer.len() || left == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(path: &Path) -> fs::File {
        fs::File::open(path).expect("a folder")
    }

    #[test]
    fn a_copy_has_all_of_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let dir = folder(dir.path());
        for length in [0, 1, COPIED_AT_ONCE, 3 * COPIED_AT_ONCE + 5] {
            let content: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            fs::write(&from, &content).expect("write");
            let opened = fs::File::open(&from).expect("open");
            copy(
                opened,
                &create(dir.as_fd(), OsStr::new("to"), 0o644).expect("create"),
                &mut [0; COPIED_AT_ONCE],
            )
            .expect("copy");
            assert!(fs::read(&to).expect("read") == content, "{length} bytes");
            fs::remove_file(&to).expect("remove");
        }
    }

    #[test]
    fn a_copy_is_as_old_as_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (etc, target) = (dir.path().join("etc"), dir.path().join("target"));
        for folder in [&etc, &target] {
            fs::create_dir(folder).expect("mkdir");
        }
        let file = fs::File::create(etc.join("file")).expect("create");
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 7);
        file.set_modified(then).expect("set");
        let kind = fs::metadata(etc.join("file")).expect("there");
        let mut taken = Etc::default();
        taken.take(&etc.join("file"), &kind, &etc, &mut Folders::default());
        taken.write(&folder(&target)).expect("written");
        let copy = fs::metadata(target.join("file")).expect("there");
        assert_eq!(copy.modified().expect("a time"), then);
    }

    #[test]
    fn what_others_cannot_read_is_not_taken() {
        let dir = tempfile::tempdir().expect("tempdir");
        let secret = dir.path().join("shadow");
        fs::write(&secret, "hush").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("chmod");
        fs::write(dir.path().join("open"), "hello").expect("write");
        let mut etc = Etc::default();
        for path in [secret, dir.path().join("open")] {
            let kind = fs::symlink_metadata(&path).expect("there");
            etc.take(&path, &kind, dir.path(), &mut Folders::default());
        }
        assert_eq!(etc.entries.keys().collect::<Vec<_>>(), [Path::new("open")]);
    }

    #[test]
    fn of_a_resolver_that_is_a_link_the_content_is_taken() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (etc, run, target) = (
            dir.path().join("etc"),
            dir.path().join("run"),
            dir.path().join("target"),
        );
        for folder in [&etc, &run, &target] {
            fs::create_dir(folder).expect("mkdir");
        }
        fs::write(run.join("stub"), "nameserver 127.0.0.53\n").expect("write");
        symlink(run.join("stub"), etc.join("resolv.conf")).expect("symlink");
        let mut taken = Etc::default();
        taken.take_resolver(&etc, &mut Folders::default());
        taken.write(&folder(&target)).expect("written");
        let copy = target.join("resolv.conf");
        assert!(fs::symlink_metadata(&copy).expect("there").is_file());
        assert_eq!(fs::read(&copy).expect("read"), b"nameserver 127.0.0.53\n");
    }
}
