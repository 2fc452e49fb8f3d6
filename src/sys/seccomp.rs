//! seccomp(2): installing a filter, and taking its notifications; see seccomp_unotify(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::clone::check;

/// A call that a filter has stopped. Its thread waits until it is answered or killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoppedCall {
    /// By which it is answered.
    pub id: u64,
    /// The thread, in the pid namespace of the listener's reader.
    pub thread: i32,
    /// AUDIT_ARCH_*, see linux/audit.h.
    pub arch: u32,
    pub number: i32,
    pub arguments: [u64; 6],
}

/// The descriptor by which a filter tells of the calls that it stops.
#[derive(Debug)]
pub struct SeccompListener(OwnedFd);

impl From<OwnedFd> for SeccompListener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for SeccompListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Installs a program of `struct sock_filter` values for good, for this thread and what it forks.
pub fn install_seccomp(program: &[u64]) -> Result<(), Errno> {
    install(program, 0).map(drop)
}

/// As [`install_seccomp`], and gives the listener of the program.
pub fn install_seccomp_with_listener(program: &[u64]) -> Result<SeccompListener, Errno> {
    let fd = install(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: the call gave a descriptor that nobody else owns.
    Ok(SeccompListener(unsafe {
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1))
    }))
}

fn install(program: &[u64], flags: libc::c_ulong) -> Result<i64, Errno> {
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: a sock_filter is 8 bytes with the alignment of u32; the kernel copies the program.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    })
}

impl SeccompListener {
    /// Takes a call that waits. Must be asked only when the descriptor is readable, or it waits.
    pub fn take(&self) -> Result<StoppedCall, Errno> {
        // SAFETY: all-zero is a valid seccomp_notif, and the kernel wants it so.
        let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request takes a whole seccomp_notif.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), RECEIVE, &raw mut notice) };
        check(i64::from(result))?;
        Ok(StoppedCall {
            id: notice.id,
            thread: i32::try_from(notice.pid).unwrap_or(0),
            arch: notice.data.arch,
            number: notice.data.nr,
            arguments: notice.data.args,
        })
    }

    /// Has the kernel make the call. To be said of what the filter would have let through, judged by nothing that lies in
    /// the caller's memory, which can change.
    pub fn let_through(&self, call: &StoppedCall) -> Result<(), Errno> {
        self.answer(call, 0, CONTINUE)
    }

    /// Has the call fail.
    pub fn refuse(&self, call: &StoppedCall, errno: i32) -> Result<(), Errno> {
        self.answer(call, -errno, 0)
    }

    fn answer(&self, call: &StoppedCall, error: i32, flags: u32) -> Result<(), Errno> {
        let mut response = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error,
            flags,
        };
        // SAFETY: the request takes a whole seccomp_notif_resp.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, &raw mut response) };
        check(i64::from(result)).map(drop)
    }
}

/// SECCOMP_USER_NOTIF_FLAG_CONTINUE.
const CONTINUE: u32 = 1;

/// SECCOMP_IOCTL_NOTIF_RECV: _IOWR('!', 0, struct seccomp_notif).
const RECEIVE: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif>(b'!' as u32, 0);
/// SECCOMP_IOCTL_NOTIF_SEND: _IOWR('!', 1, struct seccomp_notif_resp).
const SEND: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif_resp>(b'!' as u32, 1);
