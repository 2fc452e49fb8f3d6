//! One job in the foreground: the same sandboxes and supervisor as the worker's, without any other process.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, fallocate, memfd_create, open};
use rustix::io::pread;
use rustix::process::{WaitOptions, waitpid};

use super::berth::Berths;
use super::ids::IdPool;
use super::in_use::InUse;
use super::run_dir::run_dir;
use super::slot::Slot;
use super::spawn::Sandboxes;
use super::standing::{Standing, is_privileged};
use crate::config::Isolation;
use crate::isolation::cgroup::CgroupTree;
use crate::isolation::doctor;
use crate::isolation::failure::{At, Failure};
use crate::isolation::supervisor::{Go, Report, ToSupervisor};
use crate::isolation::timings::Timings;
use crate::job::{Enforcement, ExitRecord, IsolationFloor, JobSpec, Receipt, StartStep, StopOrder};
use crate::policy::Resolved;
use crate::sys::{self, Delivered, SignalFd};

/// Runs a job to its end, passing its output through as it comes.
///
/// The process must have one thread. SIGINT and SIGTERM stop the job, a second one kills it.
pub fn run(isolation: &Isolation, resolved: &Resolved, require: IsolationFloor) -> Result<Outcome, Failure> {
    let mut timings = Timings::start();
    sys::default_all_signals();
    sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
    let signals = SignalFd::all().at(StartStep::Supervisor, "signalfd")?;
    // An ordinary user's cgroup is the user's own, if there is one.
    let _in_use = is_privileged()
        .then(|| run_dir().and_then(InUse::announce))
        .transpose()
        .at(StartStep::Supervisor, "/run/stockade")?;
    let mut sandboxes = open_sandboxes(isolation)?;
    timings.mark("host ids");
    let sandbox = &resolved.sandbox;
    let mut slot = sandboxes.spawn_alone(sandbox, &resolved.spec.limits, |sandboxes| {
        sandboxes.use_cgroups(open_cgroups(&isolation.cgroup, sandbox.limits)?);
        match require.out_of_reach(sandbox, sandboxes.ceiling()) {
            None => Ok(()),
            Some(unmet) => {
                let detail = format!("demanded isolation cannot be had: {unmet}");
                Err(Failure::new(StartStep::Policy, 0, detail))
            }
        }
    })?;
    timings.mark("supervisor fork, cgroup, network");
    let result = run_in(&mut slot, &resolved.spec, require, &signals, sandboxes.cgroups());
    timings.skip();
    clean_up(slot, sandboxes);
    timings.mark("clean-up");
    result.map(|(record, launch)| Outcome {
        record,
        launcher: timings,
        supervisor: launch,
    })
}

/// How the job ended, and how long its launch took.
#[derive(Debug)]
pub struct Outcome {
    pub record: ExitRecord,
    pub launcher: Timings,
    /// `None` where the command never ran.
    pub supervisor: Option<Timings>,
}

/// Without cgroups yet: the supervisor needs none at first.
fn open_sandboxes(isolation: &Isolation) -> Result<Sandboxes, Failure> {
    let standing = Standing::take()?;
    let ids = match standing {
        Standing::User { uid, .. } => IdPool::own(uid),
        Standing::Root => {
            let run_dir = run_dir().at(StartStep::Supervisor, "/run/stockade")?;
            IdPool::open(isolation.first_host_id, run_dir).at(StartStep::Identity, "host ids")?
        }
    };
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let berths = Berths::new(CgroupTree::absent(), &prefix, false);
    Sandboxes::new(standing, berths, None, ids)
}

fn open_cgroups(branch: &str, limits: Enforcement) -> Result<CgroupTree, Failure> {
    match CgroupTree::open(branch) {
        Ok(tree) => Ok(tree),
        Err(_) if limits == Enforcement::BestEffort => Ok(CgroupTree::absent()),
        Err(error) => {
            let detail = format!("{error}; to mend it: {}", doctor::cgroup_mend());
            Err(Failure::new(StartStep::Cgroup, 0, detail))
        }
    }
}

const PREFIX: &str = "run-";

/// A `stockade run` that was killed leaves its cgroup behind, with nothing in it.
fn sweep_abandoned(cgroups: &CgroupTree) {
    for name in cgroups.children() {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        let abandoned = pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists());
        if abandoned {
            let _ = cgroups.sweep(&name);
        }
    }
}

fn run_in(
    slot: &mut Slot,
    spec: &JobSpec,
    require: IsolationFloor,
    signals: &SignalFd,
    cgroups: &CgroupTree,
) -> Result<(ExitRecord, Option<Timings>), Failure> {
    // Not inotify: the end of an instance takes a grace period of the kernel, ten milliseconds and more.
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at(StartStep::Output, "eventfd")?;
    let mut stdout =
        Tail::new(io::stdout().as_fd(), spec.limits.output_bytes).at(StartStep::Output, "stdout")?;
    let mut stderr =
        Tail::new(io::stderr().as_fd(), spec.limits.output_bytes).at(StartStep::Output, "stderr")?;
    let go = Go {
        spec: spec.clone(),
        receipt: Receipt::default(),
        require,
        output_folder: None,
        ends_with_launcher: true,
    };
    slot.go(go, &spec.limits, &[&stdout.file, &stderr.file, &bell])?;
    // While the supervisor is at work.
    sweep_abandoned(cgroups);
    let mut interrupts = 0;
    let (mut has_started, mut launch) = (false, None);
    let record = loop {
        let mut sources = [
            PollFd::new(&slot.control, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&bell, PollFlags::IN),
        ];
        let _ = poll(&mut sources, None);
        let _ = rustix::io::read(&bell, &mut [0_u8; 8]);
        while let Ok(Some(Delivered { signal, .. })) = signals.next() {
            if matches!(
                signal,
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT
            ) {
                interrupts += 1;
                let _ = slot
                    .control
                    .try_send(&ToSupervisor::Stop(stop_order(signal, interrupts)));
            }
        }
        let reader_gone = stdout.pass().is_err() | stderr.pass().is_err();
        if reader_gone && interrupts == 0 {
            interrupts += 1;
            let _ = slot
                .control
                .try_send(&ToSupervisor::Stop(stop_order(libc::SIGPIPE, 2)));
        }
        match slot.control.try_receive() {
            Ok(Some(Report::Finished { record, .. })) => break *record,
            Ok(Some(Report::Failed(failure))) => return Err(failure),
            Ok(Some(Report::Started { timings, .. })) => {
                has_started = true;
                launch = timings;
            }
            Ok(Some(Report::Vacant) | None) => {}
            Err(_) => break ExitRecord::without_run(slot.end_of_silent(has_started)),
        }
    };
    let _ = stdout.pass();
    let _ = stderr.pass();
    Ok((record, launch))
}

fn stop_order(signal: i32, count: u32) -> StopOrder {
    StopOrder {
        signal: None,
        grace_ms: (count > 1).then_some(0),
        by: "run".to_owned(),
        reason: nix::sys::signal::Signal::try_from(signal)
            .map_or_else(|_| signal.to_string(), |known| known.to_string()),
    }
}

/// Output up to this size is kept in memory until it is passed on: to make a file on disk takes some file systems as
/// long as the whole sandbox.
const IN_MEMORY_BYTES: u64 = 64 << 20;
/// What is passed on in one piece.
const BUFFER: usize = 64 << 10;
/// What has been passed on is given back in pieces of this size.
const PIECE: u64 = 1 << 20;

/// A file that has no name, and how much of it has been passed on.
struct Tail {
    file: OwnedFd,
    passed: u64,
    given_back: u64,
    to: File,
    /// Not written before there is something to pass on.
    buffer: Vec<u8>,
}

impl Tail {
    fn new(to: BorrowedFd<'_>, most: u64) -> io::Result<Self> {
        let file = nameless_file(most)?;
        Ok(Self {
            file,
            passed: 0,
            given_back: 0,
            to: File::from(to.try_clone_to_owned()?),
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Passes on what is new. An error is one of the reader's side.
    fn pass(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            let count = pread(&self.file, spare_capacity(&mut self.buffer), self.passed)?;
            if count == 0 {
                return Ok(());
            }
            self.to.write_all(&self.buffer)?;
            self.passed += count as u64;
            self.give_back();
        }
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

/// The supervisor ends by itself after its last report; then its job's cgroup is empty, if it was not before.
fn clean_up(slot: Slot, sandboxes: Sandboxes) {
    let supervisor = slot.supervisor;
    // Closes the connection for a supervisor that never got its job.
    let _ = rustix::net::shutdown(&slot.control, rustix::net::Shutdown::Both);
    // Mostly gone already: what the supervisor takes down now is not in it.
    if matches!(slot.berth.cgroup.remove(), Ok(true)) {
        // While the supervisor takes down what it has.
        drop((slot, sandboxes));
        let _ = waitpid(Some(supervisor), WaitOptions::empty());
        return;
    }
    let _ = waitpid(Some(supervisor), WaitOptions::empty());
    if !matches!(slot.berth.cgroup.remove(), Ok(true)) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while !sandboxes.cgroups().sweep(&slot.berth.cgroup_name) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
