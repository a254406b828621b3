//! Checks the files of a raft-engine log before the engine opens them: tells a torn end from damage.
//!
//! ## Why
//!
//! raft-engine by itself cuts its newest file at the first record that does not verify, *whatever comes after it*:
//! a flipped bit in the middle would silently drop every later, acknowledged record. It also checks only the footers
//! of records, not the entries, and skips files when one between them is missing. So this module reads all files
//! first, verifies every checksum, and decides.
//!
//! ## How
//!
//! We sync each record of the append queue before the next one is written. So what a crash leaves is a valid prefix
//! and behind it at most one torn record, or zeros that were allocated ahead. If anything *behind* the first broken
//! record still verifies, then that record was synced once and is damaged: refused, with file and offset. Otherwise
//! the end is torn: it is cut off here, and the engine is opened in the mode that accepts no damage at all. Of files
//! but the newest nothing may be broken: the engine syncs a file before it begins the next.
//!
//! Records are searched byte by byte behind the break, since the length of a broken record cannot be trusted. A
//! record's footer checksum is signed with the number of its file, so remains of other files do not count.
//!
//! ## The format (raft-engine 0.4, version 2)
//!
//! File: magic, version (u64), alignment (u64, 0), then records. Record: `length << 8 | compression` (u64), offset of
//! the footer (u64), entries with CRC-32 (little-endian; nothing at all when there are no entries), footer with
//! CRC-32 xor file number. Numbers are big-endian but for the checksums.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const FORMAT_VERSION: u64 = 2;
const FILE_HEADER_BYTES: usize = MAGIC.len() + 8 + 8;
const RECORD_HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
/// The two queues: appended records, and those that a purge has copied.
const SUFFIXES: [&str; 2] = [".raftlog", ".rewrite"];
const NUMBER_DIGITS: usize = 16;
/// How many bytes the search behind a break may checksum in one file, so that no content makes it endless.
const SEARCH_BYTES_MAX: usize = 1 << 30;

/// Verifies all log files in `dir` and cuts a torn end off.
pub(super) fn verify(dir: &Path) -> Result<()> {
    for suffix in SUFFIXES {
        let files = numbered_files(dir, suffix)?;
        for two in files.windows(2) {
            if two[1].0 != two[0].0 + 1 {
                return Err(Error::corrupt(
                    two[0].1.display().to_string(),
                    "the log file after it is missing",
                ));
            }
        }
        for (position, (number, path)) in files.iter().enumerate() {
            let bytes = fs::read(path).map_err(Error::io("read", path))?;
            let Err(broken) = check_file(&bytes, *number) else { continue };
            let newest = position + 1 == files.len();
            if !newest || record_follows(&bytes, broken.offset, *number) {
                return Err(Error::corrupt_at(path, broken.offset as u64, broken.what));
            }
            cut(path, broken.offset)?;
        }
    }
    Ok(())
}

/// The bytes in all log files of `dir`.
pub(super) fn bytes_in(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for suffix in SUFFIXES {
        for (_, path) in numbered_files(dir, suffix)? {
            match fs::metadata(&path) {
                Ok(metadata) => total += metadata.len(),
                // Purged meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &path)(error)),
            }
        }
    }
    Ok(total)
}

/// The files of a queue with their numbers, in order.
fn numbered_files(dir: &Path, suffix: &str) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
        if let Some(number) = number.filter(|number| number.len() == NUMBER_DIGITS)
            && let Ok(number) = number.parse()
        {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Where the valid prefix of a file ends, and why.
#[derive(Debug, PartialEq)]
struct Broken {
    offset: usize,
    what: &'static str,
}

fn check_file(bytes: &[u8], number: u64) -> std::result::Result<(), Broken> {
    if !bytes.starts_with(&file_header()) {
        return Err(Broken { offset: 0, what: "the file header is damaged" });
    }
    let mut offset = FILE_HEADER_BYTES;
    while offset < bytes.len() {
        let broken = |what| Broken { offset, what };
        let record =
            Record::at(bytes, offset).ok_or_else(|| broken("no record of a sound length begins here"))?;
        if !record.footer_verifies(number) {
            return Err(broken("the checksum of the record does not fit"));
        }
        if !record.entries_verify() {
            return Err(broken("the checksum of the entries does not fit"));
        }
        offset += record.bytes.len();
    }
    Ok(())
}

/// Whether a valid record begins anywhere behind `offset`; also `true` when that takes too long to find out.
fn record_follows(bytes: &[u8], offset: usize, number: u64) -> bool {
    let mut searched = 0;
    for start in offset + 1..bytes.len().saturating_sub(RECORD_HEADER_BYTES) {
        // In the first eight bytes only the lower five of the length are used by records of less than a terabyte.
        if bytes[start] != 0 || bytes[start + 1] != 0 {
            continue;
        }
        if let Some(record) = Record::at(bytes, start) {
            searched += record.footer.len();
            if searched > SEARCH_BYTES_MAX || record.footer_verifies(number) {
                return true;
            }
        }
    }
    false
}

/// A record of a sound shape, not yet verified.
struct Record<'a> {
    bytes: &'a [u8],
    entries: &'a [u8],
    footer: &'a [u8],
}

impl<'a> Record<'a> {
    fn at(file: &'a [u8], offset: usize) -> Option<Self> {
        let rest = &file[offset..];
        let (length, rest_of_header) = rest.split_first_chunk::<8>()?;
        let footer_offset = usize::try_from(u64::from_be_bytes(*rest_of_header.first_chunk::<8>()?)).ok()?;
        let length_and_compression = u64::from_be_bytes(*length);
        let length = usize::try_from(length_and_compression >> 8).ok()?;
        // We write without compression, 0. No checksum covers this byte, so any other is damage.
        let sound = length_and_compression & 0xff == 0
            && footer_offset >= RECORD_HEADER_BYTES
            && length <= rest.len()
            && footer_offset.checked_add(CHECKSUM_BYTES)? < length;
        sound.then(|| Self {
            bytes: &rest[..length],
            entries: &rest[RECORD_HEADER_BYTES..footer_offset],
            footer: &rest[footer_offset..length],
        })
    }

    fn footer_verifies(&self, number: u64) -> bool {
        // The signature is the lower half of the file's number.
        checksum_fits(self.footer, number as u32)
    }

    fn entries_verify(&self) -> bool {
        self.entries.is_empty() || checksum_fits(self.entries, 0)
    }
}

fn checksum_fits(block: &[u8], signature: u32) -> bool {
    block.split_last_chunk::<CHECKSUM_BYTES>().is_some_and(|(content, checksum)| {
        crc32fast::hash(content) == u32::from_le_bytes(*checksum) ^ signature
    })
}

fn file_header() -> Vec<u8> {
    [MAGIC, &FORMAT_VERSION.to_be_bytes(), &0u64.to_be_bytes()].concat()
}

/// Cuts the torn end off, durably. A file whose header is torn becomes an empty log file of the same number.
fn cut(path: &Path, offset: usize) -> Result<()> {
    tracing::warn!(file = %path.display(), offset, "cutting the torn end of the raft log off");
    let mut file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    file.set_len(offset as u64).map_err(Error::io("cut", path))?;
    if offset == 0 {
        file.write_all(&file_header()).map_err(Error::io("write", path))?;
    }
    file.sync_all().map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: u64 = 7;

    fn record(entries: &[u8], footer: &[u8]) -> Vec<u8> {
        let mut block = entries.to_vec();
        if !entries.is_empty() {
            block.extend(crc32fast::hash(entries).to_le_bytes());
        }
        let footer_offset = RECORD_HEADER_BYTES + block.len();
        let length = footer_offset + footer.len() + CHECKSUM_BYTES;
        let mut bytes = ((length as u64) << 8).to_be_bytes().to_vec();
        bytes.extend((footer_offset as u64).to_be_bytes());
        bytes.extend(block);
        bytes.extend(footer);
        bytes.extend((crc32fast::hash(footer) ^ NUMBER as u32).to_le_bytes());
        bytes
    }

    fn three_records() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file_header();
        let mut ends = vec![bytes.len()];
        for (entries, footer) in
            [(&b"entries of one"[..], &b"one"[..]), (b"", b"two"), (b"of three", b"three")]
        {
            bytes.extend(record(entries, footer));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_file_cut_anywhere_is_valid_up_to_its_last_whole_record() {
        let (bytes, ends) = three_records();
        for length in 0..=bytes.len() {
            let cut = &bytes[..length];
            match check_file(cut, NUMBER) {
                Ok(()) => assert!(ends.contains(&length)),
                Err(broken) => {
                    let valid = ends.iter().rev().find(|end| **end <= length).copied().unwrap_or(0);
                    assert_eq!(broken.offset, valid);
                    assert!(!record_follows(cut, broken.offset, NUMBER), "cut at {length}");
                }
            }
        }
    }

    #[test]
    fn a_flip_before_the_last_record_is_damage_and_one_in_it_is_a_torn_end() {
        let (bytes, ends) = three_records();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            let broken = check_file(&damaged, NUMBER).unwrap_err();
            assert_eq!(
                record_follows(&damaged, broken.offset, NUMBER),
                position < ends[2],
                "flip at {position}"
            );
        }
    }

    #[test]
    fn zeros_allocated_ahead_are_a_torn_end() {
        let (mut bytes, ends) = three_records();
        bytes.resize(bytes.len() + 4096, 0);
        let broken = check_file(&bytes, NUMBER).unwrap_err();
        assert_eq!(broken.offset, ends[3]);
        assert!(!record_follows(&bytes, broken.offset, NUMBER));
    }

    #[test]
    fn records_of_another_file_do_not_count() {
        let (bytes, _) = three_records();
        assert_eq!(check_file(&bytes, NUMBER + 1).unwrap_err().offset, FILE_HEADER_BYTES);
        assert!(!record_follows(&bytes, FILE_HEADER_BYTES, NUMBER + 1));
    }
}
