//! Gives up every privilege, once and for good.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use caps::CapSet;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::config::{Config, Worker};

use super::ServerError;

/// Connections, output files, and room.
const OPEN_FILES: u64 = 65_536;

/// Makes the folders that the server needs, then leaves root and all capabilities behind.
///
/// An ordinary user's server keeps that user, who owns the folders then. Either way the process checks in
/// the kernel's own words that nothing is left, and refuses to go on otherwise.
///
/// Must be called while the process has a single thread: capabilities belong to threads.
pub fn drop_privileges(config: &Config) -> Result<(), ServerError> {
    let worker = &config.worker;
    let was_root = rustix::process::geteuid().is_root();
    make_folders(worker, was_root)?;
    raise_open_files();
    if was_root {
        // First, while CAP_SETPCAP is there to allow it.
        drop_capabilities(CapSet::Bounding)?;
        drop_capabilities(CapSet::Ambient)?;
        become_server(worker)?;
    }
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ] {
        drop_capabilities(set)?;
    }
    rustix::thread::set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    // Neither a core file nor a debugger of the same uid gets at keys and requests in memory.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("PR_SET_DUMPABLE"))?;
    verify(was_root)
}

fn become_server(worker: &Worker) -> Result<(), ServerError> {
    let uid = Uid::from_raw(worker.server_uid);
    let gid = Gid::from_raw(worker.server_gid);
    setgroups(&[]).map_err(failed("setgroups"))?;
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))
}

fn drop_capabilities(set: CapSet) -> Result<(), ServerError> {
    caps::clear(None, set).map_err(failed("clearing a capability set"))
}

/// `server` is the database's place; `jobs` is written by supervisors and read by the server's group.
fn make_folders(worker: &Worker, as_root: bool) -> Result<(), ServerError> {
    make_folder(&worker.state_dir, 0o755)?;
    let server = worker.state_dir.join("server");
    let jobs = worker.state_dir.join("jobs");
    make_folder(&server, 0o700)?;
    make_folder(&jobs, 0o750)?;
    if as_root {
        own(&server, worker.server_uid, worker.server_gid, 0o700)?;
        // As the launcher has it, which counts on it that what is made there gets its group.
        own(&jobs, 0, worker.server_gid, 0o2750)?;
    }
    Ok(())
}

fn make_folder(path: &Path, mode: u32) -> Result<(), ServerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(at(path))
}

fn own(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), ServerError> {
    let found = path.symlink_metadata().map_err(at(path))?;
    if !found.is_dir() {
        return Err(at(path)(io::ErrorKind::NotADirectory.into()));
    }
    if (found.uid(), found.gid()) != (uid, gid) {
        chown(path, Some(uid), Some(gid)).map_err(at(path))?;
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(at(path))
}

/// A worker with a thousand clients needs more descriptors than the usual soft limit of 1024.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if limit.current.is_some_and(|soft| soft < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        if let Err(errno) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%errno, "raising the limit of open files");
        }
    }
}

/// What /proc says of this thread, not what the calls above returned.
fn verify(was_root: bool) -> Result<(), ServerError> {
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(failed("reading /proc/thread-self/status"))?;
    let refused = |reason: String| ServerError::Privileges {
        operation: "verification",
        reason,
    };
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .ok_or_else(|| refused(format!("no {name} in /proc/thread-self/status")))
    };
    for name in ["Uid", "Gid"] {
        let ids = field(name)?;
        if was_root && ids.split_whitespace().any(|id| id == "0") {
            return Err(refused(format!("{name} is still {ids}")));
        }
    }
    let mut sets = vec!["CapInh", "CapPrm", "CapEff", "CapAmb"];
    if was_root {
        // Without privilege it cannot be emptied, and without privilege it gives none.
        sets.push("CapBnd");
        if !field("Groups")?.is_empty() {
            return Err(refused("supplementary groups are left".to_owned()));
        }
    }
    for name in sets {
        let set = field(name)?;
        if set.bytes().any(|digit| digit != b'0') {
            return Err(refused(format!("{name} is still {set}")));
        }
    }
    if field("NoNewPrivs")? != "1" {
        return Err(refused("no_new_privs is not set".to_owned()));
    }
    Ok(())
}

fn failed<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> ServerError {
    move |error| ServerError::Privileges {
        operation,
        reason: error.to_string(),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::File {
        path: path.to_owned(),
        source,
    }
}
