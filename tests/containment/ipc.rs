//! System V and POSIX objects: none of the host's or of other jobs', and none left behind.

use std::ffi::CString;
use std::fs;
use std::sync::atomic::{AtomicI32, Ordering};

use tempfile::NamedTempFile;

use crate::harness::{Job, Probe, Setting, able, unique};

/// Objects of the host's, removed with this.
pub(super) struct Objects {
    key: i32,
    shared_memory: i32,
    semaphores: i32,
    queue: i32,
    posix_queue: CString,
    posix_descriptor: i32,
    file: NamedTempFile,
}

const MODE: i32 = 0o666 | libc::IPC_CREAT | libc::IPC_EXCL;

fn unused_key() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(0x0057_0000);
    let process = i32::try_from(std::process::id() & 0xff).expect("small");
    NEXT.fetch_add(1, Ordering::Relaxed) + process * 0x100
}

impl Objects {
    pub(super) fn make() -> Self {
        let key = unused_key();
        let posix_queue = CString::new(format!("/{}", unique("queue"))).expect("no NUL");
        let open_flags = libc::O_CREAT | libc::O_RDWR;
        let no_attributes: *const libc::mq_attr = std::ptr::null();
        let mode: libc::mode_t = 0o666;
        Self {
            key,
            // SAFETY: plain numbers.
            shared_memory: unsafe { libc::shmget(key, 4096, MODE) },
            // SAFETY: plain numbers.
            semaphores: unsafe { libc::semget(key, 1, MODE) },
            // SAFETY: plain numbers.
            queue: unsafe { libc::msgget(key, MODE) },
            // SAFETY: the name is a C string; null attributes are the defaults.
            posix_descriptor: unsafe { libc::mq_open(posix_queue.as_ptr(), open_flags, mode, no_attributes) },
            posix_queue,
            file: NamedTempFile::new_in("/dev/shm").expect("a file"),
        }
    }

    pub(super) fn probe(&self) -> Probe<'static> {
        let name = self.posix_queue.to_str().expect("UTF-8").trim_start_matches('/');
        let file = self.file.path().file_name().expect("a name");
        Probe::new(include_str!("probes/ipc.py"))
            .planted("key", self.key)
            .planted("queue", name)
            .planted("shared", file.to_string_lossy())
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // SAFETY: removes what this made; no pointer is used.
        unsafe { libc::shmctl(self.shared_memory, libc::IPC_RMID, std::ptr::null_mut()) };
        // SAFETY: as above.
        unsafe { libc::semctl(self.semaphores, 0, libc::IPC_RMID) };
        // SAFETY: as above.
        unsafe { libc::msgctl(self.queue, libc::IPC_RMID, std::ptr::null_mut()) };
        // SAFETY: the descriptor is this one's own.
        unsafe { libc::mq_close(self.posix_descriptor) };
        // SAFETY: the name is a C string.
        unsafe { libc::mq_unlink(self.posix_queue.as_ptr()) };
    }
}

#[test]
fn objects_of_the_host_do_not_exist_for_a_job() {
    if able() {
        Objects::make().probe().is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Objects::make().probe().succeeds_in(&[Setting::Host]);
    }
}

#[test]
fn a_jobs_objects_end_with_it() {
    if !able() {
        return;
    }
    let key = unused_key();
    let make = format!("import ctypes; print(ctypes.CDLL(None).shmget({key}, 4096, 0o1666) >= 0)");
    let listed = || {
        let table = fs::read_to_string("/proc/sysvipc/shm").expect("the host's table");
        table.split_whitespace().any(|word| word == key.to_string())
    };
    let finished = Job::under("default").python(&make).run();
    assert_eq!(finished.stdout, "True\n", "{finished:?}");
    assert!(!listed());
    // SAFETY: plain numbers.
    let same_on_host = unsafe { libc::shmget(key, 4096, MODE) };
    assert!(listed(), "the table shows such a segment");
    // SAFETY: removes what the line above made.
    unsafe { libc::shmctl(same_on_host, libc::IPC_RMID, std::ptr::null_mut()) };
}
