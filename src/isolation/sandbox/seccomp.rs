//! The filter over system calls, and what it tells of a call that ends a job.
//!
//! Where a profile kills, the kernel would leave only SIGSYS as a trace, and a job can send itself that. So a kill
//! becomes a notification to the supervisor, which kills the process and knows the call.

use crate::policy::seccomp::call_name;
use crate::policy::seccomp::instruction::{AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};
use crate::sys::StoppedCall;

// What a program returns; linux/seccomp.h.
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
/// The supervisor answers none of its notices.
const USER_NOTIF: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// The program with its kills turned into notifications. Without a listener the kernel refuses such a call.
#[must_use]
pub fn reporting(program: &[u64]) -> Vec<u64> {
    let report = |word: u64| {
        let instruction = Instruction::from_word(word);
        let kills = instruction.code == RETURN && matches!(instruction.k, KILL_PROCESS | KILL_THREAD);
        if !kills {
            return word;
        }
        let reports = Instruction {
            k: USER_NOTIF,
            ..instruction
        };
        reports.to_word()
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

/// Whether some call that keeps a key in the kernel can succeed under this filter. Keys outlive all processes of a user
/// namespace, as long as that is there.
#[must_use]
pub fn lets_keep_keys(program: &[u64]) -> bool {
    [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl]
        .into_iter()
        .any(|call| u32::try_from(call).map_or(true, |number| may_succeed(program, number)))
}

/// Whether there are arguments with which the call `number` is let through, or the program cannot be told.
fn may_succeed(program: &[u64], number: u32) -> bool {
    // Jumps lead forward only: each place is looked at once with any word of the arguments.
    let mut seen = vec![false; program.len()];
    let mut ways = vec![(0_usize, Some(0_u32))];
    while let Some((at, accumulator)) = ways.pop() {
        let Some(instruction) = program.get(at).copied().map(Instruction::from_word) else {
            return true;
        };
        if accumulator.is_none() && std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let next = at + 1;
        let mut branch = |holds: fn(u32, u32) -> bool| match accumulator {
            Some(word) => ways.push((next + instruction.jump(holds(word, instruction.k)), accumulator)),
            None => ways.extend([true, false].map(|taken| (next + instruction.jump(taken), None))),
        };
        match instruction.code {
            LOAD => {
                let known = [(0, number), (4, NATIVE_ARCH)];
                let word = known.iter().find(|(offset, _)| *offset == instruction.k);
                ways.push((next, word.map(|(_, word)| *word)));
            }
            AND => ways.push((next, accumulator.map(|word| word & instruction.k))),
            JUMP => ways.push((next + instruction.k as usize, accumulator)),
            JUMP_EQ => branch(|word, value| word == value),
            JUMP_GT => branch(|word, value| word > value),
            JUMP_GE => branch(|word, value| word >= value),
            RETURN => match instruction.k & 0xffff_0000 {
                ERRNO | TRAP | USER_NOTIF | KILL_PROCESS | KILL_THREAD => {}
                _ => return true,
            },
            _ => return true,
        }
    }
    false
}

/// What the program returns for a call of this machine's ABI with arguments of 0; `None` for a program that is not of
/// the few operations that our compiler uses.
fn verdict(program: &[u64], number: u32) -> Option<u32> {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let instruction = Instruction::from_word(*program.get(at)?);
        let value = instruction.k;
        at += 1;
        match instruction.code {
            // A word of seccomp_data: the number, the architecture, and zeros.
            LOAD => {
                accumulator = match value {
                    0 => number,
                    4 => NATIVE_ARCH,
                    _ => 0,
                }
            }
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQ => at += instruction.jump(accumulator == value),
            JUMP_GT => at += instruction.jump(accumulator > value),
            JUMP_GE => at += instruction.jump(accumulator >= value),
            RETURN => return Some(value),
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

    fn word(code: u16, if_true: u8, if_false: u8, k: u32) -> u64 {
        let instruction = Instruction {
            code,
            if_true,
            if_false,
            k,
        };
        instruction.to_word()
    }

    fn returns(value: u32) -> u64 {
        word(RETURN, 0, 0, value)
    }

    fn load(offset: u32) -> u64 {
        word(LOAD, 0, 0, offset)
    }

    /// Goes on where the word is this number, and skips so many instructions elsewhere.
    fn is(number: libc::c_long, otherwise: u8) -> u64 {
        word(JUMP_EQ, 0, otherwise, u32::try_from(number).expect("small"))
    }

    #[test]
    fn kills_alone_become_notifications() {
        let program = [load(0), returns(KILL_PROCESS), returns(ERRNO | 1)];
        assert_eq!(
            reporting(&program),
            [load(0), returns(USER_NOTIF), returns(ERRNO | 1)]
        );
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
    fn whether_keys_can_be_kept_is_told_for_all_arguments() {
        let (allow, errno) = (returns(ALLOW), returns(ERRNO | 1));
        assert!(lets_keep_keys(&[allow]) && !lets_keep_keys(&[errno]));
        assert!(!lets_keep_keys(&[returns(USER_NOTIF)]) && !lets_keep_keys(&[returns(KILL_PROCESS)]));
        assert!(lets_keep_keys(&[load(0), is(libc::SYS_keyctl, 1), allow, errno]));
        assert!(!lets_keep_keys(&[load(0), is(libc::SYS_read, 1), allow, errno]));
        // Only with 7 as its first argument.
        let with_argument = [load(0), is(libc::SYS_keyctl, 3), load(16), is(7, 1), allow, errno];
        assert!(lets_keep_keys(&with_argument));
        assert!(lets_keep_keys(&[0x61]), "an operation that is not known");
        assert!(lets_keep_keys(&[]));
    }

    #[test]
    fn a_filter_that_refuses_one_of_the_calls_comes_last() {
        let allow = returns(ALLOW);
        assert!(lets_stub_go_on(&[allow]));
        let program = [load(0), is(libc::SYS_chdir, 1), returns(ERRNO | 1), allow];
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
