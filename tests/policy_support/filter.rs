//! The built-in filters, put on threads and processes.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use stockade::policy::PolicySet;

use super::resolved;

pub const POLICIES: [&str; 3] = ["default", "strict", "ci"];

pub fn program(policy: &str) -> Vec<u64> {
    let sandbox = resolved(&PolicySet::built_in(), policy).sandbox;
    sandbox.seccomp.as_ref().expect("a filter").program.clone()
}

/// Installs `program` for this thread and what it executes. Makes only system calls.
pub fn install(program: &[u64]) -> std::io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: the pointer is to a sock_fprog whose array outlives the call and which the kernel only reads; each
    // word of it has the layout of a sock_filter.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

pub fn confined(policy: &str, command: &str, args: &[&str]) -> Output {
    let program = program(policy);
    let mut command = Command::new(command);
    command.args(args).stdin(Stdio::null());
    // SAFETY: between fork and exec `install` makes two system calls on memory that exists already.
    unsafe {
        command.pre_exec(move || install(&program));
    }
    command.output().expect("spawned")
}
