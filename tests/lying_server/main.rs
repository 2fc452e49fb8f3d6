//! A server that has been taken over: it sends its launcher whatever it likes, and gets nothing that a client could not
//! have asked for. Needs root, user namespaces and cgroups.
//!
//! A launcher has one thread, so this is a program of its own (no test harness): without a role it starts itself as the
//! launcher, whose server is `serve`.

mod lies;
#[path = "../support/needs.rs"]
mod needs;
mod server;

use std::cell::RefCell;
use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use stockade::config::{Config, Durability};
use stockade::isolation::ipc::{Channel, MAX_MESSAGE_BYTES};
use stockade::isolation::launcher;
use stockade::policy::PolicySet;

use server::LyingServer;

const ROLE: &str = "LYING_SERVER_DIR";
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers that speak nonsense, each ended for it; the one after them speaks the launcher's language.
const NONSENSE: usize = 5;

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os(ROLE) {
        return run_launcher(Path::new(&dir));
    }
    if !needs::needs_sandboxes() {
        return ExitCode::SUCCESS;
    }
    a_lying_server_gets_nothing();
    println!("test a_lying_server_gets_nothing ... ok");
    ExitCode::SUCCESS
}

fn a_lying_server_gets_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    for folder in ["policies", "state", "canary"] {
        fs::create_dir(dir.path().join(folder)).expect("mkdir");
    }
    let tight = "[limits]\nmemory = \"32M\"\n[maximum]\nmemory = \"32M\"\n";
    fs::write(dir.path().join("policies/tight.toml"), tight).expect("policy");
    for name in ["stdout", "stderr", "exit", "job", "stop", "other"] {
        fs::write(dir.path().join("canary").join(name), "canary").expect("canary");
    }
    let own = std::env::current_exe().expect("this program");
    let mut launcher = Command::new(own).env(ROLE, dir.path()).spawn().expect("launcher");
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = launcher.try_wait().expect("wait") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = launcher.kill();
            let _ = launcher.wait();
            panic!("the launcher did not end: {}", results(dir.path()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(results(dir.path()), "ok");
    assert!(status.success(), "{status}");
    assert_eq!(
        lives(dir.path()),
        NONSENSE + 1,
        "each nonsense ended one server, and no more"
    );
    for name in ["stdout", "stderr", "exit", "job", "stop", "other"] {
        let path = dir.path().join("canary").join(name);
        assert_eq!(fs::read_to_string(path).expect("canary"), "canary", "{name}");
    }
    assert!(!dir.path().join("policies/nope.toml").exists());
}

fn results(dir: &Path) -> String {
    fs::read_to_string(dir.join("results")).unwrap_or_else(|_| "no results".to_owned())
}

/// How many servers there have been.
fn lives(dir: &Path) -> usize {
    fs::read_to_string(dir.join("lives")).map_or(0, |text| text.len())
}

fn run_launcher(dir: &Path) -> ExitCode {
    let mut config = Config::default();
    config.worker.state_dir = dir.join("state");
    config.worker.policies_dir = Some(dir.join("policies"));
    config.worker.durability = Durability::Process;
    config.worker.max_running = 2;
    let policies = PolicySet::load(&dir.join("policies")).expect("policies");
    launcher::run(config, policies, serve).unwrap_or_else(|failure| {
        eprintln!("{failure}");
        ExitCode::FAILURE
    })
}

/// The server's whole life, in a fork of the launcher that is still root: nothing but the launcher holds it back.
#[expect(clippy::needless_pass_by_value, reason = "the launcher's signature")]
fn serve(config: Config, channel: Channel) -> ExitCode {
    let dir = config.worker.state_dir.parent().expect("a parent").to_owned();
    let life = lives(&dir);
    let mut count = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("lives"))
        .expect("lives");
    count.write_all(b"x").expect("lives");
    if life < NONSENSE {
        speak_nonsense(&channel, life);
        // The launcher is to end this process.
        std::thread::sleep(PATIENCE);
        fs::write(dir.join("results"), format!("nonsense {life} was taken")).expect("results");
        return ExitCode::SUCCESS;
    }
    let server = LyingServer {
        channel,
        launched: RefCell::default(),
        jobs: dir.join("state/jobs"),
        dir: dir.clone(),
    };
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| server.lie()));
    let results = told.map_or_else(
        |panic| {
            let text = panic.downcast_ref::<String>().cloned();
            format!("failed: {}", text.unwrap_or_else(|| "see above".to_owned()))
        },
        |()| "ok".to_owned(),
    );
    fs::write(dir.join("results"), results).expect("results");
    ExitCode::SUCCESS
}

fn speak_nonsense(channel: &Channel, kind: usize) {
    match kind {
        0 => send_raw(channel, &[9, 1, 2, 3], &[]),
        1 => send_raw(channel, &[&[0], &[0xff_u8; 4000][..]].concat(), &[]),
        2 => send_raw(channel, &[1], &[memfd(64, SealFlags::empty()).as_fd()]),
        3 => {
            let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
            send_raw(channel, &[1], &[memfd(MAX_MESSAGE_BYTES + 1, seals).as_fd()]);
        }
        _ => send_raw(channel, &[1], &[]),
    }
}

fn memfd(size: usize, seals: SealFlags) -> OwnedFd {
    let fd = memfd_create("lie", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
    ftruncate(&fd, size as u64).expect("size");
    fcntl_add_seals(&fd, seals).expect("seals");
    fd
}

fn send_raw(channel: &Channel, packet: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(
        channel,
        &[IoSlice::new(packet)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )
    .expect("sendmsg");
}
