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
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).unwrap_or(u64::MAX),
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
