//! How long each step of a launch took in the server: events at level debug, in a span of each job.
//!
//! Where that level is off, which is the rule, a launch costs one look at a flag and no clock. docs/performance.md
//! tells the steps.

use std::time::Instant;

use tracing::{Level, Span, debug, debug_span, enabled};

use crate::job::JobId;

/// From the call to the answer of those who wait for the end.
#[derive(Debug, Default)]
pub(in crate::server) struct LaunchTrace(Option<Box<On>>);

#[derive(Debug)]
struct On {
    span: Span,
    began: Instant,
    last: Instant,
}

impl LaunchTrace {
    /// A request came.
    pub(in crate::server) fn begin() -> Self {
        Self(enabled!(Level::DEBUG).then(|| {
            let now = Instant::now();
            Box::new(On {
                span: Span::none(),
                began: now,
                last: now,
            })
        }))
    }

    /// It is this job's.
    pub(in crate::server) fn name(&mut self, id: JobId) {
        if let Some(on) = &mut self.0 {
            on.span = debug_span!("launch", job = %id);
        }
    }

    /// Whether anybody listens.
    pub(in crate::server) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The time since the last mark belongs to `step`.
    pub(in crate::server) fn mark(&mut self, step: &'static str) {
        if let Some(on) = &mut self.0 {
            let now = Instant::now();
            debug!(
                parent: &on.span,
                step,
                us = micros(on.last, now),
                total_us = micros(on.began, now),
            );
            on.last = now;
        }
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
