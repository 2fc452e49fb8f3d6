//! `run --report`: the final job record as a file.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::fstat;

use super::error::CliError;
use super::render::JobJson;
use crate::grpc::job_to_wire;
use crate::server::JobView;

/// Where the record goes, found out before the job runs.
#[derive(Debug)]
pub(super) struct Report {
    path: PathBuf,
    /// A pipe, a device or a link such as /dev/stdout is written to. To replace it would take it from the host.
    through: Option<File>,
}

impl Report {
    /// Refuses what could not be written when the job is over.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        let through = open(path).map_err(CliError::file("--report", path))?;
        Ok(Self {
            path: path.to_owned(),
            through,
        })
    }

    /// Writes the record as JSON. A regular file is replaced in one step, so that nobody reads half of it.
    pub(super) fn write(self, job: &JobView) -> Result<(), CliError> {
        serde_json::to_vec_pretty(&JobJson::from(&job_to_wire(job)))
            .map_err(io::Error::from)
            .and_then(|json| put(&self.path, self.through, &[&json[..], b"\n"].concat()))
            .map_err(CliError::file("--report", self.path))
    }
}

/// What is to be written to. `None`: a file is made beside `path`, and takes its place.
fn open(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return open_through(path).map(Some),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::metadata(folder_of(path))?;
    // It has no name: a run that is killed leaves none behind.
    tempfile::tempfile_in(folder_of(path)).map_err(without_path)?;
    Ok(None)
}

fn open_through(path: &Path) -> io::Result<File> {
    // A file that is opened anew would be written from its start, over the job's output.
    if let Ok(found) = fs::metadata(path) {
        for own in [io::stdout().as_fd(), io::stderr().as_fd()] {
            let stat = fstat(own)?;
            if (stat.st_dev, stat.st_ino) == (found.dev(), found.ino()) {
                return Ok(own.try_clone_to_owned()?.into());
            }
        }
    }
    File::create(path)
}

fn put(path: &Path, through: Option<File>, content: &[u8]) -> io::Result<()> {
    if let Some(mut file) = through {
        return file.write_all(content);
    }
    // 0666 less the umask, as any file that a shell would make; the library's default is 0600.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(path))
        .map_err(without_path)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// The library names a file that nobody has asked for.
fn without_path(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => error,
        None => error.kind().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
        put(path, open(path)?, content)
    }

    #[test]
    fn a_file_is_replaced_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("report.json");
        fs::write(&path, "old and longer").expect("write");
        replace(&path, b"new").expect("replace");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_once_by_its_own_name() {
        for (path, reason) in [
            ("/nonexistent/report.json", "No such file or directory"),
            ("/dev/null/report.json", "Not a directory"),
            ("/proc/report.json", ""),
            ("/tmp", "Is a directory"),
        ] {
            let refused = Report::open(Path::new(path)).expect_err(path).to_string();
            let named = format!("--report {path}: ");
            assert!(
                refused.starts_with(&named) && refused.contains(reason),
                "{refused}"
            );
            assert!(
                !refused.contains("tmp/.") && !refused.contains("/.tmp"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        replace(Path::new("/dev/null"), b"x").expect("write");
        assert!(!fs::metadata("/dev/null").expect("metadata").is_file());
    }

    #[test]
    fn a_link_is_written_through_and_stays() {
        let folder = tempfile::tempdir().expect("tempdir");
        let [link, file] = ["link", "file"].map(|name| folder.path().join(name));
        fs::write(&file, "old and longer").expect("write");
        for target in [Path::new("/dev/null"), &file] {
            symlink(target, &link).expect("symlink");
            replace(&link, b"new").expect("write");
            assert_eq!(fs::read_link(&link).expect("still a link"), target);
            fs::remove_file(&link).expect("remove");
        }
        assert_eq!(fs::read(&file).expect("read"), b"new");
    }
}
