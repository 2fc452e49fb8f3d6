//! `--input`: files and folders of the caller that are sent with the request.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, statat};
use rustix::io::Errno;

use crate::job::{Blob, InputFile, bounds};

#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("--input {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--input {}: {reason}", path.display())]
    Refused { path: PathBuf, reason: &'static str },
    #[error("--input {}: another one is {target} already", path.display())]
    Taken { path: PathBuf, target: String },
    #[error("--input: more than {} files", bounds::FILES)]
    TooMany,
    #[error("--input: more than {} bytes in all", bounds::REQUEST_BYTES)]
    TooLong,
}

/// The files gathered so far, never more than [`bounds`] allow.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    files: Vec<InputFile>,
    bytes: usize,
}

impl Inputs {
    /// Adds `SRC` or `SRC:DST`. The last colon separates them.
    pub(super) fn add(&mut self, argument: &str) -> Result<(), InputError> {
        let (source, target) = match argument.rsplit_once(':') {
            Some((source, target)) => (Path::new(source), Some(target)),
            None => (Path::new(argument), None),
        };
        // Without O_NONBLOCK the opening of a FIFO would wait for its writer.
        let opened = open(source, READ, Mode::empty()).map_err(failed(source))?;
        let stat = fstat(&opened).map_err(failed(source))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let target = file_target(source, target)?;
                self.add_file(opened, &stat, source, target)
            }
            FileType::Directory => self.add_folder(&opened, source, &folder_target(source, target)?),
            _ => Err(refused(source, "neither a file nor a folder")),
        }
    }

    pub(super) fn into_files(self) -> Vec<InputFile> {
        self.files
    }

    /// Every file beneath `root`. All are opened from `root` by openat2(2) with RESOLVE_BENEATH: a link that
    /// is exchanged meanwhile cannot lead a privileged caller to a file elsewhere.
    fn add_folder(&mut self, root: &OwnedFd, source: &Path, target: &Path) -> Result<(), InputError> {
        let mut folders = vec![PathBuf::from(".")];
        while let Some(folder) = folders.pop() {
            for name in sorted_names(root, &folder).map_err(|errno| failed(&source.join(&folder))(errno))? {
                let relative = folder.join(name);
                let path = source.join(&relative);
                let link = statat(root, &relative, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(&path))?;
                let entry = open_beneath(root, &relative).map_err(|errno| match errno {
                    Errno::XDEV => refused(&path, "a symbolic link that leads out of the folder"),
                    errno => failed(&path)(errno),
                })?;
                let stat = fstat(&entry).map_err(failed(&path))?;
                let inside = relative.strip_prefix(".").unwrap_or(&relative);
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => self.add_file(entry, &stat, &path, target.join(inside))?,
                    FileType::Directory if FileType::from_raw_mode(link.st_mode).is_symlink() => {
                        return Err(refused(&path, "a symbolic link to a folder"));
                    }
                    FileType::Directory if relative.components().count() > bounds::PATH_COMPONENTS => {
                        return Err(refused(&path, "too deep a folder"));
                    }
                    FileType::Directory => folders.push(relative),
                    _ => return Err(refused(&path, "neither a file nor a folder")),
                }
            }
        }
        Ok(())
    }

    fn add_file(
        &mut self,
        opened: OwnedFd,
        stat: &Stat,
        source: &Path,
        target: PathBuf,
    ) -> Result<(), InputError> {
        if self.files.len() == bounds::FILES {
            return Err(InputError::TooMany);
        }
        let left = bounds::REQUEST_BYTES - self.bytes;
        let content = read_at_most(File::from(opened), left)
            .map_err(|source_error| InputError::Read {
                path: source.to_owned(),
                source: source_error,
            })?
            .ok_or(InputError::TooLong)?;
        self.bytes += content.len();
        let path = target.into_os_string().into_string();
        let path = path.map_err(|_| refused(source, "its name is not UTF-8"))?;
        if self.files.iter().any(|file| file.path == path) {
            return Err(InputError::Taken {
                path: source.to_owned(),
                target: path,
            });
        }
        self.files.push(InputFile {
            path,
            content: Blob(content),
            mode: stat.st_mode & 0o777,
        });
        Ok(())
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

fn open_beneath(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, READ, Mode::empty(), beneath)
}

/// Names in a folder beneath `root`, in an order that does not depend on the file system.
fn sorted_names(root: &OwnedFd, folder: &Path) -> rustix::io::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;

    let mut names = Vec::new();
    for entry in Dir::new(open_beneath(root, folder)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
        }
    }
    names.sort();
    Ok(names)
}

/// `DST` of a file: a name of its own, or a folder that it is put into.
fn file_target(source: &Path, target: Option<&str>) -> Result<PathBuf, InputError> {
    let Some(target) = target else {
        return base_name(source);
    };
    match target {
        "" => Err(refused(source, "DST is empty")),
        "." | "./" => base_name(source),
        folder if folder.ends_with('/') => Ok(Path::new(folder).join(base_name(source)?)),
        name => Ok(PathBuf::from(name)),
    }
}

/// `DST` of a folder; "." is the workspace itself.
fn folder_target(source: &Path, target: Option<&str>) -> Result<PathBuf, InputError> {
    match target {
        None if source == Path::new(".") => Ok(PathBuf::new()),
        None => base_name(source),
        Some("") => Err(refused(source, "DST is empty")),
        Some("." | "./") => Ok(PathBuf::new()),
        Some(folder) => Ok(PathBuf::from(folder)),
    }
}

fn base_name(source: &Path) -> Result<PathBuf, InputError> {
    source
        .file_name()
        .map(PathBuf::from)
        .ok_or_else(|| refused(source, "has no base name: give SRC:DST"))
}

/// The content of `reader`, or `None` where it is longer than `most`.
pub(super) fn read_at_most(reader: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut content)?;
    Ok((content.len() <= most).then_some(content))
}

fn refused(path: &Path, reason: &'static str) -> InputError {
    InputError::Refused {
        path: path.to_owned(),
        reason,
    }
}

fn failed(path: &Path) -> impl FnOnce(Errno) -> InputError {
    let path = path.to_owned();
    move |errno| InputError::Read {
        path,
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn folder(files: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().expect("tempdir");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create_dir_all");
            fs::write(path, file).expect("write");
        }
        folder
    }

    fn gather(source: &Path, target: &str) -> Result<Vec<InputFile>, InputError> {
        let mut inputs = Inputs::default();
        inputs.add(&format!("{}{target}", source.display()))?;
        Ok(inputs.into_files())
    }

    fn paths(files: &[InputFile]) -> Vec<&str> {
        files.iter().map(|file| &*file.path).collect()
    }

    #[test]
    fn a_file_goes_where_it_is_told() {
        let folder = folder(&["a.txt"]);
        let file = folder.path().join("a.txt");
        for (target, path) in [
            ("", "a.txt"),
            (":b", "b"),
            (":in/", "in/a.txt"),
            (":.", "a.txt"),
            (":in/b", "in/b"),
        ] {
            assert_eq!(paths(&gather(&file, target).expect(target)), [path], "{target:?}");
        }
        assert!(gather(&file, ":").is_err());
    }

    #[test]
    fn a_folder_is_copied_whole_with_its_modes() {
        let folder = folder(&["src/main.c", "src/deep/er/x", "run.sh"]);
        let script = folder.path().join("run.sh");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).expect("chmod");
        let files = gather(folder.path(), ":code").expect("gather");
        assert_eq!(
            paths(&files),
            ["code/run.sh", "code/src/main.c", "code/src/deep/er/x"]
        );
        assert_eq!(files[0].mode, 0o750);
        assert_eq!(files[1].content.0, b"src/main.c");
        let files = gather(&folder.path().join("src"), ":.").expect("gather");
        assert_eq!(paths(&files), ["main.c", "deep/er/x"]);
        let files = gather(&folder.path().join("src"), "").expect("gather");
        assert_eq!(paths(&files), ["src/main.c", "src/deep/er/x"]);
    }

    #[test]
    fn links_are_followed_only_within_the_folder() {
        let folder = folder(&["in/a", "secret"]);
        let inner = folder.path().join("in");
        symlink("a", inner.join("b")).expect("symlink");
        let files = gather(&inner, "").expect("gather");
        assert_eq!(paths(&files), ["in/a", "in/b"]);
        for (target, reason) in [
            ("../secret", "leads out"),
            ("/etc/hostname", "leads out"),
            ("/proc/self/environ", "leads out"),
            (".", "a symbolic link to a folder"),
            ("c", "symbolic links"),
            ("missing", "No such file"),
        ] {
            let link = inner.join("c");
            symlink(target, &link).expect("symlink");
            let refused = gather(&inner, "").expect_err(target).to_string();
            assert!(refused.contains(reason), "{target}: {refused}");
            fs::remove_file(link).expect("remove");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let folder = folder(&[]);
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        assert!(gather(&fifo, "").is_err());
        assert!(gather(folder.path(), "").is_err());
        assert!(gather(Path::new("/dev/zero"), "").is_err());
        assert!(gather(Path::new("/"), "").is_err());
    }

    #[test]
    fn too_much_is_refused_before_it_is_held() {
        let folder = folder(&["a", "b"]);
        let sparse = File::create(folder.path().join("a")).expect("create");
        sparse.set_len(1 << 40).expect("set_len");
        assert!(matches!(gather(folder.path(), ""), Err(InputError::TooLong)));
        sparse.set_len(0).expect("set_len");
        for index in 0..bounds::FILES {
            fs::write(folder.path().join(index.to_string()), "").expect("write");
        }
        assert!(matches!(gather(folder.path(), ""), Err(InputError::TooMany)));
    }
}
