//! Processes: those outside are not seen and not touched, those inside end with the job.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Canary, Job, Probe, Setting, able, marked_processes, unique};

pub(super) fn probe(canary: &Canary) -> Probe<'static> {
    Probe::new(include_str!("probes/processes.py"))
        .planted("canary", canary.pid())
        .planted("marker", canary.name.as_str())
        .planted("session", nix::unistd::getsid(None).expect("a session").as_raw())
        .planted("group", nix::unistd::getpgrp().as_raw())
}

#[test]
fn foreign_processes_are_out_of_reach() {
    if !able() {
        return;
    }
    let mut canary = Canary::start();
    let probe = probe(&canary);
    probe.is_contained_in(&[Setting::Policy("default"), Setting::Policy("strict")]);
    // Programs of its own root, under which its parents run too, are its own to replace.
    probe.is_contained_but(Setting::Policy("ci"), &["replaces_a_program_of_the_host"]);
    assert!(canary.is_alive());
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        let canary = Canary::start();
        probe(&canary).succeeds_in(&[Setting::Host]);
    }
}

/// The kernel's own checks, were there a hole in the filter.
#[test]
fn without_the_filter_processes_are_still_apart() {
    if able() {
        let canary = Canary::start();
        let unfiltered = "[sandbox]\nseccomp = \"none\"\n";
        let only_about_itself = [
            "advises_the_memory_of_a_foreign_process",
            "reaps_the_memory_of_a_foreign_process",
        ];
        probe(&canary).is_contained_but(Setting::Own(unfiltered), &only_about_itself);
    }
}

/// Processes that try to outlive their job, marked by their first word.
fn stubborn(marker: &str) -> String {
    format!(
        "m={marker}\n\
         setsid bash -c 'trap \"\" HUP TERM INT; exec -a '$m' sleep 60' </dev/null >/dev/null 2>&1 &\n\
         nohup bash -c 'exec -a '$m' sleep 60' </dev/null >/dev/null 2>&1 &\n\
         (setsid bash -c '(exec -a '$m' sleep 60) & disown' </dev/null >/dev/null 2>&1 &)\n\
         bash -c 'exec -a '$m' sleep 60' </dev/null >/dev/null 2>&1 &\n\
         sleep 0.5\n\
         kill -STOP $!\n\
         disown -a\n"
    )
}

#[test]
fn what_a_job_leaves_running_ends_with_it() {
    if !able() {
        return;
    }
    for policy in ["default", "strict", "ci"] {
        let marker = unique("orphan");
        let finished = Job::under(policy).bash(&(stubborn(&marker) + "exit 5")).run();
        assert_eq!(finished.status.code(), Some(5), "{finished:?}");
        assert!(marked_processes(&marker).is_empty(), "{policy}");
    }
    // What the same script leaves where nothing ends it.
    let marker = unique("orphan");
    let status = Command::new("bash")
        .args(["-c", &stubborn(&marker)])
        .stdin(Stdio::null())
        .status();
    let left = marked_processes(&marker);
    for pid in &left {
        let _ = kill(
            Pid::from_raw(i32::try_from(*pid).expect("a pid")),
            Signal::SIGKILL,
        );
    }
    assert!(status.expect("bash").success() && left.len() == 4, "{left:?}");
}

#[test]
fn a_job_that_kills_all_it_can_kills_only_itself() {
    if !able() {
        return;
    }
    let mut canary = Canary::start();
    for policy in ["default", "strict", "ci"] {
        let finished = Job::under(policy)
            .bash("sleep 60 & kill -9 -1; kill -9 1; kill -9 $PPID; echo alive; exit 3")
            .run();
        assert_eq!(finished.stdout, "alive\n", "{finished:?}");
        assert_eq!(finished.report["exit_code"], 3, "{finished:?}");
    }
    assert!(canary.is_alive());
}

#[test]
fn a_stop_ends_what_ignores_it() {
    if !able() {
        return;
    }
    let marker = unique("deaf");
    let script = format!(
        "import os, signal, time\n\
         for s in set(range(1, 65)) - {{9, 19, 32, 33}}: signal.signal(s, signal.SIG_IGN)\n\
         if os.fork() == 0:\n    os.setsid()\n    while True:\n        time.sleep(0.02)\n        if os.fork(): os._exit(0)\n        os.setsid()\n\
         os.execvp('sleep', ['{marker}', '60'])\n"
    );
    let job = Job::under("strict").python(&script);
    let mut running = job.to_command().spawn().expect("spawned");
    let began = Instant::now();
    while marked_processes(&marker).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never began");
        std::thread::sleep(Duration::from_millis(10));
    }
    let stopped = Instant::now();
    kill(
        Pid::from_raw(i32::try_from(running.id()).expect("a pid")),
        Signal::SIGTERM,
    )
    .expect("signalled");
    running.wait().expect("waited for");
    // The grace of the policy is 1 s.
    assert!(
        stopped.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed()
    );
    assert!(marked_processes(&marker).is_empty());
    let report = job.report();
    assert_eq!(
        (&report["cause"], &report["stop"]["escalated"]),
        (&"STOPPED".into(), &true.into())
    );
}

/// Whoever has thousands of children looks through all of them for each that has ended.
#[test]
fn children_that_end_faster_than_they_are_reaped_hold_up_no_deadline() {
    if !able() {
        return;
    }
    let policy = "[limits]\nmemory = \"512M\"\npids = 4000\ncpus = 2\nwall_time = \"2s\"\n";
    let finished = Job::under_own(policy)
        .python(include_str!("probes/reaping.py"))
        .run();
    assert_eq!(finished.cause(), "WALL_TIME", "{finished:?}");
    assert_eq!(finished.stdout, "3000 asleep\n");
    assert!(finished.took < Duration::from_secs(10), "{:?}", finished.took);
}

/// A client chooses the grace, up to a day.
#[test]
fn a_grace_period_suspends_no_limit() {
    if !able() {
        return;
    }
    let busy = "trap '' TERM; echo ready; while :; do :; done";
    let loud = "trap '' TERM; echo ready; sleep 0.7; while :; do echo line; done";
    for (limit, script) in [
        ("limits.wall_time = \"3s\"", busy),
        ("limits.cpu_time = \"2s\"", busy),
        ("limits.output = \"64K\"\nstop.on_output_limit = \"kill\"", loud),
    ] {
        let job = Job::under_own(&format!("stop.grace = \"1h\"\n{limit}\n")).bash(script);
        let mut running = job.to_command().stdout(Stdio::piped()).spawn().expect("spawned");
        let mut output = running.stdout.take().expect("stdout");
        output.read_exact(&mut [0; 6]).expect("it is ready");
        let reading = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let stopped = Instant::now();
        kill(
            Pid::from_raw(i32::try_from(running.id()).expect("a pid")),
            Signal::SIGTERM,
        )
        .expect("signalled");
        let within = Duration::from_secs(20);
        while running.try_wait().expect("waited for").is_none() {
            if stopped.elapsed() > within {
                let _ = running.kill();
                panic!("{limit}: it runs on");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        reading.join().expect("joined").expect("read");
        let report = job.report();
        assert_eq!(
            (&report["cause"], &report["stop"]["escalated"]),
            (&"STOPPED".into(), &true.into()),
            "{limit}: {report}"
        );
    }
}
