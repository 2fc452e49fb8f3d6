use std::sync::Arc;

use crate::config::Config;

use super::Server;
use super::accept::TlsSettings;
use super::logging::LogLevel;
use super::tls::ServerTls;

/// What SIGHUP changes: the log level, the TLS files and the policies. The rest needs a restart.
#[derive(Debug)]
pub(super) struct Reload {
    config: Config,
    log_level: Option<LogLevel>,
    tls: Arc<TlsSettings>,
    server: Arc<Server>,
}

impl Reload {
    pub(super) fn new(
        config: &Config,
        log_level: Option<LogLevel>,
        tls: Arc<TlsSettings>,
        server: Arc<Server>,
    ) -> Self {
        Self {
            config: config.clone(),
            log_level,
            tls,
            server,
        }
    }

    /// Reads the files again. What cannot be read, also for want of permission, leaves the old values in force.
    pub(super) fn again(&self) {
        let config = match &self.config.source {
            Some(file) => match Config::read(file) {
                Ok(config) => config,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "keeping the old configuration"
                    );
                    return;
                }
            },
            None => self.config.clone(),
        };
        if let Some(log_level) = &self.log_level {
            log_level.change(&config.log.level);
        }
        if self.config.grpc_server.use_tls {
            match ServerTls::read(&config.grpc_server) {
                Ok(tls) => self.tls.replace(tls),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "keeping the old certificate"
                    );
                }
            }
        }
        self.server.reload_policies(&self.config);
        tracing::info!("configuration read again");
    }
}
