use std::fmt;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// A job's id: a version 4 UUID, as text 36 lower-case characters.
///
/// File and cgroup names are made from it, so it exists only in the parsed form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a job id (a UUID of 36 lower-case characters)")]
pub struct InvalidJobId;

impl JobId {
    /// Asks the kernel alone: what asks the C library where that is linked statically finds no getrandom(2), and needs a
    /// descriptor for /dev/urandom, which a worker may not have left.
    ///
    /// # Panics
    ///
    /// On a kernel without getrandom(2).
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // So few come whole. A signal can interrupt only the wait of a machine that is booting.
        rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty())).expect("getrandom(2)");
        Self(Builder::from_random_bytes(bytes).into_uuid())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    /// Accepts the canonical form alone: two spellings of one id would be two names for one file.
    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidJobId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidJobId)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = JobId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 36);
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let id = JobId::random().to_string();
        for bad in [
            "",
            "../x",
            &id[..35],
            &id.to_uppercase().replace(char::is_numeric, "A"),
            &id.replace('-', ""),
            &format!("{{{id}}}"),
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(InvalidJobId), "{bad:?}");
        }
    }
}
