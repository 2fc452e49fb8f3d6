//! What the built-in filters refuse, the kernel refuses as the profile says.
//!
//! Needs no privilege: a filter may be installed by anybody with no_new_privs.

mod policy_support;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use policy_support::filter::{POLICIES, install, program};
use stockade::policy::seccomp::call_number;

/// The error number of a call under `policy`'s filter, 0 where it succeeded.
///
/// A filter confines one thread, and what that thread starts: a thread is enough to try it in.
fn errno_of(policy: &str, call: &str, arguments: [u64; 5]) -> i32 {
    let number = i64::from(call_number(call).expect(call));
    let program = program(policy);
    std::thread::spawn(move || {
        install(&program).expect("installed");
        let [a, b, c, d, e] = arguments;
        // SAFETY: the tables below name calls with arguments that the kernel refuses or that change nothing here.
        match unsafe { libc::syscall(number, a, b, c, d, e) } {
            -1 => std::io::Error::last_os_error().raw_os_error().unwrap_or(-1),
            _ => 0,
        }
    })
    .join()
    .expect("the thread ends")
}

/// The signal that ends a process of `policy` which makes `call`.
fn signal_of(policy: &str, call: impl Fn() + Send + Sync + 'static) -> Option<i32> {
    let program = program(policy);
    let mut command = Command::new("true");
    // SAFETY: as in `confined`; all that `call` does is one system call.
    unsafe {
        command.pre_exec(move || {
            install(&program)?;
            call();
            Ok(())
        });
    }
    command.status().expect("spawned").signal()
}

fn system_call(number: i64, arguments: [u64; 2]) {
    // SAFETY: the calls that are tried are refused before their arguments are looked at, or refuse these arguments.
    unsafe { libc::syscall(number, arguments[0], arguments[1], 0, 0, 0) };
}

const NOWHERE: u64 = u64::MAX;

/// Each with arguments to which the kernel itself would give another answer.
#[test]
fn refused_calls_fail_as_the_profile_says() {
    let cases: &[(&str, [u64; 5], i32)] = &[
        ("clone3", [0; 5], libc::ENOSYS),
        ("clone", [0x0002_0000 | 0x200, 0, 0, 0, 0], libc::EPERM), // CLONE_NEWNS | CLONE_FS
        ("unshare", [0; 5], libc::EPERM),
        ("setns", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("ptrace", [1, NOWHERE, 0, 0, 0], libc::EPERM),
        ("process_vm_readv", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("process_madvise", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("pidfd_getfd", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("bpf", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("perf_event_open", [0; 5], libc::EPERM),
        ("userfaultfd", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("io_uring_setup", [0; 5], libc::ENOSYS),
        ("io_setup", [0; 5], libc::ENOSYS),
        ("keyctl", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("add_key", [0; 5], libc::EPERM),
        ("mount", [1, 1, 1, 0, 0], libc::EPERM),
        ("umount2", [1, 0, 0, 0, 0], libc::EPERM),
        ("chroot", [1, 0, 0, 0, 0], libc::EPERM),
        ("open_tree", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("fsopen", [1, 0, 0, 0, 0], libc::EPERM),
        ("mount_setattr", [NOWHERE, 1, 0, 1, 0], libc::EPERM),
        ("name_to_handle_at", [NOWHERE, 1, 1, 1, 0], libc::EPERM),
        ("open_by_handle_at", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("fanotify_init", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("sync", [0; 5], libc::EPERM),
        ("syncfs", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("reboot", [0; 5], libc::EPERM),
        ("init_module", [1, 0, 1, 0, 0], libc::EPERM),
        ("clock_settime", [NOWHERE, 1, 0, 0, 0], libc::EPERM),
        ("swapon", [1, 0, 0, 0, 0], libc::EPERM),
        ("acct", [1, 0, 0, 0, 0], libc::EPERM),
        ("syslog", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("sethostname", [1, NOWHERE, 0, 0, 0], libc::EPERM),
        ("move_pages", [NOWHERE, 0, 0, 0, 0], libc::EPERM),
        ("seccomp", [1, 8, 0, 0, 0], libc::EPERM),
        ("personality", [0x0004_0000, 0, 0, 0, 0], libc::EPERM),
        ("mknodat", [NOWHERE, 1, 0x2000, 0, 0], libc::EPERM), // S_IFCHR
        ("memfd_create", [1, 4, 0, 0, 0], libc::EPERM),       // MFD_HUGETLB
        ("shmget", [0, 1, 0x800 | 0x4000_0000, 0, 0], libc::EPERM),
        ("prctl", [35, 1, 0, 0, 0], libc::EPERM), // PR_SET_MM
        ("prctl", [9999, 0, 0, 0, 0], libc::EINVAL),
        ("fcntl", [NOWHERE, 1031, 0, 0, 0], libc::EPERM), // F_SETPIPE_SZ
        ("fcntl", [NOWHERE, 1024, 0, 0, 0], libc::EPERM), // F_SETLEASE
        ("ioctl", [NOWHERE, 0x5412, 0, 0, 0], libc::EPERM),
        ("socket", [17, 3, 0, 0, 0], libc::EAFNOSUPPORT), // AF_PACKET
        ("socket", [40, 1, 0, 0, 0], libc::EAFNOSUPPORT), // AF_VSOCK
        ("socket", [38, 5, 0, 0, 0], libc::EAFNOSUPPORT), // AF_ALG
        ("socket", [2, 3, 1, 0, 0], libc::EPERM),         // raw ICMP
        ("socket", [2, 1, 132, 0, 0], libc::EPERM),       // SCTP
        ("socket", [2, 1, 262, 0, 0], libc::EPERM),       // MPTCP
        ("socketpair", [16, 3, 0, 1, 0], libc::EAFNOSUPPORT),
        ("socket", [16, 3, 15, 0, 0], libc::EAFNOSUPPORT), // NETLINK_KOBJECT_UEVENT
        ("socket", [16, 3, 9, 0, 0], libc::EAFNOSUPPORT),  // NETLINK_AUDIT
        ("socketpair", [2, 1, 0, 1, 0], libc::EAFNOSUPPORT),
        ("setsockopt", [NOWHERE, 6, 31, 1, 4], libc::EPERM), // TCP_ULP
        ("setsockopt", [NOWHERE, 0, 35, 1, 8], libc::ENODEV), // IP_ADD_MEMBERSHIP
        ("setsockopt", [NOWHERE, 0, 46, 1, 8], libc::ENODEV), // MCAST_JOIN_SOURCE_GROUP
        ("setsockopt", [NOWHERE, 41, 20, 1, 8], libc::ENODEV), // IPV6_ADD_MEMBERSHIP
        ("setsockopt", [NOWHERE, 41, 42, 1, 8], libc::ENODEV), // MCAST_JOIN_GROUP
        ("setsockopt", [NOWHERE, 41, 32, 1, 8], libc::ENODEV), // IPV6_FLOWLABEL_MGR
        ("cachestat", [NOWHERE, 1, 1, 0, 0], libc::ENOSYS),
    ];
    for (call, arguments, errno) in cases {
        assert_eq!(
            errno_of("default", call, *arguments),
            *errno,
            "{call} {arguments:x?}"
        );
    }
}

/// The kernel takes only the low half of these arguments: a rule that looked at all of it would be passed by.
#[test]
fn the_high_half_of_an_int_hides_nothing() {
    let high = 0xdead_beef_0000_0000;
    for (call, arguments, errno) in [
        ("ioctl", [NOWHERE, high | 0x5412, 0, 0, 0], libc::EPERM),
        ("fcntl", [NOWHERE, high | 1031, 0, 0, 0], libc::EPERM),
        ("socket", [high | 17, 3, 0, 0, 0], libc::EAFNOSUPPORT),
        ("socket", [high | 2, high | 3, 1, 0, 0], libc::EPERM),
        ("personality", [high | 0x0004_0000, 0, 0, 0, 0], libc::EPERM),
        ("clone", [high | 0x0002_0200, 0, 0, 0, 0], libc::EPERM),
        ("setsockopt", [NOWHERE, high, high | 35, 1, 8], libc::ENODEV),
        ("socket", [high | 2, high | 1, high, 0, 0], 0),
        ("prlimit64", [0, high | 4, NOWHERE, 0, 0], 0), // skipped
    ] {
        assert_eq!(
            errno_of("default", call, arguments),
            errno,
            "{call} {arguments:x?}"
        );
    }
}

#[test]
fn what_is_allowed_reaches_the_kernel() {
    for (policy, call, arguments, errno) in [
        ("default", "personality", [0xffff_ffff, 0, 0, 0, 0], 0),
        ("default", "mknodat", [NOWHERE, 1, 0x1000, 0, 0], libc::EFAULT),
        ("default", "prctl", [16, 1, 0, 0, 0], libc::EFAULT),
        ("default", "fcntl", [NOWHERE, 6, 0, 0, 0], libc::EBADF),
        ("default", "prlimit64", [0, 4, NOWHERE, 0, 0], 0), // RLIMIT_CORE, skipped
        ("default", "prlimit64", [0, 4, 1 << 32, NOWHERE, 0], 0), // skipped, too
        ("default", "prlimit64", [0, 4, 0, NOWHERE, 0], libc::EFAULT),
        ("default", "prlimit64", [0, 7, NOWHERE, 0, 0], libc::EFAULT),
        ("default", "setrlimit", [4, NOWHERE, 0, 0, 0], 0), // skipped
        ("default", "setsockopt", [NOWHERE, 0, 2, 1, 8], libc::EBADF), // IP_TTL
        ("default", "setsockopt", [NOWHERE, 41, 26, 1, 8], libc::EBADF), // IPV6_V6ONLY
        ("default", "setrlimit", [7, NOWHERE, 0, 0, 0], libc::EFAULT),
        ("ci", "ptrace", [1, 0x7fff_fff0, 0, 0, 0], libc::ESRCH),
        ("ci", "personality", [8, 0, 0, 0, 0], 0),
        ("ci", "setgroups", [1, NOWHERE, 0, 0, 0], 0), // skipped
        ("default", "socket", [16, 3, 0, 0, 0], 0),
        ("strict", "socket", [16, 3, 0, 0, 0], 0),
        ("strict", "socket", [2, 1, 0, 0, 0], 0),
        ("strict", "memfd_create", [1, 0, 0, 0, 0], libc::EFAULT),
    ] {
        assert_eq!(errno_of(policy, call, arguments), errno, "{policy}: {call}");
    }
}

#[test]
fn under_the_strict_policy_attacks_on_the_kernel_are_fatal() {
    for call in [
        "bpf",
        "keyctl",
        "kexec_load",
        "finit_module",
        "reboot",
        "userfaultfd",
        "open_by_handle_at",
    ] {
        let number = i64::from(call_number(call).expect(call));
        assert_eq!(
            signal_of("strict", move || system_call(number, [0; 2])),
            Some(libc::SIGSYS),
            "{call}"
        );
        assert_eq!(
            signal_of("default", move || system_call(number, [0; 2])),
            None,
            "{call}"
        );
    }
}

#[test]
fn under_the_strict_policy_what_programs_try_is_refused() {
    for call in ["mount", "ptrace", "setns", "process_vm_readv", "move_mount"] {
        assert_eq!(errno_of("strict", call, [0; 5]), libc::EPERM, "{call}");
    }
    let sti = [u64::MAX, 0xdead_beef_0000_5412, 0, 0, 0];
    assert_eq!(errno_of("strict", "ioctl", sti), libc::EPERM);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_abis_of_the_processor_are_closed() {
    for policy in POLICIES {
        let x32 = || system_call(0x4000_0000 | libc::SYS_getpid, [0; 2]);
        assert_eq!(signal_of(policy, x32), Some(libc::SIGSYS), "x32, {policy}");
        // SAFETY: the i386 entry; 20 is its getpid, and it touches only eax.
        let i386 = || unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _) };
        let signal = signal_of(policy, i386);
        // A kernel without that entry answers with SIGSEGV.
        assert!(
            matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)),
            "i386, {policy}: {signal:?}"
        );
    }
}
