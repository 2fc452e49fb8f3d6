//! The files in a job's state folder by which a supervisor outlives its launcher.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat, renameat};

use crate::job::{ExitRecord, StopOrder};
use crate::sys::fault_point;

/// The exit record, as JSON. It is there as a whole or not at all.
pub const EXIT_FILE: &str = "exit";
/// A [`StopOrder`] as JSON, for a supervisor whose launcher has changed; SIGTERM tells it to look.
pub const STOP_FILE: &str = "stop";
const UNFINISHED: &str = "exit.tmp";
/// A larger file is none of ours.
const LARGEST: u64 = 1 << 20;

/// Writes the record of a job that is over.
pub fn write_exit_record(job_dir: impl AsFd, record: &ExitRecord) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fault_point!("record.write")?;
    let file = openat(&job_dir, UNFINISHED, flags, Mode::from_raw_mode(0o640))?;
    File::from(file).write_all(&serde_json::to_vec(record)?)?;
    fault_point!("record.rename")?;
    renameat(&job_dir, UNFINISHED, &job_dir, EXIT_FILE)?;
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

pub(super) fn read_stop_order(job_dir: impl AsFd) -> Option<StopOrder> {
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
