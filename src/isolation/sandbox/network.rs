//! Empty network namespaces, each for one job at a time.
//!
//! Making one takes the kernel as long as all the rest of a sandbox together, and taking it down as long again. A job has
//! no capability over its network namespace, which belongs to the launcher's user namespace: it can set no address,
//! route, rule or sysctl. What it can leave are sockets and figures, and a namespace that shows any is not used again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::isolation::failure::{At, Failure};
use crate::job::StartStep;
use crate::sys;

/// Files of /proc/self/net with figures that a job moves by using the network: every socket and every packet counts in
/// one of them. All but the first are compared as they are.
const FIGURES: [&str; 5] = ["sockstat", "sockstat6", "dev", "snmp", "snmp6"];

#[derive(Debug)]
pub struct NetworkNamespace {
    namespace: OwnedFd,
    /// Open files keep showing the namespace that they were opened in.
    figures: Vec<OwnedFd>,
    /// What they showed before the first job.
    as_new: Vec<Vec<u8>>,
}

impl NetworkNamespace {
    /// Makes one with its loopback interface up.
    pub fn make() -> Result<Self, Failure> {
        let home = open_own()?;
        // SAFETY: a new network namespace touches no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.at(StartStep::Network, "unshare")?;
        let made = Self::of_this_process();
        sys::enter_namespace(home.as_fd(), libc::CLONE_NEWNET).at(StartStep::Network, "come back")?;
        made
    }

    /// Makes one for this process alone, for good.
    pub fn enter_new() -> Result<(), Failure> {
        // SAFETY: a new network namespace touches no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.at(StartStep::Network, "unshare")?;
        sys::bring_loopback_up().at(StartStep::Network, "loopback")
    }

    fn of_this_process() -> Result<Self, Failure> {
        sys::bring_loopback_up().at(StartStep::Network, "loopback")?;
        Ok(Self {
            namespace: open_own()?,
            figures: Vec::new(),
            as_new: Vec::new(),
        })
    }

    /// Notes what it shows before its first job, for [`NetworkNamespace::is_as_new`].
    pub fn remember(&mut self) -> Result<(), Failure> {
        let home = open_own()?;
        sys::enter_namespace(self.as_fd(), libc::CLONE_NEWNET).at(StartStep::Network, "setns")?;
        let figures = open_figures();
        sys::enter_namespace(home.as_fd(), libc::CLONE_NEWNET).at(StartStep::Network, "come back")?;
        self.figures = figures?;
        self.as_new = self.read_figures().at(StartStep::Network, "figures")?;
        Ok(())
    }

    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// No socket is left in it, and no figure tells that there was one.
    #[must_use]
    pub fn is_as_new(&self) -> bool {
        !self.figures.is_empty() && self.read_figures().is_ok_and(|figures| figures == self.as_new)
    }

    fn read_figures(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut buffer = [0; 8192];
        self.figures
            .iter()
            .map(|file| {
                let mut text = Vec::new();
                loop {
                    let count = pread(file, &mut buffer, text.len() as u64)?;
                    text.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() {
                        break;
                    }
                }
                Ok(if text.starts_with(b"sockets:") {
                    own_sockets(&text)
                } else {
                    text
                })
            })
            .collect()
    }
}

fn open_figures() -> Result<Vec<OwnedFd>, Failure> {
    let mut figures = Vec::with_capacity(FIGURES.len());
    for name in FIGURES {
        let path = format!("/proc/thread-self/net/{name}");
        match open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => figures.push(file),
            // A kernel without IPv6 has no file of it.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).at(StartStep::Network, name),
        }
    }
    Ok(figures)
}

/// This process's network namespace.
fn open_own() -> Result<OwnedFd, Failure> {
    open(
        "/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .at(StartStep::Network, "open the namespace")
}

/// The figures of sockstat that are the namespace's own. The others (orphan, alloc, mem) are the machine's.
fn own_sockets(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mut own = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        own.extend_from_slice(words.next().unwrap_or_default().as_bytes());
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if matches!(name, "used" | "inuse" | "tw") {
                own.extend_from_slice(name.as_bytes());
                own.extend_from_slice(value.as_bytes());
            }
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_sockstat_the_figures_of_the_namespace_count() {
        let text = |orphan, mem, used| {
            format!(
                "sockets: used {used}\nTCP: inuse 0 orphan {orphan} tw 0 alloc 9 mem {mem}\nUDP: inuse 0 mem {mem}\n"
            )
        };
        let own = |text: String| own_sockets(text.as_bytes());
        assert_eq!(own(text(1, 2, 0)), own(text(3, 4, 0)));
        assert_ne!(own(text(1, 2, 0)), own(text(1, 2, 1)));
    }
}
