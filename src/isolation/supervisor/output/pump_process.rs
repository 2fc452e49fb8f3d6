//! The process that moves what the jobs of one sandbox write, one job after another.
//!
//! It alone reads a byte that a job has written, and it can do nothing with it but count, hash and write it to the file
//! that it was handed: it has no capability, a user id that owns nothing, and no right to open or make any file. Its
//! supervisor tells it what to move, and learns how much that was.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use super::STREAMS;
use super::flood::Flood;
use super::outlet::Outlet;
use super::pump::{self, Pump, TURNS, Turn};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::landlock;
use crate::isolation::supervisor::assemble::leave_stdio;
use crate::job::{StartStep, StreamTotals};
use crate::sys::{self, CapabilitySets, StartMemory, fault_point};

/// Supervisor to pump.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToPump {
    /// With it come the pipe to read, and the file to write to; without a file, what comes is counted alone.
    Move { stream: u8, limit: u64 },
    /// Nobody writes any more.
    Finish,
}

/// Pump to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromPump {
    /// The first word: it has given up all that moving bytes does not take, or why it has not.
    Confined(Result<(), Failure>),
    /// More has come than is kept.
    Overflow,
    /// The answer to [`ToPump::Finish`].
    Moved(Box<[StreamTotals; STREAMS]>),
}

/// Who a pump is on this host.
#[derive(Debug, Clone, Copy)]
pub struct PumpIdentity<'a> {
    /// A uid and gid that owns nothing.
    pub id: u32,
    /// Kept open for as long as the id is in use.
    pub id_lock: BorrowedFd<'a>,
    /// The launcher's command line and environment, of which a fork has a copy.
    pub launcher_start: StartMemory,
}

/// The whole life of a pump, in a fork of the launcher.
pub fn serve(supervisor: &Channel, identity: PumpIdentity<'_>) -> ! {
    // SAFETY: this is a fork of the launcher, and has one thread.
    unsafe { identity.launcher_start.erase() };
    let ready = confine(supervisor, identity).and_then(|()| pump::buffer().at(StartStep::Output, "mmap"));
    let (outcome, buffer) = match ready {
        Ok(buffer) => (Ok(()), Some(buffer)),
        Err(failure) => (Err(failure), None),
    };
    let told = supervisor.try_send(&FromPump::Confined(outcome));
    if let (Ok(true), Some(buffer)) = (told, buffer) {
        Moving::new(supervisor, buffer).run();
    }
    sys::exit_now(0)
}

/// Waits until a pump has given up all that moving bytes does not take. Without one no job starts.
pub(in crate::isolation::supervisor) fn await_pump(pump: &Channel) -> Result<(), Failure> {
    loop {
        let _ = poll(&mut [PollFd::new(pump, PollFlags::IN)], None);
        match pump.try_receive() {
            Ok(Some(FromPump::Confined(outcome))) => return outcome,
            Ok(Some(_) | None) => {}
            Err(error) => return Err(Failure::new(StartStep::Output, 0, format!("the pump: {error}"))),
        }
    }
}

/// Gives up all that moving bytes does not take.
fn confine(supervisor: &Channel, identity: PumpIdentity<'_>) -> Result<(), Failure> {
    let (id, step) = (identity.id, StartStep::Output);
    fault_point!("pump.confine").at(step, "confine the pump")?;
    rustix::thread::set_name(c"stockade-pump").at(step, "PR_SET_NAME")?;
    let mut keep = [supervisor.as_raw_fd(), identity.id_lock.as_raw_fd()];
    sys::close_all_but(&mut keep).at(step, "close_range")?;
    leave_stdio()?;
    rustix::process::setsid().at(step, "setsid")?;
    sys::set_user(id, id).at(step, "setresuid")?;
    sys::set_capabilities(CapabilitySets::default()).at(step, "capset")?;
    sys::set_no_new_privs().at(step, "PR_SET_NO_NEW_PRIVS")?;
    sys::set_not_dumpable().at(step, "PR_SET_DUMPABLE")?;
    landlock::allow_nothing()
}

struct Moving<'a> {
    supervisor: &'a Channel,
    buffer: &'static mut [u8],
    streams: [Stream; STREAMS],
}

#[derive(Default)]
enum Stream {
    #[default]
    None,
    Calm(Box<Pump>),
    /// It has a thread of its own.
    Flood(Flood),
}

impl<'a> Moving<'a> {
    fn new(supervisor: &'a Channel, buffer: &'static mut [u8]) -> Self {
        Self {
            supervisor,
            buffer,
            streams: Default::default(),
        }
    }

    /// Until the supervisor has gone. What its job has written by then is kept.
    fn run(&mut self) {
        loop {
            self.wait();
            for number in 0..STREAMS {
                self.turn(number);
            }
            if !self.hear() {
                drop(self.finish());
                return;
            }
        }
    }

    fn wait(&self) {
        let mut sources = Vec::with_capacity(STREAMS + 1);
        sources.push(PollFd::new(self.supervisor, PollFlags::IN));
        let pipes = self.streams.iter().filter_map(|stream| match stream {
            Stream::Calm(pump) => pump.source(),
            Stream::None | Stream::Flood(_) => None,
        });
        sources.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        let _ = poll(&mut sources, None);
    }

    /// Moves what has come.
    fn turn(&mut self, number: usize) {
        let Stream::Calm(pump) = &mut self.streams[number] else {
            return;
        };
        let before = pump.overflowed();
        for _ in 0..TURNS {
            if pump.turn(self.buffer) != Turn::More || pump.is_flooding() {
                break;
            }
        }
        if pump.overflowed() && !before {
            let _ = self.supervisor.try_send(&FromPump::Overflow);
        }
        if pump.is_flooding() && pump.source().is_some() {
            self.flood(number);
        }
    }

    fn flood(&mut self, number: usize) {
        let Stream::Calm(pump) = std::mem::take(&mut self.streams[number]) else {
            return;
        };
        self.streams[number] = match Flood::spawn(pump, self.supervisor) {
            Ok(flood) => Stream::Flood(flood),
            // Slower, not wrong.
            Err(pump) => Stream::Calm(pump),
        };
    }

    /// False where the supervisor has gone.
    fn hear(&mut self) -> bool {
        loop {
            match self.supervisor.try_receive_with() {
                Ok(Some((ToPump::Move { stream, limit }, descriptors))) => {
                    self.take(stream, limit, descriptors);
                }
                Ok(Some((ToPump::Finish, _))) => {
                    let totals = Box::new(self.finish());
                    if !matches!(self.supervisor.try_send(&FromPump::Moved(totals)), Ok(true)) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, stream: u8, limit: u64, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        if let Some(pipe) = descriptors.next()
            && let Some(place) = self.streams.get_mut(usize::from(stream))
        {
            let pump = Pump::new(pipe, descriptors.next().map(Outlet::Open), limit);
            *place = Stream::Calm(Box::new(pump));
        }
    }

    /// Moves all that is left.
    fn finish(&mut self) -> [StreamTotals; STREAMS] {
        let streams = std::mem::take(&mut self.streams);
        streams.map(|stream| match stream {
            Stream::None => StreamTotals::default(),
            Stream::Calm(mut pump) => {
                pump.drain(self.buffer);
                pump.totals()
            }
            Stream::Flood(flood) => flood.finish().totals(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::isolation::ipc;

    /// A pump in a thread of this process, and a stream that it moves.
    struct Bench {
        supervisor: Channel,
        writer: File,
        kept: File,
    }

    fn with_pump(limit: u64, test: impl FnOnce(Bench)) {
        let (supervisor, pumps_end) = ipc::pair().expect("socketpair");
        std::thread::scope(|scope| {
            scope.spawn(move || Moving::new(&pumps_end, pump::buffer().expect("memory")).run());
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
            rustix::io::ioctl_fionbio(&reader, true).expect("O_NONBLOCK");
            let kept = tempfile::tempfile().expect("file");
            let message = ToPump::Move { stream: 1, limit };
            let sent = supervisor.try_send_with(&message, &[reader.as_fd(), kept.as_fd()]);
            assert!(sent.expect("sent"));
            drop(reader);
            test(Bench {
                supervisor,
                writer: writer.into(),
                kept,
            });
        });
    }

    impl Bench {
        fn hear(&self) -> FromPump {
            loop {
                let _ = poll(&mut [PollFd::new(&self.supervisor, PollFlags::IN)], None);
                if let Some(heard) = self.supervisor.try_receive().expect("it lives") {
                    return heard;
                }
            }
        }

        fn finish(&self) -> [StreamTotals; STREAMS] {
            assert!(self.supervisor.try_send(&ToPump::Finish).expect("sent"));
            match self.hear() {
                FromPump::Moved(totals) => *totals,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_was_written_is_kept_and_counted() {
        with_pump(100, |mut bench| {
            bench.writer.write_all(b"hello").expect("write");
            // The write end is open yet: nobody waits for it.
            let [stdout, stderr] = bench.finish();
            assert_eq!(stdout, StreamTotals::default(), "it never had that");
            assert_eq!((stderr.total_bytes, stderr.dropped_bytes), (5, 0));
            let mut kept = [0; 5];
            bench.kept.read_exact_at(&mut kept, 0).expect("read");
            assert_eq!(&kept, b"hello");
        });
    }

    #[test]
    fn more_than_is_kept_is_told_once_and_at_once() {
        with_pump(3, |mut bench| {
            bench.writer.write_all(b"hello").expect("write");
            assert!(matches!(bench.hear(), FromPump::Overflow));
            bench.writer.write_all(b"more").expect("write");
            let [_, stderr] = bench.finish();
            assert_eq!((stderr.total_bytes, stderr.dropped_bytes), (9, 6));
        });
    }

    #[test]
    fn a_flood_is_moved_to_its_end_and_its_limit() {
        const LIMIT: u64 = 3_000_000;
        with_pump(LIMIT, |mut bench| {
            let written = vec![7; 4_000_000];
            bench.writer.write_all(&written).expect("write");
            assert!(matches!(bench.hear(), FromPump::Overflow));
            let [_, stderr] = bench.finish();
            assert_eq!(
                (stderr.total_bytes, stderr.kept_bytes()),
                (written.len() as u64, LIMIT)
            );
            assert_eq!(bench.kept.metadata().expect("metadata").len(), LIMIT);
        });
    }

    #[test]
    fn what_is_there_is_kept_when_the_supervisor_has_gone() {
        let mut file = None;
        with_pump(100, |mut bench| {
            bench.writer.write_all(b"last").expect("write");
            file = Some(bench.kept.try_clone().expect("dup"));
        });
        assert_eq!(file.expect("a file").metadata().expect("metadata").len(), 4);
    }
}
