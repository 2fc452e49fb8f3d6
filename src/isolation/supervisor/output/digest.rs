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

#[derive(Debug)]
pub(super) enum Digest {
    Here(Sha256),
    Aside(Aside),
}

impl Digest {
    pub(super) fn new() -> Self {
        Self::Here(Sha256::new())
    }

    /// Goes on in a thread; without one it goes on as before: slower, not wrong.
    pub(super) fn go_aside(&mut self) {
        if let Self::Here(begun) = self
            && let Some(aside) = Aside::spawn(begun.clone())
        {
            *self = Self::Aside(aside);
        }
    }

    /// The thread's next block to read into, for [`Digest::put_block`]; waits for one, if all are filled. `None`
    /// without a thread, where bytes go to [`Digest::update`].
    pub(super) fn take_block(&mut self) -> Option<PageBuffer> {
        match self {
            Self::Here(_) => None,
            Self::Aside(aside) => Some(aside.take()),
        }
    }

    /// Has the first `count` bytes hashed.
    pub(super) fn put_block(&mut self, block: PageBuffer, count: usize) {
        match self {
            Self::Here(digest) => digest.update(&block[..count]),
            Self::Aside(aside) => aside.put(block, count),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Here(digest) => digest.update(bytes),
            Self::Aside(_) => unreachable!("its bytes come in blocks"),
        }
    }

    /// In hexadecimal digits.
    pub(super) fn finish(self) -> String {
        use std::fmt::Write;
        let digest = match self {
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
