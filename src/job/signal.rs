use std::fmt;
use std::str::FromStr;

use nix::sys::signal::Signal as NixSignal;
use serde::{Deserialize, Serialize};

/// A signal by its number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

/// The first that programs may use, as the C library has it.
const RTMIN: i32 = 34;

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

    /// The name with SIG, or `SIGRTMIN+N`. Numbers between, which the C library keeps for itself, have none: signal(7).
    #[must_use]
    pub fn name(self) -> String {
        match NixSignal::try_from(self.0) {
            Ok(known) => known.as_str().to_owned(),
            Err(_) if self.0 >= RTMIN => format!("SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => self.0.to_string(),
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
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN+") {
            // As a u8 it has no minus, and the sum is a number.
            return offset.parse::<u8>().map_or(Err(UnknownSignal), |offset| {
                Self::try_from(RTMIN + i32::from(offset))
            });
        }
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
        for text in ["TERM", "SIGTERM", "15", "term", "sigterm", "SigTerm"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        for (text, number) in [("RTMIN+0", 34), ("SIGRTMIN+1", 35), ("rtmin+30", 64)] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for signal in (1..=64).map(Signal) {
            assert_eq!(signal.name().parse(), Ok(signal), "{signal}");
        }
        assert_eq!([33, 40].map(|number| Signal(number).name()), ["33", "SIGRTMIN+6"]);
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "0",
            "65",
            "-9",
            "SIGSIGTERM",
            "9 ",
            "RTMIN+31",
            "RTMIN+-1",
            "RTMIN+",
            "RTMIN+256",
        ] {
            assert_eq!(text.parse::<Signal>(), Err(UnknownSignal), "{text:?}");
        }
    }
}
