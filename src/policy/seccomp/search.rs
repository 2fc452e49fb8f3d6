//! The search for a call's number: a balanced tree over ranges of numbers.
//!
//! Numbers next to each other that share a decision are one leaf, but for single ones among them that do not: each is one
//! comparison more, where two further leaves would be two. A linear list costs each call up to one instruction for every
//! number before it, and the kernel as much again for each number when it is installed.

use super::CompileError;
use super::assemble::{Assembler, Label};
use super::instruction::{JUMP_EQ, JUMP_GE};

/// Finds the range of the loaded number, and goes on with what `leaf` writes for its decision. Each range begins at its
/// number, the first at 0, and ends where the next one begins.
pub fn search<D: PartialEq>(
    program: &mut Assembler,
    ranges: &[(u32, D)],
    leaf: &mut impl FnMut(&mut Assembler, &D) -> Label,
) -> Result<Label, CompileError> {
    tree(program, &runs(ranges), leaf)
}

/// Numbers from `start` on.
struct Run<'a, D> {
    start: u32,
    decision: &'a D,
    /// Single numbers among them that are decided otherwise.
    except: Vec<(u32, &'a D)>,
}

/// More would save next to nothing, and the calls around them would have a longer way.
const MOST_EXCEPTIONS: usize = 2;

fn runs<D: PartialEq>(ranges: &[(u32, D)]) -> Vec<Run<'_, D>> {
    let mut runs: Vec<Run<D>> = Vec::new();
    let mut rest = ranges;
    while let [(start, decision), following @ ..] = rest {
        let mut run = Run {
            start: *start,
            decision,
            except: Vec::new(),
        };
        rest = following;
        while run.except.len() < MOST_EXCEPTIONS
            && let [(number, other), (next, again), following @ ..] = rest
            && *next == number + 1
            && again == decision
        {
            run.except.push((*number, other));
            rest = following;
        }
        runs.push(run);
    }
    runs
}

/// Each branch of a binary search is one instruction.
fn tree<D>(
    program: &mut Assembler,
    runs: &[Run<D>],
    leaf: &mut impl FnMut(&mut Assembler, &D) -> Label,
) -> Result<Label, CompileError> {
    // A filter of many long rules stops here, before it has become large.
    if program.is_too_long() {
        return Err(CompileError::TooLong);
    }
    if let [run] = runs {
        let mut next = leaf(program, run.decision);
        for (number, decision) in run.except.iter().rev() {
            let other = leaf(program, decision);
            next = program.branch(JUMP_EQ, *number, other, next);
        }
        return Ok(next);
    }
    let (low, high) = runs.split_at(runs.len() / 2);
    let above = tree(program, high, leaf)?;
    let below = tree(program, low, leaf)?;
    Ok(program.branch(JUMP_GE, high[0].start, above, below))
}
