//! The launcher of a worker: takes orders from the server, keeps track of supervisors, restarts the server.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::clean_up::CleanUp;
use super::in_use::InUse;
use super::job_dir::JobDirs;
use super::opening::{StateDir, open_sandboxes, worker_name};
use super::parked::Parked;
use super::run_dir::{memory_dir, run_dir};
use super::server_link::ServerLink;
use super::slot::Slot;
use super::spawn::Sandboxes;
use super::unread::Unread;
use super::unwritten::Unwritten;
use crate::config::Config;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::job::{JobId, Receipt, StartStep, Timestamp};
use crate::policy::{PolicySet, Site};
use crate::sys::{self, Delivered, Reaped, SignalFd, fault_point};

/// With nothing to do for so long, the launcher makes sandboxes for later.
const REST: Duration = Duration::from_millis(10);
/// With no job for so long, what jobs have left for others is taken down.
const IDLE: Duration = Duration::from_secs(1);
/// How long the end waits for what is being cleaned up.
const FAREWELL: Duration = Duration::from_millis(500);
pub(super) const SERVER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_JOB: u64 = 2;
/// Name of the cgroup of supervisors in the worker's branch.
pub(super) const SUPERVISORS: &str = "supervisors";

/// What a job is kept by.
#[derive(Debug)]
pub(super) enum Keeper {
    /// A supervisor that this launcher has forked.
    Own(Box<Slot>),
    /// One of an earlier launcher, known by what is on disk.
    Adopted {
        pidfd: OwnedFd,
        dir: OwnedFd,
        cgroup: String,
    },
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) keeper: Keeper,
    pub(super) token: u64,
    /// What its supervisor has said of its start: a server that is started anew asks for it.
    pub(super) started: Option<(Timestamp, Box<Receipt>)>,
    /// The server has been told how it ended; what is left is clean-up.
    pub(super) told: bool,
    /// And has recorded it.
    pub(super) recorded: bool,
}

/// The launcher's state.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) config: Config,
    pub(super) policies: PolicySet,
    pub(super) site: Site,
    pub(super) sandboxes: Sandboxes,
    pub(super) dirs: JobDirs,
    pub(super) jobs: HashMap<JobId, Job>,
    pub(super) parked: Parked,
    pub(super) clean_up: CleanUp,
    pub(super) unwritten: Unwritten,
    pub(super) unread: Unread,
    pub(super) server: ServerLink,
    tokens: HashMap<u64, JobId>,
    next_token: u64,
    pub(super) epoll: OwnedFd,
    signals: SignalFd,
    in_use: InUse,
    /// Held as long as this process lives.
    _state: StateDir,
    ending: Option<ExitCode>,
    /// Jobs that this turn has taken sandboxes for.
    pub(super) launched: u32,
    /// The jobs that were launched last, of which those that run hold all their descriptors.
    pub(super) whole: VecDeque<JobId>,
    last_launch: Instant,
    /// What is of use for launches alone has been given back.
    slim: bool,
    supervisors: HashMap<i32, JobId>,
}

/// Runs the launcher until the server has ended in order.
///
/// `serve` is the server's whole life: it is called in a forked child with its end of the channel.
pub fn run(
    config: Config,
    policies: PolicySet,
    serve: fn(Config, Channel) -> ExitCode,
) -> Result<ExitCode, Failure> {
    let mut daemon = Daemon::start(config, policies, serve)?;
    daemon.adopt_jobs()?;
    daemon.start_server()?;
    daemon.prepare_ahead();
    while daemon.ending.is_none() {
        daemon.turn()?;
    }
    daemon.leave();
    Ok(daemon.ending.unwrap_or(ExitCode::SUCCESS))
}

impl Daemon {
    fn start(
        config: Config,
        policies: PolicySet,
        serve: fn(Config, Channel) -> ExitCode,
    ) -> Result<Self, Failure> {
        if super::is_ordinary_user() {
            let detail = "a worker needs root (sudo stockade serve); stockade run does without";
            return Err(Failure::new(StartStep::Supervisor, libc::EPERM, detail));
        }
        sys::default_all_signals();
        sys::block_all_but_faults().at(StartStep::Supervisor, "sigprocmask")?;
        let signals = SignalFd::all().at(StartStep::Supervisor, "signalfd")?;
        sys::set_supplementary_groups_empty().at(StartStep::Supervisor, "setgroups")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).at(StartStep::Supervisor, "epoll_create1")?;
        let in_use = run_dir()
            .and_then(InUse::announce)
            .at(StartStep::Supervisor, "/run/stockade")?;
        let state = StateDir::claim(&config.worker.state_dir)?;
        let name = worker_name(&state);
        let dirs = memory_dir()
            .and_then(|memory| {
                let outputs = config.worker.state_dir.join("jobs");
                JobDirs::open(&memory.join(&name), &outputs, config.worker.server_gid)
            })
            .at(StartStep::StateDir, "jobs")?;
        let sandboxes = open_sandboxes(&config, &policies, &name)?;
        let site = Site {
            default_policy: config.worker.default_policy.clone(),
            scripts_dir: config.worker.scripts_dir.clone(),
        };
        let daemon = Self {
            policies,
            site,
            sandboxes,
            dirs,
            jobs: HashMap::new(),
            parked: Parked::default(),
            clean_up: CleanUp::default(),
            unwritten: Unwritten::default(),
            unread: Unread::default(),
            server: ServerLink::new(serve),
            tokens: HashMap::new(),
            next_token: FIRST_JOB,
            epoll,
            signals,
            in_use,
            _state: state,
            ending: None,
            launched: 0,
            whole: VecDeque::new(),
            last_launch: Instant::now(),
            slim: false,
            supervisors: HashMap::new(),
            config,
        };
        daemon.watch_fd(&daemon.signals, SIGNALS)?;
        Ok(daemon)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(64);
        let timeout = self.next_timeout().map(|wait| {
            Timespec::try_from(wait).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).at(StartStep::Supervisor, "epoll_wait"),
        }
        let quiet = events.is_empty();
        for event in events {
            match event.data.u64() {
                SERVER => self.handle_server(),
                SIGNALS => self.handle_signals(),
                token => self.handle_job(token),
            }
        }
        self.clean_up();
        self.unwritten.turn(&self.dirs);
        self.look_again();
        self.dirs.shrink();
        self.server.flush();
        self.rearm_server();
        self.server.kill_if_due();
        self.restart_server_if_due();
        // While nobody waits: after a rest, or, where jobs come faster than sandboxes come back, while the jobs run that
        // have just been launched.
        let launched = std::mem::take(&mut self.launched);
        if self.ending.is_none() && (quiet || (launched > 0 && self.parked.is_nearly_out())) {
            self.prepare_ahead();
        }
        if launched > 0 {
            self.last_launch = Instant::now();
            self.slim = false;
        } else if quiet && self.last_launch.elapsed() >= IDLE {
            self.sandboxes.berths().trim();
            self.parked.trim(&mut self.clean_up);
            if !self.slim && !self.has_spare() {
                // Without it there is more memory in use, and nothing else is worse.
                sys::release_program();
                self.slim = true;
            }
        }
        Ok(())
    }

    fn next_timeout(&mut self) -> Option<Duration> {
        let prepare = match self.ending {
            Some(_) => Some(REST),
            None => self.parked.next_fill().map(|wait| wait.max(REST)),
        };
        let trim = (self.has_spare() || !self.slim).then(|| {
            let rest = self.last_launch.elapsed();
            IDLE.saturating_sub(rest).max(REST)
        });
        [
            self.clean_up.next_try(),
            self.unwritten.next_try(),
            self.unread.next_try(),
            self.dirs.next_shrink(),
            self.server.next_deadline(),
            prepare,
            trim,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether more is kept for later than a quiet launcher needs.
    fn has_spare(&mut self) -> bool {
        self.sandboxes.berths().idle() || self.parked.has_spare()
    }

    // ---- signals ----

    fn handle_signals(&mut self) {
        while let Ok(Some(Delivered { signal, .. })) = self.signals.next() {
            match signal {
                libc::SIGHUP => self.server.forward_signal(signal),
                libc::SIGTERM | libc::SIGINT => self.ending = self.server.end(signal),
                _ => {}
            }
        }
        while let Ok(Reaped::Child { pid, status }) = sys::reap() {
            if self.server.is_process(pid) {
                self.server.reaped();
                self.hear_out();
                self.ending = self.server.ended(status);
            } else {
                self.supervisor_reaped(pid);
            }
        }
    }

    fn supervisor_reaped(&mut self, pid: i32) {
        let job = self.supervisors.get(&pid).and_then(|id| self.jobs.get_mut(id));
        if let Some(Keeper::Own(slot)) = job.map(|job| &mut job.keeper) {
            slot.reaped = true;
        } else if !self.clean_up.reaped(pid) {
            self.parked.reaped(pid, &mut self.clean_up);
            self.sandboxes.pumps().reaped(pid);
        }
    }

    // ---- jobs ----

    /// Hears of the end of what keeps a job. What cannot be watched must not run: nobody would tell how it ended.
    pub(super) fn watch(&mut self, fd: impl AsFd) -> Result<u64, Failure> {
        let token = self.next_token;
        self.next_token += 1;
        self.watch_fd(fd, token).map(|()| token)
    }

    pub(super) fn keep(&mut self, id: JobId, token: u64, keeper: Keeper) {
        if let Keeper::Own(slot) = &keeper {
            self.supervisors
                .insert(slot.supervisor.as_raw_nonzero().get(), id);
        }
        self.tokens.insert(token, id);
        self.jobs.insert(
            id,
            Job {
                keeper,
                token,
                started: None,
                told: false,
                recorded: false,
            },
        );
    }

    pub(super) fn unwatch(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    pub(super) fn job_of(&self, token: u64) -> Option<JobId> {
        self.tokens.get(&token).copied()
    }

    pub(super) fn forget(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.tokens.remove(&job.token);
        if let Keeper::Own(slot) = &job.keeper {
            self.supervisors.remove(&slot.supervisor.as_raw_nonzero().get());
        }
        Some(job)
    }

    fn watch_fd(&self, fd: impl AsFd, token: u64) -> Result<(), Failure> {
        fault_point!("launcher.watch").at(StartStep::Supervisor, "epoll_ctl")?;
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)
            .at(StartStep::Supervisor, "epoll_ctl")
    }

    /// Leaves nothing behind but jobs that run on.
    fn leave(&mut self) {
        self.parked.release(&mut self.sandboxes);
        let until = Instant::now() + FAREWELL;
        // Supervisors of jobs that are over are on their way out.
        let busy = |launcher: &mut Self| {
            launcher.clean_up.next_try().is_some()
                || launcher.sandboxes.pumps().are_ending()
                || launcher.jobs.values().any(|job| job.told)
        };
        while busy(self) && Instant::now() < until && self.turn().is_ok() {}
        self.sandboxes.close();
        self.dirs.leave();
        self.in_use.leave(self.sandboxes.cgroups(), Some(SUPERVISORS));
    }
}
