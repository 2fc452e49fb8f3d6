//! Who a job is: a user id of its own on the host, and what that is called inside; see user_namespaces(7).

use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, geteuid, getpid, getppid, kill_process,
    set_parent_process_death_signal, waitid, waitpid,
};
use rustix::thread::{CapabilitySets, UnshareFlags, capabilities, set_capabilities, unshare_unsafe};
use serde::{Deserialize, Serialize};

use crate::isolation::failure::{At, Failure};
use crate::isolation::layout;
use crate::isolation::sandbox::proc;
use crate::job::{Identity, StartStep};
use crate::sys::{self, Forked};

/// The host ids of one job, used by no other living job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIds {
    /// As the launcher's user namespace has them.
    pub first: u32,
    pub count: u32,
    /// The first as the host has it: another number where an ordinary user's launcher is in a user namespace.
    pub outside: u32,
}

/// Capabilities that root of a user namespace of its own keeps over that namespace: those that installing
/// packages into a writable root needs, none that opens more of the kernel.
const ROOT_CAPABILITIES: [u32; 8] = [
    0,  // CAP_CHOWN
    1,  // CAP_DAC_OVERRIDE
    3,  // CAP_FOWNER
    4,  // CAP_FSETID
    5,  // CAP_KILL
    6,  // CAP_SETGID
    7,  // CAP_SETUID
    31, // CAP_SETFCAP
];

/// The uid and gid inside.
#[must_use]
pub const fn inside(identity: Identity) -> u32 {
    match identity {
        Identity::Unprivileged => layout::USER_ID,
        Identity::Root => 0,
    }
}

/// How many host ids a job needs.
#[must_use]
pub const fn ids_needed(identity: Identity) -> u32 {
    match identity {
        Identity::Unprivileged => 1,
        Identity::Root => 1 << 16,
    }
}

#[must_use]
pub fn kept_capabilities(identity: Identity) -> u64 {
    match identity {
        Identity::Unprivileged => 0,
        Identity::Root => ROOT_CAPABILITIES
            .iter()
            .fold(0, |set, capability| set | 1 << capability),
    }
}

/// Namespaces that no process is in, held by nothing but the descriptors.
#[derive(Debug)]
pub struct HeldNamespaces {
    pub user: OwnedFd,
    /// Owned by the user namespace.
    pub ipc: OwnedFd,
}

/// Makes a user namespace with these maps. It belongs to the job's own user on the host: what the kernel limits for each
/// user and counts for the owner of a user namespace, too, such as inotify instances, no two jobs take from each other.
/// `proc` is a /proc of this process's pid namespace.
///
/// This process must have one thread.
pub fn make_namespaces(
    proc: BorrowedFd<'_>,
    identity: Identity,
    ids: HostIds,
) -> Result<HeldNamespaces, Failure> {
    let place = || fcntl_dupfd_cloexec(proc, 0).at(StartStep::Identity, "dup");
    let mut held = HeldNamespaces {
        user: place()?,
        ipc: place()?,
    };
    let parent = getpid();
    // The maker puts the namespaces in place of those descriptors, which are its own, too.
    let shared = u64::try_from(libc::CLONE_FILES).unwrap_or(0);
    // SAFETY: neither the launcher nor a supervisor has more than one thread.
    let maker = match unsafe { sys::clone_into(shared, None) }.at(StartStep::Identity, "clone3")? {
        Forked::Child => {
            let Err(error) = fill(&mut held, proc, ids.first).and_then(|()| stay(parent));
            sys::exit_now(error.raw_os_error())
        }
        Forked::Parent(pid) => pid,
    };
    let made = await_stop(maker).at(StartStep::Identity, "user and IPC namespace");
    let mapped = made.and_then(|()| write_maps(proc, maker.as_raw_nonzero().get(), identity, ids));
    let _ = kill_process(maker, Signal::KILL);
    let _ = waitpid(Some(maker), WaitOptions::empty());
    mapped.map(|()| held)
}

fn fill(held: &mut HeldNamespaces, proc: BorrowedFd<'_>, owner: u32) -> Result<(), Errno> {
    become_owner(owner)?;
    // SAFETY: this process has no thread beside this one, and shares no memory.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWIPC) }?;
    // Of itself any process is told that.
    for (kind, place) in [("user", &mut held.user), ("ipc", &mut held.ipc)] {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = openat(proc, format!("self/ns/{kind}"), flags, Mode::empty())?;
        dup3(&namespace, place, DupFlags::CLOEXEC)?;
    }
    Ok(())
}

/// Does `make` as [`become_owner`] has it, and is itself again.
pub fn owned_by<T>(owner: u32, make: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let user = geteuid().as_raw();
    let capabilities = become_owner(owner)?;
    let made = make();
    sys::set_effective_user(user)?;
    set_capabilities(None, capabilities)?;
    made
}

/// Has a user namespace that this process makes belong to `owner`: the effective user, to the kernel. Gives the capabilities
/// of before, which it keeps.
fn become_owner(owner: u32) -> Result<CapabilitySets, Errno> {
    let capabilities = capabilities(None)?;
    sys::set_effective_user(owner)?;
    // The change has taken them, and there are hosts where only who has CAP_SYS_ADMIN may go on.
    set_capabilities(None, capabilities)?;
    Ok(capabilities)
}

/// Stops until it is killed, as it is with `parent`.
fn stay(parent: Pid) -> Result<Infallible, Errno> {
    // Any change of credentials would have undone it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // One that has ended before sends nothing.
    while getppid() == Some(parent) {
        kill_process(getpid(), Signal::STOP)?;
    }
    Err(Errno::SRCH)
}

/// Waits until a child has stopped. Where it has ended instead, its exit status is the error.
fn await_stop(pid: Pid) -> Result<(), Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
    let changed = loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(Errno::INTR) => {}
            changed => break changed?,
        }
    };
    match changed {
        Some(changed) if changed.stopped() => Ok(()),
        Some(changed) => Err(changed
            .exit_status()
            .map_or(Errno::SRCH, Errno::from_raw_os_error)),
        None => Err(Errno::SRCH),
    }
}

/// Writes the id maps of the process `pid` of the /proc at `proc`. setgroups(2) is denied first, for good.
pub fn write_maps(proc: BorrowedFd<'_>, pid: i32, identity: Identity, ids: HostIds) -> Result<(), Failure> {
    let map = format!("{} {} {}", inside(identity), ids.first, ids.count);
    for (file, value) in [("setgroups", "deny"), ("uid_map", &map), ("gid_map", &map)] {
        proc::write_of(proc, pid, file, value).at(StartStep::Identity, file)?;
    }
    Ok(())
}
