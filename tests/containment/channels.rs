//! Channels through files that jobs share: locks, notices, sockets and pipes that have a name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::harness::{Probe, Setting, able};

/// What the host holds and does while a probe looks.
pub(super) struct Busy {
    folder: tempfile::TempDir,
    _locks: Vec<Flock<File>>,
    _record: File,
    _listener: UnixListener,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Busy {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        for name in ["locked", "free"] {
            fs::write(path.join(name), "x").expect("a file");
        }
        nix::unistd::mkfifo(
            &path.join("fifo"),
            nix::sys::stat::Mode::from_bits_truncate(0o666),
        )
        .expect("fifo");
        let listener = UnixListener::bind(path.join("socket")).expect("socket");
        for name in ["socket", "fifo"] {
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o666)).expect("chmod");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let worker = std::thread::spawn({
            let (path, stop) = (path.clone(), Arc::clone(&stop));
            move || use_files(&path, &stop)
        });
        Self {
            _locks: [path.join("locked"), "/usr/bin/env".into()]
                .map(|path| locked(&path))
                .into(),
            _record: record_locked(&path.join("locked")),
            _listener: listener,
            folder,
            stop,
            worker: Some(worker),
        }
    }

    pub(super) fn policy(&self, inherits: &str) -> String {
        let source = self.folder.path();
        format!("inherits = \"{inherits}\"\n[[mounts]]\nsource = {source:?}\ntarget = \"/planted\"\n")
    }

    pub(super) fn probe(&self) -> Probe<'static> {
        Probe::new(include_str!("probes/channels.py")).planted("folder", self.folder.path().to_string_lossy())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

fn locked(path: &Path) -> Flock<File> {
    let file = File::open(path).expect("opened");
    // A test that runs at the same time may hold it for a moment.
    Flock::lock(file, FlockArg::LockShared).expect("locked")
}

fn record_locked(path: &Path) -> File {
    let file = OpenOptions::new().write(true).open(path).expect("opened");
    // SAFETY: all-zero is a valid flock.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = i16::try_from(libc::F_WRLCK).expect("small");
    fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)).expect("record lock");
    file
}

fn use_files(folder: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for path in [
            &folder.join("locked"),
            Path::new("/usr/bin/env"),
            Path::new("/dev/null"),
        ] {
            let _ = fs::read(path);
        }
        // Fails for as long as nobody reads.
        let fifo = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(folder.join("fifo"));
        if let Ok(mut fifo) = fifo {
            let _ = std::io::Write::write_all(&mut fifo, b"through");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_passes_through_shared_files() {
    if able() {
        let busy = Busy::start();
        busy.probe().is_contained_in(&[
            Setting::Own(&busy.policy("default")),
            Setting::Own(&busy.policy("strict")),
            Setting::Own(&busy.policy("ci")),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Busy::start().probe().succeeds_in(&[Setting::Host]);
    }
}

#[test]
fn a_jobs_reading_leaves_no_trace_in_access_times() {
    if !able() {
        return;
    }
    let busy = Busy::start();
    let path = busy.folder.path().join("free");
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let set_old = || {
        let file = File::options().write(true).open(&path).expect("opened");
        file.set_times(fs::FileTimes::new().set_accessed(old))
            .expect("times");
    };
    let accessed = || fs::metadata(&path).expect("metadata").accessed().expect("atime");
    set_old();
    let finished = crate::harness::Job::under_own(&busy.policy("default"))
        .bash("cat /planted/free")
        .run();
    assert_eq!(finished.stdout, "x", "{finished:?}");
    assert_eq!(accessed(), old);
    fs::read(&path).expect("read");
    if accessed() == old {
        println!("cannot be shown to succeed on this host: its file system keeps no access times");
    }
}
