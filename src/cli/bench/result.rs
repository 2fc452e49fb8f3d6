//! What was measured, as `-o json` prints it.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::{Host, Samples};

/// What is measured; `--only` takes these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Launch,
    Idle,
    Throughput,
    Run,
    Output,
    Follow,
    Delay,
    Peers,
}

#[derive(Debug, Serialize)]
pub struct Results {
    pub version: &'static str,
    /// Whether this binary was built with optimisation: figures of others mean little.
    pub optimized: bool,
    pub host: Host,
    /// Which worker was measured.
    pub worker: String,
    pub measurements: Vec<Measurement>,
}

/// One line of the result. What does not apply is null.
#[derive(Debug, Serialize)]
pub struct Measurement {
    pub part: Part,
    pub name: String,
    pub clients: Option<usize>,
    pub times: Option<Times>,
    pub rate: Option<Rate>,
    /// How the isolation of another tool differs, or why there is no figure.
    pub note: Option<String>,
    #[serde(skip)]
    pub samples: Option<Samples>,
}

/// The spread of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    pub count: usize,
    pub min_us: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub value: f64,
    /// "jobs/s" or "MiB/s".
    pub unit: &'static str,
}

impl Measurement {
    pub fn new(part: Part, name: impl Into<String>) -> Self {
        Self {
            part,
            name: name.into(),
            clients: None,
            times: None,
            rate: None,
            note: None,
            samples: None,
        }
    }

    #[must_use]
    pub fn with_times(mut self, samples: Samples) -> Self {
        self.times = Some(Times::of(&samples));
        self.samples = Some(samples);
        self
    }

    #[must_use]
    pub fn with_rate(mut self, value: f64, unit: &'static str) -> Self {
        self.rate = Some(Rate { value, unit });
        self
    }

    #[must_use]
    pub fn with_clients(mut self, clients: usize) -> Self {
        self.clients = Some(clients);
        self
    }

    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl Times {
    #[must_use]
    pub fn of(samples: &Samples) -> Self {
        let at = |share| micros(samples.permille(share));
        Self {
            count: samples.sorted().len(),
            min_us: at(0),
            p50_us: at(500),
            p90_us: at(900),
            p99_us: at(990),
            max_us: at(1000),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
