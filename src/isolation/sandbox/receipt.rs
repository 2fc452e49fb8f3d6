//! Reads back what was applied, from the kernel and about the payload itself.

use std::fs::File;
use std::io::Read;

use super::identity::HostIds;
use super::namespaces::{NamespaceIds, apart};
use crate::isolation::failure::{At, Failure};
use crate::job::{Receipt, StartStep};

/// What /proc tells of a stub that is confined, or of the payload. The exec between the two changes none of it: with
/// no_new_privs it can neither add a privilege nor take off a layer. `own` are its namespaces.
pub fn read_back(pid: i32, launcher: &NamespaceIds, own: &NamespaceIds) -> Result<Receipt, Failure> {
    let mut receipt = Receipt {
        namespaces: apart(own, launcher),
        ..Receipt::default()
    };
    let mut buffer = [0; 4096];
    let status = File::open(format!("/proc/{pid}/status")).and_then(|mut file| file.read(&mut buffer));
    let length = status.at(StartStep::Proc, "status")?;
    read_status(&mut receipt, &String::from_utf8_lossy(&buffer[..length]));
    Ok(receipt)
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
