//! A start on the remains of thousands of jobs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stockade::job::JobId;
use stockade::proto::v1::{Cause, State};

use super::worker::{Worker, able, control, eventually, marked};
use super::{in_runtime, query, shell, start, wait};

const KEPT: usize = 5000;
/// From the start of the process until every job is known.
const WITHIN: Duration = Duration::from_secs(2);

/// As many finished jobs as if they had run: folders and rows, made after one that did.
fn multiply(state: &Path, id: &str) -> Vec<String> {
    let ids: Vec<String> = (0..KEPT).map(|_| JobId::random().to_string()).collect();
    let jobs = state.join("jobs");
    let names = ["stdout", "stderr"];
    let files = names.map(|name| fs::read(jobs.join(id).join(name)).expect(name));
    for id in &ids {
        fs::create_dir(jobs.join(id)).expect("mkdir");
        for (name, content) in names.iter().zip(&files) {
            fs::write(jobs.join(id).join(name), content).expect("write");
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
        let template = start(&mut client, shell("echo kept; echo too >&2; exit 7")).await;
        assert_eq!(wait(&mut client, &template).await.exit_code, Some(7));
        let running = start(&mut client, shell("sleep 6891")).await;
        let ends_meanwhile = start(&mut client, shell("sleep 1; exit 8")).await;
        eventually("it runs", || marked("sleep\x006891") == 1);
        let (mut ids, mut started) = (Vec::new(), Instant::now());
        worker.die_and_start_again(|state| {
            ids = multiply(state, &template);
            eventually("it has ended", || {
                control(state).join(&ends_meanwhile).join("exit").exists()
            });
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
    });
    worker.shut_down();
}
