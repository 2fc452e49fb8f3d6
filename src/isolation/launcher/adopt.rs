//! Takes over what an earlier launcher has left: jobs that run, outcomes that nobody has taken.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::clean_up::Part;
use super::daemon::{Daemon, Job, Keeper, SUPERVISORS};
use super::job_dir::{JOB_FILE, JobDirs, JobFileError, is_absence, outcome_in, read_job_file};
use super::unwritten::Unwritten;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{KnownJob, Origin};
use crate::isolation::supervisor::{read_start_record, read_stop_order};
use crate::job::{Cause, ExitRecord, JobId, StartStep, Timestamp};

const LOCK_LOOK: Duration = Duration::from_millis(5);
const LOCK_LOOKS: u32 = 200;

impl Daemon {
    /// Goes on with what an earlier launcher has left, and has the rest of its cgroups removed.
    pub(super) fn adopt_jobs(&mut self) -> Result<(), Failure> {
        // What cannot be read is no reason to kill a job: another start may do better.
        let found = scan(&self.dirs).at(StartStep::StateDir, "the folders of jobs")?;
        for (id, keeper) in found.running {
            if let Keeper::Adopted { pidfd, dir, .. } = &keeper {
                let token = self.watch(pidfd)?;
                // Its launcher may have died between noting an order and giving it. One that it has had a supervisor ignores.
                if read_stop_order(dir).is_some() {
                    let _ = pidfd_send_signal(pidfd, Signal::TERM);
                }
                self.keep(id, token, keeper);
            }
        }
        for id in found.unused {
            self.remove_part(id, Part::All);
        }
        // Which of the cgroups are a newer worker's cannot be told: none is touched.
        let spares_all = found.newer.contains(&None);
        let mut spared: HashSet<String> = found.newer.into_iter().flatten().collect();
        spared.extend(self.jobs.values().filter_map(|job| match &job.keeper {
            Keeper::Adopted { cgroup, .. } => Some(cgroup.clone()),
            Keeper::Own(_) => None,
        }));
        spared.insert(SUPERVISORS.to_owned());
        for (id, cgroup) in found.lost {
            let why = "its supervisor was gone at the start of the worker".to_owned();
            let record = ExitRecord::without_run(Cause::Lost { why });
            if spares_all || spared.contains(&cgroup) {
                // It had ended, and had no record: its cgroup is another job's.
                self.finish(id, record, true);
            } else {
                spared.insert(cgroup.clone());
                self.clean_up.add(cgroup, Some((id, record)));
            }
        }
        if spares_all {
            eprintln!("stockade: launcher: cgroups are left as they are, for the jobs of a newer worker");
            return Ok(());
        }
        for name in self.sandboxes.cgroups().children() {
            if !spared.contains(&name) {
                self.clean_up.add(name, None);
            }
        }
        Ok(())
    }
}

/// What a scan of the state folder has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) running: Vec<(JobId, Keeper)>,
    /// Cgroups of jobs that a newer worker has left running. `None`: of one whose cgroup cannot be told.
    pub(super) newer: Vec<Option<String>>,
    /// Jobs without record and supervisor, with their cgroups.
    pub(super) lost: Vec<(JobId, String)>,
    /// Folders of launches that never happened.
    pub(super) unused: Vec<JobId>,
}

/// Looks at the folder of every job that is not over.
pub(super) fn scan(dirs: &JobDirs) -> io::Result<Found> {
    let mut found = Found::default();
    for id in dirs.all()? {
        // Thousands may be kept: what has an outcome costs one look.
        if dirs.is_over(id) {
            continue;
        }
        match found.look_at(dirs, id) {
            Err(JobFileError::Io(error)) if !is_absence(&error) => return Err(error),
            Err(error) => eprintln!("stockade: launcher: job {id}: {error}"),
            Ok(()) => {}
        }
    }
    Ok(found)
}

impl Found {
    fn look_at(&mut self, dirs: &JobDirs, id: JobId) -> Result<(), JobFileError> {
        let (dir, alive) = dirs.existing(id)?;
        let job = match read_job_file(&dir) {
            Ok(job) => job,
            // Its launcher died before it let the job go: nothing of it has run.
            Err(error) if error.is_missing() && (!alive || is_let_loose(dirs, id)?) => {
                self.unused.push(id);
                return Ok(());
            }
            Err(JobFileError::Newer(any)) => {
                self.newer.push(any.cgroup.clone());
                return Err(JobFileError::Newer(any));
            }
            Err(error) => return Err(error),
        };
        // Between two looks at a lock that is held, the number is no other process's.
        if alive
            && let Some(pidfd) = open_supervisor(job.supervisor_pid)?
            && dirs.existing(id)?.1
        {
            let cgroup = job.cgroup;
            self.running.push((id, Keeper::Adopted { pidfd, dir, cgroup }));
            return Ok(());
        }
        // The exit file may have come between the two looks.
        if outcome_in(&dir)?.is_none() {
            self.lost.push((id, job.cgroup));
        }
        Ok(())
    }
}

/// A fork of the dead launcher holds the lock until it has closed what it inherited: a moment.
fn is_let_loose(dirs: &JobDirs, id: JobId) -> io::Result<bool> {
    for _ in 0..LOCK_LOOKS {
        std::thread::sleep(LOCK_LOOK);
        if !dirs.existing(id)?.1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` where there is no such process any more.
fn open_supervisor(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is known of a job that has something on disk; `running` is it where it runs. `ending`: its end is told once nothing of
/// it is left. An error tells nothing of it.
pub(super) fn describe(
    dirs: &JobDirs,
    id: JobId,
    running: Option<&Job>,
    ending: bool,
    unwritten: &Unwritten,
) -> io::Result<Option<KnownJob>> {
    let dir = match dirs.existing_unlocked(id) {
        Ok(dir) => dir,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let record = match unwritten.get(id) {
        Some(record) => Some(record.clone()),
        None => outcome_in(&dir)?,
    };
    let known = KnownJob {
        id,
        tenant: String::new(),
        policy: String::new(),
        created_at: Timestamp::from_micros(0),
        started_at: record.as_ref().and_then(|record| record.started_at),
        receipt: None,
        idempotency_key: None,
        origin: Origin::NeverLaunched,
        stop: None,
        record,
    };
    let job = match read_job_file(&dir) {
        Ok(job) => job,
        Err(JobFileError::Newer(_)) => {
            return Ok(Some(KnownJob {
                origin: Origin::Newer,
                record: None,
                ..known
            }));
        }
        Err(error) if error.is_missing() && known.record.is_some() => return Ok(Some(known)),
        Err(JobFileError::Io(error)) if !is_absence(&error) => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut known = KnownJob {
        tenant: job.tenant,
        policy: job.policy,
        created_at: job.created_at,
        idempotency_key: job.idempotency_key,
        origin: Origin::Launched,
        ..known
    };
    if known.record.is_none() {
        // Between the end of a supervisor and the launcher's notice of it: told by an event soon.
        if running.is_none() && !ending {
            return Ok(None);
        }
        known.stop = read_stop_order(&dir);
        match (
            running.and_then(|job| job.started.as_ref()),
            read_start_record(&dir)?,
        ) {
            (Some((started_at, receipt)), _) => {
                known.started_at = Some(*started_at);
                known.receipt = Some(receipt.clone());
            }
            (None, Some(start)) => {
                known.started_at = Some(start.started_at);
                known.receipt = Some(Box::new(start.receipt));
            }
            // Of a format that leaves none, or not there yet: the job file was written just before the start.
            (None, None) if running.is_some_and(|job| matches!(job.keeper, Keeper::Adopted { .. })) => {
                known.started_at = written_at(&dir);
            }
            (None, None) => {}
        }
    }
    Ok(Some(known))
}

fn written_at(dir: &OwnedFd) -> Option<Timestamp> {
    let stat = statat(dir, JOB_FILE, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let micros = i64::try_from(stat.st_mtime_nsec).ok()? / 1000;
    Some(Timestamp::from_micros(
        stat.st_mtime.checked_mul(1_000_000)?.checked_add(micros)?,
    ))
}
