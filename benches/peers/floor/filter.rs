//! Filters as the kernel takes them: `struct sock_filter` as one word each.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use stockade::job::JobRequest;
use stockade::policy::{PolicySet, Site, Tenant};

const LOAD: u64 = 0x20;
const JUMP_IF_EQUAL: u64 = 0x15;
const RETURN: u64 = 0x06;
const ALLOW: u64 = 0x7fff_0000;
const REFUSE: u64 = 0x0005_0001;
/// As many as a deny list of a common sandbox.
const NUMBERS: u64 = 94;
/// No call has these numbers: every call goes through the whole list.
const FIRST: u64 = 600;

/// A list, one comparison after the other, as it is written without much thought.
pub(super) fn linear() -> Vec<u64> {
    let compare = |index: u64| JUMP_IF_EQUAL | (NUMBERS - index) << 16 | (FIRST + index) << 32;
    let mut program = vec![LOAD];
    program.extend((0..NUMBERS).map(compare));
    program.extend([RETURN | ALLOW << 32, RETURN | REFUSE << 32]);
    program
}

/// The filter of the policy `default`: a search tree.
pub(super) fn of_default_policy() -> Option<Vec<u64>> {
    let request = JobRequest {
        argv: vec!["true".to_owned()],
        ..JobRequest::default()
    };
    let site = Site {
        default_policy: "default".to_owned(),
        scripts_dir: None,
    };
    let tenant = Tenant {
        name: "bench".to_owned(),
    };
    let resolved = PolicySet::built_in().resolve(&request, &site, &tenant).ok()?;
    Some(resolved.sandbox.seccomp.as_ref()?.program.clone())
}

/// Has this process's calls decided on by `filter` from now on. It makes system calls alone.
pub(super) fn install(filter: &[u64]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: plain numbers.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: a sock_filter is 8 bytes with the alignment of u32; the kernel copies the program.
    if bound < 0 || unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The least that a filter can be: `command` will run with one that allows every call.
pub(crate) fn allow_everything(command: &mut Command) {
    const PROGRAM: [u64; 1] = [RETURN | ALLOW << 32];
    // SAFETY: system calls alone, between fork and exec.
    unsafe { command.pre_exec(|| install(&PROGRAM)) };
}
