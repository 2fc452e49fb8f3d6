//! Jobs that multiply, hide and stand still are gone within a second of their stop.

use std::time::{Duration, Instant};

use stockade::proto::v1::{Cause, StartJobRequest, State};

use super::rest::Rest;
use super::worker::traces::marked;
use super::worker::{Worker, able, eventually};
use super::{alone, in_runtime, python, rounds, start, stop};

/// Each keeps `MARK` on its command line, ignores what can be ignored, and says when it is at it.
const BOMBS: [(&str, &str); 5] = [
    (
        "a fork bomb",
        "print('at it', flush=True)\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    ),
    (
        "processes in sessions of their own",
        "for _ in range(20):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(3600)\n        os._exit(0)\n\
         print('at it', flush=True)\ntime.sleep(3600)",
    ),
    (
        "orphans that fork again and again",
        "for _ in range(5):\n    if os.fork() == 0:\n        while True:\n            os.setsid() if os.getpid() != os.getsid(0) else None\n\
         \x20           if os.fork() != 0:\n                os._exit(0)\n\
         print('at it', flush=True)\ntime.sleep(3600)",
    ),
    (
        "stopped processes",
        "for _ in range(20):\n    if os.fork() == 0:\n        os.kill(os.getpid(), signal.SIGSTOP)\n        time.sleep(3600)\n\
         print('at it', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(3600)",
    ),
    (
        "threads that never end",
        "import threading\nfor _ in range(50):\n    threading.Thread(target=time.sleep, args=(3600,)).start()\n\
         print('at it', flush=True)\ntime.sleep(3600)",
    ),
];

fn bomb(script: &str, mark: &str) -> StartJobRequest {
    let begin = "import os, signal, sys, time\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD): signal.signal(s, signal.SIG_IGN)\n";
    let mut request = python(&format!("{begin}{script}"));
    request.argv.push(mark.to_owned());
    request
}

#[test]
fn nothing_escapes_a_stop() {
    if !able() {
        return;
    }
    let _alone = alone();
    let mark = format!("bomb-{}", std::process::id());
    let worker = Worker::start();
    let output =
        |id: &str| std::fs::read_to_string(worker.dir.path().join("state/jobs").join(id).join("stdout"));
    in_runtime(async {
        let rest = Rest::of(&worker).await;
        let mut client = worker.client().await;
        for round in 0..rounds(1) * 5 {
            let (name, script) = BOMBS[round % BOMBS.len()];
            // At once, or after a grace period that they let pass.
            let (grace, within) = [(0, 1), (2000, 3)][round / BOMBS.len() % 2];
            let id = start(&mut client, bomb(script, &mark)).await;
            eventually("it is at it", || output(&id).is_ok_and(|text| text == "at it\n"));
            assert!(marked(&mark) > 0, "{name}");
            let began = Instant::now();
            let job = stop(&mut client, &id, grace).await;
            let took = began.elapsed();
            assert_eq!(marked(&mark), 0, "{name}: at the moment of the answer");
            assert!(took < Duration::from_secs(within), "{name}: {took:?}");
            assert_eq!(
                (job.state(), job.cause()),
                (State::Finished, Cause::Stopped),
                "{job:?}"
            );
        }
        rest.again(&worker).await;
    });
    worker.shut_down();
}
