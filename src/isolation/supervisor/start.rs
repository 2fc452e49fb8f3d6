//! Starts a job in a sandbox that is assembled.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use super::assemble::Assembled;
use super::output::{Handed, Own, Streams};
use super::{Go, Outlets};
use crate::isolation::cgroup::Meter;
use crate::isolation::failure::{At, Failure};
use crate::isolation::ipc::Channel;
use crate::isolation::sandbox::namespaces::NamespaceIds;
use crate::isolation::sandbox::seccomp::Filter;
use crate::isolation::sandbox::{by_users, files, receipt, rlimits, scratch};
use crate::isolation::timings::Timings;
use crate::job::{IsolationFloor, Receipt, StartStep, Timestamp};
use crate::sys::{self, CapabilitySets, ChildUsage, SeccompListener, SignalFd, fault_point};

/// A job that runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    /// The main process, in this pid namespace.
    pub main: i32,
    pub meter: Meter<'a>,
    pub streams: Streams<'a>,
    pub signals: &'a SignalFd,
    /// Tells of calls that the filter has stopped.
    pub listener: Option<SeccompListener>,
    pub filter: Option<&'a Filter>,
    pub started_at: Timestamp,
    pub timings: Timings,
    pub started: Instant,
    /// What processes did that were waited for before.
    pub children_before: ChildUsage,
    pub receipt: Receipt,
    /// What has failed since the command runs: it is to be killed.
    pub failed: Option<Failure>,
    pub control_dir: Option<Rc<OwnedFd>>,
}

/// `pump` moves the output, where this process keeps its privileges. After an error the command has never run.
pub(super) fn start<'a>(
    assembled: Assembled<'a>,
    go: &Go,
    outlets: Outlets,
    launcher: &NamespaceIds,
    pump: Option<&'a Channel>,
) -> Result<Running<'a>, Failure> {
    let mut timings = assembled.timings;
    if go.ends_with_launcher {
        timings.mark("wait for the job");
    } else {
        timings.skip();
    }
    let limits = &go.spec.limits;
    fault_point!("supervisor.scratch").at(StartStep::Scratch, "resize")?;
    if !limits.have_same_scratch(&assembled.limits) {
        scratch::resize(limits)?;
    }
    timings.mark("scratch size");
    fault_point!("supervisor.files").at(StartStep::Files, "the job's files")?;
    let stdin = files::put(&go.spec, assembled.ids.first)?;
    if assembled.own_run {
        by_users::seal_run()?;
    }
    assembled
        .plan
        .lay_out(
            &go.spec,
            stdin,
            &rlimits::of(limits, assembled.in_cgroup, &assembled.world.most)?,
        )
        .map_err(|error| Failure::new(StartStep::Exec, libc::E2BIG, error.to_string()))?;
    timings.mark("files, plan");
    let mut receipt = go.receipt.clone();
    receipt.landlock_abi = assembled.landlock_abi;
    receipt.weaker.extend_from_slice(&assembled.weaker);
    let (bytes, inodes) = scratch::limits()?;
    receipt.limits.insert("tmpfs.size".to_owned(), bytes.to_string());
    receipt
        .limits
        .insert("tmpfs.nr_inodes".to_owned(), inodes.to_string());
    if let Some(read_back) = &assembled.read_back {
        receipt::complete(&mut receipt, read_back, assembled.ids);
        demand(&go.require, &receipt)?;
        drop_privileges(pump)?;
    }
    let pipes = [assembled.stdout, assembled.stderr];
    let streams = match pump {
        Some(pump) => Streams::Handed(Handed::new(pump, pipes, outlets.files, limits.output_bytes)),
        None => {
            let own = Own::new(pipes, outlets.files, limits.output_bytes, outlets.bell);
            Streams::Own(Box::new(own.at(StartStep::Output, "mmap")?))
        }
    };
    let children_before = sys::children_usage();
    let (started_at, started) = (Timestamp::now(), Instant::now());
    let listener = assembled.link.let_go(&go.spec)?;
    timings.mark("stub to exec");
    // From here on the command runs, and no failure can tell that it never did.
    let scored = assembled.world.settle_score(assembled.stub);
    let confirmed = match assembled.read_back {
        Some(_) => Ok(()),
        None => receipt::read_back(assembled.stub, launcher, &assembled.namespaces).and_then(|read_back| {
            receipt::complete(&mut receipt, &read_back, assembled.ids);
            demand(&go.require, &receipt)?;
            drop_privileges(pump)
        }),
    };
    receipt.limits.extend(rlimits::named(&assembled.plan.rlimits()));
    timings.mark("receipt");
    Ok(Running {
        main: assembled.stub,
        meter: assembled.meter,
        streams,
        signals: &assembled.world.signals,
        listener,
        filter: assembled.filter,
        timings,
        started_at,
        started,
        children_before,
        receipt,
        failed: scored.and(confirmed).err(),
        control_dir: outlets.control_dir,
    })
}

/// A job that must have more than it has does not run, or no longer.
fn demand(require: &IsolationFloor, receipt: &Receipt) -> Result<(), Failure> {
    let Some(unmet) = require.unmet_by(receipt) else {
        return Ok(());
    };
    Err(Failure::new(
        StartStep::Policy,
        0,
        format!("demanded isolation is not there: {unmet}"),
    ))
}

/// From here on the supervisor needs to signal the job, and nothing else. One that has a pump keeps what the next job takes.
fn drop_privileges(pump: Option<&Channel>) -> Result<(), Failure> {
    const CAP_KILL: u64 = 1 << 5;
    if pump.is_some() {
        return Ok(());
    }
    let sets = CapabilitySets {
        effective: CAP_KILL,
        permitted: CAP_KILL,
        inheritable: 0,
    };
    fault_point!("supervisor.privileges").at(StartStep::Supervisor, "capset")?;
    sys::set_capabilities(sets).at(StartStep::Supervisor, "capset")?;
    sys::set_no_new_privs().at(StartStep::Supervisor, "PR_SET_NO_NEW_PRIVS")
}
