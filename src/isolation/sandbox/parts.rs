//! Lays what roots are made of in a mount namespace: the host's folders as layers, a root of empty folders and links,
//! /etc, devices, covers for /proc.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdir, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_bind, mount_remount, move_mount, open_tree,
};
use rustix::process::{chdir, fchdir, umask};
use serde::{Deserialize, Serialize};

use super::etc::{self, Etc};
use super::template::Layer;
use super::{by_users, devices, proc};
use crate::isolation::failure::{At, Failure};
use crate::job::{Root, SandboxSpec, StartStep};
use crate::sys;

/// Names of the parts, relative to the template's root.
pub(super) const ROOT: &str = "root";
pub(super) const EMPTY: &str = "empty";
pub(super) const SCRATCH: &str = "scratch";
pub(super) const NEW_ROOT: &str = "newroot";
/// The mount of the host's root, and where its overlay is until the job's root is entered.
pub(super) const HOST_ROOT: &str = "host";
pub(super) const SHOWN_ROOT: &str = "shown";
const HOST_PROC: &str = "hostproc";
/// What lies over parts of /proc where the root can be written, in a folder that is named as if it were a /proc: the job's
/// mount table shows the names.
pub(super) const COVERS: &str = "covers";

/// Top folders that are symbolic links into /usr on a merged-/usr system, and folders of their own elsewhere.
pub(super) const SYSTEM_FOLDERS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Folders that are there and empty.
const FOLDERS: [(&str, u32); 14] = [
    ("dev", 0o755),
    // Terminals are mounted here in a job that is root of its own namespace.
    ("dev/pts", 0o755),
    ("dev/shm", 0o1777),
    ("etc", 0o755),
    ("home", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o755),
    ("run", 0o755),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("workspace", 0o755),
];
/// Those that packages are installed to, where the root can be written.
const PACKAGE_FOLDERS: [&str; 7] = [
    "var/cache",
    "var/lib",
    "var/lib/dpkg",
    "var/lib/dpkg/alternatives",
    "var/log",
    "var/mail",
    "var/spool",
];
const LINKS: [(&str, &str); 7] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/ptmx", "pts/ptmx"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("var/run", "/run"),
    ("var/tmp", "/tmp"),
];
/// Files of /etc copied into memory, at most.
const IN_MEMORY: [(&str, &str); 2] = [("mode", "0755"), ("size", "64m")];

/// Where layer `index` is mounted inside the template.
#[must_use]
pub(super) fn layer_name(index: usize) -> String {
    format!("layer{index}")
}

/// A folder like the root of the layer `name`, and empty.
#[must_use]
pub(super) fn cap_name(name: &str) -> String {
    format!("{name}cap")
}

/// What came of [`lay`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Laid {
    /// Device nodes could not be made: the host's are bound instead.
    pub(super) devices_bound: bool,
    /// The mount of the host's root could be had, for the layers in it. Without it each has an overlay of its own.
    pub(super) holds_root: bool,
}

/// What can be had before it is known which sandbox it is to be.
#[derive(Debug)]
pub struct Base {
    /// A file system that is mounted nowhere yet, with a root in it of what is the same in all of them ([`NEW_ROOT`]).
    pub(super) parts: OwnedFd,
    pub(super) etc: etc::Folders,
}

impl Base {
    /// This process must be alone with its working directory, which is another afterwards.
    pub fn lay() -> Result<Self, Failure> {
        let parts = file_system_in_memory().at(StartStep::Rootfs, "tmpfs")?;
        fchdir(&parts).at(StartStep::Rootfs, "chdir")?;
        let root = Path::new(NEW_ROOT);
        let made = without_umask(|| {
            make_folder(NEW_ROOT)?;
            make_base(root)?;
            proc::make_covers(root)
        });
        chdir("/").at(StartStep::Rootfs, "chdir")?;
        made.map(|()| Self {
            parts,
            etc: etc::Folders::of_etc(),
        })
    }
}

/// /etc of the root in the parts of a [`Base`].
pub(super) fn open_etc(parts: &OwnedFd) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let etc = [NEW_ROOT, "etc"].join("/");
    openat(parts, etc, flags, Mode::empty()).at(StartStep::Rootfs, "etc")
}

/// What is made has the mode that is named, without a second call for it.
pub(super) fn without_umask<T>(make: impl FnOnce() -> T) -> T {
    let usual = umask(Mode::empty());
    let made = make();
    umask(usual);
    made
}

/// The working directory is the template then, its root is not yet. `in_place`: the root is one job's, laid on that of a
/// [`Base`], of which these are the parts, and read-only, where that job has it. Without `etc` somebody else writes it.
pub(super) fn lay(
    spec: &SandboxSpec,
    etc: Option<&Etc>,
    layers: &[Layer],
    by_user: bool,
    in_place: Option<&OwnedFd>,
) -> Result<Laid, Failure> {
    without_umask(|| lay_without_umask(spec, etc, layers, by_user, in_place))
}

fn lay_without_umask(
    spec: &SandboxSpec,
    etc: Option<&Etc>,
    layers: &[Layer],
    by_user: bool,
    in_place: Option<&OwnedFd>,
) -> Result<Laid, Failure> {
    sys::make_tree_private().at(StartStep::Rootfs, "private mounts")?;
    // Taken before the new root covers anything.
    let in_root = layers.iter().any(|layer| layer.in_root);
    let host_root = match in_root.then(|| detach(Path::new("/"))).transpose() {
        // In a container, what is mounted beneath it may be locked to it.
        Err(failure) if failure.errno == libc::EINVAL => None,
        taken => taken?,
    };
    let holds_root = host_root.is_some();
    let mut trees = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        if !(holds_root && layer.in_root) {
            let tree = detach(&layer.source).map_err(|failure| by_users::explain_layer(failure, by_user))?;
            trees.push((layer_name(index), tree));
        }
    }
    trees.extend(host_root.map(|tree| (HOST_ROOT.to_owned(), tree)));
    let proc = by_user.then(by_users::detach_proc).transpose()?;
    let base = "/tmp";
    match in_place {
        Some(parts) => mount_over(parts, base),
        None => file_system_in_memory().and_then(|parts| mount_over(&parts, base)),
    }
    .at(StartStep::Rootfs, "tmpfs")?;
    chdir(base).at(StartStep::Rootfs, "chdir")?;
    for name in [SCRATCH, SHOWN_ROOT, devices::BOUND] {
        make_folder(name)?;
    }
    let root = match in_place {
        Some(_) => NEW_ROOT,
        None => {
            for name in [ROOT, EMPTY, NEW_ROOT] {
                make_folder(name)?;
            }
            make_base(Path::new(ROOT))?;
            let covers = match spec.root {
                Root::ReadOnly => ROOT,
                Root::Writable => {
                    for name in PACKAGE_FOLDERS {
                        make_folder(&[ROOT, name].join("/"))?;
                    }
                    make_folder(COVERS)?;
                    COVERS
                }
            };
            proc::make_covers(Path::new(covers))?;
            ROOT
        }
    };
    for (name, tree) in &trees {
        place(tree, name)?;
        make_cap(name, &cap_name(name))?;
    }
    if let Some(proc) = proc {
        make_folder(HOST_PROC)?;
        attach(&proc, HOST_PROC)?;
    }
    make_targets(Path::new(root), layers)?;
    if let Some(etc) = etc {
        let folder = fs::File::open(Path::new(root).join("etc")).at(StartStep::Rootfs, "etc")?;
        etc.write(&folder).at(StartStep::Rootfs, "etc")?;
    }
    let devices_bound = devices::make(Path::new(root))?;
    if in_place.is_some() {
        mount_bind(NEW_ROOT, NEW_ROOT).at(StartStep::Rootfs, "bind")?;
        let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::RDONLY;
        mount_remount(NEW_ROOT, flags, "").at(StartStep::Rootfs, "read-only")?;
    }
    Ok(Laid {
        devices_bound,
        holds_root,
    })
}

/// On a folder of the host's, which may be a link to one.
fn mount_over(parts: &OwnedFd, target: &str) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(parts, "", CWD, target, flags)
}

/// Mounted nowhere yet.
fn file_system_in_memory() -> Result<OwnedFd, Errno> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("source", "tmpfs")].into_iter().chain(IN_MEMORY) {
        fsconfig_set_string(&tmpfs, key, value)?;
    }
    fsconfig_create(&tmpfs)?;
    fsmount(
        &tmpfs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID,
    )
}

pub(super) fn detach(source: &Path) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, source, flags).at(
        StartStep::Rootfs,
        &source.file_name().unwrap_or_default().to_string_lossy(),
    )
}

fn place(tree: &OwnedFd, name: &str) -> Result<(), Failure> {
    make_folder(name)?;
    attach(tree, name)?;
    // Adds to what the mount has: an ordinary user could not take anything off it.
    sys::make_read_only(tree.as_fd()).at(StartStep::Rootfs, name)
}

pub(super) const PLAIN_FOLDER: Mode = Mode::from_raw_mode(0o755);

fn make_folder(name: &str) -> Result<(), Failure> {
    mkdir(name, PLAIN_FOLDER).at(StartStep::Rootfs, name)
}

pub(super) fn write_file(path: &Path, content: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    options.open(path)?.write_all(content.as_bytes())
}

/// An overlay tells of the file system of its topmost layer: with this on top, a job does not see how full the host's
/// disk is, which other jobs can change. Who may enter the layer's root is decided by its topmost layer, too.
fn make_cap(layer: &str, cap: &str) -> Result<(), Failure> {
    let root = fs::metadata(layer).at(StartStep::Rootfs, layer)?;
    make_folder(cap)?;
    match chown(cap, Some(root.uid()), Some(root.gid())) {
        Ok(()) => {}
        // An ordinary user's launcher has one id. As the owner's rights are the job's then, they must not be more than
        // those of all others.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => {
            let others = root.mode() & 0o7;
            let mode = fs::Permissions::from_mode(others << 6 | others << 3 | others);
            return fs::set_permissions(cap, mode).at(StartStep::Rootfs, cap);
        }
        Err(error) => return Err(error).at(StartStep::Rootfs, cap),
    }
    fs::set_permissions(cap, fs::Permissions::from_mode(root.mode() & 0o7777)).at(StartStep::Rootfs, cap)
}

pub(super) fn attach(tree: &OwnedFd, target: &str) -> Result<(), Failure> {
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .at(StartStep::Rootfs, target)
}

fn make_base(root: &Path) -> Result<(), Failure> {
    for (name, mode) in FOLDERS {
        mkdir(root.join(name), Mode::from_raw_mode(mode)).at(StartStep::Rootfs, name)?;
    }
    for (name, target) in LINKS {
        symlink(target, root.join(name)).at(StartStep::Rootfs, name)?;
    }
    for name in SYSTEM_FOLDERS {
        // Relative on a merged-/usr system ("usr/bin"), which resolves inside as it does outside.
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            symlink(target, root.join(name)).at(StartStep::Rootfs, name)?;
        }
    }
    Ok(())
}

fn make_targets(root: &Path, layers: &[Layer]) -> Result<(), Failure> {
    let targets: BTreeSet<&str> = layers.iter().map(|layer| layer.target.as_str()).collect();
    for target in targets {
        make_folders(root, target).at(StartStep::Rootfs, target)?;
    }
    Ok(())
}

/// Where they are not there yet. [`fs::create_dir_all`] would leave the modes to the umask.
fn make_folders(root: &Path, target: &str) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(root.join(target.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_comes_after_its_parent() {
        let folders = FOLDERS.iter().map(|(name, _)| *name).chain(PACKAGE_FOLDERS);
        let folders: Vec<&str> = folders.collect();
        for (index, name) in folders.iter().enumerate() {
            if let Some((parent, _)) = name.rsplit_once('/') {
                assert!(folders[..index].contains(&parent), "{name}");
            }
        }
    }
}
