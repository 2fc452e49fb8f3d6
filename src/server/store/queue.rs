//! The way of changes to the writer.
//!
//! As std::sync::mpsc, but that the writer is woken once for what is sent together, and by one who holds no lock any more.
//! Sender and writer mostly share a CPU: whom a sender wakes runs at once, in its place, and a writer that comes too early
//! only goes to sleep again.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct Sender<T>(Arc<Shared<T>>);

pub(super) struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    came: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// The receiver waits to be woken.
    sleeps: bool,
    /// One end has gone.
    closed: bool,
}

/// Why there is nothing to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nothing {
    InTime,
    Ever,
}

pub(super) fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            waiting: VecDeque::new(),
            sleeps: false,
            closed: false,
        }),
        came: Condvar::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> Sender<T> {
    /// Adds them, one after the other. Gives them back where nobody will receive them.
    pub(super) fn send<I: IntoIterator<Item = T>>(&self, items: I) -> Result<(), I> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(items);
        }
        state.waiting.extend(items);
        let sleeps = std::mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.0.came.notify_one();
        }
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(super) fn try_receive(&self) -> Option<T> {
        self.0.lock().waiting.pop_front()
    }

    /// Waits for the next one, and not beyond `until`.
    pub(super) fn receive(&self, until: Option<Instant>) -> Result<T, Nothing> {
        let mut state = self.0.lock();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                return Ok(item);
            }
            if state.closed {
                return Err(Nothing::Ever);
            }
            state.sleeps = true;
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.0.came.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.sleeps = false;
                    return Err(Nothing::InTime);
                }
                Some(left) => {
                    let woken = self.0.came.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing between lock and unlock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.came.notify_one();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_comes_in_its_order_and_then_the_end() {
        let (sender, receiver) = queue();
        let sending = std::thread::spawn(move || {
            for number in (0..3000).step_by(3) {
                sender.send([number, number + 1, number + 2]).expect("received");
            }
        });
        for number in 0..3000 {
            assert_eq!(receiver.receive(None), Ok(number));
        }
        sending.join().expect("sent");
        assert_eq!(receiver.try_receive(), None);
        assert_eq!(receiver.receive(None), Err(Nothing::Ever));
    }

    #[test]
    fn who_waits_is_woken_and_does_not_wait_for_ever() {
        let (sender, receiver) = queue();
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(receiver.receive(Some(soon)), Err(Nothing::InTime));
        assert!(Instant::now() >= soon);
        let receiving = std::thread::spawn(move || {
            let far = Instant::now() + Duration::from_secs(3600);
            [receiver.receive(None), receiver.receive(Some(far))]
        });
        for number in [1, 2] {
            std::thread::sleep(Duration::from_millis(20));
            sender.send([number]).expect("received");
        }
        assert_eq!(receiving.join().expect("received"), [Ok(1), Ok(2)]);
    }

    #[test]
    fn what_nobody_will_receive_comes_back() {
        let (sender, receiver) = queue();
        sender.send([1]).expect("received");
        drop(receiver);
        assert_eq!(sender.send([2, 3]), Err([2, 3]));
    }
}
