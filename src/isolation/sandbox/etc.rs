//! The sandbox's /etc: harmless files of the host's, and accounts of its own.
//!
//! Files are copied. Where the root is read-only, folders are shown as /usr is: they take longer to copy than all the rest
//! of a template.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, StatxFlags, mkdir, statx};
use rustix::io::{Errno, read};

use super::template::Layer;
use crate::isolation::layout;
use crate::job::{Identity, Network, SandboxSpec};

/// A single file that is larger is left out.
const FILE_BYTES: u64 = 8 << 20;
/// No more entries are taken: a folder of /etc is small, or not what was meant.
const ENTRIES: usize = 8192;

/// What there is of what the policy names in the host's /etc, each looked at once.
#[derive(Debug)]
pub(super) struct Host {
    named: Vec<(PathBuf, Metadata)>,
    folders: Folders,
}

/// Folders that were read, and the names in them.
#[derive(Debug, Default)]
struct Folders(BTreeMap<PathBuf, Vec<OsString>>);

impl Folders {
    fn names(&mut self, folder: &Path) -> &[OsString] {
        self.0.entry(folder.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.take(ENTRIES).map(|entry| entry.file_name()).collect()
        })
    }

    /// The paths that `pattern` names: itself, or every name with that beginning where it ends in `*`.
    fn matches(&mut self, etc: &Path, pattern: &str) -> Vec<PathBuf> {
        let Some(prefix) = pattern.strip_suffix('*') else {
            return vec![etc.join(pattern)];
        };
        // "java*" looks in /etc for "java…"; "ssl/*" in /etc/ssl for anything.
        let (folder, beginning) = match prefix.rsplit_once('/') {
            Some((folder, beginning)) => (etc.join(folder), beginning),
            None => (etc.to_owned(), prefix),
        };
        let names = self.names(&folder).iter();
        names
            .filter(|name| name.as_bytes().starts_with(beginning.as_bytes()))
            .map(|name| folder.join(name))
            .collect()
    }
}

impl Host {
    pub(super) fn look(spec: &SandboxSpec) -> Self {
        let mut folders = Folders::default();
        let named = spec
            .etc
            .iter()
            .flat_map(|pattern| folders.matches(Path::new("/etc"), pattern))
            .filter_map(|path| fs::symlink_metadata(&path).ok().map(|kind| (path, kind)))
            .collect();
        Self { named, folders }
    }

    /// The folders that can be shown, through one overlay: the kernel takes as long to unmount one as to copy a folder. What
    /// in them is not for others is kept from jobs by its mode.
    pub(super) fn layer(&self) -> Option<Layer> {
        let etc = Path::new("/etc");
        let mount = mount_of(etc)?;
        // What is mounted there, or lies elsewhere behind a link, is not in the overlay.
        let is_in_it = |path: &Path| mount_of(path) == Some(mount) && is_spelled_out(path);
        let named = self.named.iter();
        let parts: Vec<_> = named
            .filter(|(path, kind)| kind.is_dir() && others_read(kind) && is_in_it(path))
            .filter_map(|(path, _)| path.strip_prefix(etc).ok())
            .map(Path::to_owned)
            .collect();
        (!parts.is_empty()).then(|| Layer {
            source: etc.to_owned(),
            target: "/etc".to_owned(),
            parts: Some(parts),
            system: false,
        })
    }
}

/// What the host keeps from others is kept from jobs.
fn others_read(kind: &Metadata) -> bool {
    kind.permissions().mode() & 0o004 != 0
}

/// The number of the mount that `path` is in. `None` on a kernel that does not tell (before 5.8).
fn mount_of(path: &Path) -> Option<u64> {
    let told = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

/// No link is on the way to it.
fn is_spelled_out(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|real| real == path)
}

/// Entries by their path relative to /etc.
#[derive(Debug, Default)]
pub(super) struct Etc {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder,
    File { content: Vec<u8>, mode: u32 },
    Link(PathBuf),
}

/// Reads what there is, but for what is a layer, and adds the accounts.
#[must_use]
pub(super) fn collect(spec: &SandboxSpec, host: &mut Host, shown: &[Layer]) -> Etc {
    let mut etc = Etc::default();
    for (path, kind) in &host.named {
        if !shown.iter().any(|layer| layer.shows(path)) {
            etc.take(path, kind, Path::new("/etc"), &mut host.folders);
        }
    }
    let resolver = Path::new("/etc/resolv.conf");
    if spec.network == Network::Host
        && let Ok(kind) = fs::symlink_metadata(resolver)
    {
        etc.take(resolver, &kind, Path::new("/etc"), &mut host.folders);
    }
    for (name, content) in accounts(spec) {
        etc.put(name, content);
    }
    if spec.identity == Identity::Root {
        for (name, content) in FOR_ROOT {
            etc.put(name, content.to_owned());
        }
    }
    etc
}

/// What root of its own namespace needs in order to install packages and to become another user in it.
const FOR_ROOT: [(&str, &str); 2] = [
    // The sandbox has the host's programs but not its list of packages, so no dependency is ever fulfilled.
    ("dpkg/dpkg.cfg.d/sandbox", "force-depends\n"),
    // There are no passwords: who may change users is decided by capabilities alone.
    (
        "pam.d/other",
        "auth required pam_permit.so\naccount required pam_permit.so\npassword required pam_deny.so\nsession required pam_permit.so\n",
    ),
];

impl Etc {
    fn take(&mut self, path: &Path, kind: &Metadata, etc: &Path, folders: &mut Folders) {
        let Ok(relative) = path.strip_prefix(etc) else {
            return;
        };
        if self.entries.len() >= ENTRIES {
            return;
        }
        self.make_parents(relative);
        if kind.is_symlink() {
            if let Ok(target) = fs::read_link(path) {
                self.entries.insert(relative.to_owned(), Entry::Link(target));
            }
        } else if kind.is_dir() && others_read(kind) {
            self.entries.insert(relative.to_owned(), Entry::Folder);
            let inner: Vec<PathBuf> = folders.names(path).iter().map(|name| path.join(name)).collect();
            for inner in inner {
                if let Ok(kind) = fs::symlink_metadata(&inner) {
                    self.take(&inner, &kind, etc, folders);
                }
            }
        } else if kind.is_file()
            && others_read(kind)
            && kind.len() <= FILE_BYTES
            && let Ok(content) = content_of(path, kind.len())
        {
            let mode = kind.permissions().mode() & 0o755;
            self.entries
                .insert(relative.to_owned(), Entry::File { content, mode });
        }
    }

    fn put(&mut self, name: &str, content: String) {
        self.make_parents(Path::new(name));
        let content = content.into_bytes();
        self.entries
            .insert(name.into(), Entry::File { content, mode: 0o644 });
    }

    fn make_parents(&mut self, name: &Path) {
        let parents = name.ancestors().skip(1);
        for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
            self.entries.entry(parent.to_owned()).or_insert(Entry::Folder);
        }
    }

    /// Writes the entries beneath `target`, in which some folders may be. The process has no umask.
    pub(super) fn write(&self, target: &Path) -> io::Result<()> {
        for (name, entry) in &self.entries {
            let path = target.join(name);
            match entry {
                // A parent comes before what is in it.
                Entry::Folder => match mkdir(&path, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                },
                Entry::Link(to) => symlink(to, &path)?,
                Entry::File { content, mode } => {
                    let mut options = fs::OpenOptions::new();
                    options.write(true).create_new(true).mode(*mode);
                    options.open(&path)?.write_all(content)?;
                }
            }
        }
        Ok(())
    }
}

/// A file that has `length`, or did a moment ago.
fn content_of(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let length = usize::try_from(length.min(FILE_BYTES)).unwrap_or(0);
    let mut content = Vec::with_capacity(length);
    // A read that brought all there was needs none after it that finds the end.
    let count = read(&file, spare_capacity(&mut content))?;
    if count < length || count == 0 {
        file.take(FILE_BYTES).read_to_end(&mut content)?;
    }
    Ok(content)
}

fn accounts(spec: &SandboxSpec) -> [(&'static str, String); 4] {
    let (user, id, home) = (layout::USER, layout::USER_ID, layout::WORKSPACE);
    let job = match spec.identity {
        Identity::Unprivileged => (
            format!("{user}:x:{id}:{id}::{home}:/bin/sh\n"),
            format!("{user}:x:{id}:\n"),
        ),
        Identity::Root => (system_users(), system_groups()),
    };
    [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\n{}nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
                job.0
            ),
        ),
        ("group", format!("root:x:0:\n{}nogroup:x:65534:\n", job.1)),
        (
            "hosts",
            format!(
                "127.0.0.1 localhost {0}\n::1 localhost ip6-localhost\n",
                spec.hostname
            ),
        ),
        ("hostname", format!("{}\n", spec.hostname)),
    ]
}

/// Debian's static accounts, which packages expect; see base-passwd.
fn system_users() -> String {
    let users = [
        ("daemon", 1, "/usr/sbin"),
        ("bin", 2, "/bin"),
        ("sys", 3, "/dev"),
        ("man", 6, "/var/cache/man"),
        ("mail", 8, "/var/mail"),
        ("www-data", 33, "/var/www"),
        ("backup", 34, "/var/backups"),
    ];
    users
        .map(|(name, id, home)| format!("{name}:x:{id}:{id}:{name}:{home}:/usr/sbin/nologin\n"))
        .concat()
}

fn system_groups() -> String {
    let groups = [
        ("daemon", 1),
        ("bin", 2),
        ("sys", 3),
        ("adm", 4),
        ("tty", 5),
        ("disk", 6),
        ("mail", 8),
        ("man", 12),
        ("sudo", 27),
        ("www-data", 33),
        ("backup", 34),
        ("shadow", 42),
        ("utmp", 43),
        ("staff", 50),
        ("users", 100),
    ];
    groups.map(|(name, id)| format!("{name}:x:{id}:\n")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_and_beginnings() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["java-17", "java-21", "perl"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        let mut folders = Folders::default();
        let mut found = folders.matches(dir.path(), "java*");
        found.sort();
        assert_eq!(found, [dir.path().join("java-17"), dir.path().join("java-21")]);
        assert_eq!(folders.matches(dir.path(), "perl"), [dir.path().join("perl")]);
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
}
