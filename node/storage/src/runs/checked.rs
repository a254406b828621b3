//! Files that are verified on every read.
//!
//! The `parquet` crate writes no page checksums, and a flat file has no pages of its own. So every data
//! file is cut into chunks of 4 KiB, and the index file beside it holds an XXH3-64 of each. A read fetches whole chunks
//! and verifies them before it hands out a byte. The whole file's XXH3-128 is in the manifest: that is what copies of
//! the file are checked against.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::disk::{Disk, DiskFile, DiskWriter};
use crate::{Error, Result};

/// Bytes of a chunk: a page of the operating system's cache.
pub(crate) const CHUNK_BYTES: usize = 4096;
/// A writer gathers so many bytes; a multiple of [`CHUNK_BYTES`].
const BUFFER_BYTES: usize = 64 * CHUNK_BYTES;

/// What is known of a file after it was written.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    pub bytes: u64,
    pub xxh3: [u8; 16],
    /// XXH3-64 of each chunk, little-endian, side by side.
    pub chunks: Bytes,
}

/// Writes a file and sums it up.
pub(crate) struct SummingWriter {
    writer: Box<dyn DiskWriter>,
    path: PathBuf,
    buffer: Vec<u8>,
    whole: Box<Xxh3>,
    bytes: u64,
    chunks: Vec<u8>,
}

impl SummingWriter {
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Self> {
        Ok(Self {
            writer: disk.create(path)?,
            path: path.to_path_buf(),
            buffer: Vec::with_capacity(BUFFER_BYTES),
            whole: Box::new(Xxh3::new()),
            bytes: 0,
            chunks: Vec::new(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends all of `bytes`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(Error::io("write", &self.path))
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.whole.update(&self.buffer);
        for chunk in self.buffer.chunks(CHUNK_BYTES) {
            self.chunks.extend_from_slice(&xxh3_64(chunk).to_le_bytes());
        }
        self.writer.write(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and syncs the file.
    pub fn finish(&mut self) -> Result<Sums> {
        self.write_out().map_err(Error::io("write", &self.path))?;
        self.writer.sync().map_err(Error::io("sync", &self.path))?;
        let xxh3 = self.whole.digest128().to_be_bytes();
        Ok(Sums { bytes: self.bytes, xxh3, chunks: std::mem::take(&mut self.chunks).into() })
    }
}

impl Write for SummingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == BUFFER_BYTES {
            self.write_out()?;
        }
        Ok(taken)
    }

    /// Nothing: a buffer in the middle of a chunk can't be summed up yet, and only [`SummingWriter::finish`] promises
    /// anything.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A data file with its chunks' checksums.
pub(crate) struct CheckedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    bytes: u64,
    chunks: Bytes,
}

impl CheckedFile {
    /// `chunks` as in [`Sums`].
    pub fn open(disk: &dyn Disk, path: PathBuf, bytes: u64, chunks: Bytes) -> Result<Self> {
        let file = disk.open(&path)?;
        if file.bytes() != bytes {
            return Err(Error::corrupt_at(
                &path,
                file.bytes(),
                format!("the file should have {bytes} bytes"),
            ));
        }
        if chunks.len() as u64 != bytes.div_ceil(CHUNK_BYTES as u64) * 8 {
            return Err(Error::corrupt_at(&path, 0, "the index has checksums of another file"));
        }
        Ok(Self { file, path, bytes, chunks })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads and verifies.
    pub fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let chunk = CHUNK_BYTES as u64;
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.bytes);
        let Some(end) = end else {
            return Err(Error::corrupt_at(&self.path, offset, "the index points behind the end of the file"));
        };
        let from = offset / chunk * chunk;
        let to = end.next_multiple_of(chunk).min(self.bytes);
        let mut buffer = vec![0; (to - from) as usize];
        self.file.read_at(&mut buffer, from).map_err(Error::io("read", &self.path))?;
        for (position, bytes) in buffer.chunks(CHUNK_BYTES).enumerate() {
            let number = (from / chunk) as usize + position;
            if self.chunks[number * 8..number * 8 + 8] != xxh3_64(bytes).to_le_bytes() {
                return Err(Error::corrupt_at(
                    &self.path,
                    number as u64 * chunk,
                    "a chunk's checksum does not fit",
                ));
            }
        }
        let start = (offset - from) as usize;
        Ok(Bytes::from(buffer).slice(start..start + length))
    }

    /// Verifies all chunks.
    pub fn scrub(&self) -> Result<()> {
        let mut offset = 0;
        while offset < self.bytes {
            let length = (self.bytes - offset).min(BUFFER_BYTES as u64);
            self.read(offset, length as usize)?;
            offset += length;
        }
        Ok(())
    }
}

/// The XXH3-128 of a file, read piece by piece.
pub(crate) fn sum_of(file: &dyn DiskFile, path: &Path) -> Result<[u8; 16]> {
    let mut whole = Box::new(Xxh3::new());
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < file.bytes() {
        let length = (file.bytes() - offset).min(BUFFER_BYTES as u64) as usize;
        file.read_at(&mut buffer[..length], offset).map_err(Error::io("read", path))?;
        whole.update(&buffer[..length]);
        offset += length as u64;
    }
    Ok(whole.digest128().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::disk::MemoryDisk;
    use super::*;

    fn file(length: usize) -> (MemoryDisk, CheckedFile, Vec<u8>) {
        let disk = MemoryDisk::new();
        let path = PathBuf::from("/file");
        let contents: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
        let mut writer = SummingWriter::create(&disk, &path).unwrap();
        for piece in contents.chunks(1000) {
            writer.write_all(piece).unwrap();
        }
        let sums = writer.finish().unwrap();
        assert_eq!(sums.xxh3, xxhash_rust::xxh3::xxh3_128(&contents).to_be_bytes());
        assert_eq!(sums.xxh3, sum_of(disk.open(&path).unwrap().as_ref(), &path).unwrap());
        let file = CheckedFile::open(&disk, path, sums.bytes, sums.chunks).unwrap();
        (disk, file, contents)
    }

    #[test]
    fn any_range_reads_as_written() {
        let (_, file, contents) = file(BUFFER_BYTES + 5000);
        for (offset, length) in [(0, 0), (0, 1), (4095, 2), (BUFFER_BYTES - 1, 4999), (0, contents.len())] {
            assert_eq!(file.read(offset as u64, length).unwrap(), contents[offset..offset + length]);
        }
        assert!(file.read(contents.len() as u64, 1).unwrap_err().is_corrupt());
    }

    #[test]
    fn a_flipped_byte_is_found_at_its_chunk_and_nowhere_else() {
        let (disk, file, _) = file(20_000);
        disk.flip(Path::new("/file"), 9000).unwrap();
        assert!(file.read(0, 8192).is_ok());
        let error = file.read(12_000, 500).unwrap_err();
        assert!(error.to_string().contains("offset 8192"), "{error}");
        assert!(file.scrub().unwrap_err().is_corrupt());
    }
}
