//! Output of a job in the foreground on its way to whoever has the standard streams of this process.
//!
//! Nothing here waits: signals and the job's deadline are heard while a reader takes nothing. The other end is not made
//! non-blocking for that, since it may be shared with other processes (a terminal, the pipe of a shell).

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, FileType, MemfdFlags, Mode, OFlags, fallocate, fstat, memfd_create, open};
use rustix::io::{ioctl_fionread, pread};
use rustix::pipe::fcntl_getpipe_size;

/// Output up to this size is kept in memory until it is passed on: to make a file on disk takes some file systems as
/// long as the whole sandbox.
const IN_MEMORY_BYTES: u64 = 64 << 20;
/// What is passed on in one piece.
const BUFFER: usize = 64 << 10;
/// What has been passed on is given back in pieces of this size.
const PIECE: u64 = 1 << 20;
/// What a pipe takes that has room at all (PIPE_BUF), and a socket.
const SURE_OF_PIPE: usize = 4096;
/// What a terminal's queue has room for when it has any.
const SURE_OF_TERMINAL: usize = 256;

/// A file that has no name, and how much of it has been passed on.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) file: OwnedFd,
    name: &'static str,
    passed: u64,
    given_back: u64,
    to: File,
    /// Found out when there is something to pass on.
    kind: Option<Kind>,
    /// There is more, and the other end took nothing when it was last asked.
    waits: bool,
    /// Why nothing is passed on any more.
    broken: Option<io::Error>,
    /// Not written before there is something to pass on.
    buffer: Vec<u8>,
    /// So much of it has been passed on.
    sent: usize,
}

/// What the other end is: how much it takes at once without letting its writer wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// And what it holds at most.
    Pipe(usize),
    Terminal,
    Other,
}

impl Tail {
    /// `most`: what the file holds at most.
    pub(super) fn new(name: &'static str, to: BorrowedFd<'_>, most: u64) -> io::Result<Self> {
        Ok(Self {
            file: nameless_file(most)?,
            name,
            passed: 0,
            given_back: 0,
            to: File::from(to.try_clone_to_owned()?),
            kind: None,
            waits: false,
            broken: None,
            buffer: Vec::with_capacity(BUFFER),
            sent: 0,
        })
    }

    /// Passes on what is new, as far as the other end takes it now.
    pub(super) fn pass(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.try_pass()
        {
            self.waits = false;
            self.broken = Some(error);
        }
    }

    fn try_pass(&mut self) -> io::Result<()> {
        let until = self.passed + PIECE;
        self.waits = false;
        while self.passed < until {
            if self.sent == self.buffer.len() {
                self.buffer.clear();
                self.sent = 0;
                if pread(&self.file, spare_capacity(&mut self.buffer), self.passed)? == 0 {
                    return Ok(());
                }
            }
            let taken = self.offer()?;
            if taken == 0 {
                self.waits = true;
                return Ok(());
            }
            self.sent += taken;
            self.passed += taken as u64;
            self.give_back();
        }
        // Others have their turn.
        self.waits = true;
        Ok(())
    }

    /// How much of what has been read the other end takes now.
    fn offer(&mut self) -> io::Result<usize> {
        let room = self.room()?;
        let left = &self.buffer[self.sent..];
        if room == 0 {
            return Ok(0);
        }
        match self.to.write(&left[..room.min(left.len())]) {
            // Somebody has made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            taken => taken,
        }
    }

    /// What the other end takes without letting this process wait.
    fn room(&mut self) -> io::Result<usize> {
        let kind = match self.kind {
            Some(kind) => kind,
            None => *self.kind.insert(kind_of(&self.to)?),
        };
        if kind == Kind::File {
            return Ok(BUFFER);
        }
        let mut source = [PollFd::new(&self.to, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut source, Some(&now))? == 0 {
            return Ok(0);
        }
        Ok(match kind {
            // All of it is free then.
            Kind::Pipe(size) if ioctl_fionread(&self.to).is_ok_and(|held| held == 0) => {
                size.clamp(SURE_OF_PIPE, BUFFER)
            }
            Kind::Pipe(_) | Kind::Other => SURE_OF_PIPE,
            Kind::Terminal => SURE_OF_TERMINAL,
            Kind::File => BUFFER,
        })
    }

    /// Nobody reads it again. A file system that cannot give it back keeps it to the end.
    fn give_back(&mut self) {
        let length = self.passed - self.given_back;
        if length >= PIECE {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, flags, self.given_back, length);
            self.given_back = self.passed;
        }
    }

    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// What to wait for, where there is more to pass on.
    pub(super) fn waits_for(&self) -> Option<PollFd<'_>> {
        self.waits.then(|| PollFd::new(&self.to, PollFlags::OUT))
    }

    /// Nothing is passed on any more.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Why the other end has not got everything; `None` where it has, or has gone by its own wish.
    pub(super) fn loss(&self) -> Option<String> {
        let (name, passed) = (self.name, self.passed);
        match &self.broken {
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Some(error) => Some(format!("{name}: {error}: the rest after {passed} bytes is lost")),
            None if self.waits => Some(format!(
                "{name}: nobody takes the rest after {passed} bytes: it is lost"
            )),
            None => None,
        }
    }
}

fn kind_of(file: &File) -> io::Result<Kind> {
    Ok(match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => Kind::File,
        FileType::Fifo => Kind::Pipe(fcntl_getpipe_size(file).unwrap_or(SURE_OF_PIPE)),
        FileType::CharacterDevice if file.is_terminal() => Kind::Terminal,
        _ => Kind::Other,
    })
}

/// For so much at `most`. Where the temporary folder cannot have such files, large ones are in memory, too.
fn nameless_file(most: u64) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if most > IN_MEMORY_BYTES
        && let Ok(file) = open(std::env::temp_dir(), flags, Mode::from_raw_mode(0o600))
    {
        return Ok(file);
    }
    Ok(memfd_create("output", MemfdFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    fn tail_with(to: BorrowedFd<'_>, length: usize) -> (Tail, Vec<u8>) {
        let tail = Tail::new("stdout", to, 1).expect("memfd");
        let content: Vec<u8> = (0..=250).cycle().take(length).collect();
        let file = File::from(tail.file.try_clone().expect("dup"));
        file.write_all_at(&content, 0).expect("write");
        (tail, content)
    }

    /// Reads what is in the pipe now.
    fn drain(pipe: &mut io::PipeReader, into: &mut Vec<u8>) {
        let held = usize::try_from(ioctl_fionread(&*pipe).expect("FIONREAD")).expect("small");
        let start = into.len();
        into.resize(start + held, 0);
        pipe.read_exact(&mut into[start..]).expect("read");
    }

    #[test]
    fn a_pipe_that_nobody_reads_keeps_nobody_waiting_and_loses_nothing() {
        for non_blocking in [false, true] {
            let (mut reader, writer) = io::pipe().expect("pipe");
            if non_blocking {
                let flags = fcntl_getfl(&writer).expect("F_GETFL");
                fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("F_SETFL");
            }
            let (mut tail, content) = tail_with(writer.as_fd(), 300_001);
            let mut read = Vec::new();
            while read.len() < content.len() {
                tail.pass();
                assert!(tail.waits_for().is_some() || tail.passed == content.len() as u64);
                drain(&mut reader, &mut read);
            }
            assert!(read == content);
            assert_eq!((tail.is_broken(), tail.loss()), (false, None));
        }
    }

    #[test]
    fn what_a_full_pipe_did_not_take_is_told() {
        let (_reader, writer) = io::pipe().expect("pipe");
        let (mut tail, content) = tail_with(writer.as_fd(), 300_000);
        tail.pass();
        tail.pass();
        assert!(tail.passed < content.len() as u64);
        let loss = tail.loss().expect("not all was passed");
        assert!(loss.starts_with("stdout: nobody takes the rest"), "{loss}");
    }

    #[test]
    fn a_full_disk_is_told_and_a_reader_that_went_is_not() {
        let full = File::options().write(true).open("/dev/full").expect("open");
        let (mut tail, _) = tail_with(full.as_fd(), 10);
        tail.pass();
        let loss = tail.loss().expect("ENOSPC");
        assert!(loss.contains("No space left on device"), "{loss}");
        let (reader, writer) = io::pipe().expect("pipe");
        drop(reader);
        let (mut tail, _) = tail_with(writer.as_fd(), 10);
        tail.pass();
        assert_eq!((tail.is_broken(), tail.loss()), (true, None));
    }

    #[test]
    fn a_file_gets_all_of_it() {
        let file = tempfile::tempfile().expect("tempfile");
        let (mut tail, content) = tail_with(file.as_fd(), 3 << 20);
        tail.pass();
        while tail.waits_for().is_some() {
            tail.pass();
        }
        let mut got = vec![0; content.len() + 1];
        let length = file.read_at(&mut got, 0).expect("read");
        assert!(got[..length] == content);
    }
}
