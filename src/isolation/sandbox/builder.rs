//! Builds a mount namespace in a child that ends once a descriptor holds the namespace.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;
use crate::sys::{self, Forked};

/// `build` runs in a copy of the mount namespace `of`, or of this process's. Gives what it gave, and the copy as it
/// left it.
pub(super) fn in_copy<T: Serialize + DeserializeOwned>(
    of: Option<BorrowedFd<'_>>,
    build: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, OwnedFd), Failure> {
    let (result, result_writer) = pipe_with(PipeFlags::CLOEXEC).at(StartStep::Rootfs, "pipe")?;
    let (hold, hold_writer) = pipe_with(PipeFlags::CLOEXEC).at(StartStep::Rootfs, "pipe")?;
    // SAFETY: the launcher has one thread.
    let child = match unsafe { sys::clone_into(0, None) }.at(StartStep::Rootfs, "clone3")? {
        Forked::Child => {
            drop(hold_writer);
            let built = sys::copy_mount_namespace(of)
                .at(StartStep::Rootfs, "mount namespace")
                .and_then(|()| build());
            let bytes = postcard::to_stdvec(&built).unwrap_or_default();
            let _ = rustix::io::write(&result_writer, &bytes);
            // Until the parent has opened the namespace.
            let _ = rustix::io::read(&hold, &mut [0_u8; 1]);
            sys::exit_now(0)
        }
        Forked::Parent(pid) => pid,
    };
    drop(result_writer);
    let built = read_result(&result);
    let namespace = open_namespace(child);
    drop(hold_writer);
    let _ = waitpid(Some(child), WaitOptions::empty());
    Ok((built?, namespace?))
}

fn read_result<T: DeserializeOwned>(pipe: &OwnedFd) -> Result<T, Failure> {
    let mut buffer = [0; 4096];
    let count = rustix::io::read(pipe, &mut buffer).unwrap_or(0);
    postcard::from_bytes(&buffer[..count])
        .unwrap_or_else(|_| Err(Failure::new(StartStep::Rootfs, 0, "the builder died")))
}

fn open_namespace(pid: Pid) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/{}/ns/mnt", pid.as_raw_nonzero());
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(StartStep::Rootfs, "open the mount namespace")
}
