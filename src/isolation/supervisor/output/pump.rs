//! Moves a job's output from a pipe to a file: every byte up to the limit, and a count of the rest.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, pwrite, read};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::setpriority_process;

use super::digest::Digest;
use super::outlet::Outlet;
use crate::job::StreamTotals;
use crate::sys::{self, fault_point};

/// Chunks moved before other events get their turn.
pub(super) const TURNS: usize = 64;
/// The size of a pipe at first, and of what is read from it at once.
pub(super) const CHUNK: usize = 64 << 10;
/// A stream that fills its pipe gets a larger one: fewer wake-ups for a job that writes a lot.
const BUSY_PIPE_BYTES: usize = 1 << 20;
const BUSY_NICE: i32 = 10;

#[derive(Debug)]
pub(super) struct Pump {
    pipe: Option<OwnedFd>,
    /// `None`: nothing is kept.
    outlet: Option<Outlet>,
    limit: u64,
    kept: u64,
    total: u64,
    /// The file takes no more (full disk): what comes later is dropped, so that what is kept has no hole.
    failed: Option<Errno>,
    digest: Digest,
    /// A whole chunk has come at once.
    flooding: bool,
}

/// What is known after a turn of the pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The pipe is empty for now.
    Empty,
    /// There may be more.
    More,
    /// Nobody can write to the pipe any more.
    End,
}

impl Pump {
    pub(super) fn new(pipe: OwnedFd, outlet: Option<Outlet>, limit: u64) -> Self {
        Self {
            pipe: Some(pipe),
            outlet,
            limit,
            kept: 0,
            total: 0,
            failed: None,
            digest: Digest::new(),
            flooding: false,
        }
    }

    /// What to wait on, until the end.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Moves at most one chunk.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> Turn {
        let Some(pipe) = &self.pipe else { return Turn::End };
        if let Some(mut block) = self.digest.take_block() {
            let came = read(pipe, &mut *block);
            let kept = came.map_or(0, |count| self.keep(&block[..count]));
            self.digest.put_block(block, kept);
            return self.after(came);
        }
        let came = read(pipe, &mut *buffer);
        if let Ok(count) = came {
            let kept = self.keep(&buffer[..count]);
            self.digest.update(&buffer[..kept]);
            self.flooding |= count == CHUNK;
        }
        self.after(came)
    }

    /// The job writes a lot.
    pub(super) const fn is_flooding(&self) -> bool {
        self.flooding
    }

    /// For a job that writes a lot, in the thread that moves its output from here on.
    pub(super) fn widen(&mut self) {
        if let Some(pipe) = &self.pipe {
            // Refused where the user's pipes are large enough already: slower, not wrong.
            let _ = fcntl_setpipe_size(pipe, BUSY_PIPE_BYTES);
        }
        // What a flood costs is its own job's time, not the server's.
        let _ = setpriority_process(None, BUSY_NICE);
        self.digest.go_aside();
    }

    fn after(&mut self, came: Result<usize, Errno>) -> Turn {
        match came {
            Ok(0) => {
                self.pipe = None;
                Turn::End
            }
            Ok(_) | Err(Errno::INTR) => Turn::More,
            Err(_) => Turn::Empty,
        }
    }

    /// Moves all that is in the pipe. For the end, when nobody is left to write.
    pub(super) fn drain(&mut self, buffer: &mut [u8]) {
        while self.turn(buffer) == Turn::More {}
    }

    /// Bytes that the job has written.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The limit has been reached and something was dropped.
    pub(super) const fn overflowed(&self) -> bool {
        self.total > self.limit
    }

    pub(super) fn totals(self) -> StreamTotals {
        StreamTotals {
            total_bytes: self.total,
            dropped_bytes: self.total - self.kept,
            sha256: self.digest.finish(),
        }
    }

    /// Writes what there is room for; how much that was.
    fn keep(&mut self, bytes: &[u8]) -> usize {
        let room = usize::try_from(self.limit - self.kept).unwrap_or(usize::MAX);
        self.total += bytes.len() as u64;
        // Of a stream without a byte there is no file.
        if bytes.is_empty() || self.failed.is_some() {
            return 0;
        }
        let wanted = bytes.len().min(room);
        let file = match self.outlet.as_mut().map(Outlet::file) {
            Some(Ok(file)) => file,
            None => return 0,
            Some(Err(error)) => {
                self.failed = Some(error);
                return 0;
            }
        };
        let mut written = 0;
        while written < wanted {
            let rest = &bytes[written..wanted];
            match fault_point!("supervisor.output").and_then(|()| pwrite(file, rest, self.kept)) {
                Ok(count) => {
                    self.kept += count as u64;
                    written += count;
                }
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        written
    }
}

/// A buffer for [`Pump::turn`].
pub(super) fn buffer() -> Result<&'static mut [u8], Errno> {
    // A job that writes nothing touches none of it.
    sys::private_memory(CHUNK)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::sync::Arc;

    use rustix::fs::{Mode, OFlags};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pump_of(limit: u64, written: &[u8]) -> (StreamTotals, Vec<u8>) {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe");
        let mut file = tempfile::tempfile().expect("file");
        let mut pump = Pump::new(
            reader,
            Some(Outlet::Open(file.try_clone().expect("dup").into())),
            limit,
        );
        let buffer = buffer().expect("memory");
        let mut writer = File::from(writer);
        for part in written.chunks(4096) {
            writer.write_all(part).expect("fits into the pipe");
            pump.drain(buffer);
        }
        drop(writer);
        pump.drain(buffer);
        let mut kept = Vec::new();
        file.rewind().expect("rewind");
        file.read_to_end(&mut kept).expect("read");
        (pump.totals(), kept)
    }

    #[test]
    fn all_bytes_are_kept_below_the_limit() {
        let written: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let (totals, kept) = pump_of(1 << 20, &written);
        assert_eq!(kept, written);
        assert_eq!((totals.total_bytes, totals.dropped_bytes), (100_000, 0));
    }

    #[test]
    fn the_first_bytes_are_kept_and_the_rest_is_counted() {
        let (totals, kept) = pump_of(5, b"hello, world");
        assert_eq!(kept, b"hello");
        assert_eq!((totals.total_bytes, totals.dropped_bytes), (12, 7));
        assert_eq!(
            totals.sha256,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
    }

    #[test]
    fn a_stream_without_a_byte_has_no_file() {
        let outputs = tempfile::tempdir().expect("tempdir");
        let open = rustix::fs::open(outputs.path(), OFlags::DIRECTORY, Mode::empty()).expect("open");
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe");
        let outlet = Outlet::Later {
            outputs: Arc::new(open),
            folder: Arc::from("job"),
            name: "stdout",
        };
        let mut pump = Pump::new(reader, Some(outlet), 1 << 20);
        drop(writer);
        pump.drain(buffer().expect("memory"));
        assert_eq!(pump.totals().total_bytes, 0);
        assert!(!outputs.path().join("job").exists());
    }

    #[test]
    fn a_flood_is_kept_and_counted_to_its_limit() {
        const LIMIT: u32 = 5_000_000;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("O_NONBLOCK");
        let written: Vec<u8> = (0..LIMIT + 1000).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("file");
        let outlet = Outlet::Open(file.try_clone().expect("dup").into());
        let mut pump = Pump::new(reader, Some(outlet), LIMIT.into());
        std::thread::scope(|scope| {
            scope.spawn(|| File::from(writer).write_all(&written).expect("write"));
            let buffer = buffer().expect("memory");
            while !pump.is_flooding() {
                pump.turn(buffer);
            }
            pump.widen();
            while pump.turn(buffer) != Turn::End {}
        });
        let totals = pump.totals();
        let mut kept = Vec::new();
        file.rewind().expect("rewind");
        file.read_to_end(&mut kept).expect("read");
        assert!(kept == written[..LIMIT as usize], "{} bytes are kept", kept.len());
        assert_eq!(
            (totals.total_bytes, totals.dropped_bytes),
            (written.len() as u64, 1000)
        );
        let mut digest = Digest::new();
        digest.update(&kept);
        assert_eq!(totals.sha256, digest.finish());
    }

    #[test]
    fn a_file_that_takes_no_more_leaves_a_whole_beginning() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("pipe");
        let mut pump = Pump::new(reader, Some(Outlet::Open(full.into())), 1 << 20);
        File::from(writer).write_all(b"lost").expect("write");
        pump.drain(buffer().expect("memory"));
        let totals = pump.totals();
        assert_eq!((totals.total_bytes, totals.dropped_bytes), (4, 4));
    }
}
