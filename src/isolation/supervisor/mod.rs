//! Builds a job's sandbox, starts the payload, keeps its deadlines, and writes down how it ended: with no need of server or
//! launcher once the job runs.
//!
//! A supervisor is PID 1 of the job's pid namespace. It is outside the job's user namespace and cgroup, so the job can
//! neither signal, trace nor starve it, and the job does not outlive it. It supervises one job ([`single`]), and gives its
//! privileges up before that runs; or one after another ([`series`]), and touches nothing that a job has made.

mod alone;
mod assemble;
mod evidence;
mod exit_file;
mod inherited;
mod oom_score;
mod output;
mod protocol;
pub mod series;
pub mod single;
mod start;
mod stub_link;
mod ties;
mod watch;
mod world;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::isolation::cgroup::Handles;
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::identity::HostIds;
use crate::isolation::sandbox::namespaces::NamespaceIds;
use crate::isolation::sandbox::room::Room;
use crate::isolation::sandbox::template::Template;
use crate::job::{ExitRecord, Limits, SandboxSpec};
use crate::sys::fault_point;

use output::Outlet;
pub use output::{PumpIdentity, STDERR_FILE, STDOUT_FILE, serve_pump};

pub use alone::{Alone, supervise_alone};
use assemble::Assembled;
pub use exit_file::{
    EXIT_FILE, STOP_FILE, StartRecord, read_exit_record, read_start_record, read_stop_order,
    write_exit_record,
};
pub use inherited::Inherited;
pub use protocol::{Again, Decided, Go, Report, ToSupervisor};
pub(crate) use watch::FORWARD_SIGNAL;

/// How long, without a launcher, the record of a job's end is tried to be written.
const RECORD_TRIES: u32 = 3600;
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// What a fork of the launcher brings along, whatever becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub control: &'a Channel,
    pub sandbox: &'a SandboxSpec,
    /// The limits that the scratch space is made with.
    pub limits: &'a Limits,
    pub ids: HostIds,
    /// Kept open for as long as the ids are in use.
    pub ids_lock: BorrowedFd<'a>,
    /// A user namespace made ahead of time, where the root needs its id mapping.
    pub user_namespace: Option<BorrowedFd<'a>>,
    pub inherited: Inherited,
    /// To the process that moves the output, for who supervises one job after another.
    pub pump: Option<&'a Channel>,
}

impl Origin<'_> {
    /// What such a fork must not close.
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let user_namespace = self.user_namespace.as_ref().map(AsRawFd::as_raw_fd);
        let pump = self.pump.map(AsRawFd::as_raw_fd);
        [self.control.as_raw_fd(), self.ids_lock.as_raw_fd()]
            .into_iter()
            .chain(user_namespace)
            .chain(pump)
    }
}

/// What a supervisor lays its world with.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub origin: Origin<'a>,
    pub template: &'a Template,
    /// A root that is laid already, for one job after another.
    pub room: Option<&'a Room>,
}

/// What a supervisor has before it is known which job it will run.
#[derive(Debug, Clone, Copy)]
pub struct Assembly<'a> {
    pub site: Site<'a>,
    /// `None`: the host's, or one that the supervisor makes.
    pub network: Option<BorrowedFd<'a>>,
    pub cgroup: &'a Handles,
    pub launcher_namespaces: &'a NamespaceIds,
}

/// Where a job's traces go, as descriptors: the supervisor has no path to them.
#[derive(Debug)]
struct Outlets {
    /// Of stdout and stderr.
    files: [Outlet; 2],
    /// The job's control folder; a job of `stockade run` has none.
    control_dir: Option<Rc<OwnedFd>>,
    /// An eventfd that is written to when there is more output.
    bell: Option<OwnedFd>,
}

impl Outlets {
    /// From the descriptors that came with the job.
    fn new(go: &Go, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let (first, second) = (descriptors.next()?, descriptors.next()?);
        let Some(folder) = &go.output_folder else {
            return Some(Self {
                bell: Some(descriptors.next()?),
                files: [first, second].map(Outlet::Open),
                control_dir: None,
            });
        };
        let (outputs, folder) = (Arc::new(second), Arc::from(folder.as_str()));
        let files = [STDOUT_FILE, STDERR_FILE].map(|name| Outlet::Later {
            outputs: Arc::clone(&outputs),
            folder: Arc::clone(&folder),
            name,
        });
        Some(Self {
            files,
            control_dir: Some(Rc::new(first)),
            bell: None,
        })
    }
}

/// Runs a job to its end in a sandbox that is assembled, and tells all of it.
fn run_job(assembled: Assembled<'_>, go: &Go, outlets: Outlets, assembly: &Assembly<'_>) -> Ran {
    let Origin { control, pump, .. } = assembly.site.origin;
    let control_dir = outlets.control_dir.clone();
    let (ended, ran) = match start::start(assembled, go, outlets, assembly.launcher_namespaces, pump) {
        Ok(running) => {
            let _ = fault_point!("supervisor.started");
            let ended = watch::watch(running, go, control);
            let made_ipc = ended.made_ipc;
            (ended, Ran::ToItsEnd { made_ipc })
        }
        Err(failure) => {
            let record = ExitRecord::without_run(failure.into_cause());
            (record.into(), Ran::Never)
        }
    };
    let ran = if ended.was_last { Ran::Last } else { ran };
    record_end(control, control_dir.as_deref(), ended);
    ran
}

/// What has become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ran {
    /// No process of it is left.
    ToItsEnd {
        /// Something may be in its IPC namespace.
        made_ipc: bool,
    },
    /// Its stub may be left.
    Never,
    /// No process of it is left, and its sandbox can have no other job.
    Last,
}

/// Writes down how the job ended, then tells it. A record that cannot be written the launcher keeps until it can; without
/// a launcher this process does, for a while.
fn record_end(control: &Channel, control_dir: Option<&OwnedFd>, ended: watch::Ended) {
    // A folder that is gone takes nothing any more, and nobody asks for it.
    let write = |record: &ExitRecord| {
        control_dir.is_none_or(|dir| match write_exit_record(dir, record) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        })
    };
    let _ = fault_point!("supervisor.record");
    let record = Box::new(ended.record);
    let written = write(&record);
    let _ = fault_point!("supervisor.recorded");
    let finished = Report::Finished {
        record: record.clone(),
        killed: ended.killed,
        written,
    };
    if protocol::report(control, &finished) || written {
        return;
    }
    for _ in 0..RECORD_TRIES {
        std::thread::sleep(RECORD_AGAIN);
        if write(&record) {
            return;
        }
    }
}

/// Blocks until the launcher has a job for this sandbox; `None` when it will never have one, or nobody is left to move what
/// that would write. `before` comes once there is one, and before it is received: the launcher can tell until then that it
/// has not begun.
fn wait_for_go(control: &Channel, pump: Option<&Channel>, mut before: impl FnMut()) -> Option<(Go, Outlets)> {
    loop {
        let mut sources = vec![PollFd::new(control, PollFlags::IN)];
        sources.extend(pump.map(|pump| PollFd::new(pump, PollFlags::IN)));
        let _ = poll(&mut sources, None);
        // A pump that has nothing to move has nothing to say.
        if sources.get(1).is_some_and(|pump| !pump.revents().is_empty()) {
            return None;
        }
        if sources
            .first()
            .is_some_and(|control| !control.revents().is_empty())
        {
            before();
        }
        match control.try_receive_with() {
            Ok(Some((ToSupervisor::Go(go), descriptors))) => {
                let outlets = Outlets::new(&go, descriptors)?;
                return Some((*go, outlets));
            }
            Ok(Some(_) | None) => {}
            Err(_) => return None,
        }
    }
}
