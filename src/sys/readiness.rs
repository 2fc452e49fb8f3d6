use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime, which tells when it can be read or written.
///
/// Must be called within a runtime.
pub fn readiness(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(descriptor, Interest::READABLE | Interest::WRITABLE)
}

/// As [`readiness`], and never tells when it can be written: the kernel tells that of a Unix socket whenever its peer has
/// read.
pub fn readiness_to_read(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(descriptor, Interest::READABLE)
}

fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped, which AsyncFd does only
    // after it has deregistered it.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}
