//! The TOML form of a profile: groups of calls, each with the reason for what becomes of them.

use serde::Deserialize;

use super::action::Action;
use super::filter::{Condition, Rule, Test};
use super::names::CallName;
use crate::policy::document::Document;
use crate::policy::error::PolicyError;
use crate::policy::names::Name;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileFile {
    /// For people.
    #[serde(rename = "description")]
    _description: String,
    /// A profile whose rules come after this one's, and whose default holds where this one names none.
    pub(super) extends: Option<Name>,
    /// What happens to a call that no rule fits.
    pub(super) default: Option<Action>,
    /// The first that fits a call decides it.
    #[serde(default, rename = "rule")]
    rules: Vec<RuleTable>,
}

/// `[[rule]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    /// Why, for who reads or changes the profile.
    reason: String,
    /// `allow`, `log`, `trap`, `kill`, or the name of the error number with which the call fails.
    action: Action,
    calls: Vec<CallName>,
    /// Conditions on the call's arguments; all must hold.
    #[serde(default)]
    when: Vec<ConditionTable>,
}

/// `[[rule.when]]`: one comparison of `argument & mask`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionTable {
    /// Which argument, from 0.
    arg: u8,
    /// Absent: all 64 bits. For a C `int` it must be 0xffffffff or less.
    mask: Option<u64>,
    r#in: Option<Vec<u64>>,
    eq: Option<u64>,
    ne: Option<u64>,
    lt: Option<u64>,
    le: Option<u64>,
    gt: Option<u64>,
    ge: Option<u64>,
}

impl ProfileFile {
    pub(super) fn rules(&self, document: &Document) -> Result<Vec<Rule>, PolicyError> {
        let mut rules = Vec::with_capacity(self.rules.len());
        for (index, table) in self.rules.iter().enumerate() {
            let rule = table
                .rule()
                .map_err(|(key, reason)| document.error_at(&format!("rule[{index}]{key}"), reason))?;
            rules.push(rule);
        }
        Ok(rules)
    }
}

/// A key below the rule's, and what is wrong there.
type Fault = (String, &'static str);

impl RuleTable {
    fn rule(&self) -> Result<Rule, Fault> {
        if self.reason.trim().is_empty() {
            return Err((".reason".to_owned(), "is empty"));
        }
        if self.calls.is_empty() {
            return Err((".calls".to_owned(), "is empty"));
        }
        let mut when = Vec::with_capacity(self.when.len());
        for (index, table) in self.when.iter().enumerate() {
            when.push(
                table
                    .condition()
                    .map_err(|reason| (format!(".when[{index}]"), reason))?,
            );
        }
        Ok(Rule {
            action: self.action,
            calls: self.calls.iter().filter_map(CallName::number).collect(),
            when,
        })
    }
}

impl ConditionTable {
    fn condition(&self) -> Result<Condition, &'static str> {
        let mask = self.mask.unwrap_or(u64::MAX);
        if self.arg > 5 {
            return Err("arg is not one of 0 to 5");
        }
        let mut tests = [
            self.r#in.clone().map(Test::In),
            self.eq.map(|value| Test::In(vec![value])),
            self.ne.map(Test::Ne),
            self.lt.map(Test::Lt),
            self.le.map(Test::Le),
            self.gt.map(Test::Gt),
            self.ge.map(Test::Ge),
        ]
        .into_iter()
        .flatten();
        let (Some(test), None) = (tests.next(), tests.next()) else {
            return Err("needs one of in, eq, ne, lt, le, gt, ge, and no two");
        };
        let compared: &[u64] = match &test {
            Test::In(values) => values,
            Test::Ne(value) => &[*value],
            _ => &[],
        };
        if compared.iter().any(|value| value & !mask != 0) {
            return Err("the value has bits that the mask takes away: it can never be equal");
        }
        if matches!(&test, Test::In(values) if values.is_empty()) {
            return Err("in holds no value");
        }
        Ok(Condition {
            argument: self.arg,
            mask,
            test,
        })
    }
}
