//! A worker without jobs holds little.

use std::fs;

use super::worker::{Worker, able, eventually};
use super::{in_runtime, shell, start, wait};

/// In KiB, shared pages too.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).expect("VmRSS")
}

#[test]
fn a_launcher_at_rest_gives_back_what_launches_needed() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let resident = || resident(worker.launcher());
    let mut busy = 0;
    in_runtime(async {
        let mut client = worker.client().await;
        for _ in 0..3 {
            let id = start(&mut client, shell("exit 3")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(3));
        }
        busy = resident();
    });
    // How much a program without optimisation needs differs; that it is much less, does not.
    eventually("a quarter is given back", || resident() <= busy / 4 * 3);
    worker.shut_down();
}
