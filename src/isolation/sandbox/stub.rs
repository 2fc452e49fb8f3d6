//! The payload's side: from the clone to its exec. A flat list of steps.
//!
//! The stub first does what needs no job (it may be cloned ahead of time), then waits, then gives up every
//! privilege in the order in which each is still allowed to, and becomes the command.

use std::ffi::CStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{chdir, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::namespaces::Noted;
use super::plan::Plan;
use crate::job::StartStep;
use crate::sys::{self, CapabilitySets, fault_point};

/// What the stub needs, all of it prepared before the clone.
#[derive(Debug)]
pub struct Stub {
    /// `tasks` files of the v1 hierarchies.
    pub attach: [Option<Inherited>; MOST_ATTACH],
    /// Joined where the stub was not cloned into a user namespace of its own.
    pub user_namespace: Option<Inherited>,
    /// Joined likewise, where none before it has left anything in it.
    pub ipc_namespace: Option<Inherited>,
    /// One byte, without a user namespace to join: the ids are mapped. Then one: the plan is laid out and the world around the stub finished.
    pub go: Inherited,
    /// A socket, closed by the exec. What it sends is a [`Packet`] each.
    pub packets: Inherited,
    /// To be descriptors 0, 1 and 2.
    pub stdio: [Inherited; 3],
    pub plan: *mut Plan,
    pub uid: u32,
    pub gid: u32,
    /// Capabilities that stay, of the user namespace of the job's own.
    pub keep_capabilities: u64,
    /// Written by the stub.
    pub namespaces: Noted,
    /// The filter lets the job use keys: those that the launcher has in its session keyring are not for it.
    pub own_keyring: bool,
    pub landlock: Option<Inherited>,
    pub seccomp: Option<*const [u64]>,
    /// The filter lets the stub go on, so it is installed before the job is known.
    pub filter_ahead: bool,
}

/// v1 hierarchies that a job can be in.
pub const MOST_ATTACH: usize = 3;

/// A descriptor of the supervisor's at the time of the clone. From then on the stub has a copy of its own, whatever becomes
/// of the supervisor's.
#[derive(Debug, Clone, Copy)]
pub struct Inherited(RawFd);

impl From<BorrowedFd<'_>> for Inherited {
    fn from(of_supervisor: BorrowedFd<'_>) -> Self {
        Self(of_supervisor.as_raw_fd())
    }
}

impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stub, which alone uses it, has its copy until it executes its command.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// What a stub tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// With this comes its filter's listener.
    Listener,
    /// All that can be given up ahead of time has been.
    Ready,
    Failed(StubFailure),
}

/// What it has failed at: an index of [`STEPS`], and the error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StubFailure {
    pub step: u32,
    pub errno: i32,
}

impl Packet {
    pub const BYTES: usize = 9;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let (tag, first, second) = match self {
            Self::Listener => (b'l', [0; 4], [0; 4]),
            Self::Ready => (b'r', [0; 4], [0; 4]),
            Self::Failed(failure) => (b'f', failure.step.to_ne_bytes(), failure.errno.to_ne_bytes()),
        };
        let [a, b, c, d] = first;
        let [e, f, g, h] = second;
        [tag, a, b, c, d, e, f, g, h]
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [tag, a, b, c, d, e, f, g, h] = bytes;
        let (first, second) = ([a, b, c, d], [e, f, g, h]);
        match tag {
            b'l' => Some(Self::Listener),
            b'r' => Some(Self::Ready),
            b'f' => Some(Self::Failed(StubFailure {
                step: u32::from_ne_bytes(first),
                errno: i32::from_ne_bytes(second),
            })),
            _ => None,
        }
    }
}

/// The steps that a stub can fail in, by the number it reports.
pub const STEPS: [StartStep; 14] = [
    StartStep::Supervisor,
    StartStep::Output,
    StartStep::Cgroup,
    StartStep::Namespaces,
    StartStep::Session,
    StartStep::Rlimits,
    StartStep::Stdin,
    StartStep::Capabilities,
    StartStep::Credentials,
    StartStep::WorkingDir,
    StartStep::NoNewPrivs,
    StartStep::Landlock,
    StartStep::Seccomp,
    StartStep::Exec,
];

impl Stub {
    /// Runs the stub. Below this line: only system calls, no allocation, no formatting, `_exit` alone. Its memory is the
    /// supervisor's, which is at work in it, too.
    pub fn run(&self) -> ! {
        let (step, errno) = match self.steps() {
            Ok(never) => match never {},
            Err(failed) => failed,
        };
        let number = STEPS
            .iter()
            .position(|candidate| *candidate == step)
            .unwrap_or(STEPS.len());
        let _ = self.tell(Packet::Failed(StubFailure {
            step: u32::try_from(number).unwrap_or(u32::MAX),
            errno: errno.raw_os_error(),
        }));
        sys::exit_now(127)
    }

    fn steps(&self) -> Result<std::convert::Infallible, (StartStep, Errno)> {
        self.take_stdio().map_err(|error| (StartStep::Output, error))?;
        fault_point!("stub.cgroup").map_err(|error| (StartStep::Cgroup, error))?;
        self.enter_cgroups().map_err(|error| (StartStep::Cgroup, error))?;
        self.enter_user_namespace()
            .map_err(|error| (StartStep::Namespaces, error))?;
        fault_point!("stub.cgroup-namespace").map_err(|error| (StartStep::Namespaces, error))?;
        self.enter_own_namespaces()
            .map_err(|error| (StartStep::Namespaces, error))?;
        fault_point!("stub.namespaces").map_err(|error| (StartStep::Namespaces, error))?;
        self.namespaces
            .note(self.user_namespace.is_some(), self.ipc_namespace.is_some())
            .map_err(|error| (StartStep::Namespaces, error))?;
        fault_point!("stub.session").map_err(|error| (StartStep::Session, error))?;
        setsid().map_err(|error| (StartStep::Session, error))?;
        if self.user_namespace.is_none() {
            // Until the ids inside have a meaning outside.
            self.wait_for_go();
        }
        fault_point!("stub.bounding-set").map_err(|error| (StartStep::Capabilities, error))?;
        // The bounding set first: dropping from it needs a capability.
        sys::drop_bounding_set(self.keep_capabilities).map_err(|error| (StartStep::Capabilities, error))?;
        fault_point!("stub.credentials").map_err(|error| (StartStep::Credentials, error))?;
        sys::set_user(self.uid, self.gid).map_err(|error| (StartStep::Credentials, error))?;
        if self.own_keyring {
            // As the job's user, whose quota it counts in.
            sys::leave_session_keyring().map_err(|error| (StartStep::Session, error))?;
        }
        fault_point!("stub.capabilities").map_err(|error| (StartStep::Capabilities, error))?;
        self.set_capabilities()
            .map_err(|error| (StartStep::Capabilities, error))?;
        umask(Mode::from_raw_mode(0o022));
        fault_point!("stub.no-new-privs").map_err(|error| (StartStep::NoNewPrivs, error))?;
        sys::set_no_new_privs().map_err(|error| (StartStep::NoNewPrivs, error))?;
        fault_point!("stub.landlock").map_err(|error| (StartStep::Landlock, error))?;
        self.restrict_files()
            .map_err(|error| (StartStep::Landlock, error))?;
        if self.filter_ahead {
            self.restrict_calls()
                .map_err(|error| (StartStep::Seccomp, error))?;
        }
        self.tell(Packet::Ready)
            .map_err(|error| (StartStep::Supervisor, error))?;
        self.wait_for_go();
        // SAFETY: the go byte says that the supervisor has laid out the plan, and it looks again only after the exec.
        let plan = unsafe { &*self.plan };
        fault_point!("stub.rlimits").map_err(|error| (StartStep::Rlimits, error))?;
        set_rlimits(plan).map_err(|error| (StartStep::Rlimits, error))?;
        fault_point!("stub.stdin").map_err(|error| (StartStep::Stdin, error))?;
        open_stdin(plan).map_err(|error| (StartStep::Stdin, error))?;
        fault_point!("stub.working-dir").map_err(|error| (StartStep::WorkingDir, error))?;
        // With the job's own rights, so that it cannot stand where it could not go.
        enter_working_dir(plan).map_err(|error| (StartStep::WorkingDir, error))?;
        sys::close_on_exec_above_stdio().map_err(|error| (StartStep::Session, error))?;
        sys::unblock_all_signals().map_err(|error| (StartStep::Session, error))?;
        if !self.filter_ahead {
            self.restrict_calls()
                .map_err(|error| (StartStep::Seccomp, error))?;
        }
        fault_point!("stub.exec").map_err(|error| (StartStep::Exec, error))?;
        Err((StartStep::Exec, execute(plan)))
    }

    /// v1 alone: in the unified hierarchy the clone itself put us there.
    fn enter_cgroups(&self) -> Result<(), Errno> {
        self.attach
            .iter()
            .flatten()
            .try_for_each(|tasks| write(tasks, b"0").map(drop))
    }

    fn enter_user_namespace(&self) -> Result<(), Errno> {
        self.user_namespace.map_or(Ok(()), |namespace| {
            sys::enter_namespace(namespace.as_fd(), libc::CLONE_NEWUSER)
        })
    }

    /// A cgroup namespace is made inside the job's cgroup, which so becomes the root of all that the job sees of cgroups;
    /// without a cgroup of its own, it sees no path of the host's. An IPC namespace belongs to the user namespace in which
    /// it is made: where that was not made by the clone, it is time now.
    fn enter_own_namespaces(&self) -> Result<(), Errno> {
        let ipc = match (self.user_namespace, self.ipc_namespace) {
            (_, Some(joined)) => {
                sys::enter_namespace(joined.as_fd(), libc::CLONE_NEWIPC)?;
                UnshareFlags::empty()
            }
            (Some(_), None) => UnshareFlags::NEWIPC,
            (None, None) => UnshareFlags::empty(),
        };
        // SAFETY: new namespaces of these kinds touch no memory and no descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP | ipc) }
    }

    fn tell(&self, packet: Packet) -> Result<(), Errno> {
        write(self.packets, &packet.to_bytes()).map(drop)
    }

    fn take_stdio(&self) -> Result<(), Errno> {
        let [stdin, stdout, stderr] = self.stdio;
        dup2_stdin(stdin)?;
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)
    }

    /// One byte a step. An end of file means that the supervisor has gone or given up.
    fn wait_for_go(&self) {
        let mut byte = [0];
        loop {
            match read(self.go, &mut byte) {
                Ok(1) => return,
                Err(Errno::INTR) => {}
                _ => sys::exit_now(125),
            }
        }
    }

    fn set_capabilities(&self) -> Result<(), Errno> {
        let kept = self.keep_capabilities;
        sys::set_capabilities(CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: 0,
        })
    }

    fn restrict_files(&self) -> Result<(), Errno> {
        self.landlock
            .map_or(Ok(()), |ruleset| sys::landlock_restrict_self(ruleset.as_fd()))
    }

    /// From the return of the first call on, the filter decides on all others, the sending included.
    fn restrict_calls(&self) -> Result<(), Errno> {
        fault_point!("stub.seccomp")?;
        let Some(program) = self.seccomp else {
            return Ok(());
        };
        // SAFETY: the filter is the template's, which the supervisor keeps.
        let listener = sys::install_seccomp_with_listener(unsafe { &*program })?;
        let descriptors = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            self.packets,
            &[IoSlice::new(&Packet::Listener.to_bytes())],
            &mut ancillary,
            SendFlags::empty(),
        )
        .map(drop)
    }
}

/// Sets them, and reads each back: the filter may have skipped the call.
fn set_rlimits(plan: &Plan) -> Result<(), Errno> {
    plan.rlimits[..plan.rlimit_count].iter().try_for_each(|limit| {
        sys::set_resource_limit(limit.resource, limit.value)?;
        match sys::hard_limit(limit.resource)? == limit.value {
            true => Ok(()),
            false => Err(Errno::PERM),
        }
    })
}

/// Descriptor 0, where the job has an input.
fn open_stdin(plan: &Plan) -> Result<(), Errno> {
    // SAFETY: a laid out plan's pointers are C strings in the shared region.
    let path = unsafe { CStr::from_ptr(plan.stdin) };
    if path.is_empty() {
        return Ok(());
    }
    let file = open(path, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
    dup2_stdin(file)
}

fn enter_working_dir(plan: &Plan) -> Result<(), Errno> {
    // SAFETY: a laid out plan's pointers are C strings in the shared region.
    chdir(unsafe { CStr::from_ptr(plan.working_dir) })
}

/// Tries the candidates as execvp(3) does, but never asks a shell to read what the kernel cannot execute.
fn execute(plan: &Plan) -> Errno {
    let mut outcome = Errno::NOENT;
    // SAFETY: the plan has been laid out.
    for path in unsafe { plan.candidates() } {
        // SAFETY: argv and envp are null-terminated arrays of C strings in the shared region.
        match unsafe { sys::execve(path, plan.argv, plan.envp) } {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => outcome = Errno::ACCESS,
            error => return error,
        }
    }
    outcome
}
