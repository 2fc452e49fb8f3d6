//! What retention finds.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn the_expired_are_those_too_old_or_too_many() {
    let Fixture { store, dir: _dir } = fixture();
    let jobs: Vec<JobView> = (1..=5).map(|at| ended(&view(), at)).collect();
    for job in &jobs {
        write(&store, new_job(job, None)).await;
    }
    write(&store, new_job(&view(), None)).await;
    let ids = |range: std::ops::Range<usize>| jobs[range].iter().map(JobView::id).collect::<Vec<_>>();
    let expired = |ended_before, most| {
        let store = Arc::clone(&store);
        let bounds = JobBounds {
            ended_before,
            most,
            most_per_tenant: None,
        };
        async move {
            let found = store.jobs_beyond(bounds, 10).await.expect("expired");
            jobs_in_order(&found)
        }
    };
    assert_eq!(expired(None, None).await, jobs_in_order(&[]));
    assert_eq!(expired(Some(3), None).await, jobs_in_order(&ids(0..2)));
    assert_eq!(expired(None, Some(2)).await, jobs_in_order(&ids(0..3)));
    assert_eq!(expired(None, Some(5)).await, jobs_in_order(&[]));
    assert_eq!(store.oldest_finished().await.expect("oldest"), Some(1));
}

#[tokio::test]
async fn the_oldest_are_those_that_ended_first_whatever_the_clock_said() {
    let Fixture { store, dir: _dir } = fixture();
    // The third one ended after the clock was set back.
    let jobs: Vec<JobView> = [100, 101, 1]
        .into_iter()
        .map(|at| with_output("a", at, 10))
        .collect();
    for job in &jobs {
        write(&store, new_job(job, None)).await;
    }
    let bounds = JobBounds {
        most: Some(2),
        most_per_tenant: Some(2),
        ..JobBounds::default()
    };
    let expired = store.jobs_beyond(bounds, 10).await.expect("expired");
    assert_eq!(expired, [jobs[0].id()]);
    let bounds = ByteBounds {
        most: Some(25),
        most_per_tenant: Some(25),
    };
    let output = store.output_beyond(bounds, HashSet::new(), 10).await;
    assert_eq!(output.expect("output"), [jobs[0].id()]);
}

fn jobs_in_order(ids: &[JobId]) -> Vec<JobId> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// A finished job with this much output on disk.
fn with_output(tenant: &str, finished_at: i64, bytes: u64) -> JobView {
    let mut facts = JobFacts {
        tenant: tenant.to_owned(),
        ..facts()
    };
    facts.labels.clear();
    let job = ended(&JobView::pending(facts), finished_at);
    let mut exit = (*job.exit.clone().expect("ended")).clone();
    exit.output.stdout.total_bytes = bytes + 7;
    exit.output.stdout.dropped_bytes = 7;
    JobView {
        exit: Some(Arc::new(exit)),
        ..job
    }
}

#[tokio::test]
async fn the_oldest_output_goes_first_of_all_and_of_each_tenant() {
    let Fixture { store, dir: _dir } = fixture();
    let jobs: Vec<JobView> = [("a", 100), ("b", 10), ("a", 0), ("a", 100), ("b", 50)]
        .into_iter()
        .zip(1..)
        .map(|((tenant, bytes), at)| with_output(tenant, at, bytes))
        .collect();
    for job in &jobs {
        write(&store, new_job(job, None)).await;
    }
    let beyond = |most, most_per_tenant| {
        let store = Arc::clone(&store);
        let bounds = ByteBounds {
            most,
            most_per_tenant,
        };
        async move {
            store
                .output_beyond(bounds, HashSet::new(), 10)
                .await
                .expect("output")
        }
    };
    let ids = |indices: &[usize]| {
        let ids: Vec<JobId> = indices.iter().map(|index| jobs[*index].id()).collect();
        jobs_in_order(&ids)
    };
    assert_eq!(beyond(None, None).await, ids(&[]));
    assert_eq!(beyond(Some(260), None).await, ids(&[]));
    assert_eq!(beyond(Some(259), None).await, ids(&[0]));
    assert_eq!(beyond(Some(155), None).await, ids(&[0, 1]));
    assert_eq!(beyond(None, Some(59)).await, ids(&[0, 1, 3]));
    let kept = store.kept_bytes("b").await.expect("sum");
    assert_eq!((kept.of_tenant, kept.all), (60, 260));
    let before = store.last_position().expect("position");
    write(&store, Change::DropOutput(jobs[0].id())).await;
    assert_eq!(store.kept_bytes("b").await.expect("sum").all, 160);
    assert_eq!(store.last_position().expect("position"), before, "no event");
    let told = store.find(jobs[0].id()).expect("find").expect("kept").exit;
    let totals = &told.expect("exit").output.stdout;
    assert_eq!((totals.total_bytes, totals.kept_bytes()), (107, 0));
}

/// As one of a newer worker may be.
#[tokio::test]
async fn a_record_that_cannot_be_read_holds_up_nothing_when_its_output_goes() {
    let Fixture { store, dir } = fixture();
    let job = with_output("a", 1, 100);
    write(&store, new_job(&job, None)).await;
    let other = Connection::open(dir.path().join("stockade.db")).expect("open");
    other
        .execute("UPDATE jobs SET exit = '{\"cause\": \"moved\"}'", [])
        .expect("update");
    write(&store, Change::DropOutput(job.id())).await;
    assert_eq!(store.kept_bytes("a").await.expect("kept").all, 0);
    write(&store, new_job(&view(), None)).await;
}
