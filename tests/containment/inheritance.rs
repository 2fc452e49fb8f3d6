//! What a launcher has open, knows and was started with: a job inherits none of it.

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
struct Careless {
    secret: String,
    name: String,
    input: NamedTempFile,
}

impl Careless {
    fn new() -> Self {
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
        // SAFETY: dup2 and signal are async-signal-safe, and the descriptor lives in the closure.
        unsafe {
            command.pre_exec(move || {
                for place in PLACES {
                    libc::dup2(root.as_raw_fd(), place);
                }
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            });
        }
    }

    fn probe(&self) -> Probe<'_> {
        // Told in reverse, so that they are found nowhere by being told.
        let reversed = |text: &str| text.chars().rev().collect::<String>();
        Probe::new(include_str!("probes/inheritance.py"))
            .planted("reversed_secret", reversed(&self.secret))
            .planted("reversed_name", reversed(&self.name))
            .around(|command| self.inherit(command))
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
