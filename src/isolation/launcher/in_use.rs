use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::isolation::cgroup::CgroupTree;

/// Says to all launchers of this machine that one makes cgroups: the last to leave removes the branch that they share.
///
/// Without it one launcher could remove a branch between another's making it and filling it.
#[derive(Debug)]
pub(super) struct InUse {
    lock: File,
}

impl InUse {
    /// To be called before any cgroup is made. Ends with the process, however that ends.
    pub(super) fn announce(run_dir: &Path) -> std::io::Result<Self> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(run_dir.join("cgroups"))?;
        // Held alone only for the moment of a removal.
        flock(&lock, FlockOperation::LockShared)?;
        Ok(Self { lock })
    }

    /// Removes a launcher's own branch, and the shared one if nobody else is there. What is not empty stays: jobs run on.
    pub(super) fn leave(&self, own: &CgroupTree, leaf: Option<&str>) {
        if let Some(leaf) = leaf {
            own.remove_leaf(leaf);
        }
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            own.remove_with_parent();
            // Not left to the close: whoever waits for it shall not depend on who else has a copy.
            let _ = flock(&self.lock, FlockOperation::Unlock);
        } else {
            own.remove();
        }
    }
}
