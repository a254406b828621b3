//! # Disk: the few file operations that runs, redo files and exports are made of
//!
//! A seam of its own, so that the same code runs on a file system ([`RealDisk`]) and in memory ([`MemoryDisk`]), and
//! so that a power cut can be simulated where it matters: the memory disk loses what was not synced, contents and
//! directory entries apart, which is what POSIX allows a file system to do.
//!
//! ## The rules it keeps
//!
//! - A file is written once, from beginning to end, by one writer; it is read only after that.
//! - A name is durable after [`Disk::sync_dir`] of its directory, contents after [`DiskWriter::sync`]. A removal may
//!   come back after a power cut: who removes a file must bear finding it again.

mod memory;
mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::memory::MemoryDisk;
pub use self::real::RealDisk;
use crate::{Error, Result};

/// A place for files.
pub trait Disk: Send + Sync + 'static {
    /// A new file; an error when there is one of the name.
    fn create(&self, path: &Path) -> Result<Box<dyn DiskWriter>>;
    /// A file to read.
    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>>;
    /// Gives a file another name, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file a second name, on the same file system.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file; no matter whether there is one.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes a directory and its parents, durably; no matter whether they are there.
    fn create_dir(&self, dir: &Path) -> Result<()>;
    /// Removes a directory with the files in it; no matter whether there is one.
    fn remove_dir(&self, dir: &Path) -> Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// The names of files and directories in a directory, in order; none when it isn't there.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;
}

/// A file being written. It is whole on the disk only after [`DiskWriter::sync`].
pub trait DiskWriter: Send {
    /// Appends.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the contents durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read, by any number of threads.
pub trait DiskFile: Send + Sync {
    /// Its length.
    fn bytes(&self) -> u64;
    /// Fills `buffer` from `offset` on; an error when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Reads a whole file that is at most `limit` bytes long.
pub(crate) fn read_all(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = disk.open(path)?;
    if file.bytes() > limit {
        return Err(Error::corrupt_at(path, limit, "the file is longer than any such file can be"));
    }
    let mut bytes = vec![0; file.bytes() as usize];
    file.read_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Writes a small file and syncs it; the name is durable after `sync_dir`.
pub(crate) fn write_all(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut writer = disk.create(path)?;
    writer.write(bytes).map_err(Error::io("write", path))?;
    writer.sync().map_err(Error::io("sync", path))
}
