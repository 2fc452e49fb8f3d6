//! Starts a job in a sandbox that is assembled.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::{Errno, write};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::assemble::Assembled;
use super::pump::Pump;
use super::{Go, Outlets};
use crate::isolation::cgroup::Meter;
use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::receipt::NamespaceIds;
use crate::isolation::sandbox::stub::{STEPS, StubFailure};
use crate::isolation::sandbox::{files, receipt, rlimits, rootfs};
use crate::isolation::timings::Timings;
use crate::job::{Receipt, StartStep, Timestamp};
use crate::sys::{self, CapabilitySets, SeccompListener, SignalFd};

/// A job that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// The main process, in this pid namespace.
    pub main: i32,
    pub meter: Meter,
    pub stdout: Pump,
    pub stderr: Pump,
    pub signals: SignalFd,
    /// Tells of calls that end the job.
    pub listener: Option<SeccompListener>,
    pub started_at: Timestamp,
    pub timings: Timings,
    pub started: Instant,
    pub receipt: Receipt,
    pub job_dir: Option<OwnedFd>,
}

pub(super) fn start(
    mut assembled: Assembled,
    go: &Go,
    outlets: Outlets,
    launcher: &NamespaceIds,
) -> Result<Running, Failure> {
    let mut timings = assembled.timings;
    timings.skip();
    let meter = Meter::start(assembled.meter);
    timings.mark("counters");
    let limits = &go.spec.limits;
    if (limits.disk_bytes, limits.inodes) != (assembled.limits.disk_bytes, assembled.limits.inodes) {
        rootfs::resize_scratch(limits)?;
    }
    timings.mark("scratch size");
    let stdin = files::put(&go.spec, assembled.ids.first)?;
    assembled
        .plan
        .lay_out(&go.spec, stdin, &rlimits::of(limits)?)
        .map_err(|error| Failure::new(StartStep::Exec, libc::E2BIG, error.to_string()))?;
    timings.mark("files, plan");
    let (started_at, started) = (Timestamp::now(), Instant::now());
    let mut receipt = go.receipt.clone();
    receipt.landlock_abi = assembled.landlock_abi;
    let (bytes, inodes) = rootfs::scratch_limits()?;
    receipt.limits.insert("tmpfs.size".to_owned(), bytes.to_string());
    receipt
        .limits
        .insert("tmpfs.nr_inodes".to_owned(), inodes.to_string());
    let listener = let_go(&assembled.go, &assembled.failure, go)?;
    timings.mark("stub to exec");
    receipt::read_back(&mut receipt, assembled.stub, launcher);
    if let Some(unmet) = go.require.unmet_by(&receipt) {
        let _ = sys::kill_all_others();
        return Err(Failure::new(
            StartStep::Policy,
            0,
            format!("demanded isolation is not there: {unmet}"),
        ));
    }
    timings.mark("receipt");
    drop_privileges()?;
    timings.mark("own privileges");
    Ok(Running {
        main: assembled.stub,
        meter,
        stdout: Pump::new(assembled.stdout, outlets.stdout, limits.output_bytes),
        stderr: Pump::new(assembled.stderr, outlets.stderr, limits.output_bytes),
        signals: assembled.signals,
        listener,
        timings,
        started_at,
        started,
        receipt,
        job_dir: outlets.job_dir,
    })
}

/// Lets the stub go on, and waits until it has become the command or has failed.
fn let_go(go: &OwnedFd, failure: &OwnedFd, job: &Go) -> Result<Option<SeccompListener>, Failure> {
    // A stub that has failed already does not read it; why is in the socket.
    let _ = write(go, b"1");
    let mut listener = None;
    loop {
        let mut bytes = [0; StubFailure::BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(failure, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            // Closed by the exec, or by the kernel as it killed the stub: the wait status will tell.
            Ok(received) if received.bytes == 0 => return Ok(listener),
            Ok(received) if received.bytes == StubFailure::BYTES => {
                return Err(stub_failure(StubFailure::from_bytes(bytes), job));
            }
            Ok(_) => {
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                        listener = fds.next().map(SeccompListener::from);
                    }
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).at(StartStep::Exec, "receive from the stub"),
        }
    }
}

fn stub_failure(failure: StubFailure, job: &Go) -> Failure {
    let step = usize::try_from(failure.step)
        .ok()
        .and_then(|index| STEPS.get(index));
    let step = *step.unwrap_or(&StartStep::Supervisor);
    let object = match step {
        StartStep::Exec => job.spec.argv.first().map_or("", String::as_str),
        StartStep::WorkingDir => &job.spec.working_dir,
        _ => "in the sandbox",
    };
    Failure::new(step, failure.errno, object)
}

/// From here on the supervisor needs to signal the job, and nothing else.
fn drop_privileges() -> Result<(), Failure> {
    const CAP_KILL: u64 = 1 << 5;
    let sets = CapabilitySets {
        effective: CAP_KILL,
        permitted: CAP_KILL,
        inheritable: 0,
    };
    sys::set_capabilities(sets).at(StartStep::Supervisor, "capset")?;
    sys::set_no_new_privs().at(StartStep::Supervisor, "PR_SET_NO_NEW_PRIVS")
}
