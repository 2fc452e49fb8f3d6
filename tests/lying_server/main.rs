//! A server that has been taken over: it sends its launcher whatever it likes, and gets nothing that a client could not
//! have asked for. Needs root, user namespaces and cgroups.
//!
//! A launcher has one thread, so this is a program of its own (no test harness): without a role it starts itself as the
//! launcher, whose server is `serve`.

use std::cell::RefCell;
use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use stockade::config::{Config, Durability};
use stockade::isolation::ipc::{Channel, Event, Launch, MAX_MESSAGE_BYTES, Order};
use stockade::isolation::launcher;
use stockade::job::{Cause, ExitRecord, JobId, JobRequest, Receipt, Signal, StartStep, StopOrder, Timestamp};
use stockade::policy::PolicySet;

const ROLE: &str = "LYING_SERVER_DIR";
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers that speak nonsense, each ended for it; the one after them speaks the launcher's language.
const NONSENSE: usize = 5;

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os(ROLE) {
        return run_launcher(Path::new(&dir));
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        assert!(
            std::env::var_os("STOCKADE_TEST_REQUIRE").is_none(),
            "root is required"
        );
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

struct LyingServer {
    channel: Channel,
    launched: RefCell<Vec<JobId>>,
    jobs: PathBuf,
    dir: PathBuf,
}

impl LyingServer {
    fn lie(&self) {
        self.unknown_policies_and_tenants_are_refused();
        self.limits_are_the_launchers_own();
        self.records_of_other_jobs_stay();
        self.links_lead_nowhere();
        self.ids_of_no_job_do_nothing();
        self.a_running_job_keeps_its_folder();
        self.no_more_jobs_run_than_may();
        self.a_flood_of_orders_is_slowed_down();
        // And after all that it works.
        assert_eq!(
            self.run(JobId::random(), &request(&["true"])).cause,
            Cause::Exited { code: 0 }
        );
        for id in self.launched.take() {
            self.wait_until_forgotten(id);
            self.send(&Order::Delete { id });
        }
        self.settle();
    }

    fn unknown_policies_and_tenants_are_refused(&self) {
        for policy in [
            "nope",
            "../../etc/passwd",
            "/etc/passwd",
            "tight.toml",
            "default\0",
            "",
            "\u{202e}",
        ] {
            let asked = JobRequest {
                policy: Some(policy.to_owned()),
                ..request(&["true"])
            };
            self.assert_refused(launch(JobId::random(), &asked), policy);
        }
        for tenant in [
            String::new(),
            "x".repeat(256),
            "a\nstockade: forged".to_owned(),
            "x".repeat(8 << 20),
        ] {
            let mut lie = launch(JobId::random(), &request(&["true"]));
            lie.tenant = tenant;
            self.assert_refused(lie, "tenant");
        }
        let mut lie = launch(JobId::random(), &request(&["true"]));
        lie.idempotency_key = Some("k".repeat(1 << 20));
        self.assert_refused(lie, "key");
        for bad in [
            request(&[]),
            request(&["x"; 5000]),
            path_request("../../../etc/shadow"),
        ] {
            self.assert_refused(launch(JobId::random(), &bad), "request");
        }
    }

    fn limits_are_the_launchers_own(&self) {
        let tight = JobRequest {
            policy: Some("tight".to_owned()),
            ..request(&["true"])
        };
        let record = self.run(JobId::random(), &tight);
        assert_eq!(record.cause, Cause::Exited { code: 0 });
        let shown: Vec<&String> = record.receipt.limits.values().collect();
        assert!(
            shown.iter().any(|value| *value == "33554432"),
            "{:?}",
            record.receipt
        );
        let mut greedy = tight;
        greedy.limits.memory_bytes = Some(1 << 30);
        self.assert_refused(launch(JobId::random(), &greedy), "maximum.memory");
    }

    fn records_of_other_jobs_stay(&self) {
        let id = JobId::random();
        assert_eq!(
            self.run(id, &request(&["sh", "-c", "echo true; exit 7"])).cause,
            Cause::Exited { code: 7 }
        );
        let record = || fs::read(self.control(id).expect("a control folder").join("exit")).expect("record");
        let before = record();
        let denied = JobRequest {
            policy: Some("nope".to_owned()),
            ..request(&["true"])
        };
        self.wait_until_forgotten(id);
        for again in [denied, request(&["true"])] {
            let cause = self.run(id, &again).cause;
            assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
            assert!(record() == before, "a record is written once");
        }
        // And once the record is the server's, the output stays.
        self.send(&Order::Recorded { id });
        let output = self.jobs.join(id.to_string()).join("stdout");
        eventually("the control folder is gone", || self.control(id).is_none());
        let cause = self.run(id, &request(&["echo", "forged"])).cause;
        assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
        assert_eq!(fs::read_to_string(output).expect("output"), "true\n");
    }

    fn links_lead_nowhere(&self) {
        let id = JobId::random();
        let link = self.jobs.join(id.to_string());
        symlink(self.dir.join("canary"), &link).expect("symlink");
        self.send(&Order::Delete { id });
        let cause = self.run(id, &request(&["true"])).cause;
        assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
        self.send(&Order::Delete { id });
        self.settle();
        fs::remove_file(link).expect("the link is still there");
    }

    fn ids_of_no_job_do_nothing(&self) {
        let id = JobId::random();
        let order = StopOrder::nameless();
        self.send(&Order::Stop { id, order });
        self.until("unknown", |event| {
            matches!(event, Event::Unknown { id: told } if told == id).then_some(())
        });
        let signal = Signal::KILL;
        self.send(&Order::Signal { id, signal });
        self.until("unknown", |event| {
            matches!(event, Event::Unknown { id: told } if told == id).then_some(())
        });
        self.send(&Order::Delete { id });
        self.until("deleted", |event| {
            matches!(event, Event::Deleted { id: told } if told == id).then_some(())
        });
    }

    fn a_running_job_keeps_its_folder(&self) {
        let id = self.start_sleeper();
        self.send(&Order::Delete { id });
        let lie = StopOrder {
            reason: "r".repeat(1 << 20),
            grace_ms: Some(u64::MAX),
            ..StopOrder::nameless()
        };
        self.send(&Order::Stop { id, order: lie });
        self.settle();
        assert!(self.control(id).expect("a control folder").join("job").exists());
        self.stop(id);
    }

    fn no_more_jobs_run_than_may(&self) {
        let sleepers = [self.start_sleeper(), self.start_sleeper()];
        let cause = self.run(JobId::random(), &request(&["true"])).cause;
        assert!(
            matches!(&cause, Cause::StartFailed { detail, .. } if detail.contains("max_running")),
            "{cause:?}"
        );
        for id in sleepers {
            self.stop(id);
        }
    }

    /// Asks and never listens.
    fn a_flood_of_orders_is_slowed_down(&self) {
        const MOST: usize = 400_000;
        let order = postcard::to_stdvec(&Order::List).expect("encodes");
        let mut sent = 0;
        let mut stuck = None;
        while sent < MOST {
            if self.channel.try_send_bytes(&order).expect("send") {
                sent += 1;
                stuck = None;
            } else if stuck.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
                break;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let launcher = rustix::process::getppid().expect("a parent").as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{launcher}/status")).expect("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident: usize = resident
            .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
            .expect("VmRSS");
        assert!(sent < MOST, "all of {sent} orders were taken");
        assert!(resident < 128 << 10, "{resident} KiB after {sent} orders");
        self.settle();
    }

    // ---- what a server does ----

    fn send(&self, order: &Order) {
        let bytes = postcard::to_stdvec(order).expect("encodes");
        let deadline = Instant::now() + PATIENCE;
        while !self.channel.try_send_bytes(&bytes).expect("send") {
            assert!(Instant::now() < deadline, "the launcher takes nothing");
            let _ = self.channel.try_receive::<Event>();
        }
    }

    /// The first event that `pick` takes; others are passed over.
    fn until<T>(&self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.channel.try_receive::<Event>().expect("an event") {
                Some(event) => {
                    if let Some(found) = pick(event) {
                        return found;
                    }
                }
                None => {
                    assert!(Instant::now() < deadline, "never came: {what}");
                    wait_for(&self.channel, 100);
                }
            }
        }
    }

    /// Passes over everything up to the answer of an order that comes after all before it.
    fn settle(&self) {
        self.send(&Order::Probe);
        self.until("the host", |event| {
            matches!(event, Event::Host { .. }).then_some(())
        });
    }

    /// An id that the launcher still has is passed over without a word.
    fn wait_until_forgotten(&self, id: JobId) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it is never forgotten");
            self.send(&Order::Signal {
                id,
                signal: Signal::TERM,
            });
            self.send(&Order::Probe);
            let forgotten = self.until("an answer", |event| match event {
                Event::Unknown { .. } => Some(true),
                Event::Host { .. } => Some(false),
                _ => None,
            });
            if forgotten {
                return self.settle();
            }
        }
    }

    /// What the launcher keeps of a job in memory.
    fn control(&self, id: JobId) -> Option<PathBuf> {
        ["/run/stockade", "/dev/shm/stockade"].iter().find_map(|base| {
            let workers = fs::read_dir(base).into_iter().flatten().flatten();
            let mut folders = workers.map(|worker| worker.path().join(id.to_string()));
            folders.find(|folder| folder.exists())
        })
    }

    fn run(&self, id: JobId, request: &JobRequest) -> ExitRecord {
        self.launched.borrow_mut().push(id);
        self.send(&Order::Launch(Box::new(launch(id, request))));
        self.finished(id)
    }

    fn finished(&self, id: JobId) -> ExitRecord {
        self.until("the end of a job", |event| match event {
            Event::Finished { id: told, record } if told == id => Some(*record),
            _ => None,
        })
    }

    /// No job comes of it, and no folder.
    fn assert_refused(&self, lie: Launch, what: &str) {
        let id = lie.id;
        self.send(&Order::Launch(Box::new(lie)));
        let record = self.finished(id);
        let step = match &record.cause {
            Cause::StartFailed { step, .. } => *step,
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(
            (step, &record.receipt),
            (StartStep::Policy, &Receipt::default()),
            "{what}"
        );
        assert!(
            !self.jobs.join(id.to_string()).exists() && self.control(id).is_none(),
            "{what}"
        );
    }

    fn start_sleeper(&self) -> JobId {
        let id = JobId::random();
        self.launched.borrow_mut().push(id);
        self.send(&Order::Launch(Box::new(launch(id, &request(&["sleep", "60"])))));
        self.until("a start", |event| {
            matches!(event, Event::Started { id: told, .. } if told == id).then_some(())
        });
        id
    }

    fn stop(&self, id: JobId) {
        let order = StopOrder {
            grace_ms: Some(0),
            ..StopOrder::nameless()
        };
        self.send(&Order::Stop { id, order });
        let record = self.finished(id);
        assert!(matches!(record.cause, Cause::Stopped { .. }), "{record:?}");
        assert_eq!(record.stop.expect("a stop").reason, "");
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_for(channel: &Channel, milliseconds: i64) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: milliseconds * 1_000_000,
    };
    let _ = poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&timeout));
}

fn request(words: &[&str]) -> JobRequest {
    JobRequest {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..JobRequest::default()
    }
}

fn path_request(path: &str) -> JobRequest {
    JobRequest {
        path: Some(path.to_owned()),
        ..request(&["bash"])
    }
}

fn launch(id: JobId, request: &JobRequest) -> Launch {
    Launch {
        id,
        tenant: "default".to_owned(),
        created_at: Timestamp::now(),
        request: request.clone(),
        idempotency_key: None,
    }
}
