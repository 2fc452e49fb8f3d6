//! What a hostile job tries, one boundary a file, through the real binary.
//!
//! Each probe runs in sandboxes, where no attack may get through, and then without the layer that it attacks (on the
//! host itself, or under a policy that leaves the layer out), where each attack must: an attack that cannot succeed
//! shows nothing. Needs root.

#![allow(unreachable_pub)]

mod calls;
mod capabilities;
mod channels;
mod devices;
mod files;
mod harness;
mod information;
mod inheritance;
mod ipc;
mod kernel_files;
mod memory;
mod mounts;
mod namespaces;
mod network;
mod outside;
mod processes;
mod record;
mod resources;
mod rootless;
mod setuid;
mod terminals;
mod traces;
