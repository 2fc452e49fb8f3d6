//! Reads back what was applied, from the kernel and about the payload itself.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::identity::HostIds;
use crate::job::Receipt;

/// Namespace names as in /proc/PID/ns.
pub const NAMESPACES: [&str; 7] = ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"];

/// Those of a supervisor that the clone of a stub leaves as they are; a stub has no privilege over them, so it cannot
/// change them either.
const OF_SUPERVISOR: [&str; 4] = ["pid", "mnt", "net", "uts"];

/// Identities of a process's namespaces.
pub type NamespaceIds = [Option<String>; NAMESPACES.len()];

/// Those that all stubs of this process have, and `None` for those that each has of its own. `user` and `ipc`: the ones
/// that they join.
#[must_use]
pub fn of_all_stubs(user: Option<BorrowedFd<'_>>, ipc: Option<BorrowedFd<'_>>) -> NamespaceIds {
    let id_of = |joined: BorrowedFd<'_>| namespace_at(&format!("self/fd/{}", joined.as_raw_fd()));
    NAMESPACES.map(|name| match name {
        "user" => user.and_then(id_of),
        "ipc" => ipc.and_then(id_of),
        name if OF_SUPERVISOR.contains(&name) => namespace_id("self", name),
        _ => None,
    })
}

/// The namespaces of process `pid` (or "self") in the /proc of this process.
#[must_use]
pub fn namespace_ids(pid: &str) -> NamespaceIds {
    NAMESPACES.map(|name| namespace_id(pid, name))
}

fn namespace_id(pid: &str, name: &str) -> Option<String> {
    namespace_at(&format!("{pid}/ns/{name}"))
}

fn namespace_at(link: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{link}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Those of a stub, of which `known` are known.
fn of_stub(pid: &str, known: &NamespaceIds) -> NamespaceIds {
    let mut ids = known.clone();
    for (name, id) in NAMESPACES.iter().zip(&mut ids) {
        if id.is_none() {
            *id = namespace_id(pid, name);
        }
    }
    ids
}

/// What /proc tells of a stub that is confined, or of the payload. The exec between the two changes none of it: with
/// no_new_privs it can neither add a privilege nor take off a layer. `known` are those of [`of_all_stubs`].
#[must_use]
pub fn read_back(pid: i32, launcher: &NamespaceIds, known: Option<&NamespaceIds>) -> Receipt {
    let mut receipt = Receipt::default();
    let pid = pid.to_string();
    let own = match known {
        Some(known) => of_stub(&pid, known),
        None => namespace_ids(&pid),
    };
    receipt.namespaces = NAMESPACES
        .iter()
        .zip(own.iter().zip(launcher))
        .filter(|(_, (own, outer))| own.is_some() && own != outer)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let mut buffer = [0; 4096];
    let status = File::open(format!("/proc/{pid}/status")).and_then(|mut file| file.read(&mut buffer));
    read_status(
        &mut receipt,
        &String::from_utf8_lossy(&buffer[..status.unwrap_or(0)]),
    );
    receipt
}

/// Joins what the launcher knows with what was read back of a job that has `ids`.
pub fn complete(known: &mut Receipt, read: &Receipt, ids: HostIds) {
    known.namespaces.clone_from(&read.namespaces);
    // The kernel tells ids as the supervisor's user namespace has them.
    known.host_uid = if read.host_uid == ids.first {
        ids.outside
    } else {
        read.host_uid
    };
    known.capabilities.clone_from(&read.capabilities);
    known.no_new_privs = read.no_new_privs;
    if read.seccomp_profile.is_empty() {
        known.seccomp_profile.clear();
        known.seccomp_hash.clear();
        known.seccomp_default_action.clear();
    }
}

fn read_status(receipt: &mut Receipt, status: &str) {
    let mut filtered = false;
    for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match key {
            // As this process's user namespace has them.
            "Uid" => {
                receipt.host_uid = value
                    .split_whitespace()
                    .next()
                    .and_then(|uid| uid.parse().ok())
                    .unwrap_or(u32::MAX);
            }
            "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                receipt.capabilities.insert(key.to_owned(), value.to_owned());
            }
            "NoNewPrivs" => receipt.no_new_privs = value == "1",
            "Seccomp" => filtered = value == "2",
            _ => {}
        }
    }
    // Which one, only the launcher knows; that there is one, only the kernel.
    receipt.seccomp_profile = if filtered {
        "filtered".to_owned()
    } else {
        String::new()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_outweighs_the_request() {
        let mut known = Receipt {
            seccomp_profile: "default".into(),
            ..Receipt::default()
        };
        let mut read = Receipt::default();
        read_status(
            &mut read,
            "Uid:\t70000\t70000\t70000\t70000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n",
        );
        let ids = HostIds {
            first: 0,
            count: 1,
            outside: 1000,
        };
        complete(&mut known, &read, ids);
        assert_eq!(known.host_uid, 70000);
        assert_eq!(known.capabilities["CapEff"], "0000000000000000");
        assert!(known.no_new_privs);
        assert_eq!(
            known.seccomp_profile, "",
            "a filter that is not there is not claimed"
        );
    }
}
