//! What a process gives up: descriptors, capabilities, system calls. Async-signal-safe, all of it.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;

use super::clone::check;

/// capget(2)'s three sets, one bit per capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// Closes every descriptor above 2 that is not in `keep`.
pub fn close_all_but(keep: &mut [RawFd]) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut first = 3;
    for &fd in keep.iter() {
        if fd > first {
            close_range(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX, 0)
}

/// Has every descriptor above 2 closed by the next exec, whatever flags it was opened with.
pub fn close_on_exec_above_stdio() -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    close_range(3, RawFd::MAX, CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: RawFd, last: RawFd, flags: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers; the callers own the process's descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// prctl(PR_SET_NO_NEW_PRIVS): no exec gains a privilege any more.
pub fn set_no_new_privs() -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    }))
    .map(drop)
}

/// prctl(PR_SET_DUMPABLE, 0): /proc/PID belongs to root, no ptrace, no core file.
pub fn set_not_dumpable() -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)
    }))
    .map(drop)
}

/// Drops every capability that is not in `keep` from the bounding set, and empties the ambient set.
pub fn drop_bounding_set(keep: u64) -> Result<(), Errno> {
    const LAST_POSSIBLE: u64 = 63;
    // SAFETY: plain numbers.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    }))?;
    for capability in (0..=LAST_POSSIBLE).filter(|bit| keep & (1 << bit) == 0) {
        // SAFETY: plain numbers.
        match check(i64::from(unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0)
        })) {
            Ok(_) => {}
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// capset(2) for this thread.
pub fn set_capabilities(sets: CapabilitySets) -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let word = |bits: u64, index: u32| u32::try_from((bits >> (32 * index)) & 0xffff_ffff).unwrap_or(0);
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let data = [0, 1].map(|index| Data {
        effective: word(sets.effective, index),
        permitted: word(sets.permitted, index),
        inheritable: word(sets.inheritable, index),
    });
    // SAFETY: header and data have the layout of version 3 and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING): an empty session keyring of this process's own in place of the inherited one. A kernel
/// without keys has none to inherit.
pub fn leave_session_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const NO_NAME: usize = 0;
    // SAFETY: plain numbers.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, NO_NAME) }) {
        Err(Errno::NOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// landlock_restrict_self(2).
pub fn landlock_restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}
