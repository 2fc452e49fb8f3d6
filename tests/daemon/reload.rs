//! SIGHUP: what the server may not read by itself is read by its launcher.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::in_runtime;
use super::shares::{Authority, client_who_trusts, free_addr, worker};
use super::worker::{PATIENCE, able, eventually, kill};

#[test]
fn a_new_certificate_is_taken_up_where_all_is_roots_alone() {
    if !able() {
        return;
    }
    let (clients, new, addr) = (Authority::new(), Authority::new(), free_addr());
    let worker = worker(&clients, &addr, "");
    let folder = worker.dir.path();
    let (certificate, key) = new.sign("worker");
    fs::write(folder.join("server.pem"), certificate).expect("write");
    fs::write(folder.join("server.key"), key).expect("write");
    for name in ["server.pem", "server.key", "ca.pem", "config.toml"] {
        fs::set_permissions(folder.join(name), Permissions::from_mode(0o600)).expect("chmod");
    }
    let config = fs::read_to_string(folder.join("config.toml")).expect("read");
    let louder = config.replace("level = \"warn\"", "level = \"info\"");
    fs::write(folder.join("config.toml"), louder).expect("write");
    kill(worker.launcher(), libc::SIGHUP);
    in_runtime(async {
        let served = async {
            while client_who_trusts(&new, &clients, &addr, "alice").await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let served = tokio::time::timeout(PATIENCE, served).await;
        served.expect("the new certificate is shown");
        let old = client_who_trusts(&clients, &clients, &addr, "alice").await;
        assert!(old.is_err(), "the old one still is");
    });
    // The level holds from here on.
    kill(worker.launcher(), libc::SIGHUP);
    eventually("it is told", || worker.log().contains("configuration read again"));
    assert!(!worker.log().contains("keeping the old"), "{}", worker.log());
    worker.shut_down();
}
