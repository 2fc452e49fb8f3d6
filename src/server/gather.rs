//! Answers in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More is not worth copying.
const SMALL: usize = 4 << 10;

/// A connection that sends a small message together with what follows on it.
///
/// The HTTP/2 library writes a message that is not quite short in two parts, that it need not copy it, and then at once,
/// before it looks for more. What always follows on an answer are its trailers: a client would be woken for the message
/// without being able to do anything before it is woken for them. So such a message waits until the library, which has been
/// told to come again, has had its turn.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    transport: T,
    /// Written by the library and not sent.
    waiting: Vec<u8>,
    /// The library has been told to come again.
    told: bool,
}

impl<T> Gathering<T> {
    pub(super) const fn new(transport: T) -> Self {
        Self {
            transport,
            waiting: Vec::new(),
            told: false,
        }
    }
}

impl<T: AsyncWrite + Unpin> Gathering<T> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.transport).poll_write(context, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.waiting.drain(..sent)),
            }
        }
        self.told = false;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathering<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathering<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let small = self.waiting.len() + length <= SMALL;
        if small && (parts.len() > 1 || !self.waiting.is_empty()) {
            parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.transport).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() && !self.told {
            self.told = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;

    use super::*;

    /// Takes at most so much of each write.
    #[derive(Debug)]
    struct Taker {
        most: usize,
        taken: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Taker {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.most);
            self.taken.push(bytes[..count].to_vec());
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn taker(most: usize) -> Gathering<Taker> {
        let taken = Vec::new();
        Gathering::new(Taker { most, taken })
    }

    /// All of it, as often as that takes.
    async fn write(connection: &mut Gathering<Taker>, mut first: &[u8], mut second: &[u8]) {
        while !first.is_empty() || !second.is_empty() {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let parts = if second.is_empty() {
                &parts[..1]
            } else {
                &parts[..]
            };
            let count = poll_fn(|context| Pin::new(&mut *connection).poll_write_vectored(context, parts));
            let count = count.await.expect("writes");
            let of_first = count.min(first.len());
            (first, second) = (&first[of_first..], &second[count - of_first..]);
        }
    }

    async fn flush_once(connection: &mut Gathering<Taker>) -> Poll<()> {
        poll_fn(|context| {
            let flushed = Pin::new(&mut *connection).poll_flush(context);
            Poll::Ready(flushed.map(|done| done.expect("flushes")))
        })
        .await
    }

    async fn flush(connection: &mut Gathering<Taker>) {
        poll_fn(|context| Pin::new(&mut *connection).poll_flush(context))
            .await
            .expect("flushes");
    }

    #[tokio::test]
    async fn an_answer_and_its_end_are_one_write() {
        let mut connection = taker(usize::MAX);
        write(&mut connection, b"head ", b"message ").await;
        assert!(flush_once(&mut connection).await.is_pending());
        assert!(connection.transport.taken.is_empty());
        write(&mut connection, b"trailers", b"").await;
        assert!(flush_once(&mut connection).await.is_ready());
        assert_eq!(connection.transport.taken, [b"head message trailers"]);
        // And nothing waits any more.
        write(&mut connection, b"next", b"").await;
        assert_eq!(connection.transport.taken.len(), 2);
    }

    #[tokio::test]
    async fn what_nothing_follows_on_is_sent_all_the_same() {
        let mut connection = taker(3);
        write(&mut connection, b"head ", b"message").await;
        flush(&mut connection).await;
        assert_eq!(connection.transport.taken.concat(), b"head message");
        write(&mut connection, b"head ", b"message").await;
        poll_fn(|context| Pin::new(&mut connection).poll_shutdown(context))
            .await
            .expect("shuts down");
        assert_eq!(connection.transport.taken.concat(), b"head messagehead message");
    }

    #[tokio::test]
    async fn what_is_not_small_is_not_kept() {
        let mut connection = taker(usize::MAX);
        write(&mut connection, b"head", &[7; 2 * SMALL]).await;
        assert_eq!(connection.transport.taken.concat().len(), 4 + 2 * SMALL);
    }

    proptest! {
        #[test]
        fn all_arrives_in_its_order(
            writes in proptest::collection::vec((0_usize..6000, 0_usize..6000, any::<bool>()), 1..12),
            most in 1_usize..5000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let mut bytes = (0_u8..251).cycle();
            let mut sent = Vec::new();
            let mut connection = taker(most);
            runtime.block_on(async {
                for (first, second, flushes) in writes {
                    let parts = [first, second].map(|length| bytes.by_ref().take(length).collect::<Vec<_>>());
                    write(&mut connection, &parts[0], &parts[1]).await;
                    sent.extend(parts.concat());
                    if flushes {
                        flush(&mut connection).await;
                    }
                }
                flush(&mut connection).await;
            });
            prop_assert_eq!(connection.transport.taken.concat(), sent);
        }
    }
}
