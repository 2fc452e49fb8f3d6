//! A start on the remains of thousands of jobs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stockade::job::JobId;
use stockade::proto::v1::{Cause, State};

use super::worker::{Worker, able, eventually};
use super::{in_runtime, query, shell, start, wait};

const KEPT: usize = 5000;
/// From the start of the process until every job is known.
const WITHIN: Duration = Duration::from_secs(2);

/// As many finished jobs as if they had run: rows, output, and for every second one what a server that died before it
/// had said that all is recorded has left in `control`.
fn multiply(state: &Path, control: &Path, exit: &[u8], id: &str) -> Vec<String> {
    let ids: Vec<String> = (0..KEPT).map(|_| JobId::random().to_string()).collect();
    for (number, id) in ids.iter().enumerate() {
        let output = state.join("jobs").join(id);
        fs::create_dir(&output).expect("mkdir");
        fs::write(output.join("stdout"), "kept\n").expect("write");
        if number % 2 == 0 {
            fs::create_dir(control.join(id)).expect("mkdir");
            fs::write(control.join(id).join("exit"), exit).expect("write");
        }
    }
    let mut database = rusqlite::Connection::open(state.join("server/stockade.db")).expect("open");
    let rows = database.transaction().expect("begin");
    for (new, number) in ids.iter().zip(1_000_i64..) {
        rows.execute(
            "INSERT INTO jobs (id, tenant, policy, policy_hash, labels, limits, state, created_at, started_at, \
             finished_at, exit, kept_bytes, position)
             SELECT ?1, tenant, policy, policy_hash, labels, limits, state, created_at, started_at, finished_at, \
             exit, kept_bytes, ?2 FROM jobs WHERE id = ?3",
            rusqlite::params![new, number, id],
        )
        .expect("insert");
    }
    rows.commit().expect("commit");
    ids
}

#[test]
fn every_job_is_known_soon_after_a_start_with_thousands_kept() {
    if !able() {
        return;
    }
    let mut worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let template = start(&mut client, shell("echo kept; exit 7")).await;
        assert_eq!(wait(&mut client, &template).await.exit_code, Some(7));
        let running = start(&mut client, shell("sleep 6891")).await;
        let ends_meanwhile = start(&mut client, shell("sleep 2; exit 8")).await;
        super::running(&mut client, &running).await;
        super::running(&mut client, &ends_meanwhile).await;
        let control = worker.control();
        let (mut ids, mut started) = (Vec::new(), Instant::now());
        worker.die_and_start_again(|state| {
            let exit = control.join(&ends_meanwhile).join("exit");
            eventually("it has ended", || exit.exists());
            let exit = fs::read(exit).expect("its outcome");
            ids = multiply(state, &control, &exit, &template);
            started = Instant::now();
        });
        let mut client = worker.client().await;
        assert_eq!(query(&mut client, &running).await.state(), State::Running);
        assert_eq!(query(&mut client, &ends_meanwhile).await.exit_code, Some(8));
        for id in ids.iter().step_by(500) {
            assert_eq!(query(&mut client, id).await.cause(), Cause::Exited);
        }
        let took = started.elapsed();
        println!("{KEPT} kept jobs: all known after {took:?}");
        assert!(took < WITHIN, "{took:?}");
        eventually("what is recorded needs no folder in memory", || {
            worker.control_folders() == 1
        });
    });
    worker.shut_down();
}
