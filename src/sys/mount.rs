use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use super::clone::check;

/// Cuts this mount namespace off from events of the one it was copied from.
pub fn make_tree_private() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// mount_setattr(2): gives the detached mount `tree` the id mapping of a user namespace.
pub fn idmap_mount(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).unwrap_or(u64::MAX);
    set_attributes(tree, libc::MOUNT_ATTR_IDMAP, userns_fd)
}

/// mount_setattr(2): makes the mount `tree` read-only, without set-user-id programs and devices.
pub fn make_read_only(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(tree, attributes, 0)
}

fn set_attributes(tree: BorrowedFd<'_>, attr_set: u64, userns_fd: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set,
        attr_clr: 0,
        propagation: 0,
        userns_fd,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names `tree`; `attributes` is a whole mount_attr.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
