use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::job::{Cause, ExitRecord, JobId, JobRequest, Limits, State, Timestamp, bounds};
use crate::server::view::{JobFacts, JobView};

mod keep;
mod plans;

struct Fixture {
    store: Arc<Store>,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Arc::new(Store::open(dir.path(), Durability::Power).expect("open"));
    Fixture { store, dir }
}

fn view() -> JobView {
    JobView::pending(facts())
}

fn facts() -> JobFacts {
    JobFacts {
        id: JobId::random(),
        tenant: "default".to_owned(),
        policy: "strict".to_owned(),
        policy_hash: "ab".to_owned(),
        labels: BTreeMap::from([("a".to_owned(), "ü \"b\"".to_owned())]),
        limits: Some(Limits {
            memory_bytes: 1 << 50,
            pids: 2,
            cpu_millis: 3,
            cpu_time_ms: 4,
            wall_time_ms: 5,
            output_bytes: 6,
            disk_bytes: 7,
            inodes: 8,
            open_files: 9,
        }),
        created_at: Timestamp::from_micros(1_700_000_000_000_000),
    }
}

fn new_job(view: &JobView, key: Option<&str>) -> Change {
    let request = JobRequest {
        argv: vec!["true".to_owned()],
        ..JobRequest::default()
    };
    Change::Insert(Box::new(NewJob {
        view: view.clone(),
        key: key.map(|key| IdempotencyKey {
            key: key.to_owned(),
            request_hash: Some([7; 32]),
        }),
        request: Some(postcard::to_stdvec(&request).expect("encode")),
    }))
}

fn ended(view: &JobView, finished_at: i64) -> JobView {
    view.finished(ExitRecord {
        finished_at: Timestamp::from_micros(finished_at),
        ..ExitRecord::without_run(Cause::Exited { code: 0 })
    })
}

async fn write(store: &Store, change: Change) {
    store.write_and_wait(change).await.expect("write");
}

#[tokio::test]
async fn a_job_is_read_as_it_was_written() {
    let Fixture { store, dir: _dir } = fixture();
    let view = view();
    write(&store, new_job(&view, None)).await;
    assert_eq!(store.find(view.id()).expect("find"), Some(view.clone()));
    let mut running = view.clone();
    running.state = State::Running;
    running.started_at = Some(Timestamp::from_micros(5));
    running.receipt = Some(Arc::default());
    write(&store, Change::Update(running.clone())).await;
    assert_eq!(store.find(view.id()).expect("find"), Some(running.clone()));
    let over = ended(&running, 9);
    write(&store, Change::Update(over.clone())).await;
    assert_eq!(store.find(view.id()).expect("find"), Some(over));
    write(&store, Change::Delete(view.id())).await;
    assert_eq!(store.find(view.id()).expect("find"), None);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let Fixture { store, dir } = fixture();
    let view = view();
    write(&store, new_job(&view, Some("k"))).await;
    drop(store);
    let store = Store::open(dir.path(), Durability::Power).expect("open again");
    let unfinished = store.unfinished().expect("unfinished");
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].0, view);
    let (request, key) = store.request(view.id()).expect("read").expect("request");
    assert_eq!(
        (request.argv, key.as_deref()),
        (vec!["true".to_owned()], Some("k"))
    );
}

#[tokio::test]
async fn a_request_is_kept_only_until_the_job_goes_on() {
    let Fixture { store, dir: _dir } = fixture();
    let mut view = view();
    write(&store, new_job(&view, None)).await;
    view.state = State::Running;
    write(&store, Change::Update(view.clone())).await;
    assert!(store.request(view.id()).expect("read").is_none());
}

#[tokio::test]
async fn a_key_is_taken_once_and_its_failure_spoils_nothing() {
    let Fixture { store, dir: _dir } = fixture();
    let (first, second, third) = (view(), view(), view());
    // Queued together, so that they share a transaction.
    let writes = futures_util::future::join3(
        store.write_and_wait(new_job(&first, Some("k"))),
        store.write_and_wait(new_job(&second, Some("k"))),
        store.write_and_wait(new_job(&third, None)),
    );
    let (one, two, three) = writes.await;
    assert!(one.is_ok() && three.is_ok());
    assert!(matches!(two, Err(WriteError::Duplicate)));
    let (id, key) = store.find_key("default", "k").expect("find").expect("key");
    assert_eq!((id, key.request_hash), (first.id(), Some([7; 32])));
    assert!(store.find_key("other", "k").expect("find").is_none());
    assert!(store.find(second.id()).expect("find").is_none());
}

#[tokio::test]
async fn many_writers_share_commits_and_all_are_durable() {
    let Fixture { store, dir } = fixture();
    let views: Vec<JobView> = (0..1000).map(|_| view()).collect();
    let writes = views.iter().map(|view| store.write_and_wait(new_job(view, None)));
    for result in futures_util::future::join_all(writes).await {
        result.expect("write");
    }
    let database = Connection::open(dir.path().join("stockade.db")).expect("open");
    let (count, distinct): (i64, i64) = database
        .query_row("SELECT count(*), count(DISTINCT position) FROM jobs", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("count");
    assert_eq!((count, distinct), (1000, 1000));
}

#[tokio::test]
async fn that_a_job_runs_is_told_before_its_end_whether_it_is_written_or_not() {
    let Fixture { store, dir: _dir } = fixture();
    let mut events = store.subscribe();
    let (short, long) = (view(), view());
    write(&store, new_job(&short, None)).await;
    write(&store, new_job(&long, None)).await;
    let running = |view: &JobView| {
        let mut view = view.clone();
        view.state = State::Running;
        Change::Update(view)
    };
    store.write_lazily(running(&short));
    store.write_lazily(running(&long));
    write(&store, Change::Update(ended(&short, 1))).await;
    let mut told = Vec::new();
    for position in 1..=5 {
        let event = events.recv().await.expect("event");
        assert_eq!(event.position, position);
        told.push((event.job.id(), event.job.state));
    }
    let of = |view: &JobView| {
        let of_it = told.iter().filter(|(id, _)| *id == view.id());
        of_it.map(|(_, state)| *state).collect::<Vec<_>>()
    };
    assert_eq!(of(&short), [State::Pending, State::Running, State::Finished]);
    // Nobody waits for it, and it is written all the same.
    assert_eq!(of(&long), [State::Pending, State::Running]);
    let written = store.find(long.id()).expect("find").expect("a job");
    assert_eq!(written.state, State::Running);
    assert_eq!(store.last_position().expect("position"), 5);
}

#[tokio::test]
async fn positions_are_never_given_twice() {
    let Fixture { store, dir } = fixture();
    let view = view();
    write(&store, new_job(&view, None)).await;
    write(&store, Change::Update(ended(&view, 1))).await;
    assert_eq!(store.last_position().expect("position"), 2);
    write(&store, Change::Delete(view.id())).await;
    drop(store);
    let store = Arc::new(Store::open(dir.path(), Durability::Power).expect("open again"));
    assert_eq!(store.last_position().expect("position"), 2);
    let mut events = store.subscribe();
    write(&store, new_job(&self::view(), None)).await;
    assert_eq!(events.recv().await.expect("event").position, 3);
    let changes = store.changed_since("default", 2, 10).await.expect("changes");
    assert_eq!((changes.events[0].position, changes.more), (3, false));
}

/// A job with as many and as long labels as one may have: some 20 KiB.
fn with_full_labels() -> JobView {
    let labels = (0..bounds::LABELS).map(|n| {
        let key = format!("{n:0>width$}", width = bounds::LABEL_KEY_BYTES);
        (key, "v".repeat(bounds::LABEL_VALUE_BYTES))
    });
    JobView::pending(JobFacts {
        labels: labels.collect(),
        ..facts()
    })
}

#[tokio::test]
async fn what_is_read_at_once_is_bounded_by_bytes() {
    let Fixture { store, dir: _dir } = fixture();
    let mut jobs = Vec::new();
    for _ in 0..120 {
        let job = with_full_labels();
        write(&store, new_job(&job, None)).await;
        jobs.push(job.id());
    }
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let query = PageQuery {
            tenant: "default".to_owned(),
            states: Vec::new(),
            labels: Vec::new(),
            before,
            size: 1000,
        };
        let page = store.page(query).await.expect("page");
        assert!((1..=52).contains(&page.jobs.len()), "{}", page.jobs.len());
        listed.extend(page.jobs.iter().map(JobView::id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    listed.reverse();
    assert_eq!(listed, jobs);

    let mut changed = Vec::new();
    loop {
        let position = changed.len() as u64;
        let changes = store
            .changed_since("default", position, 256)
            .await
            .expect("changes");
        assert!(changes.events.len() <= 4, "{}", changes.events.len());
        changed.extend(changes.events.iter().map(|event| event.job.id()));
        if !changes.more {
            break;
        }
    }
    assert_eq!(changed, jobs);
}

#[test]
fn long_reads_hold_one_thread_of_the_pool() {
    let Fixture { store, dir: _dir } = fixture();
    let (go_on, told) = mpsc::channel();
    let scan = |told: Option<mpsc::Receiver<()>>| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let read = move |_: &Connection| Ok(told.map(|told| told.recv()));
            store.scan("alice", read).await.expect("scan");
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_time()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let scans = [Some(told), None, None, None].map(scan);
        tokio::task::yield_now().await;
        let other = tokio::task::spawn_blocking(|| ());
        let other = tokio::time::timeout(Duration::from_secs(5), other).await;
        go_on.send(()).expect("it still reads");
        for scan in scans {
            scan.await.expect("no panic");
        }
        other.expect("a thread for others").expect("no panic");
    });
}

#[tokio::test]
async fn a_buried_job_is_gone_and_remembered_until_its_folder_is() {
    let Fixture { store, dir } = fixture();
    let job = ended(&view(), 1);
    write(&store, new_job(&job, None)).await;
    write(&store, Change::Bury(job.id())).await;
    assert_eq!(store.find(job.id()).expect("find"), None);
    assert!(store.is_settled(job.id()).expect("look"));
    drop(store);
    let store = Arc::new(Store::open(dir.path(), Durability::Power).expect("open again"));
    assert_eq!(store.buried().expect("list"), [job.id()]);
    write(&store, Change::Unbury(job.id())).await;
    assert_eq!(store.buried().expect("list"), []);
    assert!(!store.is_settled(job.id()).expect("look"));
}

#[tokio::test]
async fn a_change_that_the_disk_refuses_is_made_later_and_a_new_job_is_not() {
    let Fixture { store, dir } = fixture();
    let view = view();
    write(&store, new_job(&view, None)).await;
    let gone = ended(&self::view(), 2);
    write(&store, new_job(&gone, None)).await;
    // Another process holds the database for longer than the writer waits for it.
    let other = Connection::open(dir.path().join("stockade.db")).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("begin");
    let over = ended(&view, 3);
    // While the writer is held up by the first, the others gather and share a transaction.
    let first = store.write_and_wait(new_job(&self::view(), None));
    let update = store.write_and_wait(Change::Update(over.clone()));
    let insert = store.write_and_wait(new_job(&self::view(), None));
    let release = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        other.execute_batch("COMMIT").expect("commit");
    };
    // There is no other record of a job that was restored.
    let lost = self::view();
    let restore = match new_job(&lost, None) {
        Change::Insert(job) => store.write_and_wait(Change::Restore(job)),
        other => panic!("{other:?}"),
    };
    // Its files are gone: twice asked for or not, its record goes, too.
    let delete = || store.write_and_wait(Change::Delete(gone.id()));
    let deletes = futures_util::future::join(delete(), delete());
    let news = futures_util::future::join(insert, restore);
    let (first, update, (insert, restore), (delete, again), ()) =
        futures_util::future::join5(first, update, news, deletes, release).await;
    for refused in [first, insert, restore, delete, again] {
        assert!(matches!(refused, Err(WriteError::Failed(_))), "{refused:?}");
    }
    update.expect("made later");
    assert_eq!(store.find(view.id()).expect("find"), Some(over));
    assert_eq!(store.find(gone.id()).expect("find"), None);
    store.sync().await.expect("sync");
    assert_eq!(store.find(lost.id()).expect("find"), Some(lost));
}
