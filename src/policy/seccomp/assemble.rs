//! Writes classic BPF from its last instruction to its first.
//!
//! BPF jumps only forward. Written backwards, every target stands already when a jump to it is written, so its
//! distance is known, and a jump beyond the reach of 8 bits gets its stepping stone at once.

use std::collections::BTreeMap;

use super::compile::LONGEST_PROGRAM;
use super::instruction::{AND, Instruction, JUMP, LOAD, RETURN};

/// An instruction that is written already, by its count from the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(usize);

/// One less than a jump reaches, so that a stepping stone still fits in between.
const REACH: usize = 254;

#[derive(Debug, Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    returns: BTreeMap<u32, Label>,
    /// The last stepping stone to a label.
    stones: BTreeMap<Label, Label>,
}

impl Assembler {
    #[must_use]
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// The kernel would not take it.
    #[must_use]
    pub const fn is_too_long(&self) -> bool {
        self.reversed.len() > LONGEST_PROGRAM
    }

    /// Returns a value of `SECCOMP_RET_*`.
    pub fn ret(&mut self, value: u32) -> Label {
        match self.returns.get(&value) {
            Some(label) if self.distance(*label) < REACH => *label,
            _ => {
                let label = self.push(RETURN, 0, 0, value);
                self.returns.insert(value, label);
                label
            }
        }
    }

    /// Loads a word of `struct seccomp_data`, then goes on at `next`.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.adjoin(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Masks the loaded word, then goes on at `next`.
    pub fn and(&mut self, mask: u32, next: Label) -> Label {
        if mask == u32::MAX {
            return next;
        }
        self.adjoin(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compares the loaded word with `k`.
    pub fn branch(&mut self, test: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        let (if_true, if_false) = (self.short_distance(yes), self.short_distance(no));
        self.push(test, if_true, if_false, k)
    }

    fn push(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> Label {
        self.reversed.push(Instruction {
            code,
            if_true,
            if_false,
            k,
        });
        Label(self.reversed.len())
    }

    /// How many instructions lie between the next one to be written and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    fn short_distance(&self, label: Label) -> u8 {
        u8::try_from(self.distance(label)).expect("in_reach came first")
    }

    fn in_reach(&mut self, label: Label) -> Label {
        let near = |assembler: &Self, label| assembler.distance(label) <= REACH;
        if near(self, label) {
            return label;
        }
        match self.stones.get(&label) {
            Some(stone) if near(self, *stone) => *stone,
            _ => {
                let stone = self.jump(label);
                self.stones.insert(label, stone);
                stone
            }
        }
    }

    /// Sees to it that the last instruction written leads to `label`.
    fn adjoin(&mut self, label: Label) {
        if self.distance(label) > 0 {
            self.jump(label);
        }
    }

    fn jump(&mut self, label: Label) -> Label {
        let distance = u32::try_from(self.distance(label)).expect("programs are short");
        self.push(JUMP, 0, 0, distance)
    }
}
