//! A mount namespace with what the roots of many jobs are made of, built once.
//!
//! A job's mount namespace is a copy of this one. It has a handful of mounts where the host may have hundreds, and
//! nothing in it is of any other job.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::{chdir, pivot_root};

use super::builder;
use super::etc::{self, Etc};
use super::parts::{self, Base, Laid, SYSTEM_FOLDERS};
use super::proc::{self, Cover};
use super::seccomp::Filter;
use crate::isolation::failure::{At, Failure};
use crate::job::{Identity, Root, SandboxSpec, StartStep};
use crate::sys::fault_point;

#[derive(Debug)]
pub struct Template {
    /// `None`: it is the one that this process is in, and has its only job in.
    pub mount_namespace: Option<OwnedFd>,
    pub layers: Vec<Layer>,
    pub filter: Option<Filter>,
    /// It is installed before a stub has its job.
    pub filter_ahead: bool,
    /// A job can leave a key in its user namespace.
    pub keeps_keys: bool,
    /// A supervisor learns of a job that may leave something in its IPC namespace.
    pub tells_ipc: bool,
    /// Device nodes could not be made: the host's are bound instead.
    pub devices_bound: bool,
    /// The root is laid in place, read-only: it needs no overlay.
    pub root_stands: bool,
    /// Built by an ordinary user's launcher.
    pub by_user: bool,
    /// What lies over parts of /proc.
    pub proc_covers: Vec<Cover>,
}

/// A folder of the host that jobs see through an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub source: PathBuf,
    /// Absolute, inside the sandbox.
    pub target: String,
    /// Part of the operating system, writable where the root is.
    pub system: bool,
    /// On the mount of the host's root, and seen at its own path: shown by one overlay with others of its kind.
    pub in_root: bool,
}

impl Template {
    /// Builds the template for `spec`. `by_user`: for an ordinary user's launcher.
    pub fn build(spec: &SandboxSpec, by_user: bool) -> Result<Self, Failure> {
        let mut host_etc = etc::Host::look(spec, etc::Folders::default());
        // A host folder may go, or be another one, while the template is in use: each layer holds its own.
        let layers = layers(spec, &mut host_etc, false);
        let etc = etc::collect(spec, &mut host_etc, &layers);
        fault_point!("launcher.template").at(StartStep::Rootfs, "template")?;
        let (laid, mount_namespace) = builder::in_copy(None, || {
            let laid = parts::lay(spec, Some(&etc), &layers, by_user, None)?;
            enter()?;
            Ok(laid)
        })?;
        let mut template = Self {
            mount_namespace: Some(mount_namespace),
            proc_covers: proc::find_covers(),
            ..Self::of_parts(spec, layers, laid, by_user)
        };
        template.tell_ipc(spec.identity);
        Ok(template)
    }

    /// Builds it in the mount namespace of this process, which must be its own, and leaves it the working directory. A
    /// read-only root is laid on `base`, and gets its /etc from whoever `hand_over` gives that to, with the folder for
    /// it. The host's mounts are still there: they go all at once when the job's root is entered, since the kernel has every
    /// unmount wait for a grace period.
    pub fn build_here(
        spec: &SandboxSpec,
        base: Base,
        by_user: bool,
        hand_over: impl FnOnce(Etc, OwnedFd) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let Base { parts, etc: folders } = base;
        let mut host_etc = etc::Host::look(spec, folders);
        // An ordinary user's launcher can take no mount without what is mounted beneath it, and beneath the root there always
        // is something.
        let layers = layers(spec, &mut host_etc, !by_user);
        fault_point!("launcher.template").at(StartStep::Rootfs, "template")?;
        let etc = etc::collect(spec, &mut host_etc, &layers);
        let root_stands = spec.root == Root::ReadOnly;
        let laid = if root_stands {
            let folder = parts::open_etc(&parts)?;
            let laid = parts::lay(spec, None, &layers, by_user, Some(&parts))?;
            // Not earlier: two who make files in one folder wait for each other.
            hand_over(etc, folder)?;
            laid
        } else {
            parts::lay(spec, Some(&etc), &layers, by_user, None)?
        };
        Ok(Self {
            root_stands,
            ..Self::of_parts(spec, layers, laid, by_user)
        })
    }

    fn of_parts(spec: &SandboxSpec, mut layers: Vec<Layer>, laid: Laid, by_user: bool) -> Self {
        layers
            .iter_mut()
            .for_each(|layer| layer.in_root &= laid.holds_root);
        let filter = spec
            .seccomp
            .as_ref()
            .map(|profile| Filter::reporting(&profile.program));
        let filter_ahead = filter.as_ref().is_none_or(Filter::lets_stub_go_on);
        let keeps_keys = filter.as_ref().is_none_or(Filter::lets_keep_keys);
        Self {
            mount_namespace: None,
            layers,
            filter,
            filter_ahead,
            keeps_keys,
            tells_ipc: false,
            devices_bound: laid.devices_bound,
            root_stands: false,
            by_user,
            proc_covers: proc::covers_unknown(),
        }
    }

    /// For one job after another. A job that is root of its namespaces could also change what they are set to.
    fn tell_ipc(&mut self, identity: Identity) {
        if identity == Identity::Unprivileged
            && !self.keeps_keys
            && let Some(telling) = self.filter.as_ref().and_then(Filter::in_halves)
        {
            self.filter = Some(telling);
            self.tells_ipc = true;
        }
    }
}

/// `share`: those that can be are seen by one overlay of the host's root.
fn layers(spec: &SandboxSpec, host_etc: &mut etc::Host, share: bool) -> Vec<Layer> {
    let own_folder =
        |name: &&str| fs::symlink_metadata(Path::new("/").join(name)).is_ok_and(|kind| kind.is_dir());
    // Where the root can be written, some have an upper layer.
    let share = share && spec.root == Root::ReadOnly;
    let layer = |source: PathBuf, target: String, system: bool| Layer {
        in_root: share && source == Path::new(&target) && is_in_root(&source),
        source,
        target,
        system,
    };
    let system = SYSTEM_FOLDERS
        .iter()
        .copied()
        .filter(own_folder)
        .chain(["usr"])
        .map(|name| layer(Path::new("/").join(name), format!("/{name}"), true));
    let further = spec.mounts.iter().map(|mount| {
        let target = mount.target.to_string_lossy().into_owned();
        layer(mount.source.clone(), target, false)
    });
    let etc = host_etc.folders().into_iter().map(|source| {
        let target = source.to_string_lossy().into_owned();
        layer(source, target, false)
    });
    let etc = etc.filter(|layer| match spec.root {
        Root::ReadOnly => layer.in_root || host_etc.is_large(&layer.source),
        // Its files are the job's own to change.
        Root::Writable => false,
    });
    system.chain(etc).chain(further).collect()
}

/// Whether a folder is reached from the root through no other mount and no link.
fn is_in_root(folder: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(CWD, folder, flags, Mode::empty(), resolve).is_ok()
}

/// Makes the template the root of its mount namespace, for good.
fn enter() -> Result<(), Failure> {
    pivot_root(".", ".").at(StartStep::PivotRoot, "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at(StartStep::PivotRoot, "detach")?;
    chdir("/").at(StartStep::Rootfs, "chdir")?;
    mount_remount(
        "/",
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::BIND,
        "",
    )
    .at(StartStep::Rootfs, "read-only")
}
