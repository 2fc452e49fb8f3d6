use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job is in its life. The order of the variants is the only direction it moves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    Pending,
    Running,
    Stopping,
    Finished,
}

impl State {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Finished => "FINISHED",
        }
    }

    /// Moves on to `next`, or says that this would be a step back or none.
    #[must_use]
    pub fn advance(&mut self, next: Self) -> bool {
        let forward = next > *self;
        if forward {
            *self = next;
        }
        forward
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_only_moves_forward() {
        let mut state = State::Pending;
        assert!(state.advance(State::Stopping));
        assert!(!state.advance(State::Running));
        assert!(!state.advance(State::Stopping));
        assert!(state.advance(State::Finished));
        assert!(!state.advance(State::Pending));
        assert_eq!(state, State::Finished);
    }
}
