//! A job's root: overlays of its own over what the template holds, its scratch space, a fresh /proc.
//!
//! An overlay of its own, even where nothing is writable, gives the job inodes of its own: file locks and inotify
//! events on shared read-only files would otherwise pass from one job to another.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::isolation::failure::{At, Failure};
use crate::isolation::sandbox::parts;
use crate::isolation::sandbox::proc::Covers;
use crate::isolation::sandbox::template::Template;
use crate::isolation::sandbox::unmapped;
use crate::isolation::sandbox::{by_users, devices, proc, scratch};
use crate::job::{Identity, Limits, Proc, Root, SandboxSpec, StartStep};
use crate::sys::{self, fault_point};

/// Builds the root in this mount namespace, a copy of the template's or where it was built, and makes it the root of the
/// namespace.
///
/// `owner` is the job's uid and gid on the host.
pub fn assemble(
    spec: &SandboxSpec,
    template: &Template,
    limits: &Limits,
    owner: u32,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<Entered, Failure> {
    let mut weaker = Vec::new();
    if template.mount_namespace.is_some() {
        chdir("/").at(StartStep::Rootfs, "chdir to the template")?;
        // The template's mounts never hear of what is mounted here.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .at(StartStep::Rootfs, "private")?;
    }
    scratch::mount(parts::SCRATCH, spec, limits, owner)?;
    let writable = user_namespace.map(|user_namespace| Upper {
        owner,
        user_namespace,
        by_user: template.by_user,
    });
    let root = Lower::plain(parts::ROOT);
    if !template.root_stands && !mount_overlay(writable, root, parts::NEW_ROOT, MountFlags::NOSUID)? {
        weaker.push(unmapped::describe("/"));
    }
    weaker.extend(mount_layers(template, writable)?);
    scratch::bind(parts::SCRATCH, parts::NEW_ROOT)?;
    weaker.extend(devices::bind(template)?);
    if spec.identity == Identity::Root {
        mount_terminals(owner, template.by_user)?;
    }
    let new_proc = format!("{}/proc", parts::NEW_ROOT);
    let unfinished = match spec.root {
        Root::ReadOnly => {
            chdir(new_proc).at(StartStep::Proc, "chdir")?;
            mount_proc_over(spec, template)?;
            Some(Unfinished::enter_around_proc()?)
        }
        Root::Writable => {
            proc::mount_proc(spec.proc, &new_proc)
                .map_err(|failure| by_users::explain_proc(failure, template.by_user))?;
            if spec.proc == Proc::Masked {
                mount_covers()?;
                let folder = format!("{}/proc/", parts::COVERS);
                proc::mask(&template.proc_covers, &folder, &new_proc)?;
            }
            enter(parts::NEW_ROOT)?;
            None
        }
    };
    Ok(Entered { weaker, unfinished })
}

/// A root that is this process's.
#[derive(Debug)]
pub struct Entered {
    /// What could not be had, for the receipt.
    pub weaker: Vec<String>,
    /// Must be finished before a job runs.
    pub unfinished: Option<Unfinished>,
}

impl Entered {
    pub fn new(weaker: Vec<String>) -> Self {
        Self {
            weaker,
            unfinished: None,
        }
    }
}

/// What is left to do in a root that was entered, and is done while others are at work.
///
/// Nothing lies over /proc yet. And the root that was the namespace's before is still there, with all that was mounted in it:
/// the kernel has whoever unmounts that wait for a grace period. Old root and covers are in the folder beneath /proc, and the
/// working directory is the only way there: no name leads to them.
#[derive(Debug)]
pub struct Unfinished {
    covers: Covers,
}

impl Unfinished {
    /// Enters the root that the working directory is the folder `proc` of, beneath what is mounted there.
    ///
    /// The old root must not lie over the new one meanwhile: from there the kernel makes no user namespace.
    fn enter_around_proc() -> Result<Self, Failure> {
        pivot_root("..", proc::OLD_ROOT).at(StartStep::PivotRoot, "pivot_root")?;
        Ok(Self {
            covers: Covers::none(),
        })
    }

    /// Lays one more cover over /proc; false where none is left to be laid.
    pub fn cover_more(&mut self, spec: &SandboxSpec, template: &Template) -> Result<bool, Failure> {
        match spec.proc {
            Proc::Masked => self.covers.lay_next(&template.proc_covers, "", OVER_THIS),
            Proc::PidOnly => Ok(false),
        }
    }

    pub fn finish(mut self, spec: &SandboxSpec, template: &Template) -> Result<(), Failure> {
        while self.cover_more(spec, template)? {}
        unmount(proc::OLD_ROOT, UnmountFlags::DETACH).at(StartStep::PivotRoot, "detach the old root")?;
        chdir("/").at(StartStep::Proc, "chdir")
    }
}

/// Has nobody write to a root any more that was laid in place. The kernel refuses it while a file of it is open to be written.
pub fn seal(template: &Template) -> Result<(), Failure> {
    if !template.root_stands {
        return Ok(());
    }
    fault_point!("supervisor.seal").at(StartStep::Rootfs, "read-only")?;
    mount_remount("/", MountFlags::NOSUID | MountFlags::RDONLY, "").at(StartStep::Rootfs, "read-only")
}

/// Lays the part of a read-only root that jobs leave as it was; see [`super::room`].
pub fn lay_room(template: &Template) -> Result<(), Failure> {
    chdir("/").at(StartStep::Rootfs, "chdir to the template")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at(StartStep::Rootfs, "private")?;
    mount_overlay(
        None,
        Lower::plain(parts::ROOT),
        parts::NEW_ROOT,
        MountFlags::NOSUID,
    )?;
    mount_layers(template, None)?;
    devices::bind(template)?;
    enter(parts::NEW_ROOT)
}

/// Adds to a copy of a room the /proc of this pid namespace. Gives what could not be had, for the receipt.
pub fn furnish(spec: &SandboxSpec, template: &Template) -> Result<Vec<String>, Failure> {
    chdir("/proc").at(StartStep::Proc, "chdir")?;
    mount_proc_over(spec, template)?;
    if spec.proc == Proc::Masked {
        proc::mask(&template.proc_covers, "", OVER_THIS)?;
    }
    chdir("/").at(StartStep::Rootfs, "chdir")?;
    Ok(devices::shared(template).into_iter().collect())
}

/// What is mounted over the working directory, where that is a folder of this name.
const OVER_THIS: &str = "../proc";

/// Mounts the /proc of this pid namespace over the working directory, the folder of that name in a root that nobody can
/// write to. Its covers are in that folder: from inside they can still be named.
fn mount_proc_over(spec: &SandboxSpec, template: &Template) -> Result<(), Failure> {
    proc::mount_proc(spec.proc, OVER_THIS)
        .map_err(|failure| by_users::explain_proc(failure, template.by_user))
}

/// Gives what could not be had, for the receipt.
fn mount_layers(template: &Template, writable: Option<Upper<'_>>) -> Result<Vec<String>, Failure> {
    let mut weaker = Vec::new();
    if template.layers.iter().any(|layer| layer.in_root) {
        mount_layer(None, parts::HOST_ROOT, parts::SHOWN_ROOT)?;
    }
    for (index, layer) in template.layers.iter().enumerate() {
        let target = format!("{}{}", parts::NEW_ROOT, layer.target);
        if layer.in_root {
            let shown = format!("{}{}", parts::SHOWN_ROOT, layer.target);
            mount_bind(shown, target).at(StartStep::Rootfs, &layer.target)?;
            continue;
        }
        // Only what a package may install to is writable in a writable root; further mounts are read-only.
        let upper = writable.filter(|_| layer.system);
        if !mount_layer(upper, &parts::layer_name(index), &target)? {
            weaker.push(unmapped::describe(&layer.target));
        }
    }
    Ok(weaker)
}

fn mount_layer(upper: Option<Upper<'_>>, name: &str, target: &str) -> Result<bool, Failure> {
    let cap = parts::cap_name(name);
    let lower = Lower {
        above: Some(&cap),
        name,
    };
    mount_overlay(upper, lower, target, MountFlags::NOSUID | MountFlags::NODEV)
}

/// What a writable overlay needs beside the lower layer.
#[derive(Debug, Clone, Copy)]
struct Upper<'a> {
    owner: u32,
    /// The lower layer's files get the ids of this namespace, or its root would own none of them.
    user_namespace: BorrowedFd<'a>,
    /// An ordinary user's overlay keeps its own marks in attributes that such a user may set.
    by_user: bool,
}

/// The layers that are not written, by their names in the template.
#[derive(Debug, Clone, Copy)]
struct Lower<'a> {
    /// Empty, and of another file system.
    above: Option<&'a str>,
    name: &'a str,
}

impl<'a> Lower<'a> {
    const fn plain(name: &'a str) -> Self {
        Self { above: None, name }
    }
}

/// All paths are relative to the template, so that the job's mount table tells no path of the host.
///
/// False where the lower layer's ids could not be mapped.
fn mount_overlay(
    upper: Option<Upper<'_>>,
    lower: Lower<'_>,
    target: &str,
    flags: MountFlags,
) -> Result<bool, Failure> {
    let (above, lower) = (lower.above, lower.name);
    let options = match (upper, above) {
        (None, Some(above)) => format!("lowerdir={above}:{lower}"),
        // An overlay without an upper layer must have two lower ones.
        (None, None) => format!("lowerdir={lower}:{}", parts::EMPTY),
        (Some(upper), _) => return mount_writable(upper, lower, target, flags),
    };
    lay_overlay(options, target, flags).at(StartStep::Rootfs, &format!("overlay of {}", inside(target)))?;
    Ok(true)
}

fn lay_overlay(options: String, target: &str, flags: MountFlags) -> Result<(), Errno> {
    let options = CString::new(options).unwrap_or_default();
    mount("overlay", target, "overlay", flags, Some(options.as_c_str()))
}

/// False where the ids of `lower` could not be mapped.
fn mount_writable(upper: Upper<'_>, lower: &str, target: &str, flags: MountFlags) -> Result<bool, Failure> {
    let scratch = parts::SCRATCH;
    for part in ["upper", "work", "lower"] {
        let path = format!("{scratch}/{part}/{lower}");
        fs::create_dir_all(&path).at(StartStep::Rootfs, part)?;
        chown(&path, Some(upper.owner), Some(upper.owner)).at(StartStep::Rootfs, part)?;
    }
    let marks = if upper.by_user { ",userxattr" } else { "" };
    let over = |lowest: &str| {
        let options = format!(
            "lowerdir={lowest},upperdir={scratch}/upper/{lower},workdir={scratch}/work/{lower}{marks}"
        );
        lay_overlay(options, target, flags)
    };
    let what = || format!("overlay of {}", inside(target));
    if let Some(lowest) = map_lower(upper, lower)? {
        match fault_point!("supervisor.mapped-layer").and_then(|()| over(&lowest)) {
            // Before 5.19 an overlay takes no layer whose ids are mapped, whatever file system that is of.
            Err(Errno::INVAL) => {
                unmount(lowest.as_str(), UnmountFlags::DETACH).at(StartStep::Rootfs, &lowest)?;
            }
            laid => return laid.map(|()| true).at(StartStep::Rootfs, &what()),
        }
    }
    let folder = format!("{scratch}/upper/{lower}");
    unmapped::repeat_folders(Path::new(lower), Path::new(&folder), upper.owner)
        .at(StartStep::Rootfs, "folders of the root")?;
    over(lower).map(|()| false).at(StartStep::Rootfs, &what())
}

/// A path as the job would name it, for messages.
fn inside(target: &str) -> &str {
    match target.strip_prefix(parts::NEW_ROOT) {
        Some("") => "/",
        Some(path) => path,
        None => target,
    }
}

/// Mounts a copy of `lower` with the ids of the job's user namespace, and gives its path; `None` where its file system
/// maps no ids.
fn map_lower(upper: Upper<'_>, lower: &str) -> Result<Option<String>, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, lower, flags).at(StartStep::Rootfs, lower)?;
    match sys::idmap_mount(tree.as_fd(), upper.user_namespace) {
        Ok(()) => {}
        // Such as tmpfs before 6.3, or a container's overlay.
        Err(Errno::INVAL) => return Ok(None),
        // An ordinary user's launcher may not map those of the host's file systems.
        Err(Errno::PERM) if upper.by_user => return Ok(None),
        Err(error) => return Err(error).at(StartStep::Rootfs, "id-mapped mount"),
    }
    let target = format!("{}/lower/{lower}", parts::SCRATCH);
    move_mount(
        tree.as_fd(),
        "",
        CWD,
        &target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .at(StartStep::Rootfs, lower)?;
    Ok(Some(target))
}

/// An overlay too, for its inodes (a lock on a cover would be seen by other jobs), and read-only with all that is
/// bound from it: a device node as a cover would open for writing.
fn mount_covers() -> Result<(), Failure> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_overlay(None, Lower::plain(parts::COVERS), parts::COVERS, flags).map(drop)
}

/// Pseudo-terminals, for test suites that need some: an instance with none of anybody else's.
fn mount_terminals(owner: u32, by_user: bool) -> Result<(), Failure> {
    /// How many a job has at most. The kernel keeps some of the machine's for its first instance, whatever others take.
    const MOST: u32 = 256;
    const GROUP_TTY: u32 = 5;
    // An ordinary user has but one id.
    let group = if by_user {
        owner
    } else {
        owner.saturating_add(GROUP_TTY)
    };
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={group},max={MOST}");
    let options = CString::new(options).unwrap_or_default();
    let target = format!("{}/dev/pts", parts::NEW_ROOT);
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", target, "devpts", flags, Some(options.as_c_str())).at(StartStep::Rootfs, "devpts")
}

/// Makes the folder `root` the root, by pivot_root(2) with one directory for both: the old root ends up mounted over the
/// new one, and is taken off it.
fn enter(root: &str) -> Result<(), Failure> {
    chdir(root).at(StartStep::PivotRoot, "chdir")?;
    pivot_root(".", ".").at(StartStep::PivotRoot, "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at(StartStep::PivotRoot, "detach the old root")?;
    chdir("/").at(StartStep::PivotRoot, "chdir")
}
