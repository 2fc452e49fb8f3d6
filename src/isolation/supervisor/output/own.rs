//! Streams that a supervisor moves by itself.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, write};

use super::STREAMS;
use super::outlet::Outlet;
use super::pump::{self, Pump, TURNS, Turn};
use crate::job::Output;

#[derive(Debug)]
pub(in crate::isolation::supervisor) struct Own {
    pumps: [Pump; STREAMS],
    buffer: &'static mut [u8],
    widened: [bool; STREAMS],
    /// An eventfd that is written to when there is more output.
    bell: Option<OwnedFd>,
    /// Bytes that the pumps have moved, as far as the bell has told.
    moved: u64,
}

impl Own {
    pub(in crate::isolation::supervisor) fn new(
        pipes: [OwnedFd; STREAMS],
        outlets: [Outlet; STREAMS],
        limit: u64,
        bell: Option<OwnedFd>,
    ) -> Result<Self, Errno> {
        let ([out, err], [stdout, stderr]) = (pipes, outlets);
        Ok(Self {
            pumps: [
                Pump::new(out, Some(stdout), limit),
                Pump::new(err, Some(stderr), limit),
            ],
            buffer: pump::buffer()?,
            widened: [false; STREAMS],
            bell,
            moved: 0,
        })
    }

    pub(super) fn add_sources<'s>(&'s self, sources: &mut Vec<PollFd<'s>>) {
        let pipes = self.pumps.iter().filter_map(Pump::source);
        sources.extend(pipes.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
    }

    pub(super) fn turn(&mut self) {
        for (pump, widened) in self.pumps.iter_mut().zip(&mut self.widened) {
            for _ in 0..TURNS {
                if pump.turn(self.buffer) != Turn::More {
                    break;
                }
                if pump.is_flooding() && !std::mem::replace(widened, true) {
                    pump.widen();
                }
            }
        }
        self.ring();
    }

    /// Tells a launcher that passes output on of more of it.
    fn ring(&mut self) {
        let moved = self.pumps.iter().map(Pump::total).sum();
        if self.moved != moved {
            self.moved = moved;
            if let Some(bell) = &self.bell {
                let _ = write(bell, &1_u64.to_ne_bytes());
            }
        }
    }

    pub(super) fn overflowed(&self) -> bool {
        self.pumps.iter().any(Pump::overflowed)
    }

    pub(super) fn finish(mut self) -> Output {
        for pump in &mut self.pumps {
            pump.drain(self.buffer);
        }
        let [stdout, stderr] = self.pumps.map(Pump::totals);
        Output { stdout, stderr }
    }
}
