//! The server's end of its connection to the launcher.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::isolation::ipc::{Channel, Event, Order, TransportError};
use crate::sys;

use super::ServerError;

/// Orders that wait for room in the socket before launches are held back.
const CONGESTED: usize = 64;

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
pub(super) struct Encoded(Vec<u8>);

impl Encoded {
    pub(super) fn new(order: &Order) -> Self {
        // Orders are plain data in memory: the encoder has no way to fail.
        Self(postcard::to_stdvec(order).expect("orders can be encoded"))
    }
}

#[derive(Debug)]
struct Link {
    channel: Channel,
    /// Of the same socket.
    readiness: AsyncFd<OwnedFd>,
    queue: Mutex<VecDeque<Vec<u8>>>,
    /// Orders wait for room in the socket.
    blocked: Notify,
}

impl Launcher {
    /// Takes over the channel; must be called within the runtime.
    pub(super) fn new(channel: Channel) -> Result<Self, ServerError> {
        let readiness = channel
            .as_fd()
            .try_clone_to_owned()
            .and_then(sys::readiness)
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
        self.lock().push_back(order.0);
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        if !self.try_flush() {
            self.link.blocked.notify_one();
        }
    }

    pub(super) fn send(&self, order: &Order) {
        self.enqueue(Encoded::new(order));
        self.flush();
    }

    /// Whether launches had better wait: a launcher that lags must not make this process grow.
    pub(super) fn is_congested(&self) -> bool {
        self.lock().len() >= CONGESTED
    }

    /// Sends what found no room, as soon as there is some, and calls `relieved` then. Ends with the connection.
    pub(super) async fn keep_sending(&self, relieved: impl Fn()) -> TransportError {
        loop {
            self.link.blocked.notified().await;
            loop {
                let mut room = match self.link.readiness.writable().await {
                    Ok(room) => room,
                    Err(_) => return TransportError::Closed,
                };
                if self.try_flush() {
                    break;
                }
                room.clear_ready();
            }
            relieved();
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

    /// Whether all is sent. A broken connection counts as sent: [`Launcher::receive`] reports it.
    fn try_flush(&self) -> bool {
        let mut queue = self.lock();
        while let Some(bytes) = queue.front() {
            match self.link.channel.try_send_bytes(bytes) {
                Ok(true) => drop(queue.pop_front()),
                Ok(false) => return false,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "sending an order");
                    queue.pop_front();
                }
            }
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        // Nothing between lock and unlock can panic half-way.
        self.link.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
