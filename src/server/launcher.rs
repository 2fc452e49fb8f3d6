//! The server's end of its connection to the launcher.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::isolation::ipc::{Channel, Event, Order, TransportError};
use crate::job::JobId;
use crate::sys;

use super::ServerError;

/// Orders that wait for room in the socket before launches are held back.
const CONGESTED: usize = 64;
/// Until the host may have what an order could not be sent without.
const RETRY: Duration = Duration::from_millis(100);

/// Sends orders in the order in which they are queued.
///
/// Cheap to clone. An order is sent in place while the socket has room, so that a launch costs no wake-up of
/// another task; what does not fit waits in memory for [`Launcher::keep_sending`].
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    link: Arc<Link>,
}

/// An order ready to be sent: encoding a large launch takes longer than any lock should be held.
#[derive(Debug)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    /// The job that it launches.
    launches: Option<JobId>,
}

impl Encoded {
    pub(super) fn new(order: &Order) -> Self {
        let launches = match order {
            Order::Launch(launch) => Some(launch.id),
            _ => None,
        };
        // Orders are plain data in memory: the encoder has no way to fail.
        let bytes = postcard::to_stdvec(order).expect("orders can be encoded");
        Self { bytes, launches }
    }
}

#[derive(Debug)]
struct Link {
    channel: Channel,
    /// Tells when there is something to receive.
    readiness: AsyncFd<OwnedFd>,
    queue: Mutex<Queue>,
    /// Orders wait for room in the socket, or for what the host lacks.
    blocked: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<Encoded>,
    /// Launches for which the host has no descriptor or no memory. A large one needs a descriptor; stops need none, and
    /// do not wait behind it.
    put_off: VecDeque<Encoded>,
    /// The log says that orders wait for the host.
    told: bool,
}

/// What has become of the orders that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    /// A broken connection counts as sent: [`Launcher::receive`] reports it.
    All,
    /// The socket is full.
    NoRoom,
    /// The host lacks something that an order needs.
    Lacking,
}

impl Launcher {
    /// Takes over the channel; must be called within the runtime.
    pub(super) fn new(channel: Channel) -> Result<Self, ServerError> {
        let readiness = channel
            .as_fd()
            .try_clone_to_owned()
            .and_then(sys::readiness_to_read)
            .map_err(ServerError::system("watching the launcher's channel"))?;
        Ok(Self {
            link: Arc::new(Link {
                channel,
                readiness,
                queue: Mutex::default(),
                blocked: Notify::new(),
            }),
        })
    }

    /// Fixes an order's place among the others; [`Launcher::flush`] sends it.
    pub(super) fn enqueue(&self, order: Encoded) {
        self.lock().orders.push_back(order);
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        if self.try_flush() != Flushed::All {
            self.link.blocked.notify_one();
        }
    }

    pub(super) fn send(&self, order: &Order) {
        self.enqueue(Encoded::new(order));
        self.flush();
    }

    /// Whether launches had better wait: a launcher that lags, or a host that lacks something, must not make this process
    /// grow.
    pub(super) fn is_congested(&self) -> bool {
        let queue = self.lock();
        queue.orders.len() >= CONGESTED || !queue.put_off.is_empty()
    }

    /// Takes a launch back that has not been sent. Whether there was one.
    pub(super) fn take_back(&self, id: JobId) -> bool {
        let mut queue = self.lock();
        let before = queue.orders.len() + queue.put_off.len();
        queue.orders.retain(|order| order.launches != Some(id));
        queue.put_off.retain(|order| order.launches != Some(id));
        queue.orders.len() + queue.put_off.len() < before
    }

    /// Sends what found no room or lacked something, as soon as it can be sent, and calls `relieved` then. Ends with the connection.
    pub(super) async fn keep_sending(&self, relieved: impl Fn()) -> TransportError {
        loop {
            self.link.blocked.notified().await;
            loop {
                match self.try_flush() {
                    Flushed::All => break,
                    Flushed::NoRoom => {
                        if self.room().await.is_err() {
                            return TransportError::Closed;
                        }
                    }
                    Flushed::Lacking => {
                        tokio::time::sleep(RETRY).await;
                        self.lock().resume();
                    }
                }
            }
            relieved();
        }
    }

    /// Waits until every order is sent, but for launches that have been put off. Ends with the connection.
    pub(super) async fn all_sent(&self) {
        while self.try_flush() == Flushed::NoRoom {
            if self.room().await.is_err() {
                return;
            }
        }
    }

    /// Until the socket may have room. Nobody waits for it but when there was none, as the kernel tells of it with each
    /// order that the launcher takes.
    async fn room(&self) -> io::Result<()> {
        let socket = self.link.channel.as_fd().try_clone_to_owned();
        match socket.and_then(sys::readiness) {
            Ok(socket) => socket.writable().await.map(drop),
            // No descriptor is left for it.
            Err(_) => {
                tokio::time::sleep(RETRY).await;
                Ok(())
            }
        }
    }

    /// Hands every event to `handle`, in order, until the connection ends.
    pub(super) async fn receive(&self, mut handle: impl FnMut(Event)) -> TransportError {
        loop {
            let mut waiting = match self.link.readiness.readable().await {
                Ok(waiting) => waiting,
                Err(_) => return TransportError::Closed,
            };
            loop {
                match self.link.channel.try_receive() {
                    Ok(Some(event)) => handle(event),
                    Ok(None) => break,
                    Err(error) => return error,
                }
            }
            waiting.clear_ready();
        }
    }

    fn try_flush(&self) -> Flushed {
        let mut queue = self.lock();
        while let Some(order) = queue.orders.pop_front() {
            match self.link.channel.try_send_bytes(&order.bytes) {
                Ok(true) => {}
                Ok(false) => {
                    queue.orders.push_front(order);
                    return Flushed::NoRoom;
                }
                Err(error) if passes(&error) => {
                    if !std::mem::replace(&mut queue.told, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "orders have to wait");
                    }
                    if order.launches.is_some() {
                        queue.put_off.push_back(order);
                    } else {
                        queue.orders.push_front(order);
                        return Flushed::Lacking;
                    }
                }
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "sending an order"),
            }
        }
        if !queue.put_off.is_empty() {
            return Flushed::Lacking;
        }
        queue.told = false;
        Flushed::All
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // Nothing between lock and unlock can panic half-way.
        self.link.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// What was put off is first again.
    fn resume(&mut self) {
        self.put_off.append(&mut self.orders);
        std::mem::swap(&mut self.orders, &mut self.put_off);
    }
}

/// Whether the host may have later what it lacks now.
fn passes(error: &TransportError) -> bool {
    matches!(
        error,
        TransportError::System {
            source: Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::TOOMANYREFS,
            ..
        }
    )
}
