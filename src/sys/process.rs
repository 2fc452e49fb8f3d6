//! Processes: waiting, credentials, exec, memory shared with a child.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::clone::check;

/// What wait4(2) gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// A child, its wait status as wait(2) defines it.
    Child { pid: i32, status: i32 },
    /// Children exist, none has ended.
    NoneYet,
    /// There is no child (any more).
    NoChildren,
}

/// Reaps one ended child, or says why there is none.
pub fn reap() -> Result<Reaped, Errno> {
    wait_for_any(libc::WNOHANG)
}

/// Waits until a child has ended, and reaps it.
pub fn reap_next() -> Result<Reaped, Errno> {
    wait_for_any(0)
}

fn wait_for_any(how: i32) -> Result<Reaped, Errno> {
    let mut status = 0;
    let flags = how | libc::__WALL;
    loop {
        // SAFETY: `status` lives through the call; no rusage is asked for.
        let result = unsafe { libc::wait4(-1, &raw mut status, flags, std::ptr::null_mut()) };
        return match check(i64::from(result)) {
            Ok(0) => Ok(Reaped::NoneYet),
            Ok(pid) => Ok(Reaped::Child {
                pid: i32::try_from(pid).unwrap_or(0),
                status,
            }),
            Err(Errno::CHILD) => Ok(Reaped::NoChildren),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error),
        };
    }
}

/// What the children that have been reaped did; see getrusage(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct ChildUsage {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub user_us: u64,
    pub system_us: u64,
}

impl ChildUsage {
    /// What has come since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            read_bytes: self.read_bytes - earlier.read_bytes,
            written_bytes: self.written_bytes - earlier.written_bytes,
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

/// getrusage(RUSAGE_CHILDREN). I/O is counted in blocks of 512 bytes that went to or came from a device.
#[must_use]
pub fn children_usage() -> ChildUsage {
    // SAFETY: all-zero is a valid rusage, and the call fills it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a whole rusage.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let micros = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    ChildUsage {
        read_bytes: number(usage.ru_inblock) * 512,
        written_bytes: number(usage.ru_oublock) * 512,
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
    }
}

/// setns(2).
pub fn enter_namespace(namespace: BorrowedFd<'_>, kind: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::setns(namespace.as_raw_fd(), kind) })).map(drop)
}

/// Gives this process a mount namespace of its own: a copy of `of`, or of the one that it is in.
pub fn copy_mount_namespace(of: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    if let Some(namespace) = of {
        enter_namespace(namespace, libc::CLONE_NEWNS)?;
    }
    // SAFETY: plain numbers.
    check(i64::from(unsafe { libc::unshare(libc::CLONE_NEWNS) })).map(drop)
}

/// setresgid(2) and setresuid(2), by the raw calls: glibc's wrappers signal threads that do not exist here.
pub fn set_user(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// setresuid(2) of the effective user alone, by the raw call as in [`set_user`].
pub fn set_effective_user(uid: u32) -> Result<(), Errno> {
    const AS_IT_IS: i64 = -1;
    // SAFETY: plain numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, AS_IT_IS, uid, AS_IT_IS) }).map(drop)
}

/// setgroups(2) with none.
pub fn set_supplementary_groups_empty() -> Result<(), Errno> {
    // SAFETY: a count of 0 reads no memory.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) }).map(drop)
}

/// prlimit(2): soft and hard limit of this process.
pub fn set_resource_limit(resource: u32, value: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: value,
        rlim_max: value,
    };
    // SAFETY: `limit` is a whole rlimit64; the old one is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, 0) }).map(drop)
}

/// getrlimit(2): this process's hard limit.
pub fn hard_limit(resource: u32) -> Result<u64, Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a whole rlimit64; no new one is given.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0, &raw mut limit) })?;
    Ok(limit.rlim_max)
}

/// Raises this process's limits of open files as far as it may: the hard one for jobs, whose own can be no higher, the soft
/// one for the launcher, which has a score of descriptors open for each job.
pub fn raise_open_files() -> Result<(), Errno> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let both = |limit| Rlimit {
        current: limit,
        maximum: limit,
    };
    // Beyond the hard limit only with CAP_SYS_RESOURCE.
    match setrlimit(Resource::Nofile, both(most.max(hard))) {
        Err(Errno::PERM) => setrlimit(Resource::Nofile, both(hard)),
        raised => raised,
    }
}

/// execve(2). Returns only if it failed.
///
/// # Safety
/// `argv` and `envp` must be arrays of pointers to C strings, each ended by a null pointer.
pub unsafe fn execve(
    path: &CStr,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
) -> Errno {
    // SAFETY: the caller vouches for the arrays.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv, envp) };
    super::clone::last_error()
}

/// Where the kernel put this process's arguments and environment, as addresses; see proc_pid_stat(5).
#[derive(Debug, Clone, Copy)]
pub struct StartMemory {
    arguments: (usize, usize),
    environment: (usize, usize),
}

impl StartMemory {
    /// Asks /proc.
    pub fn find() -> std::io::Result<Self> {
        // Behind the name, which may hold anything, the fields are numbers from the 3rd on.
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
        let address = |number: usize| fields.get(number - 3).and_then(|field| field.parse().ok());
        match [48, 49, 50, 51].map(address) {
            [Some(first), Some(last), Some(env_first), Some(env_last)]
                if first <= last && env_first <= env_last =>
            {
                Ok(Self {
                    arguments: (first, last),
                    environment: (env_first, env_last),
                })
            }
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }

    /// Overwrites them with zeros. To this process and its children each is then an empty text.
    ///
    /// # Safety
    /// It must be of this process, or of one that this is a fork of, and no other thread may run.
    pub unsafe fn erase(&self) {
        for (first, last) in [self.arguments, self.environment] {
            let start = std::ptr::with_exposed_provenance_mut::<u8>(first);
            // SAFETY: the kernel made this part of the stack, and nothing but these texts is in it.
            unsafe { start.write_bytes(0, last - first) };
        }
    }
}

/// Has what `command` starts get SIGTERM when the thread that starts it has ended, however that came.
pub fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // One that has ended before the call sends nothing.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(Errno::SRCH.into())
        }
    };
    // SAFETY: two system calls, and an error that takes no memory.
    unsafe { command.pre_exec(tie) };
}

/// Ends the process at once: no destructor, no exit handler.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit is always safe to call.
    unsafe { libc::_exit(code) }
}

/// Memory that this process and children forked later share. It lives as long as the process.
pub fn shared_memory(bytes: usize) -> Result<&'static mut [u8], Errno> {
    map_memory(bytes, MapFlags::SHARED | MapFlags::NORESERVE)
}

/// Memory of this process alone, each page given when it is first written. It lives as long as the process.
pub fn private_memory(bytes: usize) -> Result<&'static mut [u8], Errno> {
    map_memory(bytes, MapFlags::PRIVATE | MapFlags::NORESERVE)
}

fn map_memory(bytes: usize, flags: MapFlags) -> Result<&'static mut [u8], Errno> {
    // SAFETY: a fresh anonymous mapping aliases nothing.
    let start = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
        )?
    };
    // SAFETY: the mapping is `bytes` long, zero-filled, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.cast(), bytes) })
}
