//! What could not be removed at once: tried again until it is gone, and told while that lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::job_dir::{JobDirs, read_job_file};
use super::removal::Stuck;
use super::slot::Slot;
use super::spawn::Sandboxes;
use crate::isolation::ipc::Leftover;
use crate::job::{ExitRecord, JobId};

const FIRST_TRY_AGAIN: Duration = Duration::from_millis(2);
const LAST_TRY_AGAIN: Duration = Duration::from_secs(1);
/// What stays this long is not just on its way out.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Folders stay for reasons that somebody has to remove.
const FIRST_TRY_OF_FOLDER: Duration = Duration::from_millis(250);
const LAST_TRY_OF_FOLDER: Duration = Duration::from_secs(30);
/// Of what is told at one time.
const MOST_TOLD: usize = 100;

#[derive(Debug)]
enum What {
    Cgroup {
        name: String,
        /// What is left of a sandbox of this launcher's own.
        slot: Option<Box<Slot>>,
        /// Told only once nothing of the job is left.
        outcome: Option<Box<(JobId, ExitRecord)>>,
    },
    Folder {
        id: JobId,
        tenant: Option<String>,
    },
}

/// What of a job is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What a restarted launcher takes it over by. Its output stays.
    Control,
    All,
}

impl Part {
    pub(super) fn remove(self, dirs: &JobDirs, id: JobId) -> Result<(), Stuck> {
        match self {
            Self::Control => dirs.remove_control(id),
            Self::All => dirs.remove(id),
        }
    }
}

#[derive(Debug)]
struct Item {
    what: What,
    since: Instant,
    again: Instant,
    wait: Duration,
    /// Why it stays, as far as that is told.
    told: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct CleanUp {
    items: Vec<Item>,
    folders: HashMap<JobId, Part>,
    /// Something else is to be told than last time.
    changed: bool,
}

/// What has gone in one turn.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Can be told now.
    pub(super) outcomes: Vec<(JobId, ExitRecord)>,
    /// Jobs of which all has gone.
    pub(super) jobs: Vec<JobId>,
}

impl CleanUp {
    /// A cgroup to kill and remove, and the outcome to tell after that.
    pub(super) fn add(&mut self, cgroup: String, outcome: Option<(JobId, ExitRecord)>) {
        let what = What::Cgroup {
            name: cgroup,
            slot: None,
            outcome: outcome.map(Box::new),
        };
        self.push(what, FIRST_TRY_AGAIN, None);
    }

    /// A sandbox whose job is over, or that never had one. What can be used again is taken back once its supervisor has
    /// ended; with an outcome to tell, all of it is removed.
    pub(super) fn add_slot(&mut self, slot: Slot, outcome: Option<(JobId, ExitRecord)>) {
        // A supervisor whose launcher hangs up before it has a job ends.
        let _ = rustix::net::shutdown(&slot.control, rustix::net::Shutdown::Both);
        let what = What::Cgroup {
            name: slot.berth.cgroup_name.clone(),
            slot: Some(Box::new(slot)),
            outcome: outcome.map(Box::new),
        };
        self.push(what, FIRST_TRY_AGAIN, None);
    }

    /// A child has ended; false if it was the supervisor of none of these.
    pub(super) fn reaped(&mut self, pid: i32) -> bool {
        for item in &mut self.items {
            if let What::Cgroup { slot: Some(slot), .. } = &mut item.what
                && slot.supervisor.as_raw_nonzero().get() == pid
            {
                slot.reaped = true;
                item.again = Instant::now();
                return true;
            }
        }
        false
    }

    /// A part of a job that stays for the reason `why`.
    pub(super) fn add_folder(&mut self, dirs: &JobDirs, id: JobId, part: Part, why: String) {
        if let Some(known) = self.folders.insert(id, part) {
            // Once all is to go, nothing less is.
            if known == Part::All {
                self.folders.insert(id, known);
            }
            return;
        }
        let job = dirs
            .existing_unlocked(id)
            .ok()
            .and_then(|dir| read_job_file(dir).ok());
        let tenant = job.map(|job| job.tenant);
        self.changed = true;
        self.push(What::Folder { id, tenant }, FIRST_TRY_OF_FOLDER, Some(why));
    }

    fn push(&mut self, what: What, wait: Duration, told: Option<String>) {
        let since = Instant::now();
        let again = match what {
            What::Cgroup { .. } => since,
            What::Folder { .. } => since + wait,
        };
        self.items.push(Item {
            what,
            since,
            again,
            wait,
            told,
        });
    }

    /// Whether this job's outcome is told later.
    pub(super) fn owes(&self, id: JobId) -> bool {
        self.items.iter().any(|item| match &item.what {
            What::Cgroup { outcome, .. } => outcome.as_ref().is_some_and(|outcome| outcome.0 == id),
            What::Folder { .. } => false,
        })
    }

    /// When something is to be tried again.
    pub(super) fn next_try(&self) -> Option<Duration> {
        let next = self.items.iter().map(|item| item.again).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Tries what is due. A folder of which `runs` is true is let be.
    pub(super) fn turn(
        &mut self,
        sandboxes: &mut Sandboxes,
        dirs: &JobDirs,
        runs: impl Fn(JobId) -> bool,
    ) -> Gone {
        let mut gone = Gone::default();
        if self.items.is_empty() {
            return gone;
        }
        let now = Instant::now();
        self.items.retain_mut(|item| {
            if item.again > now {
                return true;
            }
            let (stays, longest) = match &mut item.what {
                What::Cgroup { name, slot, outcome } => {
                    let empty = match slot.take_if(|slot| outcome.is_none() && slot.reaped) {
                        Some(slot) => {
                            sandboxes.take_back(*slot);
                            true
                        }
                        None if slot.is_some() && outcome.is_none() => false,
                        None => sandboxes.cgroups().sweep(name),
                    };
                    if empty {
                        gone.outcomes.extend(outcome.take().map(|outcome| *outcome));
                    }
                    let stays = (!empty).then(|| "its processes do not end".to_owned());
                    (stays, LAST_TRY_AGAIN)
                }
                What::Folder { id, .. } => {
                    let part = self.folders.get(id).copied().unwrap_or(Part::Control);
                    let stays = match runs(*id) {
                        true => Some("its job runs".to_owned()),
                        false => part.remove(dirs, *id).err().map(|stuck| stuck.to_string()),
                    };
                    if stays.is_none() {
                        self.folders.remove(id);
                        gone.jobs.extend((part == Part::All).then_some(*id));
                    }
                    (stays, LAST_TRY_OF_FOLDER)
                }
            };
            let Some(why) = stays else {
                self.changed |= item.told.is_some();
                return false;
            };
            let due = item.told.is_some() || now.duration_since(item.since) >= TOLD_AFTER;
            if due && item.told.as_ref() != Some(&why) {
                item.told = Some(why);
                self.changed = true;
            }
            item.again = now + item.wait;
            item.wait = (item.wait * 2).min(longest);
            true
        });
        gone
    }

    /// All that stays, if that is something else than last time.
    pub(super) fn news(&mut self) -> Option<Vec<Leftover>> {
        std::mem::take(&mut self.changed).then(|| self.leftovers())
    }

    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        let told = self.items.iter().filter_map(Item::leftover);
        told.take(MOST_TOLD).collect()
    }
}

impl Item {
    fn leftover(&self) -> Option<Leftover> {
        let why = self.told.as_ref()?;
        Some(match &self.what {
            What::Cgroup { name, .. } => Leftover {
                what: format!("cgroup {name}: {why}"),
                tenant: None,
            },
            What::Folder { id, tenant } => Leftover {
                what: format!("folder of job {id}: {why}"),
                tenant: tenant.clone(),
            },
        })
    }
}
