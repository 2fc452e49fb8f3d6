//! Memory runs out: of the worker, and of its jobs.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, Limits, StartJobRequest, State};

use super::disks::read_stdout;
use super::exhaustion::Limited;
use super::rest::{Rest, answers};
use super::switch::worker_with;
use super::worker::traces::{PUMP, SUPERVISOR, branches_of, children, named};
use super::worker::{Setup, Worker, able};
use super::{Client, alone, in_runtime, output_of, python, query, rounds, shell, start, stop, wait};

fn with_memory(request: StartJobRequest, bytes: u64) -> StartJobRequest {
    StartJobRequest {
        limits: Some(Limits {
            memory_bytes: bytes,
            ..Limits::default()
        }),
        ..request
    }
}

/// Bytes in use below the worker's branch.
fn in_use(worker: &Worker) -> u64 {
    let files = branches_of(worker.launcher())
        .into_iter()
        .flat_map(|branch| ["memory.usage_in_bytes", "memory.current"].map(|file| branch.join(file)));
    let sizes = files.filter_map(|file| fs::read_to_string(file).ok());
    sizes
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .max()
        .expect("a memory controller")
}

#[test]
fn memory_bombs_end_themselves_alone() {
    if !able() {
        return;
    }
    let _alone = alone();
    let worker = Worker::start();
    const LIMIT: u64 = 48 << 20;
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        let before = in_use(&worker);
        let neighbour =
            "b = bytearray(20 << 20)\nimport time\nwhile True: time.sleep(0.01); b[::4096] = b[::4096]";
        let neighbour = start(&mut client, with_memory(python(neighbour), LIMIT)).await;
        for _ in 0..rounds(2) {
            let bomb = "b = []\nwhile True: b.append(bytearray(1 << 20))";
            let mut bombs = Vec::new();
            for _ in 0..20 {
                bombs.push(start(&mut client, with_memory(python(bomb), LIMIT)).await);
            }
            for id in &bombs {
                let job = wait(&mut client, id).await;
                assert_eq!(job.cause(), Cause::OutOfMemory, "{job:?}");
                let usage = job.usage.expect("usage");
                assert!(usage.oom_kills > 0, "{usage:?}");
                let peak = usage.memory_peak_bytes;
                assert!((LIMIT / 2..=LIMIT).contains(&peak), "{peak}");
            }
        }
        assert_eq!(query(&mut client, &neighbour).await.state(), State::Running);
        let began = Instant::now();
        stop(&mut client, &neighbour, 0).await;
        while in_use(&worker) > before + (8 << 20) {
            let waited = began.elapsed();
            assert!(waited < Duration::from_secs(2), "{} of {before}", in_use(&worker));
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// What a job forks before it has the score of jobs gets that, too; meanwhile its supervisor has its own.
#[test]
fn what_forks_at_once_has_the_score_of_jobs() {
    if !able() {
        return;
    }
    let _alone = alone();
    let (worker, switch) = worker_with("supervisor.score=delay:300", Setup::default());
    let of_launcher = oom_score(worker.launcher()).expect("it lives");
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        // Beside many jobs a sandbox that waits has its own score, beside few the one of jobs.
        for others in [0, 150] {
            let mut ids = Vec::new();
            for _ in 0..others {
                ids.push(start(&mut client, shell("exec sleep 600")).await);
            }
            for _ in 0..20 {
                let id = start(&mut client, shell("exit 0")).await;
                wait(&mut client, &id).await;
            }
            switch.arm(0);
            let script = "(sleep 600 & sleep 600 & wait) & cat /proc/self/oom_score_adj; wait";
            let id = start(&mut client, shell(script)).await;
            super::worker::eventually("its score is to be set", || switch.passed(0) > 0);
            let supervisors = supervisors_of(&worker, "oom_score_adj");
            assert!(!supervisors.is_empty());
            for supervisor in supervisors {
                assert_eq!(oom_score(supervisor), Some(of_launcher), "beside {others}");
            }
            while query(&mut client, &id).await.state() == State::Pending {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let job = query(&mut client, &id).await;
            assert_eq!(job.state(), State::Running, "{job:?}");
            switch.disarm();
            let mut scores = Vec::new();
            let mut parents = named(worker.launcher(), SUPERVISOR);
            while let Some(parent) = parents.pop() {
                let commands = children(parent).into_iter().filter(|pid| is_command(*pid));
                for pid in commands {
                    scores.extend(oom_score(pid));
                    parents.push(pid);
                }
            }
            assert_eq!(scores, vec![of_launcher.max(800); others + 4]);
            stop(&mut client, &id, 0).await;
            // It was read before.
            let (told, _, _) = read_stdout(&mut client, &id).await;
            assert_eq!(told, format!("{of_launcher}\n").as_bytes());
            for other in &ids {
                stop(&mut client, other, 0).await;
            }
        }
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// Whoever forks and exits is gone when it is looked at; each has the score of the one before.
#[test]
fn what_forks_and_exits_has_the_score_of_jobs() {
    if !able() {
        return;
    }
    let _alone = alone();
    let faults = "supervisor.score=delay:300; supervisor.scores=delay:20".to_owned();
    let setup = Setup {
        environment: vec![("STOCKADE_FAULTS", faults)],
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    let of_jobs = oom_score(worker.launcher()).expect("it lives").max(800);
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        // Its supervisor would keep them as zombies, until the score is set.
        let chain = "import ctypes, os, signal, time\nSUBREAPER = 36\nassert ctypes.CDLL(None).prctl(SUBREAPER, 1) == 0\n\
                     signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork() == 0:\n    \
                     while os.fork() == 0: time.sleep(0.01)\n    os._exit(0)\nwhile True: time.sleep(600)";
        let id = start(&mut client, python(chain)).await;
        while query(&mut client, &id).await.state() == State::Pending {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let job = query(&mut client, &id).await;
        assert_eq!(job.state(), State::Running, "{job:?}");
        let (mut links, began) = (BTreeSet::new(), Instant::now());
        while links.len() < 100 {
            assert!(began.elapsed() < Duration::from_secs(30), "{links:?}");
            let mains = named(worker.launcher(), SUPERVISOR)
                .into_iter()
                .flat_map(children);
            for main in mains.filter(|pid| is_command(*pid)) {
                for pid in children(main) {
                    if let Some(score) = oom_score(pid) {
                        assert_eq!(score, of_jobs, "{links:?}");
                        links.insert(pid);
                    }
                }
            }
        }
        let job = stop(&mut client, &id, 0).await;
        assert_eq!(job.cause(), Cause::Stopped, "{job:?}");
        drop(client);
        rest.again(&worker).await;
    });
    worker.shut_down();
}

/// Those whose job has a process that runs this script's text.
fn supervisors_of(worker: &Worker, text: &str) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let of_child = |child: u32| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        children(*pid)
            .into_iter()
            .any(|child| of_child(child).contains(text))
    };
    named(worker.launcher(), SUPERVISOR)
        .into_iter()
        .filter(has_it)
        .collect()
}

/// `None` where the process has ended meanwhile.
fn oom_score(pid: u32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?;
    Some(text.trim().parse().expect("a number"))
}

/// where the worker is killed for want of memory, it is the server, and no job is lost.
#[test]
fn a_worker_short_of_memory_loses_no_job() {
    if !able() {
        return;
    }
    let _alone = alone();
    let memory = Limited::new("memory", ["memory.limit_in_bytes", "memory.max"]);
    memory.limit(&(64 << 20).to_string());
    let setup = Setup {
        before: memory.enter(),
        ..Setup::default()
    };
    let worker = Worker::start_as(setup, |_| {});
    let launcher = worker.launcher();
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        for _ in 0..rounds(1) {
            let mut client = worker.client().await;
            let mut accepted = Vec::new();
            let mut refused = 0;
            for number in 0..100 {
                let script = format!(
                    "for i in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/zero; sleep 0.5; done; exit {}",
                    number % 7
                );
                match client.start_job(shell(&script)).await {
                    Ok(answer) => accepted.push((answer.into_inner().job.expect("job").id, number % 7)),
                    Err(_) => {
                        refused += 1;
                        client = worker.client().await;
                    }
                }
            }
            order_of_deaths(&worker);
            let readers = readers(&worker, &accepted, 1000).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut client = worker.client().await;
            answers(&mut client).await;
            let mut failed = 0;
            for (id, code) in &accepted {
                let job = wait_patiently(&worker, id).await;
                if job.cause() == Cause::StartFailed {
                    failed += 1;
                } else {
                    assert_eq!(
                        (job.cause(), job.exit_code),
                        (Cause::Exited, Some(*code)),
                        "{job:?}"
                    );
                }
            }
            let deaths = worker.log().matches("the server died").count();
            println!(
                "{refused} refused, {failed} failed to start, {} readers, the server died {deaths} times",
                readers.len()
            );
            assert!(accepted.len() > 50, "{} jobs", accepted.len());
            assert_eq!(worker.launcher(), launcher);
            drop(readers);
            rest.again(&worker).await;
        }
    });
    worker.shut_down();
    drop(memory);
}

async fn wait_patiently(worker: &Worker, id: &str) -> stockade::proto::v1::Job {
    for _ in 0..20 {
        let request = stockade::proto::v1::WaitJobRequest {
            job_id: id.to_owned(),
            timeout_ms: 60_000,
        };
        match worker.client().await.wait_job(request).await {
            Ok(answer) => return answer.into_inner().job.expect("job"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    panic!("no answer about {id}");
}

/// Readers that read nothing.
async fn readers(
    worker: &Worker,
    jobs: &[(String, i32)],
    count: usize,
) -> Vec<tonic::Streaming<stockade::proto::v1::StreamOutputResponse>> {
    let mut readers = Vec::new();
    let mut client: Client = worker.client().await;
    for number in 0..count {
        if number % 100 == 0 {
            client = worker.client().await;
        }
        let asked = client.stream_output(output_of(&jobs[number % jobs.len()].0));
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(Ok(stream)) => readers.push(stream.into_inner()),
            Ok(Err(status)) => assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}"),
            Err(_) => panic!("no answer to a reader"),
        }
    }
    readers
}

/// Not what is on its way there: a supervisor's stub.
fn is_command(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| !name.starts_with("stockade"))
}

/// Jobs before the server, the server before launcher, pumps and supervisors of jobs.
fn order_of_deaths(worker: &Worker) {
    let server = worker.server().expect("a server");
    let score = |pid| oom_score(pid).expect("it lives");
    let (of_server, of_launcher) = (score(server), score(worker.launcher()));
    for pump in named(worker.launcher(), PUMP) {
        assert!(oom_score(pump).is_none_or(|score| score == of_launcher));
    }
    let mut jobs = 0;
    for supervisor in named(worker.launcher(), SUPERVISOR) {
        let commands = || children(supervisor).into_iter().filter(|pid| is_command(*pid));
        // A command gets its score when it is one.
        let have_theirs = || commands().filter_map(oom_score).all(|score| score > of_server);
        super::worker::eventually("the score of jobs", have_theirs);
        // While it waits for a job nothing is lost with it.
        if commands().count() > 0 {
            let is_own = || oom_score(supervisor).is_none_or(|score| score == of_launcher);
            super::worker::eventually("its own score", is_own);
        }
        jobs += commands().count();
    }
    assert!(jobs > 0 && of_server > of_launcher);
}
