//! The launcher's side of the server: forks it, talks to it, starts it again when it dies.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::config::Config;
use crate::isolation::ipc::{self, Channel, Event, Order, TransportError};
use crate::sys::{self, Forked, fault_point};

/// Exit status of a server that could not even begin (sysexits.h, EX_CONFIG): to start it again would not help.
pub const CANNOT_START: u8 = 78;

const FIRST_RESTART: Duration = Duration::from_millis(50);
const LAST_RESTART: Duration = Duration::from_secs(5);
/// How long a server that has closed its end may take to exit: it is shutting down, or its runtime is.
const FAREWELL: Duration = Duration::from_secs(10);
/// A server that has lived this long starts again without delay.
const STEADY: Duration = Duration::from_secs(10);
/// Bytes that wait for a server which does not read: beyond, no order of its is taken.
const BEHIND: usize = 16 << 20;
/// What a waiting event takes beside its bytes.
const EVENT_OVERHEAD: usize = 64;

/// Between a job's and a supervisor's.
const OOM_SCORE_ADJ: &str = "300";

/// Which side of the fork this is.
#[derive(Debug)]
pub(super) enum ServerEnd {
    Launcher,
    /// The server's life is over, with this exit status.
    Server(i32),
}

#[derive(Debug)]
pub(super) struct ServerLink {
    serve: fn(Config, Channel) -> ExitCode,
    channel: Option<Channel>,
    process: Option<Pid>,
    /// Encoded events that the socket had no room for.
    outbox: VecDeque<Vec<u8>>,
    outbox_bytes: usize,
    /// What the socket is watched for.
    interest: EventFlags,
    started: Instant,
    delay: Duration,
    restart_at: Option<Instant>,
    /// When a server that has hung up is killed.
    kill_at: Option<Instant>,
    /// A server of this launcher has lived.
    restarted: bool,
    /// It was told to end: no other follows.
    ending: bool,
}

impl ServerLink {
    pub(super) fn new(serve: fn(Config, Channel) -> ExitCode) -> Self {
        Self {
            serve,
            channel: None,
            process: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            interest: EventFlags::IN,
            started: Instant::now(),
            delay: FIRST_RESTART,
            restart_at: None,
            kill_at: None,
            restarted: false,
            ending: false,
        }
    }

    /// Forks the server. It knows nothing of the events of an earlier one: it asks for what there is.
    pub(super) fn fork(&mut self, config: &Config) -> std::io::Result<ServerEnd> {
        fault_point!("launcher.fork-server")?;
        let (ours, theirs) = ipc::pair().map_err(std::io::Error::other)?;
        // SAFETY: the launcher has one thread.
        match unsafe { sys::clone_into(0, None)? } {
            Forked::Child => {
                drop(ours);
                Ok(ServerEnd::Server(self.become_server(config, theirs)))
            }
            Forked::Parent(pid) => {
                self.clear_outbox();
                self.interest = EventFlags::IN;
                self.channel = Some(ours);
                self.process = Some(pid);
                self.started = Instant::now();
                self.restart_at = None;
                self.kill_at = None;
                Ok(ServerEnd::Launcher)
            }
        }
    }

    /// Keeps of the launcher nothing but the channel: not the sockets of supervisors, not the cgroups' files.
    fn become_server(&self, config: &Config, channel: Channel) -> i32 {
        use std::os::fd::AsRawFd;
        // Short of memory, the kernel ends jobs first, then the server, which starts again, and supervisors last.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
        // A client that hangs up is an error of its connection, and no death of the server.
        sys::ignore_broken_pipes();
        // What a terminal sends is for the launcher; and the kernel shares CPUs out by sessions (sched(7), autogroups).
        let _ = rustix::process::setsid();
        if sys::close_all_but(&mut [channel.as_raw_fd()]).is_err() || sys::unblock_all_signals().is_err() {
            return 125;
        }
        let code = (self.serve)(config.clone(), channel);
        match code {
            code if code == ExitCode::SUCCESS => 0,
            code if code == ExitCode::from(CANNOT_START) => i32::from(CANNOT_START),
            _ => 1,
        }
    }

    pub(super) const fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    pub(super) fn is_process(&self, pid: i32) -> bool {
        self.process
            .is_some_and(|process| process.as_raw_nonzero().get() == pid)
    }

    pub(super) fn forward_signal(&self, signal: i32) {
        if let (Some(process), Some(signal)) = (self.process, Signal::from_named_raw(signal)) {
            let _ = kill_process(process, signal);
        }
    }

    /// Tells the server to end, and with it the launcher: at once where there is none.
    pub(super) fn end(&mut self, signal: i32) -> Option<ExitCode> {
        self.ending = true;
        self.forward_signal(signal);
        self.process.is_none().then_some(ExitCode::SUCCESS)
    }

    /// The next order; an error means that the server has hung up, or speaks nonsense.
    pub(super) fn receive(&self) -> Result<Option<Order>, TransportError> {
        self.channel.as_ref().map_or(Ok(None), Channel::try_receive)
    }

    /// Sends an event, now or when there is room. Without a server it is dropped: the next one asks for all jobs.
    pub(super) fn send(&mut self, event: &Event) {
        let Some(channel) = &self.channel else { return };
        let Ok(bytes) = postcard::to_stdvec(event) else {
            return;
        };
        if !self.outbox.is_empty() || !matches!(channel.try_send_bytes(&bytes), Ok(true)) {
            self.outbox_bytes += bytes.len() + EVENT_OVERHEAD;
            self.outbox.push_back(bytes);
        }
    }

    /// It orders more than it reads the answers of.
    pub(super) const fn is_behind(&self) -> bool {
        self.outbox_bytes > BEHIND
    }

    fn clear_outbox(&mut self) {
        self.outbox.clear();
        self.outbox_bytes = 0;
    }

    pub(super) fn flush(&mut self) {
        let Some(channel) = &self.channel else { return };
        while let Some(bytes) = self.outbox.front() {
            match channel.try_send_bytes(bytes) {
                Ok(true) => {
                    self.outbox_bytes -= bytes.len() + EVENT_OVERHEAD;
                    self.outbox.pop_front();
                }
                Ok(false) => return,
                Err(_) => return self.clear_outbox(),
            }
        }
    }

    /// What to wait for from now on, if that is something else than before.
    pub(super) fn interest_change(&mut self) -> Option<EventFlags> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !self.is_behind());
        wanted.set(EventFlags::OUT, !self.outbox.is_empty());
        if wanted == self.interest {
            return None;
        }
        self.interest = wanted;
        Some(wanted)
    }

    /// The connection is over. A server that has hung up is about to exit, in order or not, and is waited for;
    /// one that speaks nonsense is ended, and started again.
    pub(super) fn disconnect(&mut self, hung_up: bool) {
        self.channel = None;
        self.clear_outbox();
        if hung_up {
            self.kill_at = Some(Instant::now() + FAREWELL);
        } else {
            self.forward_signal(libc::SIGKILL);
        }
    }

    /// Ends a server that has hung up and stays.
    pub(super) fn kill_if_due(&mut self) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            self.forward_signal(libc::SIGKILL);
        }
    }

    /// The server's process has ended, and its number may be another's.
    pub(super) const fn reaped(&mut self) {
        self.process = None;
    }

    /// What follows on the end of the server's process. An exit in order, or one that was asked for, is the launcher's own end.
    pub(super) fn ended(&mut self, status: i32) -> Option<ExitCode> {
        self.channel = None;
        self.kill_at = None;
        self.clear_outbox();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            return Some(ExitCode::SUCCESS);
        }
        if self.ending {
            // It may have been told before it could hear.
            let obeyed =
                libc::WIFSIGNALED(status) && matches!(libc::WTERMSIG(status), libc::SIGTERM | libc::SIGINT);
            return Some(if obeyed {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == i32::from(CANNOT_START) && !self.restarted
        {
            return Some(ExitCode::FAILURE);
        }
        eprintln!("stockade: launcher: the server died (wait status {status}); starting it again");
        if self.started.elapsed() > STEADY {
            self.delay = FIRST_RESTART;
        }
        self.restarted = true;
        self.start_later();
        None
    }

    /// Each time a little later than the time before.
    pub(super) fn start_later(&mut self) {
        self.process = None;
        self.channel = None;
        self.restart_at = Some(Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(LAST_RESTART);
    }

    /// Until the server is to be started again, or killed.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let kill_in = self
            .kill_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        self.restart_in().or(kill_in)
    }

    pub(super) fn restart_in(&self) -> Option<Duration> {
        self.restart_at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}
