use std::time::Duration;

/// Times of one kind, in order of size. There is at least one.
#[derive(Debug, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        (!times.is_empty()).then_some(Self(times))
    }

    /// The smallest time that so many thousandths of all do not exceed (nearest rank).
    #[must_use]
    pub fn permille(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(1000).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    #[must_use]
    pub fn median(&self) -> Duration {
        self.permille(500)
    }

    #[must_use]
    pub fn sorted(&self) -> &[Duration] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: &[u64]) -> Option<Samples> {
        Samples::new(times.iter().copied().map(Duration::from_micros).collect())
    }

    #[test]
    fn percentiles_are_samples() {
        let samples = micros(&[40, 10, 30, 20]).expect("four");
        let at = |share| samples.permille(share).as_micros();
        assert_eq!([at(0), at(250), at(500), at(501), at(1000)], [10, 10, 20, 30, 40]);
        assert_eq!(micros(&[7]).expect("one").permille(990).as_micros(), 7);
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert!(micros(&[]).is_none());
    }
}
