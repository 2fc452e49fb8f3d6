//! Other sandboxes on this host, with isolation as alike as each of them allows.

use std::path::{Path, PathBuf};

use super::commands::{EACH, Launch};
use super::{BenchError, oci};
use crate::job::{JobRequest, JobSpec, SandboxSpec};
use crate::policy::{PolicySet, Site, Tenant};

/// Programs and libraries, read-only, where a host has them.
const SHOWN: [&str; 5] = ["/usr", "/bin", "/lib", "/lib64", "/sbin"];
const PATH: &str = "/usr/bin:/bin";

/// Another tool, ready to run a command.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    pub launch: Launch,
    /// What its sandbox has and what it lacks.
    pub isolation: &'static str,
}

/// What the policy `default` gives, for the others to be given the same.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) sandbox: SandboxSpec,
    pub(super) spec: JobSpec,
}

impl Given {
    fn by_default_policy(command: &[&str]) -> Result<Self, BenchError> {
        let request = JobRequest {
            argv: command.iter().map(|word| (*word).to_owned()).collect(),
            ..JobRequest::default()
        };
        let site = Site {
            default_policy: "default".to_owned(),
            scripts_dir: None,
        };
        let tenant = Tenant {
            name: "bench".to_owned(),
        };
        let resolved = PolicySet::built_in()
            .resolve(&request, &site, &tenant)
            .map_err(|denial| BenchError::Unfit(denial.to_string()))?;
        Ok(Self {
            sandbox: (*resolved.sandbox).clone(),
            spec: resolved.spec,
        })
    }
}

/// Those that are on PATH. What they need is written to `dir`.
pub fn installed(dir: &Path, command: &[&str]) -> Result<Vec<Peer>, BenchError> {
    let given = Given::by_default_policy(command)?;
    let mut peers = Vec::new();
    if let Some(program) = find("bwrap") {
        peers.push(bwrap(program, dir, &given, command)?);
    }
    if let Some(program) = find("crun") {
        peers.push(crun(program, dir, &given, command)?);
    }
    if let Some(program) = find("nsjail") {
        peers.push(nsjail(program, &given, command));
    }
    if let Some(program) = find("isolate") {
        peers.push(isolate(program, &given, command));
    }
    Ok(peers)
}

fn bwrap(program: PathBuf, dir: &Path, given: &Given, command: &[&str]) -> Result<Peer, BenchError> {
    let filter = dir.join("filter.bpf");
    let words = given.sandbox.seccomp.iter().flat_map(|profile| &profile.program);
    let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
    std::fs::write(&filter, bytes).map_err(BenchError::prepare("bwrap's filter"))?;
    let mut args = vec![
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--setenv",
        "PATH",
        PATH,
        "--hostname",
        "sandbox",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ];
    // What is shown last lies uppermost.
    for path in shown(command) {
        args.extend(["--ro-bind", path, path]);
    }
    args.extend(["--cap-drop", "ALL", "--seccomp", "FD", "--"]);
    args.extend(command);
    Ok(Peer {
        name: "bwrap",
        launch: Launch {
            file: Some(filter),
            ..Launch::new(program, &args)
        },
        isolation: "all namespaces, read-only binds, the same seccomp filter; no cgroup, no landlock, no record",
    })
}

fn crun(program: PathBuf, dir: &Path, given: &Given, command: &[&str]) -> Result<Peer, BenchError> {
    let bundle = dir.join("bundle");
    oci::write_bundle(&bundle, given, &shown(command), command)
        .map_err(BenchError::prepare("crun's bundle"))?;
    let (state, bundle) = (
        dir.join("crun").display().to_string(),
        bundle.display().to_string(),
    );
    let args = [
        "--root",
        &state,
        "--cgroup-manager",
        "cgroupfs",
        "run",
        "--bundle",
        &bundle,
        EACH,
    ];
    Ok(Peer {
        name: "crun",
        launch: Launch {
            hide_unified: true,
            ..Launch::new(program, &args)
        },
        isolation: "all namespaces but user, read-only binds, the same calls allowed, cgroup limits; no landlock",
    })
}

fn nsjail(program: PathBuf, given: &Given, command: &[&str]) -> Peer {
    let limits = &given.spec.limits;
    let memory = limits.memory_bytes.to_string();
    let (pids, cpu) = (limits.pids.to_string(), limits.cpu_millis.to_string());
    let mut args = vec![
        "-Mo",
        "-Q",
        "--user",
        "0:0:1",
        "--group",
        "0:0:1",
        "--hostname",
        "sandbox",
        "-E",
        "PATH=/usr/bin:/bin",
        "-T",
        "/tmp",
        "--cgroup_mem_max",
        &memory,
        "--cgroup_pids_max",
        &pids,
        "--cgroup_cpu_ms_per_sec",
        &cpu,
    ];
    for path in shown(command) {
        args.extend(["-R", path]);
    }
    args.push("--");
    args.extend(command);
    Peer {
        name: "nsjail",
        launch: Launch::new(program, &args),
        isolation: "all namespaces, read-only binds, cgroup limits; no seccomp filter, no landlock",
    }
}

/// Its box is made by `isolate --init`, ahead of time and once: it is not the launch that is measured.
fn isolate(program: PathBuf, given: &Given, command: &[&str]) -> Peer {
    let pids = format!("--processes={}", given.spec.limits.pids);
    let memory = format!("--mem={}", given.spec.limits.memory_bytes >> 10);
    let _ = Launch::new(&program, &["-b", "0", "--init"]).once("init");
    let own = own_folder(command).map(|folder| format!("--dir={folder}"));
    let mut args = vec!["-b", "0", "--silent", &pids, &memory];
    args.extend(own.as_deref());
    args.extend(["--run", "--"]);
    args.extend(command);
    Peer {
        name: "isolate",
        launch: Launch::new(program, &args),
        isolation: "pid, mount, net and ipc namespaces in a box used again; no user namespace, no cgroup, no seccomp",
    }
}

fn shown<'a>(command: &[&'a str]) -> Vec<&'a str> {
    SHOWN
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .chain(own_folder(command))
        .collect()
}

/// The folder of a program that is in none of those that are shown anyway.
fn own_folder<'a>(command: &[&'a str]) -> Option<&'a str> {
    let program = Path::new(*command.first()?);
    let elsewhere = program.is_absolute() && !SHOWN.iter().any(|shown| program.starts_with(shown));
    elsewhere.then(|| program.parent()?.to_str()).flatten()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}
