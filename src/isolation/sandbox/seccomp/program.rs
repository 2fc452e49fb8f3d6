//! What a filter's program decides, told without the kernel.

use crate::policy::seccomp::instruction::{AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};
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

// Offsets in struct seccomp_data.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
/// The low half of it.
pub(super) const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

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
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let instruction = Instruction::from_word(*program.get(at)?);
        let value = instruction.k;
        at += 1;
        match instruction.code {
            LOAD => accumulator = word(call, value)?,
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

/// What a program does with a number, as far as it can be told without the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    Return(u32),
    /// It goes on here, where it loads an argument.
    Block(usize),
}

/// Where a program goes on with calls of this architecture, and with others. `None` for one that does not look at that
/// first, as those of our compiler do, or that is not of the few operations that it uses.
pub(super) fn ways(program: &[u64]) -> Option<(usize, usize)> {
    let mut instructions = program.iter().copied().map(Instruction::from_word).enumerate();
    let (_, load) = instructions.next()?;
    let (at, check) = instructions.next()?;
    let looks = (load.code, load.k) == (LOAD, ARCH) && (check.code, check.k) == (JUMP_EQ, NATIVE_ARCH);
    let end = program.len();
    let leads_on = |(at, instruction): (usize, Instruction)| match instruction.code {
        LOAD | AND => at + 1 < end,
        JUMP => at + 1 + (instruction.k as usize) < end,
        JUMP_EQ | JUMP_GT | JUMP_GE => at + 1 + instruction.jump(true).max(instruction.jump(false)) < end,
        RETURN => true,
        _ => false,
    };
    let way = |taken| at + 1 + check.jump(taken);
    let all_lead_on = leads_on((at, check)) && instructions.all(leads_on);
    (looks && all_lead_on).then(|| (way(true), way(false)))
}

/// What a program does with a number of this architecture, the way of which begins at `at`.
pub(super) fn leaf(program: &[u64], mut at: usize, number: u32) -> Option<Leaf> {
    let mut accumulator = 0;
    loop {
        let instruction = Instruction::from_word(*program.get(at)?);
        let value = instruction.k;
        if instruction.code == LOAD && !matches!(value, NUMBER | ARCH) {
            return Some(Leaf::Block(at));
        }
        at += 1;
        match instruction.code {
            LOAD if value == NUMBER => accumulator = number,
            LOAD => accumulator = NATIVE_ARCH,
            AND => accumulator &= value,
            JUMP => at += value as usize,
            JUMP_EQ => at += instruction.jump(accumulator == value),
            JUMP_GT => at += instruction.jump(accumulator > value),
            JUMP_GE => at += instruction.jump(accumulator >= value),
            RETURN => return Some(Leaf::Return(value)),
            _ => return None,
        }
    }
}
