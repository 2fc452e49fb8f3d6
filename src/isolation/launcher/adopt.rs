//! Takes over what an earlier launcher has left: jobs that run, outcomes that nobody has taken.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::daemon::{Job, Keeper};
use super::job_dir::{JobDirs, kept_output, read_job_file};
use super::unwritten::Unwritten;
use crate::isolation::ipc::KnownJob;
use crate::isolation::supervisor::{read_exit_record, write_exit_record};
use crate::job::{Cause, ExitRecord, JobId};

const LOCK_LOOK: Duration = Duration::from_millis(5);
const LOCK_LOOKS: u32 = 200;

/// What a scan of the state folder has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) running: Vec<(JobId, Keeper)>,
}

/// Looks at every job's folder. A job without record and supervisor gets one: LOST.
pub(super) fn scan(dirs: &JobDirs) -> Found {
    let mut found = Found::default();
    for id in dirs.all().unwrap_or_default() {
        match look_at(dirs, id) {
            Ok(Some(keeper)) => found.running.push((id, keeper)),
            Ok(None) => {}
            Err(error) => eprintln!("stockade: launcher: job {id}: {error}"),
        }
    }
    found
}

fn look_at(dirs: &JobDirs, id: JobId) -> std::io::Result<Option<Keeper>> {
    let (dir, alive) = dirs.existing(id)?;
    if read_exit_record(&dir)?.is_some() {
        return Ok(None);
    }
    let job = match read_job_file(&dir) {
        Ok(job) => job,
        // Its launcher died before it let the job go: nothing of it has run.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && (!alive || is_let_loose(dirs, id)?) => {
            dirs.remove(id)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if alive && let Some(pidfd) = open_supervisor(job.supervisor_pid) {
        return Ok(Some(Keeper::Adopted {
            pidfd,
            dir,
            cgroup: job.cgroup,
        }));
    }
    // The exit file may have come between the two looks.
    if read_exit_record(&dir)?.is_none() {
        let why = "its supervisor was gone at the start of the worker".to_owned();
        let record = ExitRecord::without_run(Cause::Lost { why });
        write_exit_record(
            &dir,
            &ExitRecord {
                output: kept_output(&dir),
                ..record
            },
        )?;
    }
    Ok(None)
}

/// A fork of the dead launcher holds the lock until it has closed what it inherited: a moment.
fn is_let_loose(dirs: &JobDirs, id: JobId) -> std::io::Result<bool> {
    for _ in 0..LOCK_LOOKS {
        std::thread::sleep(LOCK_LOOK);
        if !dirs.existing(id)?.1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder's lock says that the process lives, so its pid has not been given to another.
fn open_supervisor(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Records that go into one message: some hundred KiB.
const PIECE: usize = 256;

/// All jobs that have something on disk, for a server that has just started. No piece is empty.
pub(super) fn list(
    dirs: &JobDirs,
    running: &HashMap<JobId, Job>,
    unwritten: &Unwritten,
) -> impl Iterator<Item = Vec<KnownJob>> {
    let mut jobs = dirs
        .all()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|id| known(dirs, id, running.contains_key(&id), unwritten.get(id)));
    std::iter::from_fn(move || {
        let piece: Vec<KnownJob> = jobs.by_ref().take(PIECE).collect();
        (!piece.is_empty()).then_some(piece)
    })
}

fn known(dirs: &JobDirs, id: JobId, running: bool, unwritten: Option<&ExitRecord>) -> Option<KnownJob> {
    let dir = dirs.existing_unlocked(id).ok()?;
    let job = read_job_file(&dir).ok()?;
    let record = read_exit_record(&dir)
        .ok()
        .flatten()
        .or_else(|| unwritten.cloned());
    // Between the end of a supervisor and the launcher's notice of it: told by an event soon.
    if record.is_none() && !running {
        return None;
    }
    Some(KnownJob {
        id,
        tenant: job.tenant,
        policy: job.policy,
        created_at: job.created_at,
        started_at: record.as_ref().and_then(|record| record.started_at),
        idempotency_key: job.idempotency_key,
        record,
    })
}
