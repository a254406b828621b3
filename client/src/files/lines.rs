//! Lines of a file of any size, in a bounded buffer.
//!
//! A line ends with LF or CR LF, which aren't part of it; the last may lack its end. A byte-order mark before the
//! first line is left out. Of a line longer than the buffer only the beginning is kept, but all of it is counted, so
//! that the numbers of later lines stay right. A running hash tells whether the same lines came as another time.

use std::io::{self, ErrorKind, Read};

use super::ITEM_BYTES_MAX;

/// How much is read at once.
const BUFFER_BYTES: usize = 256 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes, without its end. Of a very long line the first [`ITEM_BYTES_MAX`] alone.
    pub bytes: &'a [u8],
    /// How many bytes it really has.
    pub length: u64,
}

impl Line<'_> {
    /// Whether `bytes` is all of it.
    pub fn is_whole(&self) -> bool {
        self.length == self.bytes.len() as u64
    }
}

/// How far a file was read: so many lines or rows, and a hash of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// How many lines (of a Parquet file: rows) were read.
    pub lines: u64,
    /// The first half of their BLAKE3 hash.
    pub digest: u128,
}

impl Mark {
    pub(super) fn of(lines: u64, hash: &blake3::Hasher) -> Self {
        let digest =
            hash.finalize().as_bytes().iter().take(16).fold(0, |all, &byte| all << 8 | u128::from(byte));
        Self { lines, digest }
    }
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// The unread part of `buffer`.
    start: usize,
    end: usize,
    ended: bool,
    number: u64,
    consumed: u64,
    /// Over all lines so far, each with an LF behind it, whatever its end is.
    hash: blake3::Hasher,
    /// The beginning of a line longer than the buffer.
    long: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads nothing yet.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            ended: false,
            number: 0,
            consumed: 0,
            hash: blake3::Hasher::new(),
            long: Vec::new(),
        }
    }

    /// How many bytes have been handed out so far, line ends included.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How many lines have been handed out.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How far it was read: so many lines, and what they were.
    pub fn mark(&self) -> Mark {
        Mark::of(self.number, &self.hash)
    }

    /// The next line; nothing at the end.
    ///
    /// # Errors
    /// When the input can't be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = self.start;
        let end = loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                break searched + found;
            }
            searched = self.end;
            if self.ended {
                if self.start == self.end {
                    return Ok(None);
                }
                break self.end;
            }
            if self.start == 0 && self.end == self.buffer.len() {
                return self.long_line().map(Some);
            }
            searched -= self.fill()?;
        };
        let whole = self.start..end;
        self.start = (end + 1).min(self.end);
        self.consumed += (self.start - whole.start) as u64;
        let mut bytes = &self.buffer[whole];
        if self.number == 0 {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        self.number += 1;
        self.hash.update(bytes).update(b"\n");
        Ok(Some(Line { number: self.number, bytes, length: bytes.len() as u64 }))
    }

    /// Reads more behind what is there, after moving that to the front; returns by how much it moved.
    fn fill(&mut self) -> io::Result<usize> {
        let moved = self.start;
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - moved);
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => break result?,
            }
        };
        self.end += count;
        self.ended = count == 0;
        Ok(moved)
    }

    /// The line that fills the whole buffer: its beginning is kept, the rest counted.
    fn long_line(&mut self) -> io::Result<Line<'_>> {
        self.long.clear();
        self.long.extend_from_slice(&self.buffer[..ITEM_BYTES_MAX]);
        let mut length = 0_u64;
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.start..self.end]);
            let count = found.unwrap_or(self.end - self.start);
            length += count as u64;
            self.hash.update(&self.buffer[self.start..self.start + count]);
            self.start += count;
            if found.is_some() {
                self.start += 1;
                self.consumed += 1;
                break;
            }
            if self.ended {
                break;
            }
            self.fill()?;
        }
        self.consumed += length;
        self.number += 1;
        self.hash.update(b"\n");
        Ok(Line { number: self.number, bytes: &self.long, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands out a few bytes at a time.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(input: &[u8], step: usize) -> (Vec<(u64, Vec<u8>)>, u64) {
        let mut lines = Lines::new(Dribble(input, step));
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push((line.number, line.bytes.to_vec()));
        }
        (found, lines.consumed())
    }

    #[test]
    fn line_ends_and_a_byte_order_mark_are_not_part_of_lines() {
        let (lines, consumed) = all(b"\xef\xbb\xbfa\r\n\n b\nlast", 3);
        let expected: Vec<(u64, Vec<u8>)> =
            vec![(1, b"a".into()), (2, b"".into()), (3, b" b".into()), (4, b"last".into())];
        assert_eq!(lines, expected);
        assert_eq!(consumed, 14);
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_cut_and_counted() {
        let mut input = vec![b'x'; 3 * BUFFER_BYTES + 5];
        input.extend(b"\nnext\n");
        for step in [1000, usize::MAX] {
            let mut lines = Lines::new(Dribble(&input, step));
            let long = lines.next_line().unwrap().unwrap();
            assert_eq!((long.number, long.bytes.len()), (1, ITEM_BYTES_MAX));
            assert_eq!(long.length, 3 * BUFFER_BYTES as u64 + 5);
            assert!(!long.is_whole());
            let next = lines.next_line().unwrap().unwrap();
            assert_eq!((next.number, next.bytes), (2, &b"next"[..]));
            assert!(lines.next_line().unwrap().is_none());
            assert_eq!(lines.consumed(), input.len() as u64);
        }
    }

    proptest! {
        #[test]
        fn lines_equal_those_of_a_split(input in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a')], 0..200), step in 1_usize..9) {
            let mut expected: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            let (lines, consumed) = all(&input, step);
            prop_assert_eq!(consumed, input.len() as u64);
            prop_assert_eq!(lines.len(), expected.len());
            let marks = [step, 200].map(|step| {
                let mut lines = Lines::new(Dribble(&input, step));
                std::iter::from_fn(|| lines.next_line().unwrap().is_some().then_some(())).count();
                lines.mark()
            });
            prop_assert_eq!(marks[0], marks[1]);
            for (position, (number, bytes)) in lines.iter().enumerate() {
                prop_assert_eq!(*number, position as u64 + 1);
                let line = expected[position];
                prop_assert_eq!(bytes.as_slice(), line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
    }
}
