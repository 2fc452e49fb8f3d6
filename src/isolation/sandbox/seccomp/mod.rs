//! The filter over system calls, and what it tells of a call that it stops.
//!
//! Where a profile kills, the kernel would leave only SIGSYS as a trace, and a job can send itself that. So a kill
//! becomes a notification to the supervisor, which kills the process and knows the call.
//!
//! In a sandbox for one job after another, calls that make what stays in an IPC namespace become notifications, too. The
//! supervisor answers as the profile says, and knows that the namespace is not as new any more.
//!
//! So does each call that makes a netlink socket, of which the supervisor lets a job have a few at one time.

mod halves;
mod program;

use crate::policy::seccomp::instruction::{Instruction, JUMP_EQ, LOAD, NUMBER, RETURN};
use crate::policy::seccomp::{Call, NATIVE_ARCH, call_name};
use crate::sys::StoppedCall;
use halves::{Halves, halve};
use program::{
    ACTION, ALLOW, ERRNO, FIRST_ARGUMENT, KILL_PROCESS, KILL_THREAD, TRAP, USER_NOTIF, plain, returns_only,
    verdict,
};

/// A profile's program, as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// With its kills turned into notifications.
    profile: Vec<u64>,
    /// Of a supervisor of one job after another.
    of_supervisor: Option<Vec<u64>>,
    of_stub: Vec<u64>,
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
        let profile: Vec<u64> = program.iter().copied().map(report).collect();
        // One that is too long by this is refused by the kernel.
        let of_stub = match may_succeed(&profile, SOCKET) {
            true => ask_for_netlink()
                .into_iter()
                .chain(profile.iter().copied())
                .collect(),
            false => profile.clone(),
        };
        Self {
            profile,
            of_supervisor: None,
            of_stub,
        }
    }

    /// For one job after another. The supervisor is also asked before anything is made that can stay in an IPC namespace;
    /// `None` where it cannot answer as the profile would.
    #[must_use]
    pub fn in_halves(&self) -> Option<Self> {
        let answered = |value: u32| matches!(value & ACTION, ALLOW | ERRNO | USER_NOTIF);
        let numbers = MAKE_IPC
            .iter()
            .map(|call| u32::try_from(*call).ok())
            .collect::<Option<Vec<u32>>>()?;
        if !numbers
            .iter()
            .all(|number| returns_only(&self.profile, *number, answered))
        {
            return None;
        }
        // One that can never succeed makes nothing.
        let told: Vec<u32> = numbers
            .into_iter()
            .filter(|number| may_succeed(&self.profile, *number))
            .collect();
        let netlink = may_succeed(&self.profile, SOCKET).then_some((SOCKET, NETLINK));
        let Halves {
            of_supervisor,
            of_stub,
        } = halve(&self.profile, &told, netlink)?;
        Some(Self {
            profile: self.profile.clone(),
            of_supervisor: Some(of_supervisor),
            of_stub,
        })
    }

    /// What a supervisor of one job after another installs before its stubs, for itself and them.
    #[must_use]
    pub fn of_supervisor(&self) -> Option<&[u64]> {
        self.of_supervisor.as_deref()
    }

    /// What a stub installs.
    #[must_use]
    pub fn of_stub(&self) -> &[u64] {
        &self.of_stub
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
        match verdict(&self.profile, &asked) {
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
        let is_allowed = |number| verdict(&self.profile, &plain(number)) == Some(ALLOW);
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
            .any(|call| u32::try_from(call).map_or(true, |number| may_succeed(&self.profile, number)))
    }
}

/// Whether there are arguments with which the call `number` is let through, or the program cannot be told.
fn may_succeed(program: &[u64], number: u32) -> bool {
    let fails = |value: u32| {
        matches!(
            value & ACTION,
            ERRNO | TRAP | USER_NOTIF | KILL_PROCESS | KILL_THREAD
        )
    };
    !returns_only(program, number, fails)
}

/// A beginning of a program that asks the supervisor for what makes a netlink socket, and goes on with the profile for all
/// other calls. One of another ABI with such a number is asked for, too, and answered as the profile says.
fn ask_for_netlink() -> [u64; 5] {
    let instruction = |code, if_false, k| Instruction {
        code,
        if_true: 0,
        if_false,
        k,
    };
    let program = [
        instruction(LOAD, 0, NUMBER),
        instruction(JUMP_EQ, 3, SOCKET),
        instruction(LOAD, 0, FIRST_ARGUMENT),
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
mod tests;
