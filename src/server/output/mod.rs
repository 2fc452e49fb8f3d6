//! Kept output for any number of readers, each at its own pace.
//!
//! The supervisors write append-only files; readers read the files. Nothing is held in memory for a reader but
//! the chunk under way, and only when its connection has room for one, so a reader that stalls costs itself alone.

mod digest;
mod file;
mod stream;
mod wake;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::job::{JobId, Output, StreamTotals};

use super::ServerError;
pub use stream::{OutputRequest, OutputStream, Part};
use wake::{Wake, Wakes};

/// Where the output of all jobs is.
#[derive(Debug)]
pub(super) struct Outputs {
    folder: PathBuf,
    wakes: Wakes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    Stdout,
    Stderr,
}

impl StreamName {
    const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    fn file_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Outputs {
    /// `folder` holds one folder a job; must be called within the runtime.
    pub(super) fn new(folder: &Path) -> Result<Self, ServerError> {
        Ok(Self {
            folder: folder.to_owned(),
            wakes: Wakes::start()?,
        })
    }

    /// Tells when this job's folder is made.
    fn follow_making(&self, id: JobId) -> Result<Wake, Errno> {
        self.wakes.follow_entry(&self.folder, &id.to_string())
    }

    /// All jobs that have output on disk.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn of(&self, id: JobId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// What is on disk of a job whose output nobody has counted to the end: at least this much was written.
    pub(super) fn kept(&self, id: JobId) -> Output {
        let folder = self.of(id);
        let kept = |stream: StreamName| StreamTotals {
            total_bytes: folder
                .join(stream.file_name())
                .metadata()
                .map_or(0, |found| found.len()),
            ..StreamTotals::default()
        };
        Output {
            stdout: kept(StreamName::Stdout),
            stderr: kept(StreamName::Stderr),
        }
    }

    /// Bytes on disk for these jobs.
    pub(super) async fn kept_bytes(&self, ids: Vec<JobId>) -> u64 {
        let folders: Vec<PathBuf> = ids.into_iter().map(|id| self.of(id)).collect();
        let sum = move || {
            let sizes = folders
                .iter()
                .flat_map(|folder| StreamName::ALL.map(|stream| folder.join(stream.file_name())))
                .filter_map(|file| file.metadata().ok())
                .map(|found| found.len());
            sizes.sum()
        };
        tokio::task::spawn_blocking(sum).await.unwrap_or(0)
    }
}
