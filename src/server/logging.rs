use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::log_level;

/// The log's filter, to be changed while the process runs.
#[derive(Debug)]
pub(super) struct LogLevel(reload::Handle<Targets, Registry>);

/// Logs to standard error. `None` where the process already has a log of its own.
pub(super) fn start(level: &str) -> Option<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(level));
    tracing_subscriber::registry()
        .with(filter)
        .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false))
        .try_init()
        .ok()
        .map(|()| LogLevel(handle))
}

impl LogLevel {
    pub(super) fn change(&self, level: &str) {
        if self.0.reload(filter(level)).is_err() {
            tracing::warn!("the log level could not be changed");
        }
    }
}

/// The configuration has been checked; a mistake in it must not silence the log all the same.
fn filter(level: &str) -> Targets {
    log_level::parse(level).unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO))
}
