//! The SHA-256 of what is kept of a stream. That of a flood is made by a thread of its own: hashing takes about as long
//! as moving the bytes, and the job would wait for both.
//!
//! The thread comes only after the last fork of this process.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use sha2::{Digest as _, Sha256};

use crate::sys::PageBuffer;

/// What is read from a pipe at once in a flood: so much that the two threads seldom wait for each other.
const BLOCK: usize = 512 << 10;
/// One is read into while the other is hashed.
const BLOCKS: usize = 2;
/// Hashing takes no stack to speak of.
const STACK_BYTES: usize = 128 << 10;

/// SHA-256 of nothing. Many a stream is empty, and the first hash of a process finds out which instructions there are for
/// it: a virtual machine takes long to tell.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[derive(Debug)]
pub(super) enum Digest {
    Empty,
    Here(Sha256),
    Aside(Aside),
}

impl Digest {
    pub(super) fn new() -> Self {
        Self::Empty
    }

    /// Goes on in a thread; without one it goes on as before: slower, not wrong.
    pub(super) fn go_aside(&mut self) {
        let begun = match self {
            Self::Empty => Sha256::new(),
            Self::Here(begun) => begun.clone(),
            Self::Aside(_) => return,
        };
        if let Some(aside) = Aside::spawn(begun) {
            *self = Self::Aside(aside);
        }
    }

    /// The thread's next block to read into, for [`Digest::put_block`]; waits for one, if all are filled. `None`
    /// without a thread, where bytes go to [`Digest::update`].
    pub(super) fn take_block(&mut self) -> Option<PageBuffer> {
        match self {
            Self::Empty | Self::Here(_) => None,
            Self::Aside(aside) => Some(aside.take()),
        }
    }

    /// Has the first `count` bytes hashed.
    pub(super) fn put_block(&mut self, block: PageBuffer, count: usize) {
        match self {
            Self::Aside(aside) => aside.put(block, count),
            Self::Empty | Self::Here(_) => self.update(&block[..count]),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Empty if bytes.is_empty() => {}
            Self::Empty => *self = Self::Here(Sha256::new_with_prefix(bytes)),
            Self::Here(digest) => digest.update(bytes),
            Self::Aside(_) => unreachable!("its bytes come in blocks"),
        }
    }

    /// In hexadecimal digits.
    pub(super) fn finish(self) -> String {
        use std::fmt::Write;
        let digest = match self {
            Self::Empty => return OF_NOTHING.to_owned(),
            Self::Here(digest) => digest,
            Self::Aside(aside) => aside.join(),
        };
        let bytes = digest.finalize();
        bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A thread, and the blocks that go to it and come back.
#[derive(Debug)]
pub(super) struct Aside {
    filled: SyncSender<(PageBuffer, usize)>,
    hashed: Receiver<PageBuffer>,
    /// A block that nothing was read into.
    spare: Option<PageBuffer>,
    thread: JoinHandle<Sha256>,
}

impl Aside {
    fn spawn(mut digest: Sha256) -> Option<Self> {
        // Never full: there are no more blocks.
        let (filled, to_hash) = sync_channel::<(PageBuffer, usize)>(BLOCKS);
        let (back, hashed) = sync_channel(BLOCKS);
        for _ in 0..BLOCKS {
            back.send(PageBuffer::new(BLOCK)).ok()?;
        }
        let hash = move || {
            for (block, count) in to_hash {
                digest.update(&block[..count]);
                // The stream is over, if nobody takes it.
                let _ = back.send(block);
            }
            digest
        };
        let builder = Builder::new().name("stockade-hash".to_owned());
        let thread = builder.stack_size(STACK_BYTES).spawn(hash).ok()?;
        Some(Self {
            filled,
            hashed,
            spare: None,
            thread,
        })
    }

    fn take(&mut self) -> PageBuffer {
        let hashed = || self.hashed.recv().expect("the thread hashes on");
        self.spare.take().unwrap_or_else(hashed)
    }

    fn put(&mut self, block: PageBuffer, count: usize) {
        if count == 0 {
            self.spare = Some(block);
        } else {
            self.filled.send((block, count)).expect("the thread hashes on");
        }
    }

    fn join(self) -> Sha256 {
        drop(self.filled);
        self.thread.join().expect("hashing cannot fail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_nothing_has_the_hash_of_nothing() {
        let mut empty = Digest::new();
        empty.update(b"");
        let mut aside = Digest::new();
        aside.go_aside();
        assert!(aside.take_block().is_some());
        assert_eq!(
            (empty.finish(), aside.finish()),
            (OF_NOTHING.to_owned(), OF_NOTHING.to_owned())
        );
        let mut abc = Digest::new();
        abc.update(b"abc");
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(abc.finish(), expected);
    }

    #[test]
    fn a_thread_goes_on_where_it_was_begun() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (first, rest) = bytes.split_at(100);
        let mut alone = Digest::new();
        alone.update(&bytes);

        let mut digest = Digest::new();
        assert!(digest.take_block().is_none());
        digest.update(first);
        digest.go_aside();
        let unused = digest.take_block().expect("a thread");
        digest.put_block(unused, 0);
        for part in rest.chunks(BLOCK - 1) {
            let mut block = digest.take_block().expect("a thread");
            block[..part.len()].copy_from_slice(part);
            digest.put_block(block, part.len());
        }
        assert_eq!(digest.finish(), alone.finish());
    }
}
