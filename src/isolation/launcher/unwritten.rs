//! Exit records that the control folder did not take: written as soon as it does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::job_dir::JobDirs;
use crate::job::{ExitRecord, JobId};

const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Unwritten {
    records: HashMap<JobId, ExitRecord>,
    again: Option<Instant>,
}

impl Unwritten {
    pub(super) fn add(&mut self, id: JobId, record: ExitRecord) {
        self.records.insert(id, record);
        self.again.get_or_insert_with(|| Instant::now() + AGAIN);
    }

    /// For a server that asks how a job has ended.
    pub(super) fn get(&self, id: JobId) -> Option<&ExitRecord> {
        self.records.get(&id)
    }

    pub(super) fn forget(&mut self, id: JobId) {
        self.records.remove(&id);
    }

    pub(super) fn next_try(&self) -> Option<Duration> {
        self.again
            .map(|again| again.saturating_duration_since(Instant::now()))
    }

    /// Tries all of them once it is time.
    pub(super) fn turn(&mut self, dirs: &JobDirs) {
        if self.again.is_none_or(|again| again > Instant::now()) {
            return;
        }
        self.records
            .retain(|&id, record| dirs.write_outcome(id, record).is_err());
        self.again = (!self.records.is_empty()).then(|| Instant::now() + AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::supervisor::{EXIT_FILE, read_exit_record};
    use crate::job::Cause;

    #[test]
    fn a_record_is_written_when_the_disk_takes_it() {
        let state = tempfile::tempdir().expect("tempdir");
        let gid = rustix::process::getegid().as_raw();
        let control = state.path().join("control");
        let dirs = JobDirs::open(&control, &state.path().join("jobs"), gid).expect("jobs");
        let id = JobId::random();
        let dir = dirs.make(id).expect("make");
        // A folder in the place of the record: no file can take it.
        let in_the_way = control.join(id.to_string()).join(EXIT_FILE);
        std::fs::create_dir(&in_the_way).expect("mkdir");
        let mut unwritten = Unwritten::default();
        unwritten.add(id, ExitRecord::without_run(Cause::Exited { code: 3 }));
        let due = |unwritten: &mut Unwritten| {
            unwritten.again = Some(Instant::now());
            unwritten.turn(&dirs);
        };
        due(&mut unwritten);
        assert!(unwritten.get(id).is_some() && unwritten.next_try().is_some());
        std::fs::remove_dir(&in_the_way).expect("rmdir");
        due(&mut unwritten);
        assert!(unwritten.get(id).is_none() && unwritten.next_try().is_none());
        let record = read_exit_record(&dir).expect("read").expect("a record");
        assert_eq!(record.cause, Cause::Exited { code: 3 });
    }
}
