//! The supervisor's side of a stub: hears that it is ready, lets it go, hears that it has become the command.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, write};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::isolation::failure::Failure;
use crate::isolation::sandbox::stub::{Packet, STEPS, StubFailure};
use crate::job::{JobSpec, StartStep};
use crate::sys::SeccompListener;

#[derive(Debug)]
pub(super) struct StubLink {
    /// One byte lets the stub go a step further.
    go: OwnedFd,
    /// Packets from the stub; closed by its exec.
    packets: OwnedFd,
    listener: Option<SeccompListener>,
}

/// What is heard of a stub.
enum Heard {
    Packet(Packet),
    /// The exec has closed the stub's end, or the kernel has, as it killed the stub.
    End,
}

impl StubLink {
    pub(super) const fn new(go: OwnedFd, packets: OwnedFd) -> Self {
        Self {
            go,
            packets,
            listener: None,
        }
    }

    /// Tells the stub that its ids are mapped.
    pub(super) fn tell_mapped(&self) {
        // A stub that is dead does not read it; then the end of its packets tells.
        let _ = write(&self.go, b"1");
    }

    /// Waits until the stub has given up all that it can without knowing its job.
    pub(super) fn confine(&mut self) -> Result<(), Failure> {
        loop {
            match self.next()? {
                Heard::Packet(Packet::Ready) => return Ok(()),
                Heard::Packet(Packet::Failed(failure)) => return Err(explain(failure, None)),
                Heard::Packet(Packet::Listener) => {}
                Heard::End => return Err(Failure::new(StartStep::Supervisor, 0, "the stub was killed")),
            }
        }
    }

    /// Lets the stub go on, and waits until it has become the command or has failed. Gives its filter's listener.
    pub(super) fn let_go(mut self, job: &JobSpec) -> Result<Option<SeccompListener>, Failure> {
        // A stub that is dead does not read it; then the end of its packets tells.
        let _ = write(&self.go, b"1");
        loop {
            match self.next()? {
                Heard::Packet(Packet::Failed(failure)) => return Err(explain(failure, Some(job))),
                Heard::Packet(_) => {}
                // Whether it was an exec or a kill, the wait status will tell.
                Heard::End => return Ok(self.listener),
            }
        }
    }

    /// A listener that comes with a packet is kept.
    fn next(&mut self) -> Result<Heard, Failure> {
        let mut bytes = [0; Packet::BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length = loop {
            match recvmsg(&self.packets, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let errno = error.raw_os_error();
                    return Err(Failure::new(
                        StartStep::Supervisor,
                        errno,
                        "receive from the stub",
                    ));
                }
            }
        };
        let listener = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next().map(SeccompListener::from),
            _ => None,
        });
        if listener.is_some() {
            self.listener = listener;
        }
        match (length, Packet::from_bytes(bytes)) {
            (0, _) => Ok(Heard::End),
            (_, Some(packet)) => Ok(Heard::Packet(packet)),
            (_, None) => Err(Failure::new(
                StartStep::Supervisor,
                0,
                "an unknown packet of the stub",
            )),
        }
    }
}

fn explain(failure: StubFailure, job: Option<&JobSpec>) -> Failure {
    let step = usize::try_from(failure.step)
        .ok()
        .and_then(|index| STEPS.get(index));
    let step = *step.unwrap_or(&StartStep::Supervisor);
    let object = match (step, job) {
        (StartStep::Exec, Some(job)) => job.argv.first().map_or("", String::as_str),
        (StartStep::WorkingDir, Some(job)) => &job.working_dir,
        _ => "in the sandbox",
    };
    Failure::new(step, failure.errno, object)
}
