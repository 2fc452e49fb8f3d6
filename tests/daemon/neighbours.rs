//! Two jobs of one worker at the same time: what is made once for all of them carries nothing from one to the other.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use stockade::proto::v1::{Limits, StartJobRequest};

use super::worker::{Worker, able, eventually};
use super::{in_runtime, start, stop, wait};

/// Files and folders that every job has, those that lie over parts of /proc among them.
const SHARED: &str = "import os, sys\nNAME = 'stockade-neighbour-' + sys.argv[1]\n\
    KEY, PORT = 0x57ac0000 + int(sys.argv[1]), 20000 + int(sys.argv[1]) % 10000\n\
    SHARED = '/ /usr /usr/bin /usr/lib/os-release /etc /etc/passwd /dev /dev/null /run /tmp /proc/loadavg /proc/stat /proc/cmdline \
    /proc/bus /proc/sys /proc/sys/kernel/hostname /proc/uptime'.split()\n\
    PLACES = [folder + '/' + NAME for folder in ('/tmp', '/dev/shm')]\n";

/// Locks, listens and leaves files wherever a job can.
const HOLDER: &str = r#"
import ctypes, fcntl, signal, socket, time
held = []
for path in SHARED:
    try:
        held.append(os.open(path, os.O_RDONLY))
        fcntl.flock(held[-1], fcntl.LOCK_SH)
    except OSError:
        pass
sockets = [socket.socket(socket.AF_UNIX), socket.socket()]
sockets[0].bind("\0" + NAME)
sockets[1].bind(("127.0.0.1", PORT))
[s.listen() for s in sockets]
libc = ctypes.CDLL(None)
segment = libc.shmget(KEY, 4096, 0o1666)
[open(place, "w").close() for place in PLACES]
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print("ready", flush=True)
try:
    time.sleep(60)
finally:
    libc.shmctl(segment, 0, None)
    [os.unlink(place) for place in PLACES]
"#;

/// Says what it finds of that.
const LOOKER: &str = r#"
import ctypes, fcntl, socket
found = [place for place in PLACES if os.path.exists(place)]
for path in SHARED:
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found.append("lock of " + path)
    except OSError:
        pass
for family, address in ((socket.AF_UNIX, "\0" + NAME), (socket.AF_INET, ("127.0.0.1", PORT))):
    try:
        socket.socket(family).connect(address)
        found.append("socket of family %d" % family)
    except OSError:
        pass
if ctypes.CDLL(None).shmget(KEY, 0, 0) >= 0:
    found.append("shared memory")
for pid in [p for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid())]:
    try:
        if sys.argv[1].encode() in open("/proc/%s/cmdline" % pid, "rb").read().split(b"\0"):
            found.append("process " + pid)
    except OSError:
        pass
print("; ".join(found))
"#;

/// Takes all inotify instances that the kernel lets its user have (`fs.inotify.max_user_instances`).
const TAKER: &str = r#"
import ctypes, time
libc, taken = ctypes.CDLL(None), 0
while libc.inotify_init() >= 0:
    taken += 1
print(taken, flush=True)
time.sleep(60)
"#;

/// A word that tells these two from all others on this machine.
fn number() -> String {
    std::process::id().to_string()
}

fn python(script: &str, policy: &str) -> StartJobRequest {
    StartJobRequest {
        argv: vec!["python3".to_owned()],
        script: (SHARED.to_owned() + script).into_bytes(),
        args: vec![number()],
        policy: policy.to_owned(),
        ..StartJobRequest::default()
    }
}

#[test]
fn nothing_passes_between_jobs() {
    if !able() {
        return;
    }
    let worker = Worker::start();
    let output =
        |id: &str| std::fs::read_to_string(worker.dir.path().join("state/jobs").join(id).join("stdout"));
    in_runtime(async {
        let mut client = worker.client().await;
        for policy in ["default", "strict", "ci"] {
            let holder = start(&mut client, python(HOLDER, policy)).await;
            eventually("it holds", || output(&holder).is_ok_and(|text| text == "ready\n"));
            let looker = start(&mut client, python(LOOKER, policy)).await;
            assert_eq!(wait(&mut client, &looker).await.exit_code, Some(0));
            assert_eq!(output(&looker).expect("output"), "\n", "{policy}");
            stop(&mut client, &holder).await;
        }
    });
    worker.shut_down();
}

#[test]
fn what_the_kernel_limits_for_each_user_is_each_jobs_own() {
    if !able() {
        return;
    }
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let most: u32 = std::fs::read_to_string(file)
        .expect(file)
        .trim()
        .parse()
        .expect("a number");
    let worker = Worker::start();
    let output =
        |id: &str| std::fs::read_to_string(worker.dir.path().join("state/jobs").join(id).join("stdout"));
    in_runtime(async {
        let mut client = worker.client().await;
        let mut ids = Vec::new();
        for policy in ["default", "default", "ci", "ci"] {
            let job = StartJobRequest {
                limits: Some(Limits {
                    open_files: 4096,
                    ..Limits::default()
                }),
                ..python(TAKER, policy)
            };
            ids.push(start(&mut client, job).await);
            let id = ids.last().expect("one");
            eventually("it has all", || output(id).is_ok_and(|text| text.ends_with('\n')));
            let taken: u32 = output(id).expect("output").trim().parse().expect("a number");
            // Where they are more than a job may have files open, it has those.
            assert!(taken == most || taken > 4000, "{taken} of {most}, {policy}");
        }
        // Nor from root of the host.
        rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).expect("an instance");
        for id in ids {
            stop(&mut client, &id).await;
        }
    });
    worker.shut_down();
}

/// The same two where nothing is between them.
#[test]
fn the_looker_finds_what_there_is() {
    let spawn = |script: &str| {
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", &(SHARED.to_owned() + script), &number()])
            .stdout(Stdio::piped());
        command.spawn().expect("python3")
    };
    let mut holder = spawn(HOLDER);
    let mut line = String::new();
    let mut lines = BufReader::new(holder.stdout.take().expect("a pipe"));
    lines.read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    let found = spawn(LOOKER).wait_with_output().expect("waited for");
    super::worker::kill(holder.id(), libc::SIGTERM);
    assert!(holder.wait().expect("waited for").success());
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    for what in [
        "/tmp/stockade-neighbour",
        "/dev/shm/stockade-neighbour",
        "lock of /usr/lib/os-release",
        "lock of /proc/loadavg",
        "lock of /proc/bus",
        "lock of /dev/null",
        "socket of family 1",
        "socket of family 2",
        "shared memory",
        "process ",
    ] {
        assert!(found.contains(what), "{what}: {found}");
    }
}
