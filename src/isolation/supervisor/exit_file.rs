//! The files in a job's state folder by which a supervisor outlives its launcher.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat, renameat};

use serde::{Deserialize, Serialize};

use crate::job::{ExitRecord, Receipt, StopOrder, Timestamp};
use crate::sys::fault_point;

/// The exit record, as JSON. It is there as a whole or not at all.
pub const EXIT_FILE: &str = "exit";
/// The last [`StopOrder`] as JSON. A supervisor whose launcher has changed has it from here, SIGTERM tells it to look; a
/// server that is started anew learns from it that the job is being ended.
pub const STOP_FILE: &str = "stop";
const UNFINISHED: &str = "exit.tmp";
/// A [`StartRecord`] as JSON.
const START_FILE: &str = "started";
const UNFINISHED_START: &str = "started.tmp";
/// A larger file is none of ours.
const LARGEST: u64 = 1 << 20;

/// What a launcher knows of a job that runs, left for the next one by a supervisor whose launcher has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    pub started_at: Timestamp,
    pub receipt: Receipt,
}

/// Writes the record of a job that is over.
pub fn write_exit_record(job_dir: impl AsFd, record: &ExitRecord) -> io::Result<()> {
    write(job_dir, UNFINISHED, EXIT_FILE, &serde_json::to_vec(record)?)
}

pub(super) fn write_start_record(job_dir: impl AsFd, record: &StartRecord) -> io::Result<()> {
    write(
        job_dir,
        UNFINISHED_START,
        START_FILE,
        &serde_json::to_vec(record)?,
    )
}

/// The start record, where its supervisor had to leave one.
pub fn read_start_record(job_dir: impl AsFd) -> io::Result<Option<StartRecord>> {
    match read(job_dir, START_FILE) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that is there as a whole or not at all.
fn write(job_dir: impl AsFd, unfinished: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault_point!("record.write")?;
    let file = openat(&job_dir, unfinished, flags, Mode::from_raw_mode(0o640))?;
    File::from(file).write_all(bytes)?;
    fault_point!("record.rename")?;
    renameat(&job_dir, unfinished, &job_dir, name)?;
    Ok(())
}

/// The record of a job that is over, `None` while it is not.
pub fn read_exit_record(job_dir: impl AsFd) -> io::Result<Option<ExitRecord>> {
    match read(job_dir, EXIT_FILE) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last order to end the job, if there was one.
pub fn read_stop_order(job_dir: impl AsFd) -> Option<StopOrder> {
    serde_json::from_slice(&read(job_dir, STOP_FILE).ok()?).ok()
}

fn read(job_dir: impl AsFd, name: &str) -> io::Result<Vec<u8>> {
    let file = openat(
        job_dir,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
