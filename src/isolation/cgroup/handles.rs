//! The descriptors by which a sandbox uses its cgroup: it has no path to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::meter::{METER_FILES, MeterFiles};

#[derive(Debug)]
pub struct Handles {
    /// The directory in the unified hierarchy.
    pub(super) unified: Option<OwnedFd>,
    /// `tasks` of the v1 directories: written "0" by the one thread that moves itself in. A thread that moves itself
    /// cannot change meanwhile, so the kernel takes no lock of all forks for it; the same by `cgroup.procs` waits for
    /// a grace period of RCU, 7 to 20 ms on a quiet machine.
    pub(super) attach: Vec<OwnedFd>,
    pub(super) meter: MeterFiles,
}

/// Which of them there are, for a process that is sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    unified: bool,
    attach: usize,
    meter: [bool; METER_FILES],
}

impl Handles {
    /// The directory to clone into.
    #[must_use]
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// The `tasks` files that a process of one thread writes "0" to after the clone.
    #[must_use]
    pub fn attach(&self) -> &[OwnedFd] {
        &self.attach
    }

    /// The files by which a supervisor measures and kills.
    #[must_use]
    pub const fn meter(&self) -> &MeterFiles {
        &self.meter
    }

    /// Whether there is a cgroup at all.
    #[must_use]
    pub fn in_cgroup(&self) -> bool {
        self.unified.is_some() || !self.attach.is_empty()
    }

    /// All of them, in the order that [`Handles::from_parts`] takes.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let directories = self.unified.iter().chain(&self.attach).map(AsFd::as_fd);
        directories.chain(self.meter.descriptors())
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape {
            unified: self.unified.is_some(),
            attach: self.attach.len(),
            meter: self.meter.present(),
        }
    }

    /// `None` where the descriptors are not those of the shape.
    #[must_use]
    pub fn from_parts(shape: Shape, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let unified = match shape.unified {
            true => Some(descriptors.next()?),
            false => None,
        };
        let attach: Vec<OwnedFd> = descriptors.by_ref().take(shape.attach).collect();
        let meter = MeterFiles::from_parts(shape.meter, &mut descriptors)?;
        (attach.len() == shape.attach && descriptors.next().is_none()).then_some(Self {
            unified,
            attach,
            meter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn descriptor() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("open").into()
    }

    #[test]
    fn what_is_sent_arrives_in_its_place() {
        let descriptors: Vec<OwnedFd> = (0..4).map(|_| descriptor()).collect();
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut meter = [false; METER_FILES];
        meter[2] = true;
        let shape = Shape {
            unified: true,
            attach: 2,
            meter,
        };
        let handles = Handles::from_parts(shape, descriptors).expect("complete");
        assert_eq!(handles.shape(), shape);
        let again: Vec<i32> = handles.descriptors().map(|fd| fd.as_raw_fd()).collect();
        assert_eq!(again, numbers);
    }

    #[test]
    fn too_few_or_too_many_are_refused() {
        let shape = Shape {
            unified: true,
            attach: 1,
            meter: [false; METER_FILES],
        };
        assert!(Handles::from_parts(shape, vec![descriptor()]).is_none());
        assert!(Handles::from_parts(shape, (0..3).map(|_| descriptor()).collect()).is_none());
    }
}
