//! How long each step of a launch took.

use std::borrow::Cow;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Steps in the order in which they were done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    steps: Vec<(Cow<'static, str>, u64)>,
    #[serde(skip, default = "Instant::now")]
    last: Instant,
}

impl Timings {
    #[must_use]
    pub fn start() -> Self {
        Self {
            steps: Vec::with_capacity(24),
            last: Instant::now(),
        }
    }

    /// The time since the last mark belongs to `step`.
    pub fn mark(&mut self, step: &'static str) {
        let now = Instant::now();
        let micros = u64::try_from(now.duration_since(self.last).as_micros()).unwrap_or(u64::MAX);
        self.steps.push((Cow::Borrowed(step), micros));
        self.last = now;
    }

    /// Leaves out the time since the last mark: the process was waiting.
    pub fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// Step and microseconds.
    pub fn steps(&self) -> impl Iterator<Item = (&str, u64)> {
        self.steps.iter().map(|(step, micros)| (&**step, *micros))
    }
}
