//! Puts what the client sent into the sandbox, before any of the job's code runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, mkdirat, open, openat2};
use rustix::io::Errno;

use crate::isolation::failure::{At, Failure};
use crate::isolation::layout;
use crate::job::{Blob, InputFile, JobSpec, StartStep};

/// Script, input files and standard input. `owner` is the job's uid and gid on the host.
///
/// Gives the path that the stub opens as its standard input, empty for none.
pub fn put(spec: &JobSpec, owner: u32) -> Result<&'static str, Failure> {
    if let Some(script) = &spec.script {
        // Root's and read-only: the job can run its script but not change it under itself.
        put_fixed(layout::SCRIPT, script, 0o555).at(StartStep::Script, layout::SCRIPT)?;
    }
    if !spec.files.is_empty() {
        let workspace = open(
            layout::WORKSPACE,
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at(StartStep::Files, layout::WORKSPACE)?;
        for file in &spec.files {
            put_file(&workspace, file, owner).at(StartStep::Files, &file.path)?;
        }
    }
    match &spec.stdin {
        Some(stdin) => {
            put_fixed(layout::STDIN, stdin, 0o444).at(StartStep::Stdin, layout::STDIN)?;
            Ok(layout::STDIN)
        }
        None => Ok(""),
    }
}

fn put_fixed(path: &str, content: &Blob, mode: u32) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(mode))?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    File::from(file).write_all(&content.0)
}

/// The workspace is empty but for earlier files of the same request, so a symbolic link in the way can only be
/// an attack: resolution takes none.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn put_file(workspace: &OwnedFd, file: &InputFile, owner: u32) -> std::io::Result<()> {
    let path = Path::new(&file.path);
    make_parents(workspace, path, owner)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let opened = openat2(workspace, path, flags, Mode::from_raw_mode(0o600), BENEATH)?;
    let mut opened = File::from(opened);
    opened.write_all(&file.content.0)?;
    give(&opened, owner, file.mode)?;
    Ok(())
}

fn make_parents(workspace: &OwnedFd, path: &Path, owner: u32) -> std::io::Result<()> {
    let mut parent = workspace.try_clone()?;
    for component in path.parent().into_iter().flat_map(Path::components) {
        match mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        parent = openat2(
            &parent,
            component.as_os_str(),
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            BENEATH,
        )?;
        give(&parent, owner, 0o755)?;
    }
    Ok(())
}

fn give(file: impl AsFd, owner: u32, mode: u32) -> Result<(), Errno> {
    fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    fchmod(&file, Mode::from_raw_mode(mode))
}
