//! What a filter's program decides, told without the kernel.

use crate::policy::seccomp::instruction::{
    AND, ARCH, ARGUMENTS, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, NUMBER, RETURN,
};
use crate::policy::seccomp::{Call, NATIVE_ARCH};

// What a program returns; linux/seccomp.h.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const USER_NOTIF: u32 = 0x7fc0_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
/// The half of it that says what happens.
pub(super) const ACTION: u32 = 0xffff_0000;

/// The low half of it.
pub(super) const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") {
    ARGUMENTS
} else {
    ARGUMENTS + 4
};

/// A call of this machine's ABI with arguments of 0.
pub(super) const fn plain(number: u32) -> Call {
    Call {
        number,
        arch: NATIVE_ARCH,
        arguments: [0; 6],
    }
}

/// What the program returns; `None` for a program that is not of the few operations that our compiler uses.
pub(super) fn verdict(program: &[u64], call: &Call) -> Option<u32> {
    match follow(program, 0, |offset| word(call, offset))? {
        Leaf::Return(value) => Some(value),
        Leaf::Block(_) => None,
    }
}

/// What a program does with a number of this architecture, from where it has [`ways`] for that.
pub(super) fn leaf(program: &[u64], of_native: usize, number: u32) -> Option<Leaf> {
    follow(program, of_native, |offset| match offset {
        NUMBER => Some(number),
        ARCH => Some(NATIVE_ARCH),
        _ => None,
    })
}

/// How far a program leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Return(u32),
    /// It goes on here, where it loads what is not known.
    Block(usize),
}

/// Follows a program from `at` on, as far as the words that it loads are known.
fn follow(program: &[u64], mut at: usize, word: impl Fn(u32) -> Option<u32>) -> Option<Leaf> {
    let mut accumulator = 0;
    loop {
        let instruction = Instruction::from_word(*program.get(at)?);
        let value = instruction.k;
        match instruction.code {
            LOAD => match word(value) {
                Some(word) => accumulator = word,
                None => return Some(Leaf::Block(at)),
            },
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQ => at += instruction.jump(accumulator == value),
            JUMP_GT => at += instruction.jump(accumulator > value),
            JUMP_GE => at += instruction.jump(accumulator >= value),
            RETURN => return Some(Leaf::Return(value)),
            _ => return None,
        }
        at += 1;
    }
}

/// The word at an offset of `struct seccomp_data`. Where the call was made from, nobody is told.
fn word(call: &Call, offset: u32) -> Option<u32> {
    match offset {
        NUMBER => Some(call.number),
        ARCH => Some(call.arch),
        8 | 12 => Some(0),
        _ => {
            let half = offset.checked_sub(16)? / 4;
            let argument = call.arguments.get(half as usize / 2)?;
            let bytes = argument.to_ne_bytes();
            let (first, second) = bytes.split_at(4);
            let word = if half.is_multiple_of(2) { first } else { second };
            Some(u32::from_ne_bytes(word.try_into().ok()?))
        }
    }
}

/// Whether all that the program can return for the call `number`, whatever its arguments, is `expected`. False for a
/// program that cannot be told.
pub(super) fn returns_only(program: &[u64], number: u32, expected: impl Fn(u32) -> bool) -> bool {
    // Jumps lead forward only: each place is looked at once with any word of the arguments.
    let mut seen = vec![false; program.len()];
    let mut ways = vec![(0_usize, Some(0_u32))];
    while let Some((at, accumulator)) = ways.pop() {
        let Some(instruction) = program.get(at).copied().map(Instruction::from_word) else {
            return false;
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
                let known = [(NUMBER, number), (ARCH, NATIVE_ARCH)];
                let word = known.iter().find(|(offset, _)| *offset == instruction.k);
                ways.push((next, word.map(|(_, word)| *word)));
            }
            AND => ways.push((next, accumulator.map(|word| word & instruction.k))),
            JUMP => ways.push((next + instruction.k as usize, accumulator)),
            JUMP_EQ => branch(|word, value| word == value),
            JUMP_GT => branch(|word, value| word > value),
            JUMP_GE => branch(|word, value| word >= value),
            RETURN if expected(instruction.k) => {}
            _ => return false,
        }
    }
    true
}

/// Where a program goes on with calls of this architecture, and with others. `None` for one that does not look at that
/// first, as those of our compiler do, or that is not of the few operations that it uses, as it uses them.
pub(super) fn ways(program: &[u64]) -> Option<(usize, usize)> {
    let instructions: Vec<_> = program.iter().copied().map(Instruction::from_word).collect();
    let [load, check, ..] = instructions[..] else {
        return None;
    };
    let looks = (load.code, load.k) == (LOAD, ARCH) && (check.code, check.k) == (JUMP_EQ, NATIVE_ARCH);
    let is_ours = |(at, instruction): (usize, &Instruction)| {
        let furthest = match instruction.code {
            LOAD => 0,
            // Of arguments alone: numbers are compared as they are.
            AND => {
                let before = instructions[at - 1];
                if before.code != LOAD || before.k < ARGUMENTS {
                    return false;
                }
                0
            }
            JUMP => instruction.k as usize,
            JUMP_EQ | JUMP_GT | JUMP_GE => instruction.jump(true).max(instruction.jump(false)),
            RETURN => return true,
            _ => return false,
        };
        at + 1 + furthest < instructions.len()
    };
    let way = |taken| 2 + check.jump(taken);
    let all_are_ours = instructions.iter().enumerate().skip(1).all(is_ours);
    (looks && all_are_ours).then(|| (way(true), way(false)))
}
