//! What launcher and supervisor say to each other, over a SEQPACKET socket that only they hold.
//!
//! A supervisor outlives its launcher. The next one has no socket to it: it finds the outcome in the exit file, and
//! orders a stop by the stop file and SIGTERM.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::isolation::cgroup::Shape;
use crate::isolation::failure::Failure;
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::etc::Etc;
use crate::isolation::sandbox::identity::HostIds;
use crate::isolation::sandbox::namespaces::NamespaceIds;
use crate::isolation::timings::Timings;
use crate::job::{
    ExitRecord, IsolationFloor, JobSpec, Limits, Receipt, SandboxSpec, Signal, StopOrder, Timestamp,
};

/// Launcher to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// Run this job. With it come descriptors: its control folder and the folder of all output, or, without an
    /// output folder, the files for its stdout and stderr and an eventfd that is told of more output.
    Go(Box<Go>),
    Stop(StopOrder),
    Signal(Signal),
    /// Make the sandbox ready for another job. Descriptors of its cgroup come with it where some are others
    /// than they were.
    Again(Again),
    /// To a supervisor that was forked before this was known. The lock that holds the ids comes with it, then the user
    /// namespace, if `user_namespace`.
    Sandbox(Box<Decided>),
    /// To a supervisor that was forked without: the descriptors of the job's cgroup come with it, then that of its
    /// network namespace, if `network`.
    Berth {
        cgroup: Shape,
        network: bool,
        launcher_namespaces: NamespaceIds,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Decided {
    pub sandbox: SandboxSpec,
    /// The limits that the scratch space is made with.
    pub limits: Limits,
    pub ids: HostIds,
    pub user_namespace: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Again {
    /// The limits that the scratch space is made with.
    pub limits: Limits,
    pub cgroup: Option<Shape>,
    /// So many jobs run that nothing is to make the kernel look through all processes.
    pub beside_many: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Go {
    pub spec: JobSpec,
    /// What the launcher knows of the isolation; the supervisor completes it.
    pub receipt: Receipt,
    pub require: IsolationFloor,
    /// Name of the folder for its output, made with the first byte.
    pub output_folder: Option<String>,
    /// The job ends with its launcher (`stockade run`).
    pub ends_with_launcher: bool,
}

/// Supervisor to launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// What the launcher of one job is to write, while this process does the rest, to the folder that comes along.
    Etc(Etc),
    /// The sandbox could not be built, for whatever job.
    Failed(Failure),
    Started {
        started_at: Timestamp,
        receipt: Box<Receipt>,
        timings: Option<Timings>,
    },
    Finished {
        record: Box<ExitRecord>,
        /// All in its cgroup was killed at once.
        killed: bool,
        /// The record is in the control folder, which could be full.
        written: bool,
    },
    /// Nothing is left of the job that has finished.
    Vacant,
}

/// Sends, waiting a moment for a launcher that is slow to read. One that has gone needs no report; whether it has it.
pub(super) fn report(control: &Channel, report: &Report) -> bool {
    for _ in 0..10 {
        match control.try_send(report) {
            Ok(false) => {
                let moment = Timespec {
                    tv_sec: 0,
                    tv_nsec: 100_000_000,
                };
                let _ = poll(&mut [PollFd::new(control, PollFlags::OUT)], Some(&moment));
            }
            Ok(true) => return true,
            Err(_) => return false,
        }
    }
    false
}
