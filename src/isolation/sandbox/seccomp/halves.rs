//! A filter in two halves, for one job after another.
//!
//! The kernel goes through a filter for each number of a call when it is installed, and translates all of it: that takes as
//! long as everything else that a stub does. So what a profile refuses and no supervisor does either, the supervisor
//! gives up once, for itself and all jobs to come. Its stubs add the rest, which is shorter, and is gone through only for
//! the numbers that are left.
//!
//! Of two filters the kernel takes what is more severe, and of two errors that of the later filter. So a call that the
//! supervisor's half decides is let through by the stub's, or gets the same error.

use std::collections::{BTreeMap, BTreeSet};

use super::program::{ACTION, ALLOW, ERRNO, FIRST_ARGUMENT, Leaf, USER_NOTIF, leaf, returns_only, ways};
use crate::policy::seccomp::instruction::{
    AND, ARCH, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, NUMBER, RETURN,
};
use crate::policy::seccomp::{Assembler, Label, NATIVE_ARCH, call_name, search};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halves {
    pub of_supervisor: Vec<u64>,
    pub of_stub: Vec<u64>,
}

/// Calls that neither a supervisor nor a stub makes, on any architecture.
const NOT_OURS: [&str; 79] = [
    "_sysctl",
    "acct",
    "add_key",
    "adjtimex",
    "afs_syscall",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "fanotify_init",
    "fanotify_mark",
    "finit_module",
    "fspick",
    "get_kernel_syms",
    "getpmsg",
    "init_module",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "listmount",
    "lookup_dcookie",
    "mbind",
    "memfd_secret",
    "migrate_pages",
    "mknod",
    "mknodat",
    "modify_ldt",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "putpmsg",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "remap_file_pages",
    "request_key",
    "security",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "setsockopt",
    "settimeofday",
    "statmount",
    "swapoff",
    "swapon",
    "sync",
    "syncfs",
    "sysfs",
    "syslog",
    "tuxcall",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vserver",
];

/// No kernel has so many calls yet.
const NUMBERS: u32 = 512;

/// What becomes of a number in one of the halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// As the profile does.
    Profile(Leaf),
    /// The supervisor is asked.
    Ask,
    /// The supervisor is asked if the first argument is this, else as the profile does.
    AskIf(u32, Leaf),
}

/// By the number that each begins with.
type Decisions = Vec<(u32, Decision)>;

const LET_THROUGH: Decision = Decision::Profile(Leaf::Return(ALLOW));

/// Makes both of a profile's program. `asked`: numbers that the supervisor's answer is asked for; and with a first argument.
/// `None` for a program that is not as our compiler writes them, or becomes too long.
pub(super) fn halve(profile: &[u64], asked: &[u32], asked_if: Option<(u32, u32)>) -> Option<Halves> {
    let (mut of_supervisor, mut of_stub): (Decisions, Decisions) = (vec![], vec![]);
    let (of_native, _) = ways(profile)?;
    for number in starts(profile) {
        let leaf = leaf(profile, of_native, number)?;
        let (first, second) = if asked.contains(&number) {
            (LET_THROUGH, Decision::Ask)
        } else if let Some((_, value)) = asked_if.filter(|(of, _)| *of == number) {
            (LET_THROUGH, Decision::AskIf(value, leaf))
        } else if can_be_given_up(profile, number, leaf) {
            let before = of_stub.last().map(|(_, decision)| *decision);
            let same = Decision::Profile(leaf);
            let goes_on = matches!(leaf, Leaf::Return(_)) && before == Some(same);
            (same, if goes_on { same } else { LET_THROUGH })
        } else {
            (LET_THROUGH, Decision::Profile(leaf))
        };
        of_supervisor.push((number, first));
        of_stub.push((number, second));
    }
    Some(Halves {
        of_supervisor: write(profile, of_supervisor, Foreign::LetThrough)?,
        of_stub: write(profile, of_stub, Foreign::Profile)?,
    })
}

/// Each number that a call may have, and of all others where the profile may begin to decide otherwise.
fn starts(profile: &[u64]) -> BTreeSet<u32> {
    let compared = profile
        .iter()
        .copied()
        .map(Instruction::from_word)
        .filter(|instruction| matches!(instruction.code, JUMP_EQ | JUMP_GE | JUMP_GT))
        .flat_map(|compare| [Some(compare.k), compare.k.checked_add(1)]);
    (0..=NUMBERS).chain(compared.flatten()).collect()
}

/// Whether all that the profile does with a call of ours that we do not make is to refuse it, at least with some arguments.
fn can_be_given_up(profile: &[u64], number: u32, leaf: Leaf) -> bool {
    const ENOSYS: u32 = ERRNO | libc::ENOSYS.cast_unsigned();
    match call_name(number) {
        Some(name) => {
            NOT_OURS.contains(&name)
                && leaf != Leaf::Return(ALLOW)
                && returns_only(profile, number, |value| matches!(value & ACTION, ALLOW | ERRNO))
        }
        // A C library that knows more calls than we do can do without them on a kernel that has none.
        None => leaf == Leaf::Return(ENOSYS),
    }
}

/// Calls of another architecture.
#[derive(Debug, Clone, Copy)]
enum Foreign {
    LetThrough,
    /// As the profile does, which tells it before it looks at the number.
    Profile,
}

fn write(profile: &[u64], mut decisions: Decisions, foreign: Foreign) -> Option<Vec<u64>> {
    decisions.dedup_by(|(_, later), (_, earlier)| later == earlier);
    let (_, of_foreign) = ways(profile)?;
    let mut excerpt = Excerpt {
        profile,
        written: BTreeMap::new(),
    };
    let mut program = Assembler::default();
    let mut decide = |program: &mut Assembler, decision: &Decision| excerpt.decision(program, *decision);
    let native = search(&mut program, &decisions, &mut decide).ok()?;
    let native = program.load(NUMBER, native);
    let foreign = match foreign {
        Foreign::LetThrough => program.ret(ALLOW),
        Foreign::Profile => excerpt.block(&mut program, of_foreign),
    };
    let check = program.branch(JUMP_EQ, NATIVE_ARCH, native, foreign);
    program.load(ARCH, check);
    (!program.is_too_long()).then(|| program.finish().into_iter().map(Instruction::to_word).collect())
}

/// What a half takes over of the profile's program. That has been looked at before: all of its jumps lead on.
struct Excerpt<'a> {
    profile: &'a [u64],
    /// By where it is in the profile.
    written: BTreeMap<usize, Label>,
}

impl Excerpt<'_> {
    fn decision(&mut self, program: &mut Assembler, decision: Decision) -> Label {
        match decision {
            Decision::Profile(leaf) => self.leaf(program, leaf),
            Decision::Ask => program.ret(USER_NOTIF),
            Decision::AskIf(value, leaf) => {
                let ask = program.ret(USER_NOTIF);
                let otherwise = self.leaf(program, leaf);
                let compare = program.branch(JUMP_EQ, value, ask, otherwise);
                program.load(FIRST_ARGUMENT, compare)
            }
        }
    }

    fn leaf(&mut self, program: &mut Assembler, leaf: Leaf) -> Label {
        match leaf {
            Leaf::Return(value) => program.ret(value),
            Leaf::Block(at) => self.block(program, at),
        }
    }

    /// All that can be reached from there.
    fn block(&mut self, program: &mut Assembler, at: usize) -> Label {
        if let Some(label) = self.written.get(&at) {
            return *label;
        }
        let instruction = Instruction::from_word(self.profile[at]);
        let next = at + 1;
        let label = match instruction.code {
            RETURN => program.ret(instruction.k),
            JUMP => self.block(program, next + instruction.k as usize),
            LOAD => {
                let then = self.block(program, next);
                program.load(instruction.k, then)
            }
            AND => {
                let then = self.block(program, next);
                program.and(instruction.k, then)
            }
            test => {
                let yes = self.block(program, next + instruction.jump(true));
                let no = self.block(program, next + instruction.jump(false));
                program.branch(test, instruction.k, yes, no)
            }
        };
        self.written.insert(at, label);
        label
    }
}
