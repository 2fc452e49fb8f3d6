//! Thin wrappers over system calls that nix and rustix lack, or whose wrappers do more than the call.
//!
//! Nearly all of the crate's `unsafe` is here.

mod arena;
mod clone;
mod confine;
pub(crate) mod fault;
mod host_names;
mod loopback;
mod memory;
mod mount;
mod page_buffer;
mod process;
mod readiness;
mod scheduling;
mod seccomp;
mod signal;
mod unix_connection;

pub use arena::{Allocator, use_arena};
pub use clone::{ChildStack, CloneFlags, Forked, clone_into, clone_sharing_memory};
pub use confine::{
    CapabilitySets, close_all_but, close_on_exec_above_stdio, drop_bounding_set, landlock_restrict_self,
    leave_session_keyring, set_capabilities, set_no_new_privs, set_not_dumpable,
};
pub(crate) use fault::fault_point;
pub use fault::start as start_faults;
pub use host_names::find_hosts_without_libraries;
pub use loopback::bring_loopback_up;
pub use memory::{release_heap, release_program, share_heap};
pub use mount::{idmap_mount, make_read_only, make_tree_private};
pub use page_buffer::PageBuffer;
pub use process::{
    ChildUsage, Reaped, StartMemory, children_usage, copy_mount_namespace, end_with_parent, enter_namespace,
    execve, exit_now, hard_limit, private_memory, raise_open_files, reap, reap_next, set_effective_user,
    set_resource_limit, set_supplementary_groups_empty, set_user, shared_memory,
};
pub use readiness::{readiness, readiness_to_read};
pub use scheduling::{CpuHeld, run_beside};
pub use seccomp::{SeccompListener, StoppedCall, install_seccomp, install_seccomp_with_listener};
pub use signal::{
    Delivered, SignalFd, block_all_but_faults, default_all_signals, ignore_broken_pipes, is_thread_of,
    kill_all_others, queue_signal, signal_all_others, signal_group, signal_thread, unblock_all_signals,
};
pub use unix_connection::UnixConnection;
