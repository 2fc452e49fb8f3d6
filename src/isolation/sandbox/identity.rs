//! Who a job is: a user id of its own on the host, and what that is called inside; see user_namespaces(7).

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::read;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};

use crate::isolation::failure::{At, Failure};
use crate::isolation::layout;
use crate::isolation::sandbox::proc;
use crate::job::{Identity, StartStep};
use crate::sys::{self, Forked};

/// The host ids of one job, used by no other living job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Makes a user namespace with these maps. `proc` is a /proc of this process's pid namespace.
///
/// This process must have one thread.
pub fn make_namespaces(
    proc: BorrowedFd<'_>,
    identity: Identity,
    ids: HostIds,
) -> Result<HeldNamespaces, Failure> {
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC).at(StartStep::Identity, "pipe")?;
    let namespaces = u64::try_from(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC).unwrap_or(0);
    // SAFETY: neither the launcher nor a supervisor has more than one thread.
    let holder = match unsafe { sys::clone_into(namespaces, None) }.at(StartStep::Identity, "clone3")? {
        Forked::Child => {
            drop(release);
            let _ = read(&hold, &mut [0_u8; 1]);
            sys::exit_now(0)
        }
        Forked::Parent(pid) => pid,
    };
    let pid = holder.as_raw_nonzero().get();
    let open = |kind: &str| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(proc, format!("{pid}/ns/{kind}"), flags, Mode::empty()).at(StartStep::Identity, kind)
    };
    let held = write_maps(proc, pid, identity, ids).and_then(|()| {
        Ok(HeldNamespaces {
            user: open("user")?,
            ipc: open("ipc")?,
        })
    });
    drop(release);
    let _ = waitpid(Some(holder), WaitOptions::empty());
    held
}

/// Writes the id maps of the process `pid` of the /proc at `proc`. setgroups(2) is denied first, for good.
pub fn write_maps(proc: BorrowedFd<'_>, pid: i32, identity: Identity, ids: HostIds) -> Result<(), Failure> {
    let map = format!("{} {} {}", inside(identity), ids.first, ids.count);
    for (file, value) in [("setgroups", "deny"), ("uid_map", &map), ("gid_map", &map)] {
        proc::write_of(proc, pid, file, value).at(StartStep::Identity, file)?;
    }
    Ok(())
}
