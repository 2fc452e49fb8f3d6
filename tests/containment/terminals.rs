//! Terminals: a worker that was started by hand has one, and a job that reached it would type as its operator.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::harness::{Probe, Setting, able};

const PROBE: &str = include_str!("probes/terminals.py");

/// Starts `command` on a terminal, as the leader of a session of its own.
fn on_a_terminal(command: &mut Command, slave: &OwnedFd) {
    let terminal = slave.try_clone().expect("dup");
    command.stdin(Stdio::from(slave.try_clone().expect("dup")));
    // SAFETY: it makes async-signal-safe calls alone, and the descriptor lives in the closure.
    unsafe { command.pre_exec(move || take_terminal(&terminal)) };
}

fn take_terminal(terminal: &OwnedFd) -> std::io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: plain numbers.
    match unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Both ends of a new terminal, the master first.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: the two numbers live through the call; no name, attributes or size are asked for.
    let result = unsafe { libc::openpty(&raw mut master, &raw mut slave, name, modes, size) };
    assert_eq!(result, 0, "openpty");
    // SAFETY: the call gave descriptors that nobody else owns.
    [master, slave]
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .into()
}

#[test]
fn a_job_has_no_terminal() {
    if able() {
        let (_master, slave) = terminal();
        let probe = Probe::new(PROBE).around(|command| on_a_terminal(command, &slave));
        probe.is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        let (_master, slave) = terminal();
        let probe = Probe::new(PROBE).around(|command| on_a_terminal(command, &slave));
        probe.succeeds_in(&[Setting::Host]);
    }
}
