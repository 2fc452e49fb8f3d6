//! The launcher's side: prepares once, then clones and waits.

use std::io::{self, BufRead, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags, open};
use stockade::sys::{self, Forked};

use super::child::{self, Job};
use super::place::{Cgroups, Proc, build_root};
use super::{Recipe, elf, filter};

/// The first argument of a process that is to be a launcher.
pub(crate) const WORD: &str = "floor-launcher";
pub(super) const READY: &str = "ready";
const STACK: usize = 64 << 10;

/// Namespaces of a job, but the network's.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

struct Launcher {
    recipe: Recipe,
    job: Job,
    stack: Vec<u128>,
    /// Puts mount namespaces away while nobody waits.
    closer: Sender<OwnedFd>,
    /// A mount point.
    root: PathBuf,
    count: u64,
}

/// `RECIPE PROGRAM count N REST_US FOLDER` or `RECIPE PROGRAM time MS 0 FOLDER`: tells the nanoseconds of each launch, or how many
/// there were.
pub(crate) fn become_launcher(words: &[String]) -> ExitCode {
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> io::Result<()> {
    let usage = || io::Error::from(io::ErrorKind::InvalidInput);
    let [recipe, program, how, amount, rest, folder] = words else {
        return Err(usage());
    };
    let recipe = Recipe::from_word(recipe).ok_or_else(usage)?;
    let number = |text: &String| text.parse::<u64>().map_err(|_| usage());
    let (amount, rest) = (number(amount)?, Duration::from_micros(number(rest)?));
    let mut launcher = Launcher::prepare(recipe, program == "static", Path::new(folder))?;
    // Caches fill.
    for _ in 0..20 {
        launcher.launch()?;
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    io::stdin().lock().read_line(&mut String::new())?;
    if how == "count" {
        for _ in 0..amount {
            std::thread::sleep(rest);
            let before = Instant::now();
            launcher.launch()?;
            writeln!(stdout, "{}", before.elapsed().as_nanos())?;
        }
    } else {
        let (end, mut count) = (Instant::now() + Duration::from_millis(amount), 0_u64);
        while Instant::now() < end {
            launcher.launch()?;
            count += 1;
        }
        writeln!(stdout, "{count}")?;
    }
    stdout.flush()
}

impl Launcher {
    fn prepare(recipe: Recipe, is_static: bool, folder: &Path) -> io::Result<Self> {
        let open = |path, flags| open(path, flags | OFlags::CLOEXEC, Mode::empty()).map(OwnedFd::into_raw_fd);
        let sandboxed = recipe != Recipe::Plain;
        let program = elf::that_does_nothing();
        let root = folder.join("root");
        std::fs::create_dir(&root)?;
        let job = Job {
            program: match (is_static, sandboxed) {
                (true, true) => c"/true",
                (true, false) => keep(folder, &program)?,
                (false, _) => c"/bin/true",
            },
            filter: match recipe {
                Recipe::Plain => None,
                Recipe::Naive => Some(filter::linear()),
                Recipe::Template => filter::of_default_policy(),
            },
            proc: open("/proc", OFlags::PATH)?,
            null: open("/dev/null", OFlags::RDWR)?,
            sandboxed,
            held: -1,
        };
        let (closer, later) = mpsc::channel::<OwnedFd>();
        if recipe == Recipe::Template {
            Cgroups::make("", true)?.enter()?;
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            build_root(&root, Proc::OfHost, &program)?;
            std::thread::spawn(move || later.into_iter().for_each(drop));
        }
        Ok(Self {
            recipe,
            job,
            stack: vec![0; STACK / size_of::<u128>()],
            closer,
            root,
            count: 0,
        })
    }

    fn launch(&mut self) -> io::Result<()> {
        self.count += 1;
        match self.recipe {
            Recipe::Naive => self.launch_naively(),
            Recipe::Plain => {
                let pid = self.vfork(0)?;
                reap(pid)
            }
            Recipe::Template => {
                let pid = self.vfork(NAMESPACES | libc::CLONE_FILES)?;
                reap(pid)?;
                // SAFETY: the child opened it into our table for us, and nobody else knows it.
                let held = unsafe { OwnedFd::from_raw_fd(self.job.held) };
                self.closer
                    .send(held)
                    .map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn vfork(&mut self, flags: i32) -> io::Result<Pid> {
        let top = self.stack.as_mut_ptr_range().end;
        let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let job = &raw mut self.job;
        // SAFETY: the stack is ours and aligned, and this thread stands still until the child has executed or
        // exited; the child touches nothing but its own frames and `job`.
        match unsafe { libc::clone(child::vforked, top.cast(), flags, job.cast()) } {
            pid if pid > 0 => Ok(Pid::from_raw(pid)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn launch_naively(&mut self) -> io::Result<()> {
        let cgroups = Cgroups::make(&format!(".{}", self.count), false)?;
        let namespaces = u64::try_from(NAMESPACES | libc::CLONE_NEWNET).unwrap_or(0);
        // SAFETY: this recipe starts no thread.
        let pid = match unsafe { sys::clone_into(namespaces, None) }? {
            Forked::Parent(pid) => Pid::from_raw(pid.as_raw_nonzero().get()),
            Forked::Child => sys::exit_now(self.run_naively(&cgroups)),
        };
        let reaped = reap(pid);
        cgroups.remove()?;
        reaped
    }

    /// In the child, which has a copy of everything.
    fn run_naively(&self, cgroups: &Cgroups) -> i32 {
        let entered = cgroups.enter().is_ok()
            && child::become_root_of_user_namespace(self.job.proc).is_ok()
            && nix::unistd::sethostname("sandbox").is_ok()
            && build_root(&self.root, Proc::Own, &elf::that_does_nothing()).is_ok();
        if entered {
            child::confine_and_execute(&self.job)
        } else {
            100
        }
    }
}

/// The program as a file of the host. Its name lives as long as the process.
fn keep(folder: &Path, program: &[u8]) -> io::Result<&'static std::ffi::CStr> {
    use std::os::unix::ffi::OsStrExt;
    let path = folder.join("true");
    std::fs::write(&path, program)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    Ok(Box::leak(name.into_boxed_c_str()))
}

fn reap(pid: Pid) -> io::Result<()> {
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => Err(io::Error::other(format!("a job ended with {status:?}"))),
    }
}
