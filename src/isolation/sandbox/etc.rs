//! The sandbox's /etc: harmless files of the host's, and accounts of its own.
//!
//! Files and small folders are copied. A large folder takes longer to copy than all the rest of a template: where the
//! root is read-only it is shown as /usr is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::template::Layer;
use crate::isolation::layout;
use crate::job::{Identity, Network, SandboxSpec};

/// A single file that is larger is left out.
const FILE_BYTES: u64 = 8 << 20;
/// No more entries are taken: a folder of /etc is small, or not what was meant.
const ENTRIES: usize = 8192;

/// A folder with more entries is shown, not copied.
const LARGE: usize = 24;

/// The large folders among what the policy names. What in them is not for others is kept from jobs by its mode.
#[must_use]
pub(super) fn large_folders(spec: &SandboxSpec) -> Vec<PathBuf> {
    let is_large = |path: &PathBuf| {
        fs::symlink_metadata(path).is_ok_and(|kind| kind.is_dir()) && count(path, LARGE + 1) > LARGE
    };
    let named = spec
        .etc
        .iter()
        .flat_map(|pattern| matches(Path::new("/etc"), pattern));
    named.filter(is_large).collect()
}

/// Entries beneath a folder, counted up to `most`.
fn count(folder: &Path, most: usize) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found += 1;
        if found < most && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found += count(&entry.path(), most - found);
        }
        if found >= most {
            break;
        }
    }
    found
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

/// Reads what the policy names from the host's /etc, but for what is a layer, and adds the accounts.
#[must_use]
pub(super) fn collect(spec: &SandboxSpec, shown: &[Layer]) -> Etc {
    let mut etc = Etc::default();
    for pattern in &spec.etc {
        for path in matches(Path::new("/etc"), pattern) {
            if !shown.iter().any(|layer| layer.source == path) {
                etc.take(&path, Path::new("/etc"));
            }
        }
    }
    if spec.network == Network::Host {
        etc.take(Path::new("/etc/resolv.conf"), Path::new("/etc"));
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

/// The paths that `pattern` names: itself, or every name with that beginning where it ends in `*`.
fn matches(etc: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some(prefix) = pattern.strip_suffix('*') else {
        return vec![etc.join(pattern)];
    };
    // "java*" looks in /etc for "java…"; "ssl/*" in /etc/ssl for anything.
    let (folder, beginning) = match prefix.rsplit_once('/') {
        Some((folder, beginning)) => (etc.join(folder), beginning.to_owned()),
        None => (etc.to_owned(), prefix.to_owned()),
    };
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning))
        .map(|entry| entry.path())
        .collect()
}

impl Etc {
    fn take(&mut self, path: &Path, etc: &Path) {
        let (Ok(relative), Ok(kind)) = (path.strip_prefix(etc), fs::symlink_metadata(path)) else {
            return;
        };
        if self.entries.len() >= ENTRIES {
            return;
        }
        self.make_parents(relative);
        let others_read = kind.permissions().mode() & 0o004 != 0;
        if kind.is_symlink() {
            if let Ok(target) = fs::read_link(path) {
                self.entries.insert(relative.to_owned(), Entry::Link(target));
            }
        } else if kind.is_dir() && others_read {
            self.entries.insert(relative.to_owned(), Entry::Folder);
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.take(&entry.path(), etc);
            }
        } else if kind.is_file() && others_read && kind.len() <= FILE_BYTES {
            // What the host keeps from others is kept from jobs.
            if let Ok(content) = fs::read(path) {
                let mode = kind.permissions().mode() & 0o755;
                self.entries
                    .insert(relative.to_owned(), Entry::File { content, mode });
            }
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

    /// Writes the entries beneath `target`, an empty folder.
    pub(super) fn write(&self, target: &Path) -> io::Result<()> {
        for (name, entry) in &self.entries {
            let path = target.join(name);
            match entry {
                Entry::Folder => fs::create_dir_all(&path)?,
                Entry::Link(to) => symlink(to, &path)?,
                Entry::File { content, mode } => {
                    fs::write(&path, content)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                }
            }
        }
        Ok(())
    }
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
        let mut found = matches(dir.path(), "java*");
        found.sort();
        assert_eq!(found, [dir.path().join("java-17"), dir.path().join("java-21")]);
        assert_eq!(matches(dir.path(), "perl"), [dir.path().join("perl")]);
    }

    #[test]
    fn a_folder_is_counted_with_what_is_beneath_it_and_no_further_than_asked() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
            fs::write(dir.path().join(name).join("file"), "").expect("write");
        }
        assert_eq!(count(dir.path(), 10), 4);
        assert_eq!(count(dir.path(), 3), 3);
    }

    #[test]
    fn what_others_cannot_read_is_not_taken() {
        let dir = tempfile::tempdir().expect("tempdir");
        let secret = dir.path().join("shadow");
        fs::write(&secret, "hush").expect("write");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("chmod");
        fs::write(dir.path().join("open"), "hello").expect("write");
        let mut etc = Etc::default();
        etc.take(&secret, dir.path());
        etc.take(&dir.path().join("open"), dir.path());
        assert_eq!(etc.entries.keys().collect::<Vec<_>>(), [Path::new("open")]);
    }
}
