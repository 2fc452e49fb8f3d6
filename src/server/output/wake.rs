use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::server::ServerError;
use crate::sys;

/// Wakes readers when something is written in a job's folder: one inotify instance for all of them.
///
/// What is written while no reader waits stays in the kernel's queue, which takes up to one notice what a flood writes to
/// a file: readers that take nothing cost a job nothing.
#[derive(Debug)]
pub(super) struct Wakes {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<OwnedFd>,
    /// By watch descriptor. Readers of one job share one.
    folders: Mutex<HashMap<i32, Folder>>,
    /// How many readers wait for a write.
    waiting: AtomicUsize,
    /// The first of them has begun to.
    awaited: Notify,
}

#[derive(Debug, Default)]
struct Folder {
    /// Of those who follow all of it.
    all: Followers,
    /// Of those who follow one entry alone.
    entries: HashMap<CString, Followers>,
}

#[derive(Debug, Default)]
struct Followers {
    written: watch::Sender<()>,
    readers: usize,
}

/// Tells one reader of writes in one folder, or that one entry of it was made.
#[derive(Debug)]
pub(super) struct Wake {
    shared: Arc<Shared>,
    descriptor: i32,
    entry: Option<CString>,
    written: watch::Receiver<()>,
}

impl Wakes {
    pub(super) fn start() -> Result<Self, ServerError> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(sys::readiness)
            .map_err(ServerError::system("setting up inotify"))?;
        let shared = Arc::new(Shared {
            inotify,
            folders: Mutex::default(),
            waiting: AtomicUsize::new(0),
            awaited: Notify::new(),
        });
        let dispatching = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok(()) = dispatching.dispatch().await {}
            tracing::error!("inotify failed: readers of output are no longer woken");
        });
        Ok(Self { shared, task })
    }

    /// Follows writes and new files in `folder`, which must be there.
    ///
    /// One watch on the folder covers both files, also when they do not exist yet.
    pub(super) fn follow(&self, folder: &Path) -> Result<Wake, Errno> {
        self.follow_part(folder, None)
    }

    /// Follows the making of one entry of `folder`. What becomes of others wakes nobody.
    pub(super) fn follow_entry(&self, folder: &Path, name: &str) -> Result<Wake, Errno> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        self.follow_part(folder, Some(name))
    }

    fn follow_part(&self, folder: &Path, entry: Option<CString>) -> Result<Wake, Errno> {
        let mut folders = self.shared.lock();
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        // Under the lock: the same folder has the same descriptor, which another reader may be giving up.
        let descriptor = inotify::add_watch(&self.shared.inotify, folder, flags)?;
        let folder = folders.entry(descriptor).or_default();
        let followers = match &entry {
            None => &mut folder.all,
            Some(name) => folder.entries.entry(name.clone()).or_default(),
        };
        followers.readers += 1;
        Ok(Wake {
            shared: Arc::clone(&self.shared),
            descriptor,
            written: followers.written.subscribe(),
            entry,
        })
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wake {
    /// To be called before the files are read: writes from here on end the next [`Wake::written`].
    pub(super) fn arm(&mut self) {
        self.written.mark_unchanged();
    }

    /// Waits for a write since [`Wake::arm`].
    pub(super) async fn written(&mut self) {
        let _waiting = Waiting::begin(&self.shared);
        if self.written.changed().await.is_err() {
            // The folder is gone: nothing will be written there, the job's end comes by another way.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let mut folders = self.shared.lock();
        let Some(folder) = folders.get_mut(&self.descriptor) else {
            return;
        };
        folder.leave(self.entry.as_deref());
        if folder.is_followed_by_nobody() {
            folders.remove(&self.descriptor);
            // It fails where the folder was removed, and the watch with it.
            let _ = inotify::remove_watch(&self.shared.inotify, self.descriptor);
        }
    }
}

impl Folder {
    fn leave(&mut self, entry: Option<&CStr>) {
        let Some(name) = entry else {
            self.all.readers -= 1;
            return;
        };
        if let Some(followers) = self.entries.get_mut(name) {
            followers.readers -= 1;
            if followers.readers == 0 {
                self.entries.remove(name);
            }
        }
    }

    fn is_followed_by_nobody(&self) -> bool {
        self.all.readers == 0 && self.entries.is_empty()
    }

    fn wake(&self, entry: Option<&CStr>) {
        self.all.written.send_replace(());
        if let Some(followers) = entry.and_then(|name| self.entries.get(name)) {
            followers.written.send_replace(());
        }
    }

    fn wake_all(&self) {
        self.all.written.send_replace(());
        for followers in self.entries.values() {
            followers.written.send_replace(());
        }
    }
}

/// A reader that waits.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        if shared.waiting.fetch_add(1, Ordering::AcqRel) == 0 {
            shared.awaited.notify_one();
        }
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    async fn dispatch(&self) -> std::io::Result<()> {
        while self.waiting.load(Ordering::Acquire) == 0 {
            // A reader that has begun meanwhile has left its word.
            self.awaited.notified().await;
        }
        let mut ready = self.inotify.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => self.wake(event.wd(), event.events(), event.file_name()),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }

    fn wake(&self, descriptor: i32, events: ReadFlags, entry: Option<&CStr>) {
        let mut folders = self.lock();
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Some were lost: everybody looks.
            for folder in folders.values() {
                folder.wake_all();
            }
        } else if events.contains(ReadFlags::IGNORED) {
            folders.remove(&descriptor);
        } else if let Some(folder) = folders.get(&descriptor) {
            folder.wake(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Folder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_told_to_who_waits_then_and_to_nobody_before() {
        let dir = tempfile::tempdir().expect("tempdir");
        let wakes = Wakes::start().expect("inotify");
        let mut wake = wakes.follow(dir.path()).expect("watch");
        wake.arm();
        std::fs::write(dir.path().join("stdout"), "a line").expect("write");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!wake.written.has_changed().expect("watched"), "nobody waits");
        let told = tokio::time::timeout(Duration::from_secs(10), wake.written());
        told.await.expect("it was written");
        assert_eq!(wakes.shared.waiting.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn who_waits_for_one_entry_is_told_of_no_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        let wakes = Wakes::start().expect("inotify");
        let follow = |name| wakes.follow_entry(dir.path(), name).expect("watch");
        let (mut made, mut other, mut same) = (follow("made"), follow("other"), follow("made"));
        for wake in [&mut made, &mut other, &mut same] {
            wake.arm();
        }
        std::fs::create_dir(dir.path().join("made")).expect("mkdir");
        let told = async {
            made.written().await;
            same.written().await;
        };
        let told = tokio::time::timeout(Duration::from_secs(10), told);
        told.await.expect("it was made");
        assert!(!other.written.has_changed().expect("watched"));
        drop(made);
        assert_eq!(wakes.shared.lock().len(), 1);
        drop((other, same));
        assert!(wakes.shared.lock().is_empty());
    }
}
