//! seccomp(2): installing a filter, and taking its notifications; see seccomp_unotify(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::clone::check;

/// A call that a filter has stopped. Its thread waits until it is answered or killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoppedCall {
    /// The thread, in the pid namespace of the listener's reader.
    pub thread: i32,
    /// AUDIT_ARCH_*, see linux/audit.h.
    pub arch: u32,
    pub number: i32,
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

/// Installs a program of `struct sock_filter` values for good, and gives its listener.
pub fn install_seccomp(program: &[u64]) -> Result<SeccompListener, Errno> {
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: a sock_filter is 8 bytes with the alignment of u32; the kernel copies the program.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const fprog,
        )
    })?;
    // SAFETY: the call gave a descriptor that nobody else owns.
    Ok(SeccompListener(unsafe {
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1))
    }))
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
            thread: i32::try_from(notice.pid).unwrap_or(0),
            arch: notice.data.arch,
            number: notice.data.nr,
        })
    }
}

/// SECCOMP_IOCTL_NOTIF_RECV: _IOWR('!', 0, struct seccomp_notif).
const RECEIVE: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif>(b'!' as u32, 0);
