//! A state folder is of one worker at a time.

use std::process::{Command, Stdio};

use super::worker::{Worker, able};
use super::{in_runtime, shell, start, wait};

#[test]
fn a_second_worker_is_refused_and_does_no_harm() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    in_runtime(async {
        let mut client = worker.client().await;
        let running = start(&mut client, shell("sleep 1; exit 3")).await;
        let second = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["serve", "--config"])
            .arg(worker.dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .output()
            .expect("stockade serve");
        let message = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success(), "{message}");
        assert!(message.contains("state_dir: another worker uses it"), "{message}");
        assert_eq!(wait(&mut client, &running).await.exit_code, Some(3));
        for _ in 0..20 {
            let id = start(&mut client, shell("exit 4")).await;
            assert_eq!(wait(&mut client, &id).await.exit_code, Some(4));
        }
    });
    worker.shut_down();
}
