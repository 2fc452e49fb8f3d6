//! One job in the foreground: the same sandboxes and supervisor as the worker's, without any other process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{WaitOptions, waitpid};

use super::berth::Berths;
use super::ids::IdPool;
use super::in_use::InUse;
use super::run_dir::run_dir;
use super::slot::Slot;
use super::spawn::{Lone, Sandboxes, write_etc};
use super::standing::{Standing, may_be_privileged};
use super::tail::Tail;
use crate::config::Isolation;
use crate::isolation::cgroup::CgroupTree;
use crate::isolation::doctor;
use crate::isolation::failure::{At, Failure};
use crate::isolation::supervisor::{Go, Report, ToSupervisor};
use crate::isolation::timings::Timings;
use crate::job::{Enforcement, ExitRecord, IsolationFloor, JobSpec, Receipt, StartStep, StopOrder};
use crate::policy::Resolved;
use crate::sys::{self, Delivered, SignalFd};

/// A run of which it is not decided yet what it may do. Its supervisor is at work on what all sandboxes have, and ends with
/// it.
#[derive(Debug)]
pub struct Begun<'a> {
    isolation: &'a Isolation,
    signals: SignalFd,
    _in_use: Option<InUse>,
    lone: Lone,
    sandboxes: Sandboxes,
    timings: Timings,
}

/// The supervisor of a run of which not even the command line is read. Dropped, it ends.
#[derive(Debug)]
pub struct Ahead(Result<Lone, Failure>);

impl Ahead {
    /// Forks it, where this process seems to have root's privileges. An ordinary user's launcher must become root of a
    /// namespace first, and before that read what the job is given. The process must have one thread.
    pub fn fork(timings: &mut Timings) -> Option<Self> {
        may_be_privileged().then(|| {
            let forked = Self(Lone::fork(false));
            timings.mark("supervisor fork");
            forked
        })
    }
}

/// Begins a run. The process must have one thread. From here on SIGINT and SIGTERM wait for the job; `timings` has what this
/// process has done before.
pub fn begin(
    isolation: &Isolation,
    ahead: Option<Ahead>,
    mut timings: Timings,
) -> Result<Begun<'_>, Failure> {
    sys::default_all_signals();
    sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
    let signals = SignalFd::all().at(StartStep::Supervisor, "signalfd")?;
    let standing = Standing::take()?;
    let lone = match (ahead, standing) {
        (Some(Ahead(forked)), Standing::Root) => forked?,
        _ => {
            let lone = Lone::fork(standing.is_user())?;
            timings.mark("user namespace, supervisor fork");
            lone
        }
    };
    // An ordinary user's cgroup is the user's own, if there is one.
    let in_use = (!standing.is_user())
        .then(|| run_dir().and_then(InUse::announce))
        .transpose()
        .at(StartStep::Supervisor, "/run/stockade")?;
    let sandboxes = open_sandboxes(isolation, standing)?;
    timings.mark("host ids");
    Ok(Begun {
        isolation,
        signals,
        _in_use: in_use,
        lone,
        sandboxes,
        timings,
    })
}

impl Begun<'_> {
    /// Runs a job to its end, passing its output through as it comes. SIGINT and SIGTERM stop it, a second one kills it.
    pub fn run(self, resolved: &Resolved, require: IsolationFloor) -> Result<Outcome, Failure> {
        let Self {
            isolation,
            signals,
            _in_use,
            lone,
            mut sandboxes,
            mut timings,
        } = self;
        timings.mark("policy");
        let sandbox = &resolved.sandbox;
        let mut slot = sandboxes.spawn_alone(lone, sandbox, &resolved.spec.limits, |sandboxes| {
            sandboxes.use_cgroups(open_cgroups(&isolation.cgroup, sandbox.limits)?);
            match require.out_of_reach(sandbox, sandboxes.ceiling()) {
                None => Ok(()),
                Some(unmet) => {
                    let detail = format!("demanded isolation cannot be had: {unmet}");
                    Err(Failure::new(StartStep::Policy, 0, detail))
                }
            }
        })?;
        timings.mark("cgroup, network");
        let result = write_etc(&slot).and_then(|()| {
            timings.mark("etc");
            run_in(&mut slot, &resolved.spec, require, &signals, sandboxes.cgroups())
        });
        timings.mark("hand-over, job");
        clean_up(slot, sandboxes);
        timings.mark("clean-up");
        give_back(&signals);
        result.map(|end| Outcome {
            record: end.record,
            losses: end.losses,
            launcher: timings,
            supervisor: end.launch,
        })
    }
}

/// How the job ended, and how long its launch took.
#[derive(Debug)]
pub struct Outcome {
    pub record: ExitRecord,
    /// What of the output could not be passed on, and why.
    pub losses: Vec<String>,
    pub launcher: Timings,
    /// Of what it did while the launcher was at work or waited; `None` where the command never ran.
    pub supervisor: Option<Timings>,
}

/// What is left to do is done by a process as any other, which a signal ends.
fn give_back(signals: &SignalFd) {
    // Not those that were for the job.
    while matches!(signals.next(), Ok(Some(_))) {}
    sys::ignore_broken_pipes();
    let _ = sys::unblock_all_signals();
}

/// Without cgroups yet: the supervisor needs none at first.
fn open_sandboxes(isolation: &Isolation, standing: Standing) -> Result<Sandboxes, Failure> {
    let ids = match standing {
        Standing::User { uid, .. } => IdPool::own(uid),
        Standing::Root => {
            let run_dir = run_dir().at(StartStep::Supervisor, "/run/stockade")?;
            IdPool::open(isolation.first_host_id, run_dir).at(StartStep::Identity, "host ids")?
        }
    };
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let berths = Berths::new(CgroupTree::absent(), &prefix, false);
    Ok(Sandboxes::new(standing, berths, None, ids))
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

/// A `stockade run` that was killed leaves its cgroup behind, with nothing in it. One that has something in it is of a run
/// that lives, in a pid namespace that this process does not see.
fn sweep_abandoned(cgroups: &CgroupTree) {
    for name in cgroups.children() {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        let abandoned = pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if abandoned {
            cgroups.remove_forgotten(&name);
        }
    }
}

/// A job that is over.
struct End {
    record: ExitRecord,
    losses: Vec<String>,
    launch: Option<Timings>,
}

fn run_in(
    slot: &mut Slot,
    spec: &JobSpec,
    require: IsolationFloor,
    signals: &SignalFd,
    cgroups: &CgroupTree,
) -> Result<End, Failure> {
    // Not inotify: the end of an instance takes a grace period of the kernel, ten milliseconds and more.
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at(StartStep::Output, "eventfd")?;
    let most = spec.limits.output_bytes;
    let tails = [
        Tail::new("stdout", io::stdout().as_fd(), most).at(StartStep::Output, "stdout")?,
        Tail::new("stderr", io::stderr().as_fd(), most).at(StartStep::Output, "stderr")?,
    ];
    let go = Go {
        spec: spec.clone(),
        receipt: Receipt::default(),
        require,
        output_folder: None,
        ends_with_launcher: true,
    };
    let [stdout, stderr] = &tails;
    slot.go(go, &spec.limits, &[&stdout.file, &stderr.file, &bell])?;
    // While the supervisor is at work.
    sweep_abandoned(cgroups);
    // Most of it was for the start alone, and would be taken from this process at its end, when somebody waits.
    sys::release_program();
    let mut watch = Watch {
        signals,
        tails,
        interrupts: 0,
    };
    let (record, launch) = watch.follow(slot, &bell)?;
    watch.pass_on_the_rest();
    Ok(End {
        record,
        losses: watch.tails.iter().filter_map(Tail::loss).collect(),
        launch,
    })
}

/// How long a reader of an interrupted job may take for what is left of its output.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is heard while the job runs, and after.
struct Watch<'a> {
    signals: &'a SignalFd,
    tails: [Tail; 2],
    /// So often the job was to be stopped.
    interrupts: u32,
}

impl Watch<'_> {
    fn follow(&mut self, slot: &mut Slot, bell: &OwnedFd) -> Result<(ExitRecord, Option<Timings>), Failure> {
        let (mut has_started, mut launch) = (false, None);
        loop {
            self.wait(&[&slot.control.as_fd(), &bell.as_fd()], None);
            let _ = rustix::io::read(bell, &mut [0_u8; 8]);
            while let Some(signal) = self.next_interrupt() {
                self.interrupts += 1;
                let order = stop_order(signal_name(signal), self.interrupts > 1);
                slot.tell(&ToSupervisor::Stop(order));
            }
            self.tails.iter_mut().for_each(Tail::pass);
            if self.interrupts == 0
                && let Some(broken) = self.tails.iter().find(|tail| tail.is_broken())
            {
                self.interrupts += 1;
                let reason = broken.loss().unwrap_or_else(|| signal_name(libc::SIGPIPE));
                slot.tell(&ToSupervisor::Stop(stop_order(reason, true)));
            }
            match slot.control.try_receive() {
                Ok(Some(Report::Finished { record, .. })) => return Ok((*record, launch)),
                Ok(Some(Report::Failed(failure))) => return Err(failure),
                Ok(Some(Report::Started { timings, .. })) => {
                    has_started = true;
                    launch = timings;
                }
                Ok(Some(Report::Vacant | Report::Etc(_)) | None) => {}
                Err(_) => {
                    let record = ExitRecord::without_run(slot.end_of_silent(has_started));
                    return Ok((record, launch));
                }
            }
        }
    }

    /// Until readers have it all, or one who interrupts will not wait for them.
    fn pass_on_the_rest(&mut self) {
        let mut until = (self.interrupts > 0).then(|| Instant::now() + FAREWELL);
        loop {
            self.tails.iter_mut().for_each(Tail::pass);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let done = !self.tails.iter().any(Tail::waits);
            if done || left.is_some_and(|left| left.is_zero()) {
                return;
            }
            self.wait(&[], left);
            if self.next_interrupt().is_some() {
                until = Some(Instant::now());
            }
        }
    }

    /// For a signal, for a reader who takes something again, or for one of `sources`.
    fn wait(&self, sources: &[&BorrowedFd<'_>], timeout: Option<Duration>) {
        let mut all: Vec<PollFd> = vec![PollFd::new(self.signals, PollFlags::IN)];
        all.extend(sources.iter().map(|source| PollFd::new(*source, PollFlags::IN)));
        all.extend(self.tails.iter().filter_map(Tail::waits_for));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let _ = poll(&mut all, timeout.as_ref());
    }

    /// The next signal that is to end this process.
    fn next_interrupt(&self) -> Option<i32> {
        while let Ok(Some(Delivered { signal, .. })) = self.signals.next() {
            if matches!(
                signal,
                libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT
            ) {
                return Some(signal);
            }
        }
        None
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| signal.to_string(), |known| known.to_string())
}

fn stop_order(reason: String, at_once: bool) -> StopOrder {
    StopOrder {
        signal: None,
        grace_ms: at_once.then_some(0),
        by: "run".to_owned(),
        reason,
    }
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
