//! What the launcher of a worker finds and opens at its start.

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

/// The worker's branch is named after its state folder: two workers of one machine do not sweep each other's.
pub(super) fn worker_name(config: &Config) -> Result<String, Failure> {
    use sha2::{Digest, Sha256};
    let state = std::fs::create_dir_all(&config.worker.state_dir)
        .and_then(|()| std::fs::canonicalize(&config.worker.state_dir))
        .at(StartStep::StateDir, "state_dir")?;
    let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
    Ok(format!(
        "worker-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    ))
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
    // What reading the configuration took.
    sys::release_heap();
    Sandboxes::new(
        Standing::Root,
        Berths::new(branch, &prefix, true),
        supervisors,
        ids,
    )
}
