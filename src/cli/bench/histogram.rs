//! Times as bars: buckets of equal ratio, as latencies spread over orders of magnitude.

use std::time::Duration;

use super::Samples;

/// Buckets to each doubling.
const STEPS: i32 = 4;
const MOST_ROWS: usize = 16;

/// How many times fell between two bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) from: Duration,
    pub(super) count: usize,
}

/// Buckets from the smallest time to the 99th percentile; the last one holds all above it, too.
pub(super) fn buckets(samples: &Samples) -> Vec<Bucket> {
    let sorted = samples.sorted();
    let (first, last) = (step_of(sorted[0]), step_of(samples.permille(990)));
    // Wider buckets where there would be too many.
    let width = usize::try_from(last - first).unwrap_or(0) / MOST_ROWS + 1;
    let width = i32::try_from(width).unwrap_or(i32::MAX);
    let rows = usize::try_from((last - first) / width).unwrap_or(0) + 1;
    let mut counts = vec![0; rows];
    for time in sorted {
        let row = usize::try_from((step_of(*time) - first) / width).unwrap_or(0);
        counts[row.min(rows - 1)] += 1;
    }
    let starts = (0..).map(|row: i32| bound(first + row * width));
    starts
        .zip(counts)
        .map(|(from, count)| Bucket { from, count })
        .collect()
}

/// In µs, as every time is told.
fn step_of(time: Duration) -> i32 {
    let micros = time.as_secs_f64() * 1e6;
    // Truncation is meant: the number of a bucket.
    #[allow(clippy::cast_possible_truncation)]
    let step = (micros.max(1.0).log2() * f64::from(STEPS)).floor() as i32;
    step
}

fn bound(step: i32) -> Duration {
    Duration::from_secs_f64((f64::from(step) / f64::from(STEPS)).exp2() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Vec<Bucket> {
        let times = micros.into_iter().map(Duration::from_micros).collect();
        buckets(&Samples::new(times).expect("samples"))
    }

    #[test]
    fn every_time_is_in_one_bucket() {
        let found = of((0..500).map(|n| 100 + n * 37));
        assert_eq!(found.iter().map(|bucket| bucket.count).sum::<usize>(), 500);
        assert!(found.len() <= MOST_ROWS + 1, "{}", found.len());
        assert!(found.is_sorted_by_key(|bucket| bucket.from));
    }

    #[test]
    fn what_is_far_out_does_not_stretch_the_rest() {
        let found = of((0..1000).map(|_| 1024).chain([90_000_000]));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].count, found[0].from.as_micros()), (1001, 1024));
    }
}
