use std::time::Duration;

use tokio::time::{Instant, sleep};

/// First and longest pause between two tries.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// How long a lost connection is tried again: pauses that double, and an end.
#[derive(Debug)]
pub(in crate::cli) struct Patience {
    limit: Duration,
    lost_at: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(in crate::cli) fn new(limit_ms: u64) -> Self {
        Self {
            limit: Duration::from_millis(limit_ms),
            lost_at: None,
            pause: FIRST,
        }
    }

    /// The connection works: the next loss is counted anew.
    pub(in crate::cli) fn restore(&mut self) {
        self.lost_at = None;
        self.pause = FIRST;
    }

    /// Whether this loss is the first one since the connection worked.
    pub(in crate::cli) fn is_fresh(&self) -> bool {
        self.lost_at.is_none()
    }

    /// Pauses before the next try; `false` where the time for tries is over.
    pub(in crate::cli) async fn pause(&mut self) -> bool {
        let lost_at = *self.lost_at.get_or_insert_with(Instant::now);
        let left = self.limit.saturating_sub(lost_at.elapsed());
        if left.is_zero() {
            return false;
        }
        sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tries_end_and_begin_anew_after_a_success() {
        let mut patience = Patience::new(150);
        assert!(patience.is_fresh());
        assert!(patience.pause().await);
        assert!(!patience.is_fresh());
        assert!(patience.pause().await, "50 ms were left");
        assert!(!patience.pause().await);
        patience.restore();
        assert!(patience.is_fresh());
        assert!(patience.pause().await);
    }

    #[tokio::test]
    async fn no_time_means_no_try() {
        assert!(!Patience::new(0).pause().await);
    }
}
