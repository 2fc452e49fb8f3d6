//! What one launch costs in system calls, forks and syncs, counted on a real worker: times depend on the machine and
//! on who else uses it, counts do not. Needs root and strace.

mod bounds;
#[path = "../support/needs.rs"]
mod needs;
mod trace;

use std::path::Path;

use stockade::cli::bench::{Durability, Interruption, Load, PrivateWorker, Settings};

use trace::{Birth, Counts, Role, Tracer};

/// Until everything that runs is traced, and the stock of waiting sandboxes is as it stays.
const WARM_UP: usize = 20;
/// The least of them counts: on a busy machine the server's threads wake each other more often.
const ROUNDS: usize = 3;
const JOBS: usize = 40;

fn can_trace(able: bool) -> bool {
    needs::needs("strace and the right to trace", able)
}

async fn launch(load: &mut Load, count: usize) {
    for _ in 0..count {
        load.launch().await.expect("a job");
    }
}

#[tokio::test]
async fn a_launch_costs_no_more_calls_than_recorded() {
    if !needs::needs_sandboxes() || !can_trace(Tracer::is_there()) {
        return;
    }
    let settings = Settings {
        durability: Durability::Power,
        max_running: 64,
        scripts_dir: None,
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_stockade"));
    let worker = PrivateWorker::start(binary, settings).expect("a worker");
    let mut load = Load::connect_unix(worker.socket(), Interruption::never())
        .await
        .expect("connects");
    let Some(tracer) = Tracer::attach(worker.pid()) else {
        can_trace(false);
        return;
    };
    launch(&mut load, WARM_UP).await;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = tracer.at_rest();
        launch(&mut load, JOBS).await;
        let after = tracer.at_rest();
        rounds.push(tracer.counts(before..after));
    }
    let births = tracer.births();
    worker.stop().expect("ends");
    // What to look at where a bound does not hold.
    rounds.iter().for_each(|counts| counts.print_for_each(JOBS));

    let jobs = f64::from(u32::try_from(JOBS).expect("few"));
    let each = |role: Role, calls: &[&str]| {
        let of_rounds = rounds.iter().map(|counts| counts.of(role, calls) / jobs);
        of_rounds.fold(f64::INFINITY, f64::min)
    };
    const FORKS: [&str; 4] = ["clone3", "clone", "fork", "vfork"];
    const SYNCS: [&str; 4] = ["fsync", "fdatasync", "sync_file_range", "syncfs"];
    // A trace that missed a part would be within every bound.
    assert!(
        each(Role::Supervisor, &FORKS) > 0.9,
        "{}",
        each(Role::Supervisor, &FORKS)
    );
    assert!(each(Role::Server, &SYNCS) > 0.9, "{}", each(Role::Server, &SYNCS));
    assert!(
        each(Role::Stub, &["execve"]) > 0.9,
        "{}",
        each(Role::Stub, &["execve"])
    );
    // Who forks makes no thread, and who has threads does not fork.
    let made = |role: Role, birth: Birth| births.contains(&(role, birth));
    for role in [Role::Launcher, Role::Supervisor] {
        assert!(!made(role, Birth::Thread), "{role:?}");
    }
    assert!(!made(Role::Server, Birth::Process));
    bounds::assert_within(&[
        ("launcher", "calls", each(Role::Launcher, Counts::ALL)),
        // Rounded: one more may be made meanwhile than used.
        ("launcher", "forks", each(Role::Launcher, &FORKS).round()),
        // It has nothing to do with a job that writes nothing.
        ("pump", "calls", each(Role::Pump, Counts::ALL).round()),
        ("server", "calls", each(Role::Server, Counts::ALL)),
        ("server", "syncs", each(Role::Server, &SYNCS)),
        ("supervisor", "calls", each(Role::Supervisor, Counts::ALL)),
        ("supervisor", "forks", each(Role::Supervisor, &FORKS).round()),
        ("stub", "calls", each(Role::Stub, Counts::ALL)),
    ]);
}
