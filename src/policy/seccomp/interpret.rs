//! Runs a filter program as the kernel does, for tests.

use super::filter::Call;
use super::instruction::{AND, Instruction, JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN};

/// What a program returned, and how many instructions it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) value: u32,
    pub(super) steps: usize,
}

/// The checks of bpf_check_classic and seccomp_check_filter: known operations, jumps forward and within the
/// program, loads of aligned words of `seccomp_data`, a return at the end.
pub(super) fn check(program: &[Instruction]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        let rest = program.len() - at - 1;
        let fine = match instruction.code {
            LOAD => instruction.k < 64 && instruction.k.is_multiple_of(4),
            AND | RETURN => true,
            JUMP => (instruction.k as usize) < rest,
            JUMP_EQ | JUMP_GE | JUMP_GT => {
                usize::from(instruction.if_true) < rest && usize::from(instruction.if_false) < rest
            }
            _ => false,
        };
        if !fine {
            return Err(format!("instruction {at}: {instruction:?}"));
        }
    }
    match program.last() {
        Some(last) if last.code == RETURN => Ok(()),
        _ => Err("no return at the end".to_owned()),
    }
}

pub(super) fn run(program: &[Instruction], call: &Call) -> Outcome {
    let data = memory(call);
    let mut accumulator: u32 = 0;
    let mut at = 0;
    let mut steps = 0;
    loop {
        let Instruction {
            code,
            if_true,
            if_false,
            k,
        } = program[at];
        steps += 1;
        at += 1;
        let branch = |taken: bool| usize::from(if taken { if_true } else { if_false });
        match code {
            LOAD => {
                let offset = k as usize;
                accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().expect("a word"));
            }
            AND => accumulator &= k,
            JUMP => at += k as usize,
            JUMP_EQ => at += branch(accumulator == k),
            JUMP_GT => at += branch(accumulator > k),
            JUMP_GE => at += branch(accumulator >= k),
            RETURN => return Outcome { value: k, steps },
            _ => panic!("unknown operation {code:#x}"),
        }
    }
}

/// `struct seccomp_data`.
fn memory(call: &Call) -> [u8; 64] {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&call.number.to_ne_bytes());
    data[4..8].copy_from_slice(&call.arch.to_ne_bytes());
    for (index, argument) in call.arguments.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_ne_bytes());
    }
    data
}
