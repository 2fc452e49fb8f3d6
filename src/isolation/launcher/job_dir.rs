//! A job's folders: what is needed to take it over after a restart, and its output.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, fchown, flock, fstat, mkdirat, open, openat, statat,
    unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::removal::{Stuck, remove_folder};
use super::shrinking::{Large, Shrinking};
use crate::isolation::supervisor::{
    EXIT_FILE, STDERR_FILE, STDOUT_FILE, STOP_FILE, read_exit_record, write_exit_record,
};
use crate::job::{ExitRecord, JobId, Output, StopOrder, StreamTotals, Timestamp};
use crate::sys::fault_point;

pub const JOB_FILE: &str = "job";
const LARGEST: u64 = 1 << 20;
/// The format of the files in a state folder. A worker takes over jobs of its own and earlier formats.
///
/// 1: the beginning. 2: a supervisor whose launcher has gone leaves a start record.
pub const FORMAT: u32 = 2;

/// What is written before a job is let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    pub format: u32,
    pub tenant: String,
    pub policy: String,
    pub created_at: Timestamp,
    pub idempotency_key: Option<String>,
    /// In the launcher's pid namespace. Meant only while the folder is locked: then its process holds the lock.
    pub supervisor_pid: i32,
    /// Name of the job's cgroup in the worker's branch.
    pub cgroup: String,
}

/// What all formats have in common, as far as can be told now.
#[derive(Debug, Deserialize)]
pub struct AnyFormat {
    pub format: u32,
    pub cgroup: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    #[error("its files are of format {}, which a newer worker wrote; this one knows {FORMAT} and leaves it alone", .0.format)]
    Newer(AnyFormat),
    #[error("job file: {0}")]
    Io(#[from] io::Error),
    #[error("job file: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl JobFileError {
    /// One that ends too early is as good as none: its launcher died, or the disk was full, before the job was let go.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::NotFound,
            Self::Malformed(error) => error.is_eof(),
            Self::Newer(_) => false,
        }
    }
}

/// Whether an error tells that what was looked for is not there, or not as any worker makes it. Others, such as that no
/// descriptor is left, tell nothing of a job.
pub fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
    matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidData | UnexpectedEof
    ) || error.raw_os_error() == Some(libc::ELOOP)
}

/// The folders of all jobs.
///
/// What takes a job over after a restart is of use only while the machine is up and until the server has recorded the
/// outcome: it is in memory, in the control folder. Output is on disk, in a folder of its own that is made with the
/// first byte.
#[derive(Debug)]
pub struct JobDirs {
    path: PathBuf,
    control: OwnedFd,
    outputs: OwnedFd,
    /// The group that may read output, the server's, where files do not get it by themselves.
    give_to: Option<u32>,
    /// Output that is removed.
    shrinking: RefCell<Shrinking>,
}

impl JobDirs {
    /// `control` is in memory; `outputs` is `jobs` in the state folder.
    pub fn open(control: &Path, outputs: &Path, reader_gid: u32) -> io::Result<Self> {
        let open_folder = |path: &Path| {
            fs::create_dir_all(path)?;
            open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)
        };
        let dir = open_folder(outputs)?;
        give_to_reader(&dir, reader_gid)?;
        // What is made in it gets its group, with no call for each.
        fs::set_permissions(outputs, fs::Permissions::from_mode(0o2750))?;
        let made = fstat(&dir)?;
        let inherited = made.st_gid == reader_gid && made.st_mode & 0o2000 != 0;
        Ok(Self {
            path: control.to_owned(),
            control: open_folder(control)?,
            outputs: dir,
            give_to: (!inherited).then_some(reader_gid),
            shrinking: RefCell::default(),
        })
    }

    /// Makes the control folder of a new job, and locks it: its supervisor holds the lock as long as it lives.
    ///
    /// What an earlier start has left that never let the job go is taken away: its end may never have been told.
    pub fn make(&self, id: JobId) -> io::Result<OwnedFd> {
        let name = id.to_string();
        fault_point!("launcher.job-folder")?;
        // The output of a job that is over and recorded: another's, that this one would write over.
        let output = statat(&self.outputs, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        if output.is_ok() && !self.was_never_let_go(id) {
            return Err(Errno::EXIST.into());
        }
        let mode = Mode::from_raw_mode(0o700);
        match mkdirat(&self.control, name.as_str(), mode) {
            Err(Errno::EXIST) if self.was_never_let_go(id) && self.remove(id).is_ok() => {
                mkdirat(&self.control, name.as_str(), mode)?;
            }
            made => made?,
        }
        let dir = open_dir(&self.control, &name)?;
        flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        fault_point!("launcher.outputs")?;
        if let Some(gid) = self.give_to {
            self.make_output(&name, gid)?;
        }
        Ok(dir)
    }

    fn was_never_let_go(&self, id: JobId) -> bool {
        let no_job_file = |dir: &OwnedFd| read_job_file(dir).is_err_and(|error| error.is_missing());
        self.existing(id)
            .is_ok_and(|(dir, alive)| !alive && no_job_file(&dir))
    }

    /// Where the folder of output does not hand its group on, a supervisor could not give files to the reader.
    fn make_output(&self, name: &str, gid: u32) -> io::Result<()> {
        mkdirat(&self.outputs, name, Mode::from_raw_mode(0o750))?;
        let dir = open_dir(&self.outputs, name)?;
        give_to_reader(&dir, gid)?;
        for file in [STDOUT_FILE, STDERR_FILE] {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            give_to_reader(openat(&dir, file, flags, Mode::from_raw_mode(0o640))?, gid)?;
        }
        Ok(())
    }

    /// The folder in which supervisors make their jobs' folders of output.
    #[must_use]
    pub const fn outputs(&self) -> &OwnedFd {
        &self.outputs
    }

    /// The control folder of a job that exists, and whether its supervisor lives.
    pub fn existing(&self, id: JobId) -> io::Result<(OwnedFd, bool)> {
        let dir = self.existing_unlocked(id)?;
        let alive = match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                flock(&dir, FlockOperation::Unlock)?;
                false
            }
            Err(Errno::WOULDBLOCK) => true,
            Err(error) => return Err(error.into()),
        };
        Ok((dir, alive))
    }

    /// The control folder of a job that exists, without a look at its lock.
    pub fn existing_unlocked(&self, id: JobId) -> io::Result<OwnedFd> {
        Ok(open_dir(&self.control, &id.to_string())?)
    }

    /// All jobs that have a control folder. What else is in there is none of ours and left alone.
    pub fn all(&self) -> io::Result<Vec<JobId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            ids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<JobId>().ok()),
            );
        }
        Ok(ids)
    }

    /// Whether a job's outcome is there.
    #[must_use]
    pub fn is_over(&self, id: JobId) -> bool {
        statat(
            &self.control,
            format!("{id}/{EXIT_FILE}"),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .is_ok()
    }

    /// How a job has ended, where that is written down. An error tells nothing of it.
    pub fn outcome(&self, id: JobId) -> io::Result<Option<ExitRecord>> {
        match self.existing_unlocked(id) {
            Ok(dir) => outcome_in(&dir),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down how a job has ended. What is written already is true, stays, and is given instead.
    pub fn write_outcome(&self, id: JobId, record: &ExitRecord) -> io::Result<Option<ExitRecord>> {
        let dir = match self.existing_unlocked(id) {
            Ok(dir) => dir,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let written = outcome_in(&dir)?;
        if written.is_none() {
            write_exit_record(&dir, record)?;
        }
        Ok(written)
    }

    /// What is kept of a job's output, where nobody has counted it to the end: at least this much was written.
    #[must_use]
    pub fn kept_output(&self, id: JobId) -> Output {
        let kept = |name: &str| {
            let stat = statat(&self.outputs, format!("{id}/{name}"), AtFlags::SYMLINK_NOFOLLOW);
            StreamTotals {
                total_bytes: u64::try_from(stat.map_or(0, |stat| stat.st_size)).unwrap_or(0),
                ..StreamTotals::default()
            }
        };
        Output {
            stdout: kept(STDOUT_FILE),
            stderr: kept(STDERR_FILE),
        }
    }

    /// Removes a job's control folder. One that is not there is no error.
    pub fn remove_control(&self, id: JobId) -> Result<(), Stuck> {
        // What most jobs leave: to look for a file that is not there costs as much as to remove one. A folder without a job
        // file is no job's any more.
        remove_folder(&self.control, &id.to_string(), &[EXIT_FILE, JOB_FILE])
    }

    /// Removes the folder of control folders, where no job is left in it.
    pub fn leave(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    /// Removes all that is kept of a job. What is not there is no error.
    pub fn remove(&self, id: JobId) -> Result<(), Stuck> {
        self.drop_output(id)?;
        self.remove_control(id)
    }

    /// Removes a job's output and keeps the rest. What is not there is no error. The space of large files comes back in
    /// turns of [`JobDirs::shrink`].
    pub fn drop_output(&self, id: JobId) -> Result<(), Stuck> {
        let large = |name: &&str| Large::open(&self.outputs, &format!("{id}/{name}"));
        let files = [STDOUT_FILE, STDERR_FILE];
        let large: Vec<Large> = files.iter().filter_map(large).collect();
        let removed = remove_folder(&self.outputs, &id.to_string(), &files);
        self.shrinking.borrow_mut().add(large);
        removed
    }

    /// Gives back a slice of what is removed.
    pub fn shrink(&self) {
        self.shrinking.borrow_mut().turn();
    }

    /// When to do so again.
    pub fn next_shrink(&self) -> Option<Duration> {
        self.shrinking.borrow().next_turn()
    }
}

/// As [`JobDirs::outcome`], of a folder that is open.
pub fn outcome_in(dir: &OwnedFd) -> io::Result<Option<ExitRecord>> {
    match read_exit_record(dir) {
        Err(error) if is_absence(&error) => Ok(None),
        other => other,
    }
}

fn open_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn give_to_reader(file: impl AsFd, gid: u32) -> io::Result<()> {
    match fchown(&file, None::<Uid>, Some(Gid::from_raw(gid))) {
        Ok(()) => Ok(()),
        // An ordinary user's worker: server and launcher are the same user.
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes the job file. A job without one was never let go.
pub fn write_job_file(dir: impl AsFd, job: &JobFile) -> io::Result<()> {
    fault_point!("launcher.job-file")?;
    write_new(dir, JOB_FILE, &serde_json::to_vec(job)?)
}

pub fn read_job_file(dir: impl AsFd) -> Result<JobFile, JobFileError> {
    let file = openat(
        dir,
        JOB_FILE,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(io::Error::from)?;
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
    // A newer format may lack what this one has: how new it is comes first.
    let any: AnyFormat = serde_json::from_slice(&bytes)?;
    if any.format > FORMAT {
        return Err(JobFileError::Newer(any));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Leaves a stop order for a supervisor that this launcher has no socket to, and for a server that is started anew.
pub fn write_stop_order(dir: impl AsFd, order: &StopOrder) -> io::Result<()> {
    match unlinkat(&dir, STOP_FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    write_new(dir, STOP_FILE, &serde_json::to_vec(order)?)
}

fn write_new(dir: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    File::from(file).write_all(bytes)
}

#[cfg(test)]
mod tests;
