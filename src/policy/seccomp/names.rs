//! System call names and numbers of the architecture that this program is built for.

use serde::{Deserialize, Serialize};
use syscalls::aarch64::Sysno as Arm64;
use syscalls::x86_64::Sysno as X86;

#[cfg(target_arch = "x86_64")]
type Native = X86;
#[cfg(target_arch = "aarch64")]
type Native = Arm64;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("seccomp filters are made for x86_64 and aarch64 only");

/// AUDIT_ARCH_* of linux/audit.h: what `seccomp_data.arch` must be.
#[cfg(target_arch = "x86_64")]
pub const NATIVE_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub const NATIVE_ARCH: u32 = 0xc000_00b7;

/// The names that container tools have for this architecture: libseccomp's and Go's.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE_NAMES: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE_NAMES: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");

/// The number of a call, where this architecture has it.
#[must_use]
pub fn call_number(name: &str) -> Option<u32> {
    let call: Native = name.parse().ok()?;
    u32::try_from(call.id()).ok()
}

/// The name of a call, where the number is one.
#[must_use]
pub fn call_name(number: u32) -> Option<&'static str> {
    Native::new(usize::try_from(number).ok()?).map(|call| call.name())
}

/// A call that some supported architecture has. One that only another has, such as `open`, is no mistake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct CallName {
    name: String,
    number: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no system call")]
pub(super) struct UnknownCall(String);

impl CallName {
    /// Where this architecture has it.
    pub(super) const fn number(&self) -> Option<u32> {
        self.number
    }
}

impl TryFrom<String> for CallName {
    type Error = UnknownCall;

    fn try_from(name: String) -> Result<Self, UnknownCall> {
        let number = call_number(&name);
        if number.is_some() || name.parse::<X86>().is_ok() || name.parse::<Arm64>().is_ok() {
            Ok(Self { name, number })
        } else {
            Err(UnknownCall(name))
        }
    }
}

impl From<CallName> for String {
    fn from(call: CallName) -> Self {
        call.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_c_library() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("futex_waitv", libc::SYS_futex_waitv),
            ("mount_setattr", libc::SYS_mount_setattr),
        ] {
            let number = u32::try_from(number).expect("small");
            assert_eq!((call_number(name), call_name(number)), (Some(number), Some(name)));
        }
        assert_eq!(call_number("no_such_call"), None);
        assert_eq!(call_name(u32::MAX), None);
    }

    #[test]
    fn calls_of_other_architectures_are_names() {
        assert!(CallName::try_from("open".to_owned()).is_ok());
        assert!(CallName::try_from("opne".to_owned()).is_err());
    }
}
