//! # Redo: many small batches that take effect as one
//!
//! A write-out may change thousands of control rows, and the control store takes them in batches of 64. So they are
//! first written to a *redo file* and synced; then applied; then the file is removed. After a crash a complete file is
//! applied again, which is harmless, since rows are set and deleted and nothing is added up; an incomplete one was
//! never begun to be applied and is removed.
//!
//! A removal may be undone by a power cut, and an old redo file applied again would turn the clock back. So each file
//! has a number, and the last batch of a write-out stores that number in the control store: a file with a number that
//! is not above it is done and only removed.
//!
//! ## Format
//!
//! `ISTHROW1 | number (8) | rows | 0xffffffff | count (8) | XXH3-128 of all before (16)`, numbers little-endian; a row is
//! `key length (4) | value length (4; 0xffffffff: deleted) | key | value`. The control rows of an export are written in
//! the same format, with number 0.
//!
//! ## What it leaves out
//!
//! There is no recovery of a damaged redo file: one that is complete under its final name, but whose checksum doesn't
//! fit, can only be damage, and is refused.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::control::{ControlWrite, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::runs::disk::{Disk, DiskFile, DiskWriter};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"ISTHROW1";
const HEAD_BYTES: u64 = 16;
/// Marker, count, checksum.
const TAIL_BYTES: u64 = 4 + 8 + 16;
/// In the place of a key length: the rows end here. In the place of a value length: the row is deleted.
const MARK: u32 = u32::MAX;
/// Pieces of this size are written and read.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes rows to a file.
pub(crate) struct RowWriter {
    writer: Box<dyn DiskWriter>,
    path: PathBuf,
    buffer: Vec<u8>,
    whole: Box<Xxh3>,
    bytes: u64,
    count: u64,
}

/// What was written.
#[derive(Clone, Debug)]
pub(crate) struct RowFile {
    pub count: u64,
    pub bytes: u64,
    /// XXH3-128 of the whole file.
    pub xxh3: [u8; 16],
}

impl RowWriter {
    pub fn create(disk: &dyn Disk, path: &Path, number: u64) -> Result<Self> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&number.to_le_bytes());
        let writer = disk.create(path)?;
        Ok(Self {
            writer,
            path: path.to_path_buf(),
            buffer,
            whole: Box::new(Xxh3::new()),
            bytes: 0,
            count: 0,
        })
    }

    pub fn push(&mut self, row: &ControlWrite) -> Result<()> {
        let value = row.value.as_deref();
        self.buffer.extend_from_slice(&(row.key.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&value.map_or(MARK, |value| value.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&row.key);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<()> {
        self.whole.update(&self.buffer);
        self.writer.write(&self.buffer).map_err(Error::io("write", &self.path))?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the file and syncs it.
    pub fn finish(mut self) -> Result<RowFile> {
        self.buffer.extend_from_slice(&MARK.to_le_bytes());
        self.buffer.extend_from_slice(&self.count.to_le_bytes());
        self.write_out()?;
        self.buffer.extend_from_slice(&self.whole.digest128().to_be_bytes());
        self.write_out()?;
        self.writer.sync().map_err(Error::io("sync", &self.path))?;
        Ok(RowFile { count: self.count, bytes: self.bytes, xxh3: self.whole.digest128().to_be_bytes() })
    }
}

/// Reads rows of a file that was verified when it was opened.
pub(crate) struct RowReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    number: u64,
    count: u64,
    /// The next byte to read, and where the rows end.
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl RowReader {
    /// Opens a file and verifies all of it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not complete.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let wrong = |what: &str| Error::corrupt_at(path, 0, what);
        let file = disk.open(path)?;
        let bytes = file.bytes();
        if bytes < HEAD_BYTES + TAIL_BYTES {
            return Err(wrong("the file of rows is cut off"));
        }
        let mut whole = Box::new(Xxh3::new());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut offset = 0;
        while offset < bytes - 16 {
            let length = (bytes - 16 - offset).min(BUFFER_BYTES as u64) as usize;
            file.read_at(&mut buffer[..length], offset).map_err(Error::io("read", path))?;
            whole.update(&buffer[..length]);
            offset += length as u64;
        }
        let (mut head, mut tail) = ([0; HEAD_BYTES as usize], [0; TAIL_BYTES as usize]);
        file.read_at(&mut head, 0).map_err(Error::io("read", path))?;
        file.read_at(&mut tail, bytes - TAIL_BYTES).map_err(Error::io("read", path))?;
        if !head.starts_with(MAGIC) || tail[..4] != MARK.to_le_bytes() {
            return Err(wrong("this is no complete file of rows"));
        }
        if tail[12..] != whole.digest128().to_be_bytes() {
            return Err(wrong("the checksum of the file of rows does not fit"));
        }
        let long = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte));
        let (number, count) = (long(&head[8..]), long(&tail[4..12]));
        let end = bytes - TAIL_BYTES;
        Ok(Self {
            file,
            path: path.into(),
            number,
            count,
            offset: HEAD_BYTES,
            end,
            buffer: Vec::new(),
            at: 0,
        })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn row_count(&self) -> u64 {
        self.count
    }

    /// The next `length` bytes; `None` when the rows end before.
    fn take(&mut self, length: usize) -> io::Result<Option<&[u8]>> {
        if self.buffer.len() - self.at < length {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = (self.end - self.offset).min(BUFFER_BYTES.max(length) as u64) as usize;
            let kept = self.buffer.len();
            self.buffer.resize(kept + more, 0);
            self.file.read_at(&mut self.buffer[kept..], self.offset)?;
            self.offset += more as u64;
        }
        if self.buffer.len() - self.at < length {
            return Ok(None);
        }
        self.at += length;
        Ok(Some(&self.buffer[self.at - length..self.at]))
    }

    fn read_row(&mut self) -> Result<Option<ControlWrite>> {
        let path = self.path.clone();
        let cut = || Error::corrupt_at(&path, 0, "a row is cut off");
        let read = |error| Error::io("read", &path)(error);
        if self.at == self.buffer.len() && self.offset == self.end {
            return Ok(None);
        }
        let head = self.take(8).map_err(read)?.ok_or_else(cut)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (key, value) = (number(0) as usize, number(4));
        if key > KEY_BYTES_MAX || (value != MARK && value as usize > VALUE_BYTES_MAX) {
            return Err(Error::corrupt_at(&path, 0, "a row is too long"));
        }
        let key = self.take(key).map_err(read)?.ok_or_else(cut)?.to_vec();
        let value = match value {
            MARK => None,
            length => {
                Some(Bytes::copy_from_slice(self.take(length as usize).map_err(read)?.ok_or_else(cut)?))
            }
        };
        Ok(Some(ControlWrite { key, value }))
    }
}

impl Iterator for RowReader {
    type Item = Result<ControlWrite>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.read_row().transpose();
        if matches!(row, Some(Err(_))) {
            // What comes after can't be told apart any more.
            (self.offset, self.at) = (self.end, self.buffer.len());
        }
        row
    }
}

/// The redo files of a node.
pub(crate) struct Redo<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
}

impl Redo<'_> {
    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("redo-{number:016x}"))
    }

    /// Writes a redo file; it is complete and durable on return.
    ///
    /// # Errors
    /// [`Error::Fatal`] when it isn't known whether the next open will find the file; after any other error it won't.
    ///
    /// The fail point `storage::redo::skip` leaves it out: then a crash between batches is seen.
    pub fn write(&self, number: u64, rows: &[ControlWrite]) -> Result<()> {
        fail::fail_point!("storage::redo::skip", |_| Ok(()));
        let temporary = self.dir.join(format!("redo-{number:016x}.tmp"));
        self.disk.remove(&temporary)?;
        let mut writer = RowWriter::create(self.disk, &temporary, number)?;
        for row in rows {
            writer.push(row)?;
        }
        fail::fail_point!("storage::redo::before_sync");
        writer.finish()?;
        fail::fail_point!("storage::redo::after_sync");
        self.publish(&temporary, number)
            .map_err(|error| Error::Fatal { action: "publishing a redo file", reason: error.to_string() })
    }

    fn publish(&self, temporary: &Path, number: u64) -> Result<()> {
        self.disk.rename(temporary, &self.path(number))?;
        fail::fail_point!("storage::redo::after_rename");
        self.disk.sync_dir(self.dir)
    }

    /// Removes a redo file that was applied.
    pub fn remove(&self, number: u64) -> Result<()> {
        self.disk.remove(&self.path(number))
    }

    /// The complete files, by number; removes incomplete ones.
    pub fn found(&self) -> Result<Vec<RowReader>> {
        let mut found = Vec::new();
        for name in self.disk.list(self.dir)? {
            let Some(number) = name.strip_prefix("redo-") else { continue };
            let path = self.dir.join(&name);
            if number.ends_with(".tmp") {
                self.disk.remove(&path)?;
                continue;
            }
            let reader = RowReader::open(self.disk, &path)?;
            if u64::from_str_radix(number, 16) != Ok(reader.number()) {
                return Err(Error::corrupt_at(&path, 0, "the redo file has another number than its name"));
            }
            found.push(reader);
        }
        found.sort_by_key(RowReader::number);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::runs::disk::MemoryDisk;

    fn row() -> impl Strategy<Value = ControlWrite> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from));
        (prop::collection::vec(any::<u8>(), 1..40), value)
            .prop_map(|(key, value)| ControlWrite { key, value })
    }

    proptest! {
        #[test]
        fn rows_come_back_as_written(rows in prop::collection::vec(row(), 0..50)) {
            let (disk, dir) = (MemoryDisk::new(), Path::new("/redo"));
            let redo = Redo { disk: &disk, dir };
            redo.write(7, &rows).unwrap();
            let mut found = redo.found().unwrap();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!((found[0].number(), found[0].row_count()), (7, rows.len() as u64));
            let back: Result<Vec<_>> = found.remove(0).collect();
            prop_assert_eq!(back.unwrap(), rows);
        }
    }

    #[test]
    fn rows_larger_than_the_buffer_come_back() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/redo"));
        let rows: Vec<_> = (0..40_u8)
            .map(|n| ControlWrite::put(vec![n], vec![n; VALUE_BYTES_MAX - usize::from(n)]))
            .collect();
        let redo = Redo { disk: &disk, dir };
        redo.write(1, &rows).unwrap();
        assert_eq!(redo.found().unwrap().remove(0).collect::<Result<Vec<_>>>().unwrap(), rows);
    }

    #[test]
    fn a_file_cut_anywhere_or_damaged_anywhere_is_refused() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/redo"));
        let redo = Redo { disk: &disk, dir };
        redo.write(1, &[ControlWrite::put(*b"key", b"value".as_slice()), ControlWrite::delete(*b"gone")])
            .unwrap();
        let whole = crate::runs::disk::read_all(&disk, &redo.path(1), 1000).unwrap();
        for length in 0..whole.len() {
            let path = dir.join("cut");
            disk.remove(&path).unwrap();
            crate::runs::disk::write_all(&disk, &path, &whole[..length]).unwrap();
            assert!(RowReader::open(&disk, &path).is_err_and(|error| error.is_corrupt()), "cut at {length}");
            let path = dir.join(format!("flip-{length}"));
            crate::runs::disk::write_all(&disk, &path, &whole).unwrap();
            disk.flip(&path, length as u64).unwrap();
            assert!(
                RowReader::open(&disk, &path).is_err_and(|error| error.is_corrupt()),
                "flipped at {length}"
            );
        }
    }

    #[test]
    fn what_was_not_renamed_is_removed() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("/redo"));
        crate::runs::disk::write_all(&disk, &dir.join("redo-0000000000000003.tmp"), b"half").unwrap();
        let redo = Redo { disk: &disk, dir };
        assert!(redo.found().unwrap().is_empty());
        assert!(disk.list(dir).unwrap().is_empty());
    }
}
