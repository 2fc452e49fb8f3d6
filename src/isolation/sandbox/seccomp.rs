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
