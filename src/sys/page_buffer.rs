//! A buffer that begins with a page.

use std::ops::{Deref, DerefMut};

/// The smallest that there are.
const PAGE: usize = 4096;

/// What the kernel copies much to or from.
///
/// A copy between pages takes ten times as long on some processors (AMD's Zen 3) where the target begins a few bytes
/// further into its page than the source does. That is so for each read of a file or a pipe into memory that the C library
/// gives out: it maps what is large, and puts 16 bytes of its own in front.
#[derive(Debug)]
pub struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl PageBuffer {
    /// Of `len` zeros. The kernel gives memory to what is written of it.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let mut bytes = vec![0; len + PAGE];
        // Where it cannot be told: slower, not wrong.
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        bytes.truncate(start + len);
        Self { bytes, start }
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl AsRef<[u8]> for PageBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_wanted_and_begins_with_a_page() {
        for len in [0, 1, 4096, 5000, 512 << 10] {
            let mut buffer = PageBuffer::new(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr().addr() % PAGE, 0);
            buffer.truncate(len / 2);
            assert_eq!(buffer.as_ref().len(), len / 2);
        }
    }
}
