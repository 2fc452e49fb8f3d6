//! Which namespaces a process is in, by the numbers that the kernel gives them; see namespaces(7).
//!
//! The kernel tells them to the process itself. Others need CAP_SYS_PTRACE over it, which containers do not give: so a stub
//! reads those that it has of its own, and its supervisor the rest.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, readlinkat_raw};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;

/// Names as in /proc/PID/ns.
pub const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"];

/// Those of a supervisor that the clone of a stub leaves as they are; a stub has no privilege over them, so it cannot
/// change them either.
const OF_SUPERVISOR: [&str; 4] = ["pid", "mnt", "net", "uts"];

/// What a stub may have of its own.
const OF_STUB: [(&str, &CStr); 3] = [
    ("user", c"/proc/self/ns/user"),
    ("ipc", c"/proc/self/ns/ipc"),
    ("cgroup", c"/proc/self/ns/cgroup"),
];

/// All of a process, in the order of [`NAMESPACES`].
pub type NamespaceIds = [u64; NAMESPACES.len()];

/// Those that all stubs of a supervisor have, and `None` for those that each has of its own.
pub type SharedIds = [Option<u64>; NAMESPACES.len()];

/// Those of this process.
pub fn of_self() -> Result<NamespaceIds, Failure> {
    let mut ids = NamespaceIds::default();
    for (id, name) in ids.iter_mut().zip(NAMESPACES) {
        *id = id_at(format!("/proc/self/ns/{name}")).at(StartStep::Namespaces, name)?;
    }
    Ok(ids)
}

/// Those that all stubs of this process have. `user` and `ipc`: the ones that they join.
pub fn of_all_stubs(user: Option<BorrowedFd<'_>>, ipc: Option<BorrowedFd<'_>>) -> Result<SharedIds, Failure> {
    let mut ids = SharedIds::default();
    for (id, name) in ids.iter_mut().zip(NAMESPACES) {
        let link = match name {
            "user" => user.map(|joined| format!("fd/{}", joined.as_raw_fd())),
            "ipc" => ipc.map(|joined| format!("fd/{}", joined.as_raw_fd())),
            name => OF_SUPERVISOR.contains(&name).then(|| format!("ns/{name}")),
        };
        if let Some(link) = link {
            *id = Some(id_at(format!("/proc/self/{link}")).at(StartStep::Namespaces, name)?);
        }
    }
    Ok(ids)
}

/// What a stub has noted of its own namespaces, in memory that its supervisor sees; 0: nothing.
#[derive(Debug, Default)]
pub struct Noted([AtomicU64; OF_STUB.len()]);

impl Noted {
    /// By the stub itself: it makes system calls alone. Not of those that it has joined.
    pub fn note(&self, joined_user: bool, joined_ipc: bool) -> Result<(), Errno> {
        let joined = [joined_user, joined_ipc, false];
        for (((_, link), joined), noted) in OF_STUB.iter().zip(joined).zip(&self.0) {
            if !joined {
                noted.store(id_at(*link)?, Ordering::Release);
            }
        }
        Ok(())
    }

    /// All namespaces of the stub, once it has noted its own.
    pub fn complete(&self, shared: &SharedIds) -> Result<NamespaceIds, Failure> {
        let mut ids = NamespaceIds::default();
        for ((id, name), shared) in ids.iter_mut().zip(NAMESPACES).zip(shared) {
            let known = shared.or_else(|| self.of(name));
            *id = known.ok_or_else(|| Failure::new(StartStep::Namespaces, 0, format!("{name}: unknown")))?;
        }
        Ok(ids)
    }

    fn of(&self, name: &str) -> Option<u64> {
        let mut all = OF_STUB.iter().zip(&self.0);
        let (_, noted) = all.find(|((own, _), _)| *own == name)?;
        Some(noted.load(Ordering::Acquire)).filter(|id| *id != 0)
    }
}

/// The names of those that differ.
#[must_use]
pub fn apart(own: &NamespaceIds, outer: &NamespaceIds) -> Vec<String> {
    let both = own.iter().zip(outer);
    let names = NAMESPACES
        .iter()
        .zip(both)
        .filter(|(_, (own, outer))| own != outer);
    names.map(|(name, _)| (*name).to_owned()).collect()
}

fn id_at(link: impl Arg) -> Result<u64, Errno> {
    let mut text = [0; 64];
    let length = readlinkat_raw(CWD, link, &mut text)?;
    number_in(&text[..length]).ok_or(Errno::INVAL)
}

/// The number of a link's text, such as `cgroup:[4026531835]`.
fn number_in(link: &[u8]) -> Option<u64> {
    let begin = link.iter().position(|byte| *byte == b'[')? + 1;
    let (last, digits) = link.get(begin..)?.split_last()?;
    if *last != b']' || digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_a_number() {
        assert_eq!(number_in(b"cgroup:[4026531835]"), Some(4_026_531_835));
        for other in [
            &b""[..],
            b"cgroup:[]",
            b"cgroup:[40",
            b"/a/file",
            b"ipc:[1x]",
            b"[",
        ] {
            assert_eq!(number_in(other), None, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_and_not_left_out() {
        let shared = of_all_stubs(None, None).expect("links");
        let noted = Noted::default();
        let failure = noted.complete(&shared).expect_err("nothing is noted");
        assert_eq!(
            (failure.step, failure.detail.as_str()),
            (StartStep::Namespaces, "user: unknown")
        );
        noted.note(false, false).expect("links");
        let ids = noted.complete(&shared).expect("all");
        let outer = of_self().expect("links");
        assert_eq!(apart(&ids, &outer), Vec::<String>::new());
        let mut inner = ids;
        inner[6] += 1;
        assert_eq!(apart(&inner, &outer), ["cgroup"]);
    }
}
