use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// The log's filter, to be changed while the process runs.
#[derive(Debug)]
pub(super) struct LogLevel(reload::Handle<EnvFilter, Registry>);

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

/// What of `level` makes sense; a mistake in it must not silence the log.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse_lossy(level)
}
