use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::sys::PageBuffer;

/// One output file, open for reading. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct OutputFile(Arc<File>);

impl OutputFile {
    /// `None` while the file is not there.
    pub(super) fn open(folder: &Path, name: &str) -> std::io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match openat(CWD, folder.join(name), flags, Mode::empty()) {
            Ok(file) => Ok(Some(Self(Arc::new(File::from(file))))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Up to `most` bytes from `offset`; empty at the end of what there is.
    pub(super) async fn read(&self, offset: u64, most: usize) -> std::io::Result<Bytes> {
        let there = self.len()?.saturating_sub(offset);
        let most = usize::try_from(there).map_or(most, |there| there.min(most));
        if most == 0 {
            return Ok(Bytes::new());
        }
        // What was just written is in the page cache: a copy. Only what must come from the disk is worth a thread.
        match self.read_cached(offset, most) {
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => {
                let file = self.clone();
                tokio::task::spawn_blocking(move || file.read_blocking(offset, most)).await?
            }
            read => Ok(read?),
        }
    }

    fn read_cached(&self, offset: u64, most: usize) -> Result<Bytes, Errno> {
        let mut bytes = PageBuffer::new(most);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let count = preadv2(&*self.0, &mut parts, offset, ReadWriteFlags::NOWAIT)?;
        bytes.truncate(count);
        Ok(Bytes::from_owner(bytes))
    }

    pub(super) fn read_blocking(&self, offset: u64, most: usize) -> std::io::Result<Bytes> {
        let mut bytes = PageBuffer::new(most);
        let count = self.0.read_at(&mut bytes, offset)?;
        bytes.truncate(count);
        Ok(Bytes::from_owner(bytes))
    }
}
