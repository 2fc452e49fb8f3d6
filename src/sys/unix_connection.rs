//! Connections of Unix sockets that are not woken for nothing.
//!
//! When the other end has read, the kernel tells whoever waits for room in a Unix socket, and tokio's own stream waits for
//! it always: each message would wake its sender once more, and most of a launch is messages. Here nobody waits for room
//! before there was none.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::{Errno, read};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sendmsg, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::readiness::{readiness, readiness_to_read};

/// One end of a connection. Made and used within a runtime.
#[derive(Debug)]
pub struct UnixConnection {
    /// `None` between two registrations, and after one that failed.
    socket: Option<AsyncFd<OwnedFd>>,
    /// It has been full: what waits for room is told of it from then on.
    has_filled: bool,
    /// Who waits for something to read.
    reader: Option<Waker>,
}

impl UnixConnection {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            socket: Some(readiness_to_read(stream.into_std()?.into())?),
            has_filled: false,
            reader: None,
        })
    }

    pub async fn connect(path: &Path) -> io::Result<Self> {
        Self::new(UnixStream::connect(path).await?)
    }

    fn socket(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.socket
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Waits for room, too, from now on.
    fn watch_for_room(&mut self) -> io::Result<()> {
        if let Some(socket) = self.socket.take() {
            self.socket = Some(readiness(socket.into_inner())?);
            self.has_filled = true;
            // It waited for the registration that is gone.
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        Ok(())
    }
}

impl AsyncRead for UnixConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let Poll::Ready(waiting) = this.socket()?.poll_read_ready(context) else {
                this.reader = Some(context.waker().clone());
                return Poll::Pending;
            };
            let mut waiting = waiting?;
            // SAFETY: nothing in it is made uninitialised.
            let space = unsafe { buffer.unfilled_mut() };
            match read(waiting.get_inner(), space) {
                Ok((filled, left)) => {
                    let count = filled.len();
                    // All that was there. More is told anew, and an end for good.
                    if count > 0 && !left.is_empty() {
                        waiting.clear_ready();
                    }
                    // SAFETY: so many bytes were read into its beginning.
                    unsafe { buffer.assume_init(count) };
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => waiting.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for UnixConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let room = match this.has_filled {
                true => Some(ready!(this.socket()?.poll_write_ready(context))?),
                false => None,
            };
            let sent = sendmsg(
                this.socket()?.get_ref(),
                parts,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            );
            match (sent, room) {
                (Ok(count), _) => return Poll::Ready(Ok(count)),
                (Err(Errno::AGAIN), Some(mut room)) => room.clear_ready(),
                (Err(Errno::AGAIN), None) => this.watch_for_room()?,
                (Err(Errno::INTR), _) => {}
                (Err(error), _) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The kernel has what was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket()?.get_ref(), Shutdown::Write).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    /// More than the kernel holds for a socket.
    const MUCH: usize = 8 << 20;

    fn pair() -> (UnixConnection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (UnixConnection::new(ours).expect("registers"), theirs)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0_u8..251).cycle().take(length).collect()
    }

    #[tokio::test]
    async fn what_is_more_than_there_is_room_for_arrives_whole() {
        let (mut ours, mut theirs) = pair();
        let there = tokio::spawn(async move {
            let mut came = Vec::new();
            theirs.read_to_end(&mut came).await.expect("reads");
            theirs.write_all(&came).await.expect("writes");
            came
        });
        ours.write_all(&pattern(MUCH)).await.expect("writes");
        assert!(ours.has_filled);
        ours.shutdown().await.expect("shuts down");
        let mut back = Vec::new();
        ours.read_to_end(&mut back).await.expect("reads");
        assert_eq!(back, pattern(MUCH));
        assert_eq!(there.await.expect("ends"), back);
    }

    #[tokio::test]
    async fn a_reader_does_not_miss_what_comes_while_there_is_no_room() {
        let (ours, mut theirs) = pair();
        let (mut reading, mut writing) = tokio::io::split(ours);
        let reader = tokio::spawn(async move { reading.read_u8().await });
        // It waits by now.
        tokio::task::yield_now().await;
        let writer = tokio::spawn(async move { writing.write_all(&pattern(MUCH)).await });
        // And the writer has found no room.
        tokio::task::yield_now().await;
        theirs.write_u8(7).await.expect("writes");
        let read = timeout(Duration::from_secs(60), reader).await.expect("is woken");
        assert_eq!(read.expect("ends").expect("reads"), 7);
        let mut came = vec![0; MUCH];
        theirs.read_exact(&mut came).await.expect("reads");
        writer.await.expect("ends").expect("writes");
        assert_eq!(came, pattern(MUCH));
    }

    #[tokio::test]
    async fn what_was_sent_before_the_end_is_read_and_then_the_end() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"last words").await.expect("writes");
        drop(theirs);
        let mut heard = String::new();
        ours.read_to_string(&mut heard).await.expect("reads");
        assert_eq!(heard, "last words");
        let refused = ours.write_all(b"too late").await.expect_err("nobody reads");
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    }
}
