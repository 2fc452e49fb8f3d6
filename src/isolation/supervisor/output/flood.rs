//! A stream that a job floods, moved by a thread of its own: with a lower priority, which the thread takes along when it
//! ends. A process without privileges could not raise its own again for the next job.

use std::os::fd::OwnedFd;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, write};

use super::pump::{self, Pump, Turn};
use super::pump_process::FromPump;
use crate::isolation::ipc::Channel;
use crate::sys::PageBuffer;

/// It calls little.
const STACK_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Flood {
    thread: JoinHandle<Pump>,
    /// Nobody writes any more.
    end: OwnedFd,
}

impl Flood {
    /// Goes on with `pump` in a thread; gives it back where there can be none.
    pub(super) fn spawn(pump: Box<Pump>, supervisor: &Channel) -> Result<Self, Box<Pump>> {
        let Ok((end, ends, channel, buffer)) = parts(supervisor) else {
            return Err(pump);
        };
        // By a channel, so that it is not lost with a thread that cannot be made.
        let (give, taken) = sync_channel(1);
        let move_on = move || {
            let pump: Box<Pump> = taken.recv().expect("it is sent next");
            move_all(*pump, &channel, &ends, buffer)
        };
        let builder = Builder::new().name("stockade-flood".to_owned());
        match builder.stack_size(STACK_BYTES).spawn(move_on) {
            Ok(thread) => {
                give.send(pump).expect("it waits for it");
                Ok(Self { thread, end })
            }
            Err(_) => Err(pump),
        }
    }

    /// Has it move what is left.
    pub(super) fn finish(self) -> Pump {
        let _ = write(&self.end, &1_u64.to_ne_bytes());
        self.thread.join().expect("moving cannot fail")
    }
}

fn parts(supervisor: &Channel) -> Result<(OwnedFd, OwnedFd, Channel, PageBuffer), Errno> {
    let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let ends = rustix::io::fcntl_dupfd_cloexec(&end, 0)?;
    Ok((end, ends, supervisor.try_clone()?, PageBuffer::new(pump::CHUNK)))
}

fn move_all(mut pump: Pump, supervisor: &Channel, end: &OwnedFd, mut buffer: PageBuffer) -> Pump {
    pump.widen();
    let mut told = pump.overflowed();
    while let Some(pipe) = pump.source() {
        let mut sources = [
            PollFd::from_borrowed_fd(pipe, PollFlags::IN),
            PollFd::new(end, PollFlags::IN),
        ];
        let _ = poll(&mut sources, None);
        if !sources[1].revents().is_empty() {
            pump.drain(&mut buffer);
            break;
        }
        while pump.turn(&mut buffer) == Turn::More && (told || !pump.overflowed()) {}
        if pump.overflowed() && !told {
            told = true;
            let _ = supervisor.try_send(&FromPump::Overflow);
        }
    }
    pump
}
