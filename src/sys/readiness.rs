use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime, which tells when it can be read or written.
///
/// Must be called within a runtime.
pub fn readiness(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped, which AsyncFd does only
    // after it has deregistered it.
    unsafe { AsyncFd::register(descriptor) }.map_err(Into::into)
}
