use std::fmt::{self, Write as _};
use std::str::FromStr;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// What the kernel does with a call. Ordered from the most to the least severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Action {
    /// The whole process dies of SIGSYS, which it cannot catch.
    Kill,
    /// A SIGSYS that the process can catch.
    Trap,
    /// The call fails with this error number and has no effect. With 0 it has no effect either, and seems to succeed.
    Errno(u16),
    /// The call is carried out and leaves a line in the kernel's audit log.
    Log,
    Allow,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no action: allow, log, skip, trap, kill, or an error number's name such as EPERM")]
pub struct UnknownAction(String);

/// The kernel's largest error number (MAX_ERRNO): larger ones are cut to it.
const LARGEST_ERRNO: u16 = 4095;

impl Action {
    /// The value that a filter program returns for it (linux/seccomp.h).
    #[must_use]
    pub fn return_value(self) -> u32 {
        match self {
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number.min(LARGEST_ERRNO)),
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        match text {
            "allow" => Ok(Self::Allow),
            "log" => Ok(Self::Log),
            "trap" => Ok(Self::Trap),
            "kill" => Ok(Self::Kill),
            "skip" => Ok(Self::Errno(0)),
            _ => errno_number(text)
                .map(Self::Errno)
                .ok_or_else(|| UnknownAction(text.to_owned())),
        }
    }
}

/// nix knows the names only as those of its variants.
fn errno_number(name: &str) -> Option<u16> {
    let errno = |number: u16| Errno::from_raw(i32::from(number));
    (1..=133).find(|number| errno(*number) != Errno::UnknownErrno && is_written(&errno(*number), name))
}

/// Whether `value` is written as `text`, without a copy of it: this is asked some hundred times for a profile.
fn is_written(value: &impl fmt::Debug, text: &str) -> bool {
    struct Rest<'a>(&'a str);
    impl fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(text);
    write!(rest, "{value:?}").is_ok() && rest.0.is_empty()
}

impl TryFrom<String> for Action {
    type Error = UnknownAction;

    fn try_from(text: String) -> Result<Self, UnknownAction> {
        text.parse()
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => "allow".to_owned(),
            Action::Log => "log".to_owned(),
            Action::Trap => "trap".to_owned(),
            Action::Kill => "kill".to_owned(),
            Action::Errno(0) => "skip".to_owned(),
            Action::Errno(number) => format!("{:?}", Errno::from_raw(i32::from(number))),
        }
    }
}

/// As receipts write it: `ERRNO(EPERM)`, `KILL_PROCESS`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("KILL_PROCESS"),
            Self::Trap => f.write_str("TRAP"),
            Self::Errno(0) => f.write_str("ERRNO(0)"),
            Self::Errno(number) => write!(f, "ERRNO({:?})", Errno::from_raw(i32::from(*number))),
            Self::Log => f.write_str("LOG"),
            Self::Allow => f.write_str("ALLOW"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_actions() {
        for text in [
            "allow",
            "log",
            "skip",
            "trap",
            "kill",
            "EPERM",
            "ENOSYS",
            "EAFNOSUPPORT",
        ] {
            let action: Action = text.parse().expect(text);
            assert_eq!(String::from(action), text);
        }
        assert_eq!("ENOSYS".parse(), Ok(Action::Errno(38)));
        for text in ["", "deny", "EPERMX", "UnknownErrno", "1", "ALLOW"] {
            assert!(text.parse::<Action>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn severity_is_the_kernels_order() {
        let values = [Action::Trap, Action::Errno(1), Action::Log, Action::Allow].map(Action::return_value);
        assert!(values.is_sorted());
        assert!(
            Action::Kill < Action::Trap,
            "KILL_PROCESS is the lowest as a signed number"
        );
    }
}
