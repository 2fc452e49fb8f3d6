use super::action::Action;
use super::names::NATIVE_ARCH;

/// A profile in the compiler's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What happens to a call that no rule fits.
    pub default: Action,
    /// The first that fits decides.
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub action: Action,
    pub calls: Vec<u32>,
    /// All must hold.
    pub when: Vec<Condition>,
}

/// A comparison of one argument: `argument & mask` against a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    /// The kernel looks only at the low half of a C `int`: comparing one without the mask 0xffffffff lets a job
    /// choose a high half that makes the comparison fail and the call succeed.
    pub mask: u64,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// Any of these.
    In(Vec<u64>),
    Ne(u64),
    Lt(u64),
    Le(u64),
    Gt(u64),
    Ge(u64),
}

/// What the kernel shows of a call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

/// The bit of x32, the 32-bit ABI with 64-bit registers: its numbers are above, its calls those of x86_64.
#[cfg(target_arch = "x86_64")]
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Filter {
    /// What becomes of `call`. The compiled program does the same.
    #[must_use]
    pub fn decide(&self, call: &Call) -> Action {
        if call.arch != NATIVE_ARCH || is_foreign_number(call.number) {
            return Action::Kill;
        }
        self.rules
            .iter()
            .find(|rule| rule.fits(call))
            .map_or(self.default, |rule| rule.action)
    }
}

impl Rule {
    fn fits(&self, call: &Call) -> bool {
        self.calls.contains(&call.number) && self.when.iter().all(|condition| condition.holds(call))
    }
}

impl Condition {
    fn holds(&self, call: &Call) -> bool {
        let value = call.arguments[usize::from(self.argument)] & self.mask;
        match &self.test {
            Test::In(values) => values.contains(&value),
            Test::Ne(other) => value != *other,
            Test::Lt(other) => value < *other,
            Test::Le(other) => value <= *other,
            Test::Gt(other) => value > *other,
            Test::Ge(other) => value >= *other,
        }
    }
}

/// -1 is not foreign: a tracer sets it to skip a call.
#[cfg(target_arch = "x86_64")]
fn is_foreign_number(number: u32) -> bool {
    (X32_BIT..u32::MAX).contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_foreign_number(_number: u32) -> bool {
    false
}
