//! Signals as descriptors, and to whole groups.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, read};
use rustix::process::Pid;

use super::clone::check;

/// The kernel's signal set: one bit per signal, 1 first.
type KernelSet = u64;

/// A signalfd(2) of all signals, which must be blocked.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    pub signal: i32,
    /// What was sent with it; 0 for a plain kill.
    pub value: i32,
    /// By kill(2) of a process that is not in this pid namespace, or is PID 1 of it: the kernel itself fills this in, and
    /// nobody else can claim it.
    pub from_above: bool,
}

impl SignalFd {
    pub fn all() -> Result<Self, Errno> {
        let set: KernelSet = !0;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` is a kernel signal set of the size given.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const set,
                size_of::<KernelSet>(),
                flags,
            )
        })?;
        // SAFETY: the call gave a descriptor that nobody else owns.
        Ok(Self(unsafe {
            OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1))
        }))
    }

    /// The next signal, if there is one.
    pub fn next(&self) -> Result<Option<Delivered>, Errno> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        // SAFETY: any bytes are a valid signalfd_siginfo, and the slice covers exactly it.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(
                info.as_mut_ptr().cast::<u8>(),
                size_of::<libc::signalfd_siginfo>(),
            )
        };
        match read(&self.0, bytes) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: it was zeroed, and filled by the kernel.
        let info = unsafe { info.assume_init() };
        Ok(Some(Delivered {
            signal: i32::try_from(info.ssi_signo).unwrap_or(0),
            value: info.ssi_int,
            from_above: info.ssi_code == libc::SI_USER && info.ssi_pid <= 1,
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn set_mask(set: KernelSet) -> Result<(), Errno> {
    // SAFETY: `set` is a kernel signal set of the size given; the old one is not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const set,
            0,
            size_of::<KernelSet>(),
        )
    })
    .map(drop)
}

/// Blocks all signals but those that a fault of this very process raises.
pub fn block_all_but_faults() -> Result<(), Errno> {
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
        libc::SIGTRAP,
    ];
    set_mask(!faults.iter().fold(0, |set, signal| set | 1 << (signal - 1)))
}

pub fn unblock_all_signals() -> Result<(), Errno> {
    set_mask(0)
}

/// Sets every signal to its default disposition: Rust ignores SIGPIPE, nohup SIGHUP, whoever started us anything, and
/// an exec would hand that on.
pub fn default_all_signals() {
    /// The kernel's sigaction, all of it zero: SIG_DFL. The C library's function refuses the signals that it uses.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: the structure lives through the call and is of the size that 64-bit kernels read; no handler is set.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                0,
                size_of::<KernelSet>(),
            )
        };
    }
}

/// A write to a socket or pipe without a reader fails with EPIPE instead of ending the process.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition for it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Signals a process group; an empty group is no error.
pub fn signal_group(group: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    match check(i64::from(unsafe {
        libc::kill(-group.as_raw_nonzero().get(), signal)
    })) {
        Ok(_) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

/// tkill(2): signals one thread. For a fatal signal that is the end of its whole process.
pub fn signal_thread(thread: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_tkill, thread, signal) }).map(drop)
}

/// Whether `thread` is one of the process `process`.
#[must_use]
pub fn is_thread_of(thread: i32, process: i32) -> bool {
    // SAFETY: plain numbers; signal 0 only looks.
    check(unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) }).is_ok()
}

/// Kills every other process in this pid namespace but its PID 1, atomically with regard to forks.
pub fn kill_all_others() -> Result<(), Errno> {
    signal_all_others(libc::SIGKILL)
}

/// As [`kill_all_others`], with another signal. A child that is just being forked gets it, too.
pub fn signal_all_others(signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    match check(i64::from(unsafe { libc::kill(-1, signal) })) {
        Ok(_) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

/// pidfd_send_signal(2) with a value, as sigqueue(3) sends it.
pub fn queue_signal(pidfd: BorrowedFd<'_>, signal: i32, value: i32) -> Result<(), Errno> {
    #[repr(C)]
    struct QueuedInfo {
        signo: i32,
        errno: i32,
        code: i32,
        padding: i32,
        pid: i32,
        uid: u32,
        value: i32,
        rest: [i32; 25],
    }
    const { assert!(size_of::<QueuedInfo>() == size_of::<libc::siginfo_t>()) };
    let info = QueuedInfo {
        signo: signal,
        errno: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        pid: 0,
        uid: 0,
        value,
        rest: [0; 25],
    };
    use std::os::fd::AsRawFd;
    // SAFETY: `info` has the size and layout of siginfo_t for SI_QUEUE.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            &raw const info,
            0,
        )
    })
    .map(drop)
}
