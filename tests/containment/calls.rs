//! System calls: the parts of the kernel that no script needs, and ways to call them unseen.

use crate::harness::{Job, Probe, Setting, able};

const PROBE: &str = include_str!("probes/calls.py");

#[test]
fn the_kernel_never_hears_of_them() {
    if able() {
        Probe::new(PROBE).is_contained_in(&[Setting::Policy("default"), Setting::Policy("strict")]);
        // Debuggers, reproducible builds and numerical test suites need these; each is about the job's own processes.
        Probe::new(PROBE).is_contained_but(
            Setting::Policy("ci"),
            &[
                "calls_ptrace",
                "calls_personality",
                "calls_mbind",
                "calls_set_mempolicy",
            ],
        );
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Probe::new(PROBE).succeeds_in(&[Setting::Host]);
    }
}

/// Calls of the main process and of a child that are fatal under `strict`: what the record says.
#[test]
fn a_fatal_call_is_named() {
    if !able() {
        return;
    }
    let reboot = if cfg!(target_arch = "x86_64") { 169 } else { 142 };
    let call = format!("import ctypes, os; ctypes.CDLL(None).syscall({reboot}, 0, 0, 0, 0); print('alive')");
    let main = Job::under("strict").python(&call).run();
    assert_eq!(main.cause(), "SYSCALL_DENIED", "{main:?}");
    assert_eq!(main.report["cause_detail"], "reboot");
    assert_eq!((main.status.code(), main.stdout.as_str()), (Some(159), ""));

    let child = Job::under("strict")
        .bash(&format!("python3 -c \"{call}\"; echo $?"))
        .run();
    assert_eq!(
        (child.cause(), child.stdout.as_str()),
        ("EXITED", "159\n"),
        "{child:?}"
    );
    let refused = Job::under("default").python(&call).run();
    assert_eq!(
        (refused.cause(), refused.stdout.as_str()),
        ("EXITED", "alive\n"),
        "{refused:?}"
    );
}

/// A process that blocks or catches the signal is no better off.
#[test]
fn a_fatal_call_is_fatal_whatever_is_done_about_its_signal() {
    if !able() {
        return;
    }
    let reboot = if cfg!(target_arch = "x86_64") { 169 } else { 142 };
    for defence in [
        "signal.signal(31, signal.SIG_IGN)",
        "signal.signal(31, lambda *_: None)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [31])",
    ] {
        let script = format!(
            "import ctypes, os, signal, time\nif os.fork() == 0:\n    {defence}\n    ctypes.CDLL(None).syscall({reboot}, 0, 0, 0, 0)\n    \
             time.sleep(5)\n    os._exit(0)\nprint(os.WIFSIGNALED(os.wait()[1]))\n"
        );
        let finished = Job::under("strict").python(&script).run();
        assert_eq!(finished.stdout, "True\n", "{defence}: {finished:?}");
    }
}
