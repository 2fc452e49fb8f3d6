//! What there is of the host's /etc.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{ENTRIES, ETC, accounts};
use crate::job::SandboxSpec;

/// A folder with more entries is not copied.
const LARGE: usize = 24;
/// A folder that itself takes more is not counted: to read one of ext4 takes longer than to show it.
const LARGE_BYTES: u64 = 4096;

/// What there is of what the policy names in the host's /etc, each looked at once.
#[derive(Debug)]
pub(in crate::isolation::sandbox) struct Host {
    pub(super) named: Vec<(PathBuf, Metadata)>,
    pub(super) folders: Folders,
}

/// Folders that were read: the names in them, and whether each is a folder.
#[derive(Debug, Default)]
pub(in crate::isolation::sandbox) struct Folders(BTreeMap<PathBuf, Vec<(OsString, bool)>>);

impl Folders {
    /// That of most names, read already.
    pub(in crate::isolation::sandbox) fn of_etc() -> Self {
        let mut folders = Self::default();
        folders.names(Path::new(ETC));
        folders
    }

    pub(super) fn names(&mut self, folder: &Path) -> &[(OsString, bool)] {
        self.0.entry(folder.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .take(ENTRIES)
                .map(|entry| {
                    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    (entry.file_name(), is_folder)
                })
                .collect()
        })
    }

    /// Entries beneath a folder, counted up to `most`.
    fn count(&mut self, folder: &Path, most: usize) -> usize {
        let names = self.names(folder);
        let mut found = names.len();
        let inner: Vec<PathBuf> = names
            .iter()
            .filter(|(_, is_folder)| *is_folder)
            .map(|(name, _)| folder.join(name))
            .collect();
        for inner in inner {
            if found >= most {
                break;
            }
            found += self.count(&inner, most - found);
        }
        found.min(most)
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
            .filter(|(name, _)| name.as_bytes().starts_with(beginning.as_bytes()))
            .map(|(name, _)| folder.join(name))
            .collect()
    }
}

impl Host {
    pub(in crate::isolation::sandbox) fn look(spec: &SandboxSpec, mut folders: Folders) -> Self {
        let named = spec
            .etc
            .iter()
            .flat_map(|pattern| folders.matches(Path::new(ETC), pattern))
            .filter_map(|path| fs::symlink_metadata(&path).ok().map(|kind| (path, kind)))
            .collect();
        Self { named, folders }
    }

    /// The folders among it, but for those that get a file of the sandbox's own.
    pub(in crate::isolation::sandbox) fn folders(&self) -> Vec<PathBuf> {
        let gets_file = |folder: &Path| {
            let mut files = accounts::FOR_ROOT.iter();
            files.any(|(name, _)| Path::new(ETC).join(name).starts_with(folder))
        };
        let named = self.named.iter();
        named
            .filter(|(path, kind)| kind.is_dir() && !gets_file(path))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Whether one of [`Host::folders`] takes longer to copy than an overlay to mount.
    pub(in crate::isolation::sandbox) fn is_large(&mut self, folder: &Path) -> bool {
        let named = self
            .named
            .iter()
            .find(|(path, _)| path.as_os_str() == folder.as_os_str());
        named.is_some_and(|(_, kind)| kind.len() > LARGE_BYTES)
            || self.folders.count(folder, LARGE + 1) > LARGE
    }
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
    fn a_folder_is_counted_with_what_is_beneath_it_and_no_further_than_asked() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
            fs::write(dir.path().join(name).join("file"), "").expect("write");
        }
        assert_eq!(Folders::default().count(dir.path(), 10), 4);
        assert_eq!(Folders::default().count(dir.path(), 3), 3);
    }

    #[test]
    fn a_folder_that_gets_a_file_of_the_sandboxs_own_is_not_shown() {
        let dir = tempfile::tempdir().expect("tempdir");
        let kind = fs::metadata(dir.path()).expect("there");
        let named = ["/etc/fonts", "/etc/pam.d", "/etc/dpkg"].map(|path| (path.into(), kind.clone()));
        let host = Host {
            named: named.into(),
            folders: Folders::default(),
        };
        assert_eq!(host.folders(), [Path::new("/etc/fonts")]);
    }
}
