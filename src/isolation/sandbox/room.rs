//! A root that is laid ahead of time, for one job at a time.
//!
//! The overlays of a read-only root have no upper layer: nothing that a job does stays in them once its processes are
//! gone. Their inodes are still no other living job's. A sandbox gets a copy of the room's mount namespace, to which it
//! adds a /proc, and a scratch space for each job, so what is mounted there is never seen here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::builder;
use super::rootfs;
use super::template::Template;
use crate::isolation::failure::Failure;
use crate::job::{Root, SandboxSpec};

#[derive(Debug)]
pub struct Room {
    namespace: OwnedFd,
}

impl Room {
    /// Whether jobs of this kind can have one: what a job writes to its root is nobody else's.
    #[must_use]
    pub fn fits(spec: &SandboxSpec) -> bool {
        spec.root == Root::ReadOnly
    }

    pub fn lay(template: &Template) -> Result<Self, Failure> {
        let within = template.mount_namespace.as_ref().map(AsFd::as_fd);
        let ((), namespace) = builder::in_copy(within, || rootfs::lay_room(template))?;
        Ok(Self { namespace })
    }

    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
