//! The child's side: from the clone to the exec.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::RawFd;

use super::filter;

/// Everything that a child needs, prepared before the clone.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) program: &'static CStr,
    pub(super) filter: Option<Vec<u64>>,
    /// /proc of the host, from before the change of root.
    pub(super) proc: RawFd,
    pub(super) null: RawFd,
    /// The child is in namespaces of its own, and in the template's root.
    pub(super) sandboxed: bool,
    /// Set by the child: its mount namespace, in the table of descriptors that it shares with the launcher.
    pub(super) held: RawFd,
}

/// For [`libc::clone`] with CLONE_VM and CLONE_VFORK: the launcher stands still and its memory is shared. Only raw
/// calls, and no return but a failed step.
pub(super) extern "C" fn vforked(job: *mut c_void) -> c_int {
    // SAFETY: the launcher passes its own Job, and stands still until we execute or exit.
    let job = unsafe { &mut *job.cast::<Job>() };
    if job.sandboxed
        && let Err(step) = enter(job)
    {
        return step;
    }
    confine_and_execute(job)
}

fn enter(job: &mut Job) -> Result<(), c_int> {
    // SAFETY: a C string and plain numbers.
    job.held = unsafe {
        libc::openat(
            job.proc,
            c"self/ns/mnt".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    step(101, job.held)?;
    // The descriptor stays in the launcher's table; ours is a copy from now on.
    // SAFETY: a plain number.
    step(102, unsafe { libc::unshare(libc::CLONE_FILES) })?;
    become_root_of_user_namespace(job.proc)?;
    // SAFETY: a name of the length given.
    step(106, unsafe { libc::sethostname(c"sandbox".as_ptr(), 7) })?;
    mount(
        c"tmpfs",
        c"/tmp",
        libc::MS_NOSUID | libc::MS_NODEV,
        c"size=16m,mode=1777",
    )?;
    mount(
        c"proc",
        c"/proc",
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        c"",
    )
}

/// Maps our uid and gid, which are 0, to 0 there.
pub(super) fn become_root_of_user_namespace(proc: RawFd) -> Result<(), c_int> {
    write(103, proc, c"self/setgroups", b"deny")?;
    write(104, proc, c"self/uid_map", b"0 0 1")?;
    write(105, proc, c"self/gid_map", b"0 0 1")
}

pub(super) fn confine_and_execute(job: &Job) -> c_int {
    for fd in [0, 1] {
        // SAFETY: plain numbers.
        if unsafe { libc::dup2(job.null, fd) } < 0 {
            return 107;
        }
    }
    if let Some(filter) = &job.filter
        && filter::install(filter).is_err()
    {
        return 108;
    }
    let argv: [*const c_char; 2] = [job.program.as_ptr(), std::ptr::null()];
    let environment: [*const c_char; 2] = [c"PATH=/usr/bin:/bin".as_ptr(), std::ptr::null()];
    // SAFETY: both arrays are of C strings and end with a null pointer.
    unsafe { libc::execve(job.program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
    110
}

fn mount(kind: &CStr, target: &CStr, flags: libc::c_ulong, data: &CStr) -> Result<(), c_int> {
    // SAFETY: C strings, all of them.
    let result = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    step(111, result)
}

fn write(number: c_int, proc: RawFd, path: &CStr, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: a C string and plain numbers.
    let file = unsafe { libc::openat(proc, path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    step(number, file)?;
    // SAFETY: the bytes are `text`.
    let written = unsafe { libc::write(file, text.as_ptr().cast(), text.len()) };
    // SAFETY: our own descriptor.
    unsafe { libc::close(file) };
    if written < 0 { Err(number) } else { Ok(()) }
}

const fn step(number: c_int, result: c_int) -> Result<(), c_int> {
    if result < 0 { Err(number) } else { Ok(()) }
}
