//! `run --report`: the final job record as a file.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::CliError;
use super::render::JobJson;
use crate::grpc::job_to_wire;
use crate::server::JobView;

/// Writes the record as JSON. A regular file is replaced in one step, so that nobody reads half of it.
pub(super) fn write(path: &Path, job: &JobView) -> Result<(), CliError> {
    let mut json = serde_json::to_vec_pretty(&JobJson::from(&job_to_wire(job)))
        .map_err(|error| failed(path)(error.into()))?;
    json.push(b'\n');
    replace(path, &json).map_err(failed(path))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // A pipe or /dev/stderr cannot be replaced, and is meant to be written to.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(content);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // 0666 less the umask, as any file that a shell would make; the library's default is 0600.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::Write { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_folder_that_is_not_there_is_told() {
        let error = replace(Path::new("/nonexistent/report.json"), b"").expect_err("no such folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        replace(Path::new("/dev/null"), b"x").expect("write");
        assert!(!fs::metadata("/dev/null").expect("metadata").is_file());
    }
}
