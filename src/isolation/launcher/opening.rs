//! What the launcher of a worker finds and opens at its start.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::berth::Berths;
use super::daemon::SUPERVISORS;
use super::ids::IdPool;
use super::run_dir::run_dir;
use super::spawn::Sandboxes;
use super::standing::Standing;
use crate::config::Config;
use crate::isolation::cgroup::{CgroupError, CgroupTree};
use crate::isolation::failure::{At, Failure};
use crate::job::{Enforcement, StartStep, Timestamp};
use crate::policy::PolicySet;
use crate::sys;

/// The state folder, of one worker at a time.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// A lock of this process, which its forks do not share: the next worker can have it as soon as this one is dead.
    _lock: File,
}

impl StateDir {
    /// Makes it where there is none. Two workers would take each other's jobs for their own.
    pub(super) fn claim(path: &Path) -> Result<Self, Failure> {
        let claimed = || -> std::io::Result<(PathBuf, File)> {
            std::fs::create_dir_all(path)?;
            let path = std::fs::canonicalize(path)?;
            let mut options = File::options();
            options.create(true).truncate(false).write(true).mode(0o600);
            let lock = options.custom_flags(libc::O_NOFOLLOW).open(path.join("lock"))?;
            Ok((path, lock))
        };
        let (path, lock) = claimed().at(StartStep::StateDir, "state_dir")?;
        match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(Errno::AGAIN | Errno::ACCESS) => {
                let detail = "state_dir: another worker uses it";
                Err(Failure::new(StartStep::StateDir, libc::EAGAIN, detail))
            }
            Err(error) => Err(error).at(StartStep::StateDir, "lock of state_dir"),
        }
    }
}

/// The worker's branch is named after its state folder: two workers of one machine do not sweep each other's.
///
/// It is the first hash of this process, which finds out once for all forks which instructions there are for it: a
/// virtual machine takes long to tell.
pub(super) fn worker_name(state: &StateDir) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(state.path.as_os_str().as_encoded_bytes());
    format!(
        "worker-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    )
}

pub(super) fn open_sandboxes(
    config: &Config,
    policies: &PolicySet,
    name: &str,
) -> Result<Sandboxes, Failure> {
    let failed = |error: CgroupError| Failure::new(StartStep::Cgroup, 0, error.to_string());
    let opened = CgroupTree::open(&config.isolation.cgroup).and_then(|tree| tree.child(name));
    let branch = match opened {
        // Jobs of the other policies fail to start.
        Err(error) if policies.any_with(Enforcement::BestEffort) => {
            eprintln!("stockade: launcher: no cgroup limits: {error}");
            CgroupTree::absent()
        }
        opened => opened.map_err(failed)?,
    };
    let supervisors = branch.make_leaf(SUPERVISORS).map_err(failed)?;
    let ids = IdPool::open(
        config.isolation.first_host_id,
        run_dir().at(StartStep::Supervisor, "/run/stockade")?,
    )
    .at(StartStep::Identity, "host ids")?;
    // Names go on where an earlier launcher of the same branch may have left some: the time makes them new.
    let prefix = format!("{:x}-", Timestamp::now().as_micros());
    // Most hosts give it enough already, or do not let it have more.
    let _ = sys::raise_open_files();
    // What reading the configuration took.
    sys::release_heap();
    Ok(Sandboxes::new(
        Standing::Root,
        Berths::new(branch, &prefix, true),
        supervisors,
        ids,
    ))
}
