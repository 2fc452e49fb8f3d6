use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that held this long was a success: the next trouble is a new one.
const STABLE: Duration = Duration::from_secs(30);

/// Pauses between tries: doubling, with jitter, so that the workers of a scheduler that comes back do not all
/// knock at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    pub(super) fn next_pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        // Half of it for sure, the other half by chance.
        whole.mul_f64(0.5 + 0.5 * chance())
    }

    /// Each registration makes a new worker at the scheduler: one that drops every connection at once must not
    /// collect them at full speed.
    pub(super) fn lasted(&mut self, time: Duration) {
        if time >= STABLE {
            self.next = FIRST;
        }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without randomness the pause is its shortest; nothing depends on it.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over_after_a_stable_time() {
        let mut backoff = Backoff::default();
        let mut expected = FIRST;
        for _ in 0..12 {
            let pause = backoff.next_pause();
            assert!(
                pause >= expected / 2 && pause <= expected,
                "{pause:?} of {expected:?}"
            );
            expected = (expected * 2).min(LONGEST);
        }
        backoff.lasted(Duration::from_secs(1));
        assert!(backoff.next_pause() >= LONGEST / 2);
        backoff.lasted(STABLE);
        assert!(backoff.next_pause() <= FIRST);
    }
}
