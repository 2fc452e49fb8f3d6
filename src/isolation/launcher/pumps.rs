//! The processes that move what jobs write, one beside each sandbox that serves several.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::ids::{IdLease, IdPool};
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::{self, Channel};
use crate::isolation::supervisor::{self, PumpIdentity};
use crate::job::StartStep;
use crate::sys::{self, Forked, StartMemory, fault_point};

#[derive(Debug, Default)]
pub(super) struct Pumps {
    /// Who all of them are.
    id: Option<IdLease>,
    /// Those whose supervisor has ended.
    ending: Vec<Pid>,
}

impl Pumps {
    /// Forks one, in the cgroup `beside` of supervisors, and gives its supervisor's end. It ends with its supervisor.
    pub(super) fn fork(
        &mut self,
        ids: &mut IdPool,
        beside: Option<BorrowedFd<'_>>,
        launcher_start: StartMemory,
    ) -> Result<(Pid, Channel), Failure> {
        let lease = match self.id.take() {
            Some(lease) => lease,
            None => ids.lease(1).at(StartStep::Identity, "host ids")?,
        };
        let lease = self.id.insert(lease);
        fault_point!("launcher.pump").at(StartStep::Supervisor, "clone3")?;
        let (ours, pumps_end) =
            ipc::pair().map_err(|error| Failure::new(StartStep::Supervisor, 0, error.to_string()))?;
        let identity = PumpIdentity {
            id: lease.ids.first,
            id_lock: lease.lock.as_fd(),
            launcher_start,
        };
        // SAFETY: the launcher has one thread.
        match unsafe { sys::clone_into(0, beside) }.at(StartStep::Supervisor, "clone3")? {
            Forked::Child => {
                drop(ours);
                supervisor::serve_pump(&pumps_end, identity)
            }
            Forked::Parent(pid) => Ok((pid, ours)),
        }
    }

    /// The supervisor of this one has ended, or never was.
    pub(super) fn end(&mut self, pump: Option<Pid>) {
        // It may have been reaped together with its supervisor.
        let ends = |pump: &Pid| matches!(waitpid(Some(*pump), WaitOptions::NOHANG), Ok(None));
        self.ending.extend(pump.filter(ends));
    }

    /// A child has ended.
    pub(super) fn reaped(&mut self, pid: i32) {
        self.ending.retain(|pump| pump.as_raw_nonzero().get() != pid);
    }

    /// Whether some have nothing more to move, and are about to end.
    #[must_use]
    pub(super) const fn are_ending(&self) -> bool {
        !self.ending.is_empty()
    }
}
