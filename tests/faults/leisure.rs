//! Sandboxes that are made ready with what others leave of the CPUs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::worker::{Setup, Worker, able, at_leisure};
use super::{alone, in_runtime, shell, start, wait};

/// Where so many jobs have come one by one, each supervisor that makes a sandbox ready again rests for so long.
const RESTS: &str = "supervisor.clone=delay:400@30-60";
/// Far from the 4 ms of leisure, and from the rest.
const LONG: Duration = Duration::from_millis(250);

#[test]
fn leisure_ends_though_the_work_does_not() {
    if !able() {
        return;
    }
    let _alone = alone();
    let worker = Worker::start_as(
        Setup {
            environment: vec![("STOCKADE_FAULTS", RESTS.to_owned())],
            ..Setup::default()
        },
        |_| {},
    );
    let over = AtomicBool::new(false);
    let launcher = worker.launcher();
    let (seen, longest) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| longest_leisure(launcher, &over));
        in_runtime(async {
            let mut client = worker.client().await;
            for _ in 0..70 {
                let id = start(&mut client, shell("true")).await;
                assert_eq!(wait(&mut client, &id).await.exit_code, Some(0));
            }
        });
        over.store(true, Ordering::Relaxed);
        watcher.join().expect("watched")
    });
    assert!(seen > 0, "nobody was at leisure");
    assert!(longest < LONG, "{longest:?}");
    worker.shut_down();
}

/// How many processes were seen at leisure, and for how long one was at the most.
fn longest_leisure(launcher: u32, over: &AtomicBool) -> (usize, Duration) {
    let mut since: HashMap<u32, Instant> = HashMap::new();
    let (mut seen, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let now = at_leisure(launcher);
        since.retain(|pid, _| now.contains(pid));
        for pid in now {
            let began = since.entry(pid).or_insert_with(|| {
                seen += 1;
                Instant::now()
            });
            longest = longest.max(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (seen, longest)
}
