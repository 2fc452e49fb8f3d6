//! What this host can isolate, and what mends it where it cannot.

use crate::isolation::ipc::{AbilityStatus, HostAbility};
use crate::isolation::sandbox::landlock;

/// What can be told at once, without a trial sandbox.
#[must_use]
pub fn quick() -> Vec<HostAbility> {
    let abi = landlock::kernel_abi();
    vec![HostAbility {
        name: "landlock".to_owned(),
        status: if abi > 0 {
            AbilityStatus::Ok
        } else {
            AbilityStatus::Weaker
        },
        detail: format!("ABI {abi}"),
        mend: if abi > 0 {
            String::new()
        } else {
            "boot with lsm=landlock,... on the kernel command line".to_owned()
        },
    }]
}
