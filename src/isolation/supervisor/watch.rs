//! Watches a running job until nothing of it is left.

mod cpu_look;
mod ending;
mod netlink;
mod outcome;
mod stopped;
mod wait;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::evidence::Trigger;
use super::exit_file::{StartRecord, read_stop_order, write_start_record};
use super::output::{Ready, Streams};
use super::start::Running;

use super::protocol::{self, Report};
use super::{Go, ToSupervisor};
use crate::isolation::cgroup::Meter;
use crate::isolation::failure::Failure;
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::seccomp::Filter;
use crate::isolation::timings::Timings;
use crate::job::{ExitRecord, OnOutputLimit, Signal, Stop, StopOrder};
use crate::sys::{self, ChildUsage, Reaped, SeccompListener, SignalFd};
use netlink::NetlinkSockets;

/// The kernel tells of memory running out before it kills: how often and how long to look for the kill.
const OOM_LOOK: Duration = Duration::from_millis(2);
const OOM_LOOKS: u32 = 50;

/// How many children are reaped before other events get their turn. A job can have them come faster than they go: among
/// thousands of children each wait looks through all of them.
const AT_ONCE: usize = 64;

/// A job that ends within this time is told of once, with its end.
const SHORT: Duration = Duration::from_millis(1);

/// Sent with a value by a launcher that has no socket to this supervisor: signal the job with that value.
pub(crate) const FORWARD_SIGNAL: i32 = 35;

struct Watch<'a> {
    go: &'a Go,
    main: i32,
    meter: Meter<'a>,
    signals: &'a SignalFd,
    listener: Option<SeccompListener>,
    filter: Option<&'a Filter>,
    /// It may have left something in its IPC namespace.
    made_ipc: bool,
    netlink: NetlinkSockets,
    /// `None` once the launcher has gone.
    control: Option<&'a Channel>,
    control_dir: Option<Rc<OwnedFd>>,
    streams: Streams<'a>,
    /// Of the processes that were waited for before this job.
    children_before: ChildUsage,
    start: StartRecord,
    started: Instant,
    /// When the launcher is to be told that the job runs, unless it has been.
    tell_start: Option<Instant>,
    /// The main process's wait status, once it has ended.
    main_status: Option<i32>,
    /// Children may be left that have ended.
    unreaped: bool,
    /// No process is left.
    empty: bool,
    trigger: Option<Trigger>,
    /// The call that ended the job.
    denied: Option<String>,
    /// What has failed since the command runs.
    failed: Option<Failure>,
    /// Threads of processes that made a denied call, and when they are killed.
    condemned: Vec<(i32, Instant)>,
    stop: Option<Stop>,
    /// The last one to stop the job.
    order: Option<StopOrder>,
    wall_deadline: Instant,
    cpu_look: Instant,
    grace_end: Option<Instant>,
    kill_again: Option<Instant>,
    oom_look: Option<(Instant, u32)>,
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub record: ExitRecord,
    /// All in its cgroup was killed at once.
    pub killed: bool,
    /// It may have left something in its IPC namespace.
    pub made_ipc: bool,
    /// Its sandbox can have no other job.
    pub was_last: bool,
    /// Closed when all is told: the kernel takes the filter apart with it, on this CPU and at once.
    _listener: Option<SeccompListener>,
}

impl From<ExitRecord> for Ended {
    fn from(record: ExitRecord) -> Self {
        Self {
            record,
            killed: false,
            made_ipc: false,
            was_last: false,
            _listener: None,
        }
    }
}

/// Watches `running` to its end and says how it ended.
pub(super) fn watch(running: Running<'_>, go: &Go, control: &Channel) -> Ended {
    let limits = &go.spec.limits;
    let mut watch = Watch {
        go,
        main: running.main,
        meter: running.meter,
        signals: running.signals,
        listener: running.listener,
        filter: running.filter,
        made_ipc: false,
        netlink: NetlinkSockets::default(),
        control: Some(control),
        control_dir: running.control_dir,
        streams: running.streams,
        children_before: running.children_before,
        start: StartRecord {
            started_at: running.started_at,
            receipt: running.receipt,
        },
        started: running.started,
        tell_start: Some(Instant::now() + SHORT),
        main_status: None,
        unreaped: false,
        empty: false,
        trigger: None,
        denied: None,
        failed: running.failed,
        condemned: Vec::new(),
        stop: None,
        order: None,
        wall_deadline: running.started + Duration::from_millis(limits.wall_time_ms),
        cpu_look: running.started,
        grace_end: None,
        kill_again: None,
        oom_look: None,
    };
    if watch.failed.is_some() {
        watch.end_for(Trigger::Failed);
    }
    if go.ends_with_launcher {
        // A person may look at how long each step took.
        watch.tell_start(Some(running.timings));
    }
    // What has been used since the job's start, not yet a millisecond, is seen at the first look.
    watch.plan_cpu_look(running.started, 0);
    loop {
        let told = watch.wait();
        watch.move_output(told.streams);
        if told.signals {
            watch.handle_signals();
        }
        if told.signals || watch.unreaped {
            watch.reap();
        }
        if watch.empty {
            break;
        }
        if told.control {
            watch.handle_control();
        }
        watch.handle_stopped_calls(told.listener);
        watch.handle_deadlines(told.oom);
    }
    let (killed, made_ipc) = (watch.kill_again.is_some(), watch.made_ipc);
    let listener = watch.listener.take();
    let (record, was_last) = watch.into_record();
    Ended {
        record,
        killed,
        made_ipc,
        was_last,
        _listener: listener,
    }
}

impl Watch<'_> {
    /// A job that is over, or killed for another reason, has no deadline any more. One that is being stopped has: its grace
    /// period may be a day.
    const fn has_deadlines(&self) -> bool {
        matches!(self.trigger, None | Some(Trigger::Stop))
            && self.main_status.is_none()
            && self.kill_again.is_none()
    }

    fn move_output(&mut self, ready: Ready) {
        self.streams.turn(ready);
        if self.streams.are_lost() {
            self.end_for(Trigger::OutputLost);
        } else if self.streams.overflowed() && self.go.spec.on_output_limit == OnOutputLimit::Kill {
            self.end_for(Trigger::OutputLimit);
        }
    }

    fn handle_signals(&mut self) {
        // Mostly it is the only one; of more the next poll tells.
        let Ok(Some(came)) = self.signals.next() else {
            return;
        };
        match came.signal {
            libc::SIGCHLD => {}
            // In a sandbox of an ordinary user's, a job has the supervisor's own uid, and could stop itself by name of
            // somebody else.
            libc::SIGTERM if came.from_above => {
                let order = self.control_dir.as_deref().and_then(read_stop_order);
                self.stop(order.unwrap_or_else(StopOrder::nameless));
            }
            // A launcher that its job ends with has a socket: this can be nobody but such a job.
            FORWARD_SIGNAL if !self.go.ends_with_launcher => {
                if let Ok(signal) = Signal::try_from(came.value) {
                    self.signal(signal);
                }
            }
            _ => {}
        }
    }

    fn reap(&mut self) {
        self.unreaped = true;
        for _ in 0..AT_ONCE {
            match sys::reap() {
                Ok(Reaped::Child { pid, status }) => {
                    if pid == self.main {
                        self.main_status = Some(status);
                        self.tell_start = None;
                    }
                }
                Ok(Reaped::NoneYet) => {
                    self.unreaped = false;
                    break;
                }
                Ok(Reaped::NoChildren) | Err(_) => {
                    self.empty = true;
                    return;
                }
            }
        }
        // The job ends with its main process; what it left behind goes with it.
        if self.main_status.is_some() && self.kill_again.is_none() {
            self.kill_everything();
        }
    }

    fn handle_control(&mut self) {
        while let Some(control) = self.control {
            match control.try_receive() {
                Ok(Some(ToSupervisor::Stop(order))) => self.stop(order),
                Ok(Some(ToSupervisor::Signal(signal))) => self.signal(signal),
                Ok(Some(
                    ToSupervisor::Go(_)
                    | ToSupervisor::Again(_)
                    | ToSupervisor::Sandbox(_)
                    | ToSupervisor::Berth { .. },
                )) => {}
                Ok(None) => break,
                Err(_) => {
                    self.control = None;
                    self.launcher_gone();
                }
            }
        }
    }

    fn launcher_gone(&mut self) {
        if self.main_status.is_some() {
            return;
        }
        if self.go.ends_with_launcher {
            // Whatever it was being ended for: nobody is left to wait for.
            self.trigger = Some(Trigger::Abandoned);
            self.kill_everything();
        } else if let Some(control_dir) = &self.control_dir {
            // Only now, since it costs a job nothing whose launcher stays. Without it the next one knows less.
            let _ = write_start_record(control_dir, &self.start);
        }
    }

    fn tell_start(&mut self, timings: Option<Timings>) {
        self.tell_start = None;
        if let Some(control) = self.control {
            let told = Report::Started {
                started_at: self.start.started_at,
                receipt: Box::new(self.start.receipt.clone()),
                timings,
            };
            protocol::report(control, &told);
        }
    }

    fn handle_deadlines(&mut self, oom: bool) {
        let now = Instant::now();
        if self.tell_start.is_some_and(|at| now >= at) {
            self.tell_start(None);
        }
        if self.has_deadlines() {
            if now >= self.wall_deadline {
                self.end_for(Trigger::WallTime);
            } else if now >= self.cpu_look {
                self.look_at_cpu(now);
            }
        }
        self.look_at_memory(now, oom);
        self.kill_condemned(now);
        if self.grace_end.is_some_and(|end| now >= end) {
            self.grace_end = None;
            if let Some(stop) = &mut self.stop {
                stop.escalated = true;
            }
            self.kill_everything();
        }
        if self.kill_again.is_some_and(|again| now >= again) {
            self.kill_everything();
        }
    }

    fn look_at_cpu(&mut self, now: Instant) {
        let used_us = self.meter.cpu_us();
        if used_us / 1000 >= self.go.spec.limits.cpu_time_ms {
            self.end_for(Trigger::CpuTime);
        } else {
            self.plan_cpu_look(now, used_us);
        }
    }

    fn plan_cpu_look(&mut self, now: Instant, used_us: u64) {
        self.cpu_look = now + cpu_look::until(&self.go.spec.limits, used_us);
    }

    /// v1 kills one process for lack of memory; the job is to end as a whole.
    fn look_at_memory(&mut self, now: Instant, told: bool) {
        let told = (told || self.oom_look.is_some()) && self.meter.oom_told();
        if told && self.oom_look.is_none() {
            self.oom_look = Some((now, OOM_LOOKS));
        }
        if let Some((at, looks)) = self.oom_look
            && now >= at
        {
            if self.meter.oom_kills() > 0 {
                self.end_for(Trigger::OutOfMemory);
                self.oom_look = None;
            } else {
                self.oom_look = (looks > 0).then(|| (now + OOM_LOOK, looks - 1));
            }
        }
    }
}
