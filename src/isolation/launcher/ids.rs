//! Host ids for jobs: no two living jobs of this machine have the same, whichever worker or `stockade run` they are of.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::config::Isolation;
use crate::isolation::sandbox::identity::HostIds;
use crate::sys::fault_point;

const SINGLES: u32 = Isolation::SINGLE_IDS;
const BLOCK: u32 = Isolation::BLOCK_IDS;
const BLOCKS: u32 = Isolation::BLOCKS;

/// Gives out ids. Which are in use is told by locks on the bytes of one file: a lock is the supervisor's, so it outlives
/// the launcher. Of a supervisor that is killed it goes a moment before the kernel has killed the rest of its namespace; ids
/// are given in turn, so that one which is free again comes after all others. For the launcher to hold it, too, would take
/// a descriptor for each sandbox, which each fork copies.
#[derive(Debug)]
pub(super) struct IdPool {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Locks(Locks),
    /// An ordinary user has none to give but its own: the ids outside of the launcher's user namespace.
    Own(u32),
}

#[derive(Debug)]
struct Locks {
    first: u32,
    file: PathBuf,
    next_single: u32,
    next_block: u32,
}

/// Ids in use until every copy of the descriptor is closed.
#[derive(Debug)]
pub(super) struct IdLease {
    pub ids: HostIds,
    pub lock: OwnedFd,
}

impl IdPool {
    /// `first` is the first id of the range; `run_dir` holds the file of locks.
    pub(super) fn open(first: u32, run_dir: &Path) -> std::io::Result<Self> {
        let file = run_dir.join("ids");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)?;
        // Different workers begin in different places, so that they seldom try the same.
        let start = std::process::id().wrapping_mul(97);
        Ok(Self {
            source: Source::Locks(Locks {
                first,
                file,
                next_single: start % SINGLES,
                next_block: start % BLOCKS,
            }),
        })
    }

    /// All jobs get the one id of an ordinary user, `uid` on the host.
    pub(super) const fn own(uid: u32) -> Self {
        Self {
            source: Source::Own(uid),
        }
    }

    /// Leases `count` ids: 1, or a block of 65536. An ordinary user gives 1.
    pub(super) fn lease(&mut self, count: u32) -> std::io::Result<IdLease> {
        match &mut self.source {
            Source::Locks(locks) => locks.lease(count),
            Source::Own(uid) => Ok(IdLease {
                ids: HostIds {
                    first: 0,
                    count: 1,
                    outside: *uid,
                },
                // Nothing to hold: the id is shared anyway.
                lock: open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            }),
        }
    }
}

impl Locks {
    fn lease(&mut self, count: u32) -> std::io::Result<IdLease> {
        fault_point!("launcher.ids")?;
        let lock = open(&self.file, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (tries, next) = if count == 1 {
            (SINGLES, &mut self.next_single)
        } else {
            (BLOCKS, &mut self.next_block)
        };
        for _ in 0..tries {
            let index = *next;
            *next = (*next + 1) % tries;
            let (byte, first) = if count == 1 {
                (index, self.first + index)
            } else {
                (SINGLES + index, self.first + SINGLES + index * BLOCK)
            };
            match try_lock_byte(&lock, byte) {
                Ok(()) => {
                    return Ok(IdLease {
                        ids: HostIds {
                            first,
                            count,
                            outside: first,
                        },
                        lock,
                    });
                }
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(std::io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

/// A lock of the open file description: shared by forks, gone with the last descriptor.
fn try_lock_byte(file: &OwnedFd, byte: u32) -> Result<(), Errno> {
    let region = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: i64::from(byte),
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK reads a whole flock.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const region) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_leases_share_an_id_across_pools() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut pools = [
            IdPool::open(1000, dir.path()).expect("pool"),
            IdPool::open(1000, dir.path()).expect("pool"),
        ];
        let leases: Vec<IdLease> = (0..40)
            .map(|turn| {
                pools[turn % 2]
                    .lease(if turn % 3 == 0 { BLOCK } else { 1 })
                    .expect("lease")
            })
            .collect();
        let mut ids: Vec<(u32, u32)> = leases
            .iter()
            .map(|lease| (lease.ids.first, lease.ids.count))
            .collect();
        ids.sort_unstable();
        assert!(
            ids.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0),
            "{ids:?}"
        );
    }

    #[test]
    fn an_id_comes_back_when_its_lease_is_dropped() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut pool = IdPool::open(1000, dir.path()).expect("pool");
        let Source::Locks(locks) = &mut pool.source else {
            panic!("a pool of locks");
        };
        let start = locks.next_single;
        let first = locks.lease(1).expect("lease").ids.first;
        locks.next_single = start;
        assert_eq!(locks.lease(1).expect("lease").ids.first, first);
    }
}
