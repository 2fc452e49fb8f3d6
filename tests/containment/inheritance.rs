//! What a launcher has open, knows and was started with: a job inherits none of it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use crate::harness::{Probe, Setting, able, unique};

/// Descriptors of the launcher that a job could find.
const PLACES: [i32; 3] = [3, 37, 200];

/// A launcher that was started carelessly: with open descriptors, a secret in its environment, a name that
/// tells of the host, input that is not the job's, and SIGTERM and SIGHUP ignored.
pub(super) struct Careless {
    secret: String,
    name: String,
    input: NamedTempFile,
}

impl Careless {
    pub(super) fn new() -> Self {
        let secret = unique("secret");
        let input = NamedTempFile::new().expect("a file");
        std::fs::write(&input, &secret).expect("input");
        Self {
            secret,
            name: unique("worker"),
            input,
        }
    }

    fn inherit(&self, command: &mut Command) {
        let root = File::open("/").expect("the root");
        command
            .env("STOCKADE_TEST_SECRET", &self.secret)
            .arg0(&self.name)
            .stdin(Stdio::from(File::open(&self.input).expect("input")));
        // SAFETY: it makes async-signal-safe calls alone, and the descriptor lives in the closure.
        unsafe {
            command.pre_exec(move || {
                be_careless(&root);
                Ok(())
            });
        }
    }

    pub(super) fn probe(&self) -> Probe<'_> {
        // Told in reverse, so that they are found nowhere by being told.
        let reversed = |text: &str| text.chars().rev().collect::<String>();
        Probe::new(include_str!("probes/inheritance.py"))
            .planted("reversed_secret", reversed(&self.secret))
            .planted("reversed_name", reversed(&self.name))
            .around(|command| self.inherit(command))
    }
}

fn be_careless(root: &File) {
    for place in PLACES {
        // SAFETY: plain numbers; nothing else has these descriptors in a process that is about to exec.
        unsafe { libc::dup2(root.as_raw_fd(), place) };
    }
    for signal in [libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: to ignore a signal runs nothing.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[test]
fn a_job_inherits_nothing() {
    if able() {
        Careless::new().probe().is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Careless::new().probe().succeeds_in(&[Setting::Host]);
    }
}

/// A session keyring with a key in it, as a login gives one.
fn hold_a_key(name: &CStr) -> std::io::Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const SESSION_KEYRING: i32 = -3;
    let (kind, secret) = (c"user", c"stockade-secret");
    // SAFETY: plain numbers.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0) };
    // SAFETY: C strings that live through the call, and a length within the last one.
    let added = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            name.as_ptr(),
            secret.as_ptr(),
            secret.count_bytes(),
            SESSION_KEYRING,
        )
    };
    match joined < 0 || added < 0 {
        true => Err(std::io::Error::last_os_error()),
        false => Ok(()),
    }
}

/// Where the filter lets a job use keys.
#[test]
fn a_job_possesses_no_key_of_its_launcher() {
    if !able() {
        return;
    }
    let name = unique("key");
    let with_key = |command: &mut Command| {
        let name = CString::new(name.as_str()).expect("no NUL");
        // SAFETY: two system calls.
        unsafe { command.pre_exec(move || hold_a_key(&name)) };
    };
    let probe = Probe::new(include_str!("probes/keys.py"))
        .planted("key", name.as_str())
        .around(with_key);
    probe.is_contained_in(&[
        Setting::Own("[sandbox]\nseccomp = \"none\"\n"),
        Setting::Own("inherits = \"ci\"\n[sandbox]\nseccomp = \"none\"\n"),
        Setting::Policy("default"),
    ]);
    probe.succeeds_in(&[Setting::Host]);
}
