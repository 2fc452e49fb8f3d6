//! What a watch waits for.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Watch;
use crate::isolation::supervisor::output::{Ready, SOURCES, Streams};

/// What the kernel has told.
pub(super) struct Told {
    pub(super) streams: Ready,
    pub(super) signals: bool,
    pub(super) control: bool,
    pub(super) listener: PollFlags,
    pub(super) oom: bool,
}

impl Told {
    /// Where it cannot be asked: what can be looked at without waiting is.
    const fn all() -> Self {
        Self {
            streams: [PollFlags::IN; SOURCES],
            signals: true,
            control: true,
            listener: PollFlags::empty(),
            oom: true,
        }
    }
}

impl Watch<'_> {
    /// Sleeps until something happens or a deadline is near. Gives what the kernel has told.
    pub(super) fn wait(&self) -> Told {
        let mut sources = Vec::with_capacity(7);
        self.streams.add_sources(&mut sources);
        let of_streams = sources.len();
        let others = [
            Some(self.signals.as_fd()),
            self.control.map(AsFd::as_fd),
            self.listener.as_ref().map(AsFd::as_fd),
            // Once it has told, what follows is looked for by the clock.
            self.meter.oom_event().filter(|_| self.oom_look.is_none()),
        ];
        let there = others.iter().flatten();
        sources.extend(there.map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)));
        let until = self.next_deadline().saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(until).unwrap_or(Timespec {
            tv_sec: 3600,
            tv_nsec: 0,
        });
        if poll(&mut sources, Some(&timeout)).is_err() {
            // A job that is the same user as this process may have lowered how many descriptors it can wait for.
            return Told::all();
        }
        let mut rest = sources[of_streams..].iter();
        let [signals, control, listener, oom] = others.map(|source| {
            let told = source.and_then(|_| rest.next());
            told.map_or(PollFlags::empty(), PollFd::revents)
        });
        Told {
            streams: Streams::ready(&sources[..of_streams]),
            signals: !signals.is_empty(),
            control: !control.is_empty(),
            listener,
            oom: !oom.is_empty(),
        }
    }

    fn next_deadline(&self) -> Instant {
        if self.unreaped {
            return Instant::now();
        }
        let condemned = self.condemned.first().map(|&(_, at)| at);
        let deadlines = [
            self.grace_end,
            self.kill_again,
            self.oom_look.map(|(at, _)| at),
            self.tell_start,
            condemned,
        ];
        let running = self
            .has_deadlines()
            .then(|| self.wall_deadline.min(self.cpu_look));
        let next = deadlines.into_iter().chain([running]).flatten().min();
        next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}
