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
        0 => Some(call.number),
        4 => Some(call.arch),
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
                let known = [(0, number), (4, NATIVE_ARCH)];
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
