//! Streams that a supervisor hands to a process beside it, with the first byte of each.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;

use super::outlet::Outlet;
use super::pump_process::{FromPump, ToPump};
use super::{Ready, STREAMS, Totals};
use crate::isolation::ipc::Channel;
use crate::job::{Output, StreamTotals};

#[derive(Debug)]
pub(in crate::isolation::supervisor) struct Handed<'a> {
    pump: &'a Channel,
    streams: [Stream; STREAMS],
    limit: u64,
    overflowed: bool,
    lost: bool,
}

#[derive(Debug)]
enum Stream {
    /// Nothing has come yet.
    Silent { pipe: OwnedFd, outlet: Outlet },
    /// The pump has it. `None`: its file could not be made, and nothing is kept.
    Handed { file: Option<Outlet> },
    /// It has ended without a byte.
    Empty,
}

impl Stream {
    fn pipe(&self) -> Option<&OwnedFd> {
        match self {
            Self::Silent { pipe, .. } => Some(pipe),
            Self::Handed { .. } | Self::Empty => None,
        }
    }

    const fn is_handed(&self) -> bool {
        matches!(self, Self::Handed { .. })
    }

    /// By what is in its file, where nobody has counted to the end.
    fn size_of_file(&mut self) -> StreamTotals {
        let file = match self {
            Self::Handed { file: Some(outlet) } => outlet.file().ok(),
            _ => None,
        };
        let size = file
            .and_then(|file| fstat(file).ok())
            .map_or(0, |stat| stat.st_size);
        StreamTotals {
            total_bytes: u64::try_from(size).unwrap_or(0),
            ..StreamTotals::default()
        }
    }
}

impl<'a> Handed<'a> {
    pub(in crate::isolation::supervisor) fn new(
        pump: &'a Channel,
        pipes: [OwnedFd; STREAMS],
        outlets: [Outlet; STREAMS],
        limit: u64,
    ) -> Self {
        let ([out, err], [stdout, stderr]) = (pipes, outlets);
        let silent = |pipe, outlet| Stream::Silent { pipe, outlet };
        Self {
            pump,
            streams: [silent(out, stdout), silent(err, stderr)],
            limit,
            overflowed: false,
            lost: false,
        }
    }

    /// The pipes that nothing has come from yet, and the pump.
    pub(super) fn add_sources<'s>(&'s self, sources: &mut Vec<PollFd<'s>>) {
        let pipes = self.streams.iter().filter_map(Stream::pipe);
        sources.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        if !self.lost {
            sources.push(PollFd::new(self.pump, PollFlags::IN));
        }
    }

    pub(super) fn turn(&mut self, ready: Ready) {
        let silent = self
            .streams
            .iter()
            .filter(|stream| stream.pipe().is_some())
            .count();
        if !ready[silent].is_empty() {
            self.listen();
        }
        let mut told = ready.iter();
        for number in 0..STREAMS {
            if self.streams[number].pipe().is_some()
                && let Some(told) = told.next()
            {
                self.look_at(number, *told);
            }
        }
    }

    fn look_at(&mut self, number: usize, told: PollFlags) {
        if told.contains(PollFlags::IN) {
            self.hand_over(number);
        } else if told.contains(PollFlags::HUP) {
            self.streams[number] = Stream::Empty;
        }
    }

    fn hand_over(&mut self, number: usize) {
        let stream = std::mem::replace(&mut self.streams[number], Stream::Empty);
        let Stream::Silent { pipe, mut outlet } = stream else {
            return;
        };
        let mut descriptors = vec![pipe.as_fd()];
        // Without it what comes is counted, and none of it kept.
        let file = outlet.file().ok();
        descriptors.extend(file.map(AsFd::as_fd));
        let message = ToPump::Move {
            stream: u8::try_from(number).unwrap_or(u8::MAX),
            limit: self.limit,
        };
        let kept = file.is_some();
        let sent = self.pump.try_send_with(&message, &descriptors);
        self.lost |= !matches!(sent, Ok(true));
        self.streams[number] = Stream::Handed {
            file: kept.then_some(outlet),
        };
    }

    /// Hears what the pump has to say by itself.
    fn listen(&mut self) {
        while !self.lost {
            match self.pump.try_receive() {
                Ok(Some(FromPump::Overflow)) => self.overflowed = true,
                Ok(Some(FromPump::Moved(_) | FromPump::Confined(_))) => {}
                Ok(None) => return,
                Err(_) => self.lost = true,
            }
        }
    }

    pub(super) const fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn finish(mut self) -> Totals {
        self.take_last();
        let handed = self.streams.iter().any(Stream::is_handed);
        let moved = match handed {
            true => self.wait_for_totals(),
            false => Some(Default::default()),
        };
        let lost = moved.is_none();
        let [stdout, stderr] = moved.unwrap_or_else(|| self.streams.each_mut().map(Stream::size_of_file));
        let nothing = || StreamTotals::of_nothing();
        let [first, second] = &self.streams;
        Totals {
            output: Output {
                stdout: if first.is_handed() { stdout } else { nothing() },
                stderr: if second.is_handed() { stderr } else { nothing() },
            },
            lost,
        }
    }

    /// What was written just before the end.
    fn take_last(&mut self) {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        for number in 0..STREAMS {
            let Some(pipe) = self.streams[number].pipe() else {
                continue;
            };
            let mut look = [PollFd::new(pipe, PollFlags::IN)];
            let _ = poll(&mut look, Some(&now));
            let told = look[0].revents();
            self.look_at(number, told);
        }
    }

    /// `None` where the pump has gone.
    fn wait_for_totals(&self) -> Option<[StreamTotals; STREAMS]> {
        if self.lost || !matches!(self.pump.try_send(&ToPump::Finish), Ok(true)) {
            return None;
        }
        loop {
            let _ = poll(&mut [PollFd::new(self.pump, PollFlags::IN)], None);
            match self.pump.try_receive() {
                Ok(Some(FromPump::Moved(totals))) => return Some(*totals),
                Ok(Some(FromPump::Overflow | FromPump::Confined(_)) | None) => {}
                Err(_) => return None,
            }
        }
    }
}
