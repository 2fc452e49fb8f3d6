//! Connections before they speak gRPC: accepted, bounded in number, with TLS where that is configured, and
//! known to speak HTTP/2 within a few seconds.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::ServerError;
use super::gather::Gathering;
use super::listen::Listener;
use super::memory;
use super::places::{Place, Places};
use super::tenant::{Caller, Peer};
use super::tls::ServerTls;
use crate::sys::UnixConnection;

/// For TLS and for the first bytes of HTTP/2: who sends nothing holds no place.
const HANDSHAKE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(1);
/// Handshakes at one time, and half of all connections at most.
const HANDSHAKES: usize = 1024;
/// Refused connections that are told why at one time; others are closed.
const FAREWELLS: usize = 64;
/// After running out of descriptors or memory; nothing tells when there are some again.
const PAUSE: Duration = Duration::from_millis(100);
/// RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection whose other end speaks HTTP/2.
pub struct Connection {
    transport: Gathering<Box<dyn Transport>>,
    /// Bytes of the preface that are still to be read again.
    preface: &'static [u8],
    caller: Arc<Caller>,
    _place: OwnedSemaphorePermit,
    _place_of_tenant: Place,
}

/// TLS settings for connections to come; they can be exchanged while others are open.
#[derive(Debug, Default)]
pub(super) struct TlsSettings {
    server: RwLock<Option<ServerTls>>,
    /// Certificates name tenants.
    names_tenants: bool,
}

impl TlsSettings {
    pub(super) fn new(tls: Option<ServerTls>, names_tenants: bool) -> Self {
        Self {
            server: RwLock::new(tls),
            names_tenants,
        }
    }

    pub(super) fn replace(&self, tls: ServerTls) {
        *self.server.write().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        let settings = self.server.read().unwrap_or_else(PoisonError::into_inner);
        settings
            .as_ref()
            .map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)))
    }
}

/// What a connection needs on its way to the server.
struct Door {
    tls: Arc<TlsSettings>,
    /// Of connections whose other end is known.
    room: Arc<Semaphore>,
    /// The same places, among tenants.
    places: Arc<Places>,
    /// Of connections that are refused and told so.
    farewells: Semaphore,
    /// What the calls of each tenant may hold.
    calls: Arc<Places>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

/// Accepts connections for as long as the answer is kept: `most` at one time, more wait in the kernel's queue. Those
/// of which nobody knows yet whose they are have places of their own, so that they take none of the others.
pub(super) fn accept(
    listener: Listener,
    tls: Arc<TlsSettings>,
    most: usize,
) -> Result<mpsc::Receiver<io::Result<Connection>>, ServerError> {
    let listener = match listener {
        Listener::Tcp(listener) => AsyncListener::Tcp(
            TcpListener::from_std(listener).map_err(ServerError::system("taking over the listener"))?,
        ),
        Listener::Unix(listener, _) => AsyncListener::Unix(
            UnixListener::from_std(listener).map_err(ServerError::system("taking over the listener"))?,
        ),
    };
    let (ready, connections) = mpsc::channel(16);
    let most = most.min(Semaphore::MAX_PERMITS);
    let door = Door {
        room: Arc::new(Semaphore::new(most)),
        farewells: Semaphore::new(FAREWELLS),
        places: Arc::new(Places::new(most, tls.names_tenants)),
        calls: Arc::new(Places::new(memory::call_bytes(), tls.names_tenants)),
        tls,
        ready,
    };
    let handshakes = most.div_ceil(2).min(HANDSHAKES);
    tokio::spawn(accept_all(listener, handshakes, Arc::new(door)));
    Ok(connections)
}

async fn accept_all(listener: AsyncListener, handshakes: usize, door: Arc<Door>) {
    let handshakes = Arc::new(Semaphore::new(handshakes));
    loop {
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = door.ready.closed() => return,
        };
        match accepted {
            Ok(transport) => {
                tokio::spawn(Arc::clone(&door).shake_hands(transport, handshake));
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "accepting a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Door {
    /// Hands the connection on once it speaks HTTP/2; any other is closed without a word.
    async fn shake_hands(self: Arc<Self>, transport: Box<dyn Transport>, handshake: OwnedSemaphorePermit) {
        let crowded = || handshake.semaphore().available_permits() == 0;
        let (transport, peer) = match in_time(secured(transport, &self.tls), crowded).await {
            Some(Ok(secured)) => secured,
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection refused");
                return;
            }
            None => {
                tracing::debug!("connection refused: no handshake in time");
                return;
            }
        };
        // Who waits here keeps the next one in the kernel's queue.
        let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
            return;
        };
        drop(handshake);
        match self.places.take(&peer.tenant().name) {
            Ok(place_of_tenant) => {
                let calls = self.calls.share(&peer.tenant().name);
                let connection = Connection {
                    transport: Gathering::new(transport),
                    preface: PREFACE,
                    caller: Arc::new(Caller::new(peer, calls)),
                    _place: place,
                    _place_of_tenant: place_of_tenant,
                };
                // The server may be going down.
                let _ = self.ready.send(Ok(connection)).await;
            }
            Err(_) => {
                // Whoever is refused holds no place of those who are not.
                drop(place);
                tracing::debug!(
                    tenant = peer.tenant().name,
                    "connection refused: its tenant has too many"
                );
                if let Ok(_farewell) = self.farewells.try_acquire() {
                    // Who does not listen is not told.
                    let _ = timeout(HANDSHAKE, send_away(transport)).await;
                }
            }
        }
    }
}

/// A handshake has [`HANDSHAKE`], and where others may wait for its place [`PATIENCE`].
async fn in_time<T>(handshake: impl Future<Output = T>, crowded: impl Fn() -> bool) -> Option<T> {
    let mut handshake = pin!(handshake);
    let end = Instant::now() + HANDSHAKE;
    while Instant::now() < end {
        if let Ok(done) = timeout(PATIENCE, &mut handshake).await {
            return Some(done);
        }
        if crowded() {
            break;
        }
    }
    None
}

/// Tells why, as HTTP/2 has it: nothing but the settings that come first, and GOAWAY.
async fn send_away(mut transport: Box<dyn Transport>) -> io::Result<()> {
    const REASON: &[u8] = b"too many connections of this tenant";
    // RFC 9113, sections 6.5 and 6.8: length, type, flags and stream of a frame.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const ENHANCE_YOUR_CALM: u8 = 11;
    let [.., first, second, third] = (8 + REASON.len()).to_be_bytes();
    let mut bytes = SETTINGS.to_vec();
    bytes.extend([first, second, third, 7, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM]);
    bytes.extend(REASON);
    transport.write_all(&bytes).await?;
    transport.shutdown().await?;
    // What the other end has sent and nobody has read would have the kernel take all of it back.
    tokio::io::copy(&mut transport, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn secured(transport: Box<dyn Transport>, tls: &TlsSettings) -> io::Result<(Box<dyn Transport>, Peer)> {
    let Some(acceptor) = tls.acceptor() else {
        let mut transport = transport;
        read_preface(&mut transport).await?;
        return Ok((transport, Peer::default()));
    };
    let mut stream = acceptor.accept(transport).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let peer = match chain.and_then(<[_]>::first) {
        Some(certificate) if tls.names_tenants => {
            Peer::of_certificate(certificate).map_err(io::Error::other)?
        }
        _ => Peer::default(),
    };
    read_preface(&mut stream).await?;
    Ok((Box::new(stream), peer))
}

async fn read_preface(transport: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut seen = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < seen.len() {
        match transport.read(&mut seen[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        // Whoever speaks something else may be waiting for an answer: no need to hear it out.
        if seen[..filled] != PREFACE[..filled] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
    }
    Ok(())
}

enum AsyncListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsyncListener {
    async fn accept(&self) -> io::Result<Box<dyn Transport>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and somebody waits for them.
                TcpStream::set_nodelay(&stream, true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(UnixConnection::new(listener.accept().await?.0)?)),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return Pin::new(&mut self.transport).poll_read(context, buffer);
        }
        let count = self.preface.len().min(buffer.remaining());
        let (now, later) = self.preface.split_at(count);
        buffer.put_slice(now);
        self.preface = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}
