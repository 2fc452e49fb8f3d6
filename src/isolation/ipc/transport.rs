//! A SEQPACKET socket that carries whole messages: postcard, and for large ones a sealed memfd.
//!
//! The kernel bounds a packet by the socket's send buffer (about 200 KiB), so a larger message travels as the
//! descriptor of a memfd that is sealed against change: the receiver reads what cannot change under it.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, write};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

/// No message is longer, whoever sends it.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// No message carries more descriptors, that of a memfd included.
pub(super) const MAX_DESCRIPTORS: usize = 16;
const DESCRIPTOR_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));
const INLINE_BYTES: usize = 64 << 10;
/// Nearly all messages are shorter.
const SHORT_BYTES: usize = 4 << 10;
/// So large that the allocator asks the kernel for it, which gives only those pages that are written.
const LONG_BYTES: usize = 1 << 20;

thread_local! {
    /// For what is longer than [`SHORT_BYTES`]. A buffer for the longest message in each call would be touched as a
    /// whole, and each page of it copied again after each fork.
    static LONG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the peer has gone")]
    Closed,
    #[error("{operation}: {source}")]
    System { operation: &'static str, source: Errno },
    #[error("a message of {0} bytes is over the limit")]
    TooLong(usize),
    #[error("a malformed message: {0}")]
    Malformed(&'static str),
    #[error("encoding: {0}")]
    Encoding(#[from] postcard::Error),
}

/// One end of the connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// The peer closed its end with a message of ours in it.
    left_unread: AtomicBool,
}

/// Two connected ends, both closed on exec.
pub fn pair() -> Result<(Channel, Channel), TransportError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(|source| {
        TransportError::System {
            operation: "socketpair",
            source,
        }
    })?;
    Ok((Channel::new(a), Channel::new(b)))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }
}

impl Channel {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            left_unread: AtomicBool::new(false),
        }
    }

    /// Another descriptor of the same end.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.socket, 0).map(Self::new)
    }

    /// Whether there is nothing to be received, not even the peer's end.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut look = [PollFd::new(self, PollFlags::IN)];
        matches!(poll(&mut look, Some(&at_once)), Ok(0))
    }

    /// Of a peer that has gone: whether the last that was sent to it was never received.
    pub fn has_left_unread(&self) -> bool {
        self.left_unread.load(Ordering::Relaxed)
    }

    fn note_unread(&self) {
        self.left_unread.store(true, Ordering::Relaxed);
    }

    /// Sends one message; `Ok(false)` where the socket is full and it must be tried again.
    pub fn try_send(&self, message: &impl Serialize) -> Result<bool, TransportError> {
        self.try_send_with(message, &[])
    }

    /// As [`Channel::try_send`], with at most 15 descriptors.
    pub fn try_send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<bool, TransportError> {
        self.send(&postcard::to_stdvec(message)?, descriptors)
    }

    /// Sends an encoded message; `Ok(false)` where the socket is full and it must be tried again.
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.send(bytes, &[])
    }

    fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<bool, TransportError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(TransportError::TooLong(bytes.len()));
        }
        let mut space = [MaybeUninit::uninit(); DESCRIPTOR_SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let memfd;
        let mut rights = Vec::new();
        let (marker, body): ([u8; 1], &[u8]) = if bytes.len() <= INLINE_BYTES {
            ([0], bytes)
        } else {
            memfd = sealed_memfd(bytes)?;
            rights.push(memfd.as_fd());
            ([1], &[])
        };
        rights.extend_from_slice(descriptors);
        if !rights.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&rights)) {
            return Err(TransportError::Malformed("too many descriptors"));
        }
        let parts = [IoSlice::new(&marker), IoSlice::new(body)];
        match sendmsg(
            &self.socket,
            &parts,
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        ) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::PIPE) => Err(TransportError::Closed),
            Err(Errno::CONNRESET) => {
                self.note_unread();
                Err(TransportError::Closed)
            }
            Err(source) => Err(TransportError::System {
                operation: "sendmsg",
                source,
            }),
        }
    }

    /// The next message; `Ok(None)` where none is waiting. A descriptor that came with it is closed.
    pub fn try_receive<T: DeserializeOwned>(&self) -> Result<Option<T>, TransportError> {
        Ok(self.try_receive_with()?.map(|(message, _)| message))
    }

    /// The next message and the descriptors that came with it; `Ok(None)` where none is waiting.
    pub fn try_receive_with<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, TransportError> {
        LONG.with_borrow_mut(|long| {
            let rest = long.get_or_insert_with(|| vec![0; LONG_BYTES]);
            self.receive_into(&mut rest[..INLINE_BYTES - SHORT_BYTES])
        })
    }

    fn receive_into<T: DeserializeOwned>(
        &self,
        rest: &mut [u8],
    ) -> Result<Option<(T, Vec<OwnedFd>)>, TransportError> {
        let mut marker = [0];
        let mut start = [0; SHORT_BYTES];
        let mut space = [MaybeUninit::uninit(); DESCRIPTOR_SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [
            IoSliceMut::new(&mut marker),
            IoSliceMut::new(&mut start),
            IoSliceMut::new(rest),
        ];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut received = recvmsg(&self.socket, &mut parts, &mut ancillary, flags);
        // A peer that closed with a message of ours unread: the kernel tells that first, and once, then what it had sent.
        if matches!(received, Err(Errno::CONNRESET)) {
            self.note_unread();
            received = recvmsg(&self.socket, &mut parts, &mut ancillary, flags);
        }
        let length = match received {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(TransportError::Closed),
            Err(source) => {
                return Err(TransportError::System {
                    operation: "recvmsg",
                    source,
                });
            }
        };
        if length == 0 {
            return Err(TransportError::Closed);
        }
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        match marker[0] {
            0 if length - 1 <= SHORT_BYTES => {
                Ok(Some((postcard::from_bytes(&start[..length - 1])?, descriptors)))
            }
            0 => {
                let body = [&start, &rest[..length - 1 - SHORT_BYTES]].concat();
                Ok(Some((postcard::from_bytes(&body)?, descriptors)))
            }
            1 if !descriptors.is_empty() => {
                let memfd = descriptors.remove(0);
                Ok(Some((postcard::from_bytes(&read_sealed(&memfd)?)?, descriptors)))
            }
            _ => Err(TransportError::Malformed("marker and descriptors do not fit")),
        }
    }
}

fn sealed_memfd(bytes: &[u8]) -> Result<OwnedFd, TransportError> {
    let failed = |operation| move |source| TransportError::System { operation, source };
    let memfd = memfd_create("message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(failed("memfd_create"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = write(&memfd, rest).map_err(failed("write to memfd"))?;
        rest = &rest[written..];
    }
    fcntl_add_seals(&memfd, SEALS).map_err(failed("seal memfd"))?;
    Ok(memfd)
}

/// Reads a memfd that its sender can neither change nor shorten meanwhile.
fn read_sealed(memfd: &OwnedFd) -> Result<Vec<u8>, TransportError> {
    let failed = |operation| move |source| TransportError::System { operation, source };
    if !fcntl_get_seals(memfd)
        .map_err(failed("read seals"))?
        .contains(SEALS)
    {
        return Err(TransportError::Malformed(
            "a descriptor that is not a sealed memfd",
        ));
    }
    let size = usize::try_from(fstat(memfd).map_err(failed("fstat"))?.st_size).unwrap_or(usize::MAX);
    if size > MAX_MESSAGE_BYTES {
        return Err(TransportError::TooLong(size));
    }
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match pread(memfd, &mut bytes[filled..], filled as u64).map_err(failed("read memfd"))? {
            0 => return Err(TransportError::Malformed("a memfd shorter than its size")),
            count => filled += count,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_sizes_arrive_whole() {
        let (a, b) = pair().expect("pair");
        for size in [0, 1, INLINE_BYTES - 16, INLINE_BYTES + 1, 3 << 20] {
            let sent = vec![7_u8; size];
            assert!(a.try_send(&sent).expect("send"));
            assert_eq!(b.try_receive::<Vec<u8>>().expect("receive"), Some(sent));
        }
        assert!(b.try_receive::<Vec<u8>>().expect("receive").is_none());
    }

    #[test]
    fn a_closed_peer_is_told() {
        let (a, b) = pair().expect("pair");
        drop(a);
        assert!(matches!(b.try_receive::<u8>(), Err(TransportError::Closed)));
        assert!(matches!(b.try_send(&1_u8), Err(TransportError::Closed)));
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_arrive() {
        let (a, b) = pair().expect("pair");
        assert!(a.try_send(&1_u8).expect("send"));
        assert!(b.try_send(&2_u8).expect("send"));
        drop(b);
        assert_eq!(a.try_receive::<u8>().expect("receive"), Some(2));
        assert!(matches!(a.try_receive::<u8>(), Err(TransportError::Closed)));
        assert!(a.has_left_unread());
    }

    #[test]
    fn a_peer_that_has_received_all_left_nothing_unread() {
        let (a, b) = pair().expect("pair");
        assert!(a.try_send(&1_u8).expect("send"));
        assert_eq!(b.try_receive::<u8>().expect("receive"), Some(1));
        drop(b);
        assert!(matches!(a.try_receive::<u8>(), Err(TransportError::Closed)));
        assert!(!a.has_left_unread());
    }

    #[test]
    fn a_channel_is_silent_until_there_is_a_message_or_the_end() {
        let (a, b) = pair().expect("pair");
        assert!(a.is_silent());
        assert!(b.try_send(&1_u8).expect("send"));
        assert!(!a.is_silent());
        assert_eq!(a.try_receive::<u8>().expect("receive"), Some(1));
        assert!(a.is_silent());
        drop(b);
        assert!(!a.is_silent());
    }

    #[test]
    fn what_was_left_unread_is_seen_by_who_sends_more() {
        let (a, b) = pair().expect("pair");
        assert!(a.try_send(&1_u8).expect("send"));
        drop(b);
        assert!(matches!(a.try_send(&2_u8), Err(TransportError::Closed)));
        assert!(a.has_left_unread());
    }

    #[test]
    fn an_unsealed_descriptor_is_refused() {
        let (a, b) = pair().expect("pair");
        let memfd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
        let rights = [memfd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&a, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::empty()).expect("sendmsg");
        assert!(matches!(b.try_receive::<u8>(), Err(TransportError::Malformed(_))));
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        let (a, b) = pair().expect("pair");
        for packet in [&[2_u8, 1][..], &[1], &[0, 255, 255, 255, 255, 255]] {
            let mut ancillary = SendAncillaryBuffer::default();
            sendmsg(&a, &[IoSlice::new(packet)], &mut ancillary, SendFlags::empty()).expect("sendmsg");
            assert!(b.try_receive::<Vec<u64>>().is_err(), "{packet:?}");
        }
    }
}
