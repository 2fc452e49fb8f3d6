use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal as NixSignal;
use serde::{Deserialize, Serialize};

/// A signal by its number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a signal: a name such as TERM or SIGTERM, or a number from 1 to 64")]
pub struct UnknownSignal;

impl Signal {
    pub const TERM: Self = Self(15);
    pub const KILL: Self = Self(9);

    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The name with SIG, or `SIGRTMIN+N`.
    #[must_use]
    pub fn name(self) -> String {
        match NixSignal::try_from(self.0) {
            Ok(known) => known.as_str().to_owned(),
            Err(_) => format!("SIGRTMIN+{}", self.0 - 34),
        }
    }
}

impl TryFrom<i32> for Signal {
    type Error = UnknownSignal;

    fn try_from(number: i32) -> Result<Self, UnknownSignal> {
        if (1..=64).contains(&number) {
            Ok(Self(number))
        } else {
            Err(UnknownSignal)
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.0
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        if let Ok(number) = text.parse::<i32>() {
            return Self::try_from(number);
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        NixSignal::from_str(&format!("SIG{name}"))
            .map(|known| Self(known as i32))
            .map_err(|_| UnknownSignal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same_signal() {
        for text in ["TERM", "SIGTERM", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        assert_eq!(
            "40".parse::<Signal>().map(Signal::name),
            Ok("SIGRTMIN+6".to_owned())
        );
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "0", "65", "-9", "term", "SIGSIGTERM", "9 "] {
            assert_eq!(text.parse::<Signal>(), Err(UnknownSignal), "{text:?}");
        }
    }
}
