use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::http::{HeaderValue, Response};
use tonic::service::Routes;
use tower::layer::util::{Identity, Stack};
use tower::util::MapResponseLayer;

use crate::config::{Config, OnShutdown, Reread};
use crate::isolation::ipc::{Channel, TransportError};
use crate::job::{State, StopOrder};

use super::accept::{TlsSettings, accept};
use super::calls::HoldCalls;
use super::registration::Registration;
use super::tls::ServerTls;
use super::{Prepared, Server, ServerError, removal, retention};

/// Against connections whose other end is silently gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
const STREAMS_PER_CONNECTION: u32 = 1024;
/// Between the last answer and the end of the process.
const FAREWELL: Duration = Duration::from_secs(1);
/// The launcher reads orders faster than they are given.
const ORDERS_SENT_WITHIN: Duration = Duration::from_secs(2);

/// The codes with which tonic's decoder answers, which no service of ours ever does, and what each is to gRPC: a message over
/// the size limit (OUT_OF_RANGE) is RESOURCE_EXHAUSTED, one that is none (INTERNAL) INVALID_ARGUMENT.
const RENAMED: [(&[u8], &str); 2] = [(b"11", "8"), (b"13", "3")];

type Answer = Response<tonic::body::Body>;
type Rename = MapResponseLayer<fn(Answer) -> Answer>;

/// A server with its network side, from start to shutdown.
#[derive(Debug)]
pub struct Running {
    config: Config,
    server: Arc<Server>,
    tls: Arc<TlsSettings>,
    registration: Option<Registration>,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
    lost: Option<oneshot::Receiver<TransportError>>,
}

impl Running {
    /// Takes up the jobs of an earlier run, then serves.
    ///
    /// `services` makes the gRPC services; it is called within the runtime.
    pub async fn start<S>(
        config: Config,
        prepared: Prepared,
        channel: Channel,
        services: S,
    ) -> Result<Self, ServerError>
    where
        S: FnOnce(&Arc<Server>) -> Routes,
    {
        let (server, lost) = Server::start_up(&config, channel).await?;
        let tls = Arc::new(TlsSettings::new(prepared.tls, config.tells_tenants_apart()));
        let address = prepared.listener.describe();
        let most = usize::try_from(config.grpc_server.max_connections).unwrap_or(usize::MAX);
        let connections = ReceiverStream::new(accept(prepared.listener, Arc::clone(&tls), most)?);
        let closing = Arc::clone(&server);
        let grpc = transport()
            .add_routes(services(&server))
            .serve_with_incoming_shutdown(connections, async move { closing.closing().await });
        let grpc = tokio::spawn(grpc);
        tokio::spawn(removal::sweep_unknown(Arc::clone(&server)));
        tokio::spawn(retention::keep_within(Arc::clone(&server), config.retention));
        tracing::info!(address, "serving");
        Ok(Self {
            registration: Registration::start(&server, &config, &address, prepared.scheduler_tls),
            config,
            server,
            tls,
            grpc,
            lost: Some(lost),
        })
    }

    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Resolves when the launcher is gone. To be asked once.
    pub(super) fn launcher_lost(&mut self) -> impl Future<Output = ServerError> + use<> {
        let lost = self.lost.take();
        async move {
            let reason = match lost {
                Some(lost) => lost.await.unwrap_or(TransportError::Closed),
                None => std::future::pending().await,
            };
            ServerError::Launcher(reason)
        }
    }

    /// Reads again what SIGHUP is for: the TLS files, the policies, and the log level, which is the answer.
    ///
    /// What cannot be read leaves the old values in force.
    pub async fn reload(&self) -> Option<String> {
        // The launcher reads the folder that it was started with, and both must decide alike.
        self.server.reload_policies(&self.config);
        let Some(Reread { settings, tls }) = self.server.reread().await else {
            tracing::error!("keeping the old configuration: the launcher does not answer");
            return None;
        };
        let server = &self.config.grpc_server;
        let tls = tls.map(|pems| ServerTls::of(server, &pems?).map_err(|error| error.to_string()));
        match tls {
            Some(Ok(tls)) => {
                self.tls.replace(tls);
                tracing::info!("certificate read again");
            }
            Some(Err(error)) => tracing::error!(error, "keeping the old certificate"),
            None => {}
        }
        match settings {
            Ok(settings) => {
                if settings.needs_restart {
                    tracing::warn!("the configuration has changed in what needs a restart");
                }
                tracing::info!("configuration read again");
                Some(settings.log_level)
            }
            Err(error) => {
                tracing::error!(error, "keeping the old configuration");
                None
            }
        }
    }

    /// Leaves the scheduler, treats running jobs as configured, and ends all calls.
    pub async fn shut_down(self) {
        let Self {
            config,
            server,
            registration,
            grpc,
            ..
        } = self;
        server.jobs.close();
        if let Some(registration) = registration {
            registration.end().await;
        }
        let limit = Duration::from_secs(config.worker.shutdown_timeout_s);
        match config.worker.on_shutdown {
            OnShutdown::Leave => {}
            OnShutdown::Wait => wait_for_jobs(&server, limit).await,
            OnShutdown::Stop => {
                server.jobs.stop_all(&StopOrder {
                    signal: None,
                    grace_ms: None,
                    by: "shutdown".to_owned(),
                    reason: "the worker shuts down".to_owned(),
                });
                wait_for_jobs(&server, limit).await;
            }
        }
        if let Err(error) = server.store.sync().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the last changes are not durable"
            );
        }
        server.close();
        // Calls that were answered a moment ago still reach their clients.
        let _ = tokio::time::timeout(FAREWELL, grpc).await;
        // The last of them tell the launcher which outcomes it need not keep.
        let _ = tokio::time::timeout(ORDERS_SENT_WITHIN, server.launcher.all_sent()).await;
    }
}

async fn wait_for_jobs(server: &Server, limit: Duration) {
    let all_over = async {
        loop {
            let launched = server.jobs.launched();
            if launched.is_empty() {
                return;
            }
            for live in launched {
                live.reached(State::Finished).await;
            }
        }
    };
    if tokio::time::timeout(limit, all_over).await.is_err() {
        tracing::warn!("jobs are still running; the next start takes them up");
    }
}

/// How gRPC is spoken, for every service alike.
fn transport() -> tonic::transport::Server<Stack<HoldCalls, Stack<Rename, Identity>>> {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .layer(MapResponseLayer::new(rename as fn(Answer) -> Answer))
        .layer(HoldCalls)
}

/// Gives what tonic's decoder refuses the code that gRPC has for it.
fn rename(mut answer: Answer) -> Answer {
    if let Some(code) = answer.headers_mut().get_mut(Status::GRPC_STATUS)
        && let Some((_, name)) = RENAMED.iter().find(|(tonics, _)| *tonics == code.as_bytes())
    {
        *code = HeaderValue::from_static(name);
    }
    answer
}
