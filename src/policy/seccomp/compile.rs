//! A filter as a program: a search for the call's number, argument tests at its leaves.

use std::collections::BTreeMap;

use super::action::Action;
use super::assemble::{Assembler, Label};
use super::filter::{Condition, Filter, Rule, Test};
use super::instruction::{ARCH, ARGUMENTS, Instruction, JUMP_EQ, JUMP_GE, JUMP_GT, NUMBER};
use super::names::NATIVE_ARCH;
use super::search::search;

/// BPF_MAXINSNS: the kernel takes no longer program.
pub const LONGEST_PROGRAM: usize = 4096;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompileError {
    #[error("the filter has more than {LONGEST_PROGRAM} instructions, which is the kernel's limit")]
    TooLong,
}

/// What is to be done for a number: the rules that may fit in their order, then the last resort.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision<'a> {
    tested: Vec<(&'a [Condition], Action)>,
    otherwise: Action,
}

impl Filter {
    pub(super) fn compile(&self) -> Result<Vec<Instruction>, CompileError> {
        let ranges = self.ranges();
        let mut program = Assembler::default();
        let search = search(&mut program, &ranges, &mut leaf)?;
        let native = program.load(NUMBER, search);
        let foreign = program.ret(Action::Kill.return_value());
        // The numbers of another architecture mean other calls.
        let check = program.branch(JUMP_EQ, NATIVE_ARCH, native, foreign);
        program.load(ARCH, check);
        if program.is_too_long() {
            return Err(CompileError::TooLong);
        }
        Ok(program.finish())
    }

    /// Where each range of numbers begins, and its decision. The first begins at 0.
    fn ranges(&self) -> Vec<(u32, Decision<'_>)> {
        let mut ranges = vec![(0, self.no_rule())];
        for (number, decision) in self.decisions() {
            // The number before it may have ended here.
            ranges.pop_if(|(start, _)| *start == number);
            ranges.push((number, decision));
            if let Some(following) = number.checked_add(1) {
                ranges.push((following, self.no_rule()));
            }
        }
        #[cfg(target_arch = "x86_64")]
        kill_x32(&mut ranges, self.no_rule());
        ranges.dedup_by(|(_, later), (_, earlier)| later == earlier);
        ranges
    }

    const fn no_rule(&self) -> Decision<'_> {
        Decision {
            tested: Vec::new(),
            otherwise: self.default,
        }
    }

    /// Of each number that a rule names, in their order.
    fn decisions(&self) -> Vec<(u32, Decision<'_>)> {
        let mut named: Vec<(u32, &Rule)> = self
            .rules
            .iter()
            .flat_map(|rule| rule.calls.iter().map(move |number| (*number, rule)))
            .collect();
        // Stable: the rules of a number stay as they follow each other.
        named.sort_by_key(|(number, _)| *number);
        named
            .chunk_by(|(number, _), (next, _)| number == next)
            .map(|rules| (rules[0].0, self.decision(rules.iter().map(|(_, rule)| *rule))))
            .collect()
    }

    /// By the rules of one number.
    fn decision<'a>(&'a self, rules: impl Iterator<Item = &'a Rule>) -> Decision<'a> {
        let mut decision = self.no_rule();
        for rule in rules {
            if rule.when.is_empty() {
                // Later ones mean nothing.
                decision.otherwise = rule.action;
                break;
            }
            decision.tested.push((&rule.when, rule.action));
        }
        decision
    }
}

#[cfg(target_arch = "x86_64")]
fn kill_x32<'a>(ranges: &mut Vec<(u32, Decision<'a>)>, no_rule: Decision<'a>) {
    use super::filter::X32_BIT;

    let kill = Decision {
        tested: Vec::new(),
        otherwise: Action::Kill,
    };
    let minus_one = ranges
        .pop_if(|(start, _)| *start == u32::MAX)
        .map_or(no_rule, |(_, decision)| decision);
    ranges.retain(|(start, _)| *start < X32_BIT);
    ranges.push((X32_BIT, kill));
    ranges.push((u32::MAX, minus_one));
}

fn leaf(program: &mut Assembler, decision: &Decision) -> Label {
    let mut next = program.ret(decision.otherwise.return_value());
    for (conditions, action) in decision.tested.iter().rev() {
        let mut holds = program.ret(action.return_value());
        for condition in conditions.iter().rev() {
            holds = test(program, condition, holds, next);
        }
        next = holds;
    }
    next
}

/// BPF's words have 32 bits, arguments 64: each comparison is one of the high halves, then one of the low.
struct Halves {
    argument: u32,
    mask: (u32, u32),
}

fn test(program: &mut Assembler, condition: &Condition, yes: Label, no: Label) -> Label {
    let halves = Halves {
        argument: ARGUMENTS + 8 * u32::from(condition.argument),
        mask: split(condition.mask),
    };
    match &condition.test {
        Test::In(values) => halves.is_any(program, values, yes, no),
        Test::Ne(value) => halves.is_any(program, &[*value], no, yes),
        Test::Ge(value) => halves.is_above(program, JUMP_GE, *value, yes, no),
        Test::Lt(value) => halves.is_above(program, JUMP_GE, *value, no, yes),
        Test::Gt(value) => halves.is_above(program, JUMP_GT, *value, yes, no),
        Test::Le(value) => halves.is_above(program, JUMP_GT, *value, no, yes),
    }
}

impl Halves {
    fn is_any(&self, program: &mut Assembler, values: &[u64], yes: Label, no: Label) -> Label {
        let mut by_high: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (high, low) in values.iter().map(|value| split(*value)) {
            by_high.entry(high).or_default().push(low);
        }
        if !self.has_high() {
            by_high.retain(|high, _| *high == 0);
        }
        let mut tests = Vec::with_capacity(by_high.len());
        for (high, lows) in by_high {
            let mut equal = no;
            for low in lows.into_iter().rev() {
                equal = program.branch(JUMP_EQ, low, yes, equal);
            }
            tests.push((high, self.load_low(program, equal)));
        }
        if !self.has_high() {
            return tests.first().map_or(no, |(_, equal)| *equal);
        }
        let mut next = no;
        for (high, equal) in tests {
            next = program.branch(JUMP_EQ, high, equal, next);
        }
        self.load_high(program, next)
    }

    /// `test` is JUMP_GT or JUMP_GE.
    fn is_above(&self, program: &mut Assembler, test: u16, value: u64, yes: Label, no: Label) -> Label {
        let (high, low) = split(value);
        if !self.has_high() && high > 0 {
            return no;
        }
        let compare = program.branch(test, low, yes, no);
        let equal = self.load_low(program, compare);
        if !self.has_high() {
            return equal;
        }
        let not_above = program.branch(JUMP_EQ, high, equal, no);
        let compare = program.branch(JUMP_GT, high, yes, not_above);
        self.load_high(program, compare)
    }

    /// Whether the high half can be anything but 0.
    fn has_high(&self) -> bool {
        self.mask.0 != 0
    }

    fn load_high(&self, program: &mut Assembler, next: Label) -> Label {
        let masked = program.and(self.mask.0, next);
        program.load(
            self.argument + if cfg!(target_endian = "little") { 4 } else { 0 },
            masked,
        )
    }

    fn load_low(&self, program: &mut Assembler, next: Label) -> Label {
        let masked = program.and(self.mask.1, next);
        program.load(
            self.argument + if cfg!(target_endian = "little") { 0 } else { 4 },
            masked,
        )
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit word")]
const fn split(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
