use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::config::Scheduler;
use crate::proto::jobscheduler::scheduler_client::SchedulerClient;
use crate::proto::jobscheduler::{DeregisterReq, RegisterReq};
use crate::server::tls::ClientTls;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// A host that vanished without closing is noticed within IDLE + INTERVAL × PROBES.
const IDLE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 4;

/// One connection to the scheduler and the registration made over it.
#[derive(Debug)]
pub(super) struct Session {
    client: SchedulerClient<Channel>,
    lost: oneshot::Receiver<()>,
    worker_id: String,
    since: Instant,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("connecting: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("the call failed: {0}")]
    Call(Box<tonic::Status>),
    #[error("no answer in time")]
    Timeout,
    #[error("the scheduler gave no worker id")]
    NoId,
}

impl Session {
    pub(super) async fn connect(
        scheduler: &Scheduler,
        tls: Option<&ClientTls>,
    ) -> Result<Self, SessionError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", scheduler.addr))?;
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls.config.clone())?;
        }
        let (open, lost) = oneshot::channel();
        let connector = connector(scheduler.addr.clone(), open);
        // No HTTP/2 pings: a plain grpc-go server takes them for abuse more than once in two hours and hangs up.
        // TCP's own probes find a dead peer, and ask nothing of the server.
        let channel = tokio::time::timeout(CONNECT, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| SessionError::Timeout)??;
        Ok(Self {
            client: SchedulerClient::new(channel),
            lost,
            worker_id: String::new(),
            since: Instant::now(),
        })
    }

    pub(super) async fn register(mut self, advertise: &str) -> Result<Self, SessionError> {
        let request = RegisterReq {
            address: advertise.to_owned(),
        };
        let answer = tokio::time::timeout(ANSWER, self.client.register_worker(request))
            .await
            .map_err(|_| SessionError::Timeout)?
            .map_err(|status| SessionError::Call(Box::new(status)))?;
        // `success` is never set by the scheduler: the id alone tells.
        self.worker_id = answer.into_inner().worker_id;
        if self.worker_id.is_empty() {
            return Err(SessionError::NoId);
        }
        Ok(self)
    }

    pub(super) fn worker_id(&self) -> &str {
        &self.worker_id
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Resolves when the connection is gone.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent: the other half goes with the connection.
        let _ = (&mut self.lost).await;
    }

    pub(super) async fn deregister(mut self) {
        let request = DeregisterReq {
            worker_id: self.worker_id.clone(),
        };
        match self.client.deregister_worker(request).await {
            Ok(_) => tracing::info!(worker = self.worker_id, "deregistered"),
            Err(status) => tracing::warn!(%status, "deregistering"),
        }
    }
}

/// Makes one connection, which drops `open` when it is closed, and never a second one: after a loss the
/// channel would connect again unnoticed.
fn connector(
    addr: String,
    open: oneshot::Sender<()>,
) -> impl tower::Service<Uri, Response = TokioIo<Observed>, Error = io::Error, Future: Send> + Send + 'static
{
    let open = Arc::new(Mutex::new(Some(open)));
    tower::service_fn(move |_: Uri| {
        let addr = addr.clone();
        let open = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            let open = open.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            let stream = TcpStream::connect(&addr).await?;
            watch_peer(&stream)?;
            Ok(TokioIo::new(Observed { stream, _open: open }))
        }
    })
}

fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    // Keepalive probes pause while data is unacknowledged; this bounds that case alike.
    let limit = IDLE + INTERVAL * PROBES;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(limit.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// A connection whose end is noticed.
struct Observed {
    stream: TcpStream,
    _open: oneshot::Sender<()>,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
