//! The filter over system calls, and what it tells of a call that ends a job.
//!
//! Where a profile kills, the kernel would leave only SIGSYS as a trace, and a job can send itself that. So a kill
//! becomes a notification to the supervisor, which kills the process and knows the call.

use crate::policy::seccomp::call_name;
use crate::sys::StoppedCall;

const RETURN: u64 = 0x06;
const KILL_PROCESS: u64 = 0x8000_0000;
const KILL_THREAD: u64 = 0;
const USER_NOTIF: u64 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// The program with its kills turned into notifications. Without a listener the kernel refuses such a call.
#[must_use]
pub fn reporting(program: &[u64]) -> Vec<u64> {
    let report = |instruction: u64| {
        let (operation, value) = (instruction & 0xffff, instruction >> 32);
        let kills = operation == RETURN && matches!(value, KILL_PROCESS | KILL_THREAD);
        if kills {
            RETURN | USER_NOTIF << 32
        } else {
            instruction
        }
    };
    program.iter().copied().map(report).collect()
}

/// Whether a stub can do under this filter what is left to do once it has its job. Then the filter is installed
/// ahead of time, which takes the kernel more than all the rest.
#[must_use]
pub fn lets_stub_go_on(program: &[u64]) -> bool {
    const CALLS: [libc::c_long; 11] = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_sendmsg,
        libc::SYS_openat,
        libc::SYS_dup3,
        libc::SYS_close,
        libc::SYS_chdir,
        libc::SYS_prlimit64,
        libc::SYS_close_range,
        libc::SYS_rt_sigprocmask,
        libc::SYS_execve,
    ];
    #[cfg(target_arch = "x86_64")]
    const MORE: [libc::c_long; 2] = [libc::SYS_open, libc::SYS_dup2];
    #[cfg(not(target_arch = "x86_64"))]
    const MORE: [libc::c_long; 0] = [];
    CALLS
        .iter()
        .chain(&MORE)
        .all(|call| u32::try_from(*call).is_ok_and(|number| verdict(program, number) == Some(ALLOW)))
}

/// What the program returns for a call of this machine's ABI with arguments of 0; `None` for a program that is not of
/// the few operations that our compiler uses.
fn verdict(program: &[u64], number: u32) -> Option<u32> {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let instruction = *program.get(at)?;
        let code = u32::try_from(instruction & 0xffff).ok()?;
        let (if_true, if_false) = (
            (instruction >> 16 & 0xff) as usize,
            (instruction >> 24 & 0xff) as usize,
        );
        let value = u32::try_from(instruction >> 32).ok()?;
        at += 1;
        let jump = |taken: bool| if taken { if_true } else { if_false };
        match code {
            // Load a word of seccomp_data: the number, the architecture, and zeros.
            0x20 => {
                accumulator = match value {
                    0 => number,
                    4 => NATIVE_ARCH,
                    _ => 0,
                }
            }
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => at += jump(accumulator == value),
            0x25 => at += jump(accumulator > value),
            0x35 => at += jump(accumulator >= value),
            0x45 => at += jump(accumulator & value != 0),
            0x06 => return Some(value),
            _ => return None,
        }
    }
}

/// What the call is named, for people: a call of another ABI has a number of its own table.
#[must_use]
pub fn describe(call: StoppedCall) -> String {
    const X32_BIT: i32 = 0x4000_0000;
    let native = call.arch == NATIVE_ARCH && call.number & X32_BIT == 0;
    let name = u32::try_from(call.number)
        .ok()
        .filter(|_| native)
        .and_then(call_name);
    match name {
        Some(name) => name.to_owned(),
        None if native => format!("call {}", call.number),
        None => format!("call {} of a foreign ABI", call.number & !X32_BIT),
    }
}

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xc000_00b7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_alone_become_notifications() {
        let errno = RETURN | 0x0005_0001 << 32;
        let load_zero = 0x20;
        let program = [load_zero, RETURN | KILL_PROCESS << 32, errno];
        assert_eq!(reporting(&program), [load_zero, RETURN | USER_NOTIF << 32, errno]);
    }

    #[test]
    fn built_in_filters_let_a_stub_go_on() {
        use crate::job::JobRequest;
        use crate::policy::{PolicySet, Site, Tenant};
        let policies = PolicySet::built_in();
        for name in policies.names() {
            let request = JobRequest {
                argv: vec!["true".to_owned()],
                ..JobRequest::default()
            };
            let site = Site {
                default_policy: name.clone(),
                scripts_dir: None,
            };
            let resolved = policies
                .resolve(&request, &site, &Tenant { name: String::new() })
                .expect("resolved");
            let program = &resolved.sandbox.seccomp.as_ref().expect("a filter").program;
            assert!(lets_stub_go_on(program), "{name}");
        }
    }

    #[test]
    fn a_filter_that_refuses_one_of_the_calls_comes_last() {
        let allow = RETURN | u64::from(ALLOW) << 32;
        assert!(lets_stub_go_on(&[allow]));
        // LD nr; JEQ chdir ? errno : allow
        let chdir = 0x15 | 1 << 24 | (libc::SYS_chdir as u64) << 32;
        let program = [0x20, chdir, RETURN | 0x0005_0001 << 32, allow];
        assert!(!lets_stub_go_on(&program));
        assert!(!lets_stub_go_on(&[0x61]), "an operation that is not known");
    }

    #[test]
    fn calls_have_names() {
        let call = |arch, number| {
            describe(StoppedCall {
                thread: 7,
                arch,
                number,
            })
        };
        assert_eq!(
            call(NATIVE_ARCH, i32::try_from(libc::SYS_mount).expect("small")),
            "mount"
        );
        assert_eq!(call(0x4000_0003, 21), "call 21 of a foreign ABI");
        assert_eq!(call(NATIVE_ARCH, 9999), "call 9999");
    }
}
