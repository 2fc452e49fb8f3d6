//! clone3(2): as fork(2), and for a child in the same memory.

use std::arch::asm;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// libc 0.2 has it as an i32, in which it is 0.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Namespaces to make; see clone(2).
pub type CloneFlags = u64;

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent(Pid),
}

/// Forks with new namespaces, the child in `cgroup` (a directory of the unified hierarchy) from its first
/// instruction: no moment outside its limits, and none of the grace periods that a move costs.
///
/// # Safety
/// The process must have one thread only: the child gets a copy of this thread alone, with the locks of all
/// others as they were.
pub unsafe fn clone_into(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let arguments = arguments(namespaces, cgroup);
    // SAFETY: a whole clone_args; without CLONE_VM and a stack this is a fork, and the caller vouches that no other thread
    // exists.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(result) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) if pid > 0 => Ok(Forked::Parent(Pid::from_raw(pid).expect("a positive pid"))),
        _ => Err(last_error()),
    }
}

/// A stack for one child after another of [`clone_sharing_memory`].
#[derive(Debug)]
pub struct ChildStack(&'static mut [u8]);

impl ChildStack {
    /// The kernel gives it memory only as it is written.
    pub fn map(bytes: usize) -> Result<Self, Errno> {
        super::private_memory(bytes).map(Self)
    }
}

/// As [`clone_into`], but the child runs `run(with)` in the memory of this process, on `stack`, until it executes a
/// program or ends; this process goes on meanwhile.
///
/// Until then they are one to the kernel where memory runs out: it kills both, and they have one OOM score.
///
/// # Safety
/// This process must have one thread; `stack` must be no other living child's, and it and `with` must stay until the child
/// needs them no more. The child has the thread-local variables of this process, errno among them: it must make system
/// calls alone, and this process none that fails while the child is at work.
pub unsafe fn clone_sharing_memory<T>(
    namespaces: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    stack: &mut ChildStack,
    run: fn(&T) -> !,
    with: &T,
) -> Result<Pid, Errno> {
    /// What the child starts with.
    struct Start<'a, T> {
        run: fn(&T) -> !,
        with: &'a T,
    }
    extern "C" fn enter<T>(start: *const c_void) -> ! {
        // SAFETY: it lies at the lower end of the child's stack.
        let start = unsafe { &*start.cast::<Start<'_, T>>() };
        (start.run)(start.with)
    }
    let mut arguments = arguments(namespaces | libc::CLONE_VM as CloneFlags, cgroup);
    let ChildStack(stack) = stack;
    let lower = stack.as_mut_ptr();
    arguments.stack = lower.expose_provenance() as u64;
    // Downwards, and as aligned as both architectures want it.
    arguments.stack_size = (stack.len() & !0xf) as u64;
    assert!(stack.len() > 2 * size_of::<Start<'_, T>>() && lower.cast::<Start<'_, T>>().is_aligned());
    // SAFETY: there is room, and it is aligned.
    unsafe { lower.cast::<Start<'_, T>>().write(Start { run, with }) };
    // SAFETY: the stack is the child's alone from here on.
    let result = unsafe { clone3_onto_stack(&arguments, enter::<T>, lower.cast()) };
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid).expect("a positive pid")),
        Ok(error) => Err(Errno::from_raw_os_error(-error)),
        Err(_) => Err(Errno::INVAL),
    }
}

/// clone3(2) with a stack, on which the child calls `enter(with)`. Gives the pid, or an error number below 0.
///
/// # Safety
/// The arguments must name a stack that is aligned to 16 bytes at its upper end, and that nobody else uses.
unsafe fn clone3_onto_stack(
    arguments: &libc::clone_args,
    enter: extern "C" fn(*const c_void) -> !,
    with: *const c_void,
) -> i64 {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the parent's registers and stack are as the compiler expects them after the call; the child does not come
    // back from `enter`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            // The outermost frame.
            "xor ebp, ebp",
            "mov rdi, {with}",
            "call {enter}",
            "ud2",
            "2:",
            enter = in(reg) enter,
            with = in(reg) with,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {with}",
            "blr {enter}",
            "brk 1",
            "2:",
            enter = in(reg) enter,
            with = in(reg) with,
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments as *const libc::clone_args as i64 => result,
            in("x1") size_of::<libc::clone_args>(),
        );
    }
    result
}

fn arguments(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> libc::clone_args {
    // SAFETY: all-zero is a valid clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    arguments
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Turns a system call's result into a `Result`.
pub(super) fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    fn stack() -> ChildStack {
        ChildStack::map(64 << 10).expect("mmap")
    }

    #[test]
    fn a_child_in_the_same_memory_writes_to_it() {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        fn run(written: &AtomicU32) -> ! {
            written.store(7, Ordering::Relaxed);
            super::super::exit_now(3)
        }
        // SAFETY: the child writes to the number alone, and its end sets no errno.
        let child = unsafe { clone_sharing_memory(0, None, &mut stack(), run, &WRITTEN) }.expect("clone");
        let status = waitpid(Some(child), WaitOptions::empty());
        let (_, status) = status.expect("wait").expect("a child");
        assert_eq!(status.exit_status(), Some(3));
        assert_eq!(WRITTEN.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_refusal_is_an_error_number() {
        fn run((): &()) -> ! {
            super::super::exit_now(0)
        }
        let both = (libc::CLONE_NEWNS | libc::CLONE_FS) as CloneFlags;
        // SAFETY: the kernel takes no such flags together.
        let refused = unsafe { clone_sharing_memory(both, None, &mut stack(), run, &()) };
        assert_eq!(refused, Err(Errno::INVAL));
    }
}
