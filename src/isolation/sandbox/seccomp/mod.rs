//! The filter over system calls, and what it tells of a call that it stops.
//!
//! Where a profile kills, the kernel would leave only SIGSYS as a trace, and a job can send itself that. So a kill
//! becomes a notification to the supervisor, which kills the process and knows the call.
//!
//! In a sandbox for one job after another, calls that make what stays in an IPC namespace become notifications, too. The
//! supervisor answers as the profile says, and knows that the namespace is not as new any more.
//!
//! So does each call that makes a netlink socket, of which the supervisor lets a job have a few at one time.

mod program;

use crate::policy::seccomp::instruction::{Instruction, JUMP, JUMP_EQ, LOAD, RETURN};
use crate::policy::seccomp::{Call, LONGEST_PROGRAM, NATIVE_ARCH, call_name};
use crate::sys::StoppedCall;
use program::{
    ACTION, ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, TRAP, USER_NOTIF, plain, returns_only, verdict,
};

/// A profile's program, as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    program: Vec<u64>,
    /// Where in it the profile's own begins.
    profile_at: usize,
}

/// What a supervisor answers to a call that the filter has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The call is made, as the profile allows it.
    Proceed,
    /// It fails with this number.
    Refuse(i32),
    /// None: who made it is killed.
    Kill,
}

/// Calls that can make what stays in an IPC namespace when all processes have gone.
const MAKE_IPC: [libc::c_long; 4] = [
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
];

/// Numbers of calls are small.
#[allow(clippy::cast_possible_truncation)]
const SOCKET: u32 = libc::SYS_socket as u32;
const NETLINK: u32 = libc::AF_NETLINK.cast_unsigned();

impl Filter {
    /// The program with its kills turned into notifications. Without a listener the kernel refuses such a call.
    #[must_use]
    pub fn reporting(program: &[u64]) -> Self {
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
        let filter = Self {
            program: program.iter().copied().map(report).collect(),
            profile_at: 0,
        };
        if !filter.may_succeed(SOCKET) {
            return filter;
        }
        let ask = ask_for_netlink();
        Self {
            profile_at: ask.len(),
            // One that is too long by this is refused by the kernel.
            program: ask.into_iter().chain(filter.program).collect(),
        }
    }

    /// Has the supervisor asked before anything is made that can stay in an IPC namespace. `None` where it cannot answer
    /// as the profile would.
    #[must_use]
    pub fn telling_ipc(&self) -> Option<Self> {
        let answered = |value: u32| matches!(value & ACTION, ALLOW | ERRNO | USER_NOTIF);
        let numbers = MAKE_IPC
            .iter()
            .map(|call| u32::try_from(*call).ok())
            .collect::<Option<Vec<u32>>>()?;
        if !numbers
            .iter()
            .all(|number| returns_only(&self.program, *number, answered))
        {
            return None;
        }
        // One that can never succeed makes nothing.
        let told: Vec<u32> = numbers
            .into_iter()
            .filter(|number| self.may_succeed(*number))
            .collect();
        if told.is_empty() {
            return Some(self.clone());
        }
        let mut program = ask_first(&told);
        let profile_at = program.len() + self.profile_at;
        program.extend_from_slice(&self.program);
        (program.len() <= LONGEST_PROGRAM).then_some(Self { program, profile_at })
    }

    #[must_use]
    pub fn program(&self) -> &[u64] {
        &self.program
    }

    /// What becomes of a call that it has stopped. Its arguments are what the kernel had in registers, so nobody can
    /// change them meanwhile.
    #[must_use]
    pub fn answer(&self, call: &StoppedCall) -> Answer {
        let asked = Call {
            number: call.number.cast_unsigned(),
            arch: call.arch,
            arguments: call.arguments,
        };
        match verdict(&self.program[self.profile_at..], &asked) {
            Some(ALLOW) => Answer::Proceed,
            Some(value) if value & ACTION == ERRNO => Answer::Refuse((value & !ACTION).cast_signed()),
            _ => Answer::Kill,
        }
    }

    /// Whether a stub can do under this filter what is left to do once it has its job. Then the filter is installed
    /// ahead of time, which takes the kernel more than all the rest.
    #[must_use]
    pub fn lets_stub_go_on(&self) -> bool {
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
        let is_allowed = |number| verdict(&self.program, &plain(number)) == Some(ALLOW);
        CALLS
            .iter()
            .chain(&MORE)
            .all(|call| u32::try_from(*call).is_ok_and(is_allowed))
    }

    /// Whether some call that keeps a key in the kernel can succeed under this filter. Keys outlive all processes of a
    /// user namespace, as long as that is there.
    #[must_use]
    pub fn lets_keep_keys(&self) -> bool {
        [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl]
            .into_iter()
            .any(|call| u32::try_from(call).map_or(true, |number| self.may_succeed(number)))
    }

    /// Whether there are arguments with which the call `number` is let through, or the program cannot be told.
    fn may_succeed(&self, number: u32) -> bool {
        let fails = |value: u32| {
            matches!(
                value & ACTION,
                ERRNO | TRAP | USER_NOTIF | KILL_PROCESS | KILL_THREAD
            )
        };
        !returns_only(&self.program, number, fails)
    }
}

/// A beginning of a program that asks the supervisor for these calls, and goes on with the profile for all others. One of
/// another ABI with such a number is asked for, too, and answered as the profile says.
fn ask_first(numbers: &[u32]) -> Vec<u64> {
    let instruction = |code, if_true, k| Instruction {
        code,
        if_true,
        if_false: 0,
        k,
    };
    let mut program = vec![instruction(LOAD, 0, 0)];
    for (to_go, number) in (1..=numbers.len()).rev().zip(numbers) {
        let to_the_return = u8::try_from(to_go).unwrap_or(u8::MAX);
        program.push(instruction(JUMP_EQ, to_the_return, *number));
    }
    program.push(instruction(JUMP, 0, 1));
    program.push(instruction(RETURN, 0, USER_NOTIF));
    program.into_iter().map(Instruction::to_word).collect()
}

/// As [`ask_first`], for what makes a netlink socket.
fn ask_for_netlink() -> [u64; 5] {
    /// Offset of the low half of the first argument in struct seccomp_data.
    const FAMILY: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
    let instruction = |code, if_false, k| Instruction {
        code,
        if_true: 0,
        if_false,
        k,
    };
    let program = [
        instruction(LOAD, 0, 0),
        instruction(JUMP_EQ, 3, SOCKET),
        instruction(LOAD, 0, FAMILY),
        instruction(JUMP_EQ, 1, NETLINK),
        instruction(RETURN, 0, USER_NOTIF),
    ];
    program.map(Instruction::to_word)
}

/// Whether a call that is let through makes a netlink socket.
#[must_use]
pub fn makes_netlink(call: &StoppedCall) -> bool {
    // The kernel's own type is an int.
    call.number.cast_unsigned() == SOCKET && call.arguments[0] & u64::from(u32::MAX) == u64::from(NETLINK)
}

/// What the call is named, for people: a call of another ABI has a number of its own table.
#[must_use]
pub fn describe(call: &StoppedCall) -> String {
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
        let filter = Filter::reporting(&[load(0), returns(KILL_PROCESS), returns(ERRNO | 1)]);
        assert_eq!(
            filter.program(),
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
            let filter = Filter::reporting(program);
            assert!(filter.lets_stub_go_on(), "{name}");
            assert!(filter.telling_ipc().expect("told").lets_stub_go_on(), "{name}");
        }
    }

    fn lets_keep_keys(program: &[u64]) -> bool {
        Filter::reporting(program).lets_keep_keys()
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
        let lets_stub_go_on = |program: &[u64]| Filter::reporting(program).lets_stub_go_on();
        let allow = returns(ALLOW);
        assert!(lets_stub_go_on(&[allow]));
        let program = [load(0), is(libc::SYS_chdir, 1), returns(ERRNO | 1), allow];
        assert!(!lets_stub_go_on(&program));
        assert!(!lets_stub_go_on(&[0x61]), "an operation that is not known");
    }

    fn stopped(number: libc::c_long, arguments: [u64; 6]) -> StoppedCall {
        StoppedCall {
            id: 1,
            thread: 7,
            arch: NATIVE_ARCH,
            number: i32::try_from(number).expect("small"),
            arguments,
        }
    }

    fn returned(filter: &Filter, number: libc::c_long) -> Option<u32> {
        verdict(filter.program(), &plain(u32::try_from(number).expect("small")))
    }

    #[test]
    fn netlink_sockets_are_asked_for_and_answered_as_the_profile_says() {
        // Of sockets, those of protocol 4 are refused.
        let profile = [
            load(0),
            is(libc::SYS_socket, 3),
            load(32),
            word(JUMP_EQ, 0, 1, 4),
            returns(ERRNO | 93),
            returns(ALLOW),
        ];
        let filter = Filter::reporting(&profile);
        let socket = |family: u64, protocol| StoppedCall {
            id: 1,
            thread: 2,
            arch: NATIVE_ARCH,
            number: libc::SYS_socket.try_into().expect("small"),
            arguments: [family, 3, protocol, 0, 0, 0],
        };
        let (netlink, unix) = (16, 1);
        let high = 1 << 32;
        for (family, counted) in [(netlink, true), (high | netlink, true), (unix, false)] {
            let call = socket(family, 0);
            let asked = Call {
                arguments: call.arguments,
                ..plain(SOCKET)
            };
            let told = verdict(filter.program(), &asked) == Some(USER_NOTIF);
            assert_eq!((told, makes_netlink(&call)), (counted, counted), "{family}");
        }
        assert_eq!(filter.answer(&socket(netlink, 0)), Answer::Proceed);
        assert_eq!(filter.answer(&socket(netlink, 4)), Answer::Refuse(93));
        assert_eq!(returned(&filter, libc::SYS_getpid), Some(ALLOW));
        let without = Filter::reporting(&[
            load(0),
            is(libc::SYS_socket, 1),
            returns(ERRNO | 1),
            returns(ALLOW),
        ]);
        assert_eq!(returned(&without, libc::SYS_socket), Some(ERRNO | 1));
    }

    #[test]
    fn what_stays_in_an_ipc_namespace_is_asked_for_and_answered_as_the_profile_says() {
        // shmget with 7 as its third argument is refused, semget always, mount kills.
        let profile = Filter::reporting(&[
            load(0),
            is(libc::SYS_mount, 1),
            returns(KILL_PROCESS),
            is(libc::SYS_semget, 1),
            returns(ERRNO | 38),
            is(libc::SYS_shmget, 3),
            load(32),
            is(7, 1),
            returns(ERRNO | 1),
            returns(ALLOW),
        ]);
        let telling = profile.telling_ipc().expect("it can be answered");
        for number in [libc::SYS_shmget, libc::SYS_msgget, libc::SYS_mq_open] {
            assert_eq!(returned(&telling, number), Some(USER_NOTIF), "{number}");
        }
        for number in [libc::SYS_semget, libc::SYS_read, libc::SYS_mount] {
            assert_eq!(returned(&telling, number), returned(&profile, number), "{number}");
        }
        let answer = |number, third| telling.answer(&stopped(number, [0, 0, third, 0, 0, 0]));
        assert_eq!(answer(libc::SYS_shmget, 0), Answer::Proceed);
        assert_eq!(answer(libc::SYS_shmget, 7), Answer::Refuse(1));
        assert_eq!(answer(libc::SYS_msgget, 7), Answer::Proceed);
        assert_eq!(answer(libc::SYS_mount, 0), Answer::Kill);
    }

    #[test]
    fn a_profile_that_makes_no_ipc_is_left_as_it_is() {
        let profile = Filter::reporting(&[returns(ERRNO | 1)]);
        assert_eq!(profile.telling_ipc(), Some(profile));
    }

    #[test]
    fn a_profile_that_the_supervisor_cannot_answer_for_is_not_told() {
        const TRACE: u32 = 0x7ff0_0000;
        let traced = [load(0), is(libc::SYS_msgget, 1), returns(TRACE), returns(ALLOW)];
        assert_eq!(Filter::reporting(&traced).telling_ipc(), None);
        let long = vec![load(0); LONGEST_PROGRAM - 1];
        let long = [long, vec![returns(ALLOW)]].concat();
        assert_eq!(
            Filter::reporting(&long).telling_ipc(),
            None,
            "longer than the kernel takes"
        );
    }

    #[test]
    fn calls_have_names() {
        let call = |arch, number| {
            describe(&StoppedCall {
                arch,
                number,
                ..stopped(0, [0; 6])
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
