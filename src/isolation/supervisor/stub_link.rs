//! The supervisor's side of a stub: hears that it is ready, lets it go, hears that it has become the command.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, write};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::isolation::failure::Failure;
use crate::isolation::sandbox::stub::{LISTENER, READY, STEPS, StubFailure};
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

enum Packet {
    Ready,
    Listener(Option<SeccompListener>),
    Failed(StubFailure),
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

    /// Tells the stub that its ids are mapped, and waits until it has given up all that it can without knowing its
    /// job.
    pub(super) fn confine(&mut self) -> Result<(), Failure> {
        let _ = write(&self.go, b"1");
        loop {
            match self.next()? {
                Packet::Ready => return Ok(()),
                Packet::Listener(listener) => self.listener = listener,
                Packet::Failed(failure) => return Err(explain(failure, None)),
                Packet::End => return Err(Failure::new(StartStep::Supervisor, 0, "the stub was killed")),
            }
        }
    }

    /// Lets the stub go on, and waits until it has become the command or has failed. Gives its filter's listener.
    pub(super) fn let_go(mut self, job: &JobSpec) -> Result<Option<SeccompListener>, Failure> {
        // A stub that is dead does not read it; then the end of its packets tells.
        let _ = write(&self.go, b"1");
        loop {
            match self.next()? {
                Packet::Ready => {}
                Packet::Listener(listener) => self.listener = listener,
                Packet::Failed(failure) => return Err(explain(failure, Some(job))),
                // Whether it was an exec or a kill, the wait status will tell.
                Packet::End => return Ok(self.listener),
            }
        }
    }

    fn next(&self) -> Result<Packet, Failure> {
        let mut bytes = [0; StubFailure::BYTES];
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
        Ok(match (length, bytes[0]) {
            (0, _) => Packet::End,
            (1, READY) => Packet::Ready,
            (1, LISTENER) => Packet::Listener(listener),
            _ => Packet::Failed(StubFailure::from_bytes(bytes)),
        })
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
