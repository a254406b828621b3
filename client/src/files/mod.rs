//! Files as events: JSON lines, and CSV by a mapping.
//!
//! [`Rows`] reads a file once, front to back, in a bounded buffer, and makes one [`IngestItem`] of each line that
//! isn't blank. No line is dropped and none stops the others: what can't be read as an event (not UTF-8, longer than
//! an item may be, a cell that isn't the number it should be) becomes an unreadable item that the hub keeps in
//! quarantine, with the line's number as its origin.
//!
//! JSON lines go out as they are, whatever they hold; the hub judges them. Only a message id is put into those that
//! have none ([`crate::message_id`]). Lines share large buffers, so a line costs one allocation: its origin.
//!
//! Left out: compressed files, Parquet, one JSON document over several lines.

mod cell;
mod lines;
mod mapping;
mod plan;
mod split;

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

pub use lines::{Line, Lines};
pub use mapping::{Mapping, MappingError};

use crate::{
    message_id,
    proto::{IngestItem, UnreadableItem, ingest_item::Body},
};
use plan::Plan;
use split::{Progress, Splitter};

/// The most that an item may hold, in bytes; of longer lines so much is kept.
pub const ITEM_BYTES_MAX: usize = 32 * 1024;
/// Lines are copied into buffers of this size, shared by the items cut from them.
const CHUNK_BYTES: usize = 256 * 1024;

/// How the rows of a file are to be read.
#[derive(Debug, Clone)]
pub enum Shape {
    /// One JSON object a line, in Segment's event shape.
    JsonLines,
    /// Columns, by a mapping.
    Csv(Mapping),
}

/// A row of a file, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The item.
    pub item: IngestItem,
    /// The number of its (first) line, from 1.
    pub line: u64,
}

/// Why a file can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The mapping doesn't fit its columns.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

/// The rows of one file.
pub struct Rows<R> {
    lines: Lines<R>,
    file: String,
    dataset: String,
    reading: Reading,
    chunk: BytesMut,
}

enum Reading {
    JsonLines,
    Csv(Box<Csv>),
}

struct Csv {
    plan: Plan,
    splitter: Splitter,
    /// The bytes of the record under way.
    record: Vec<u8>,
    quoted_newlines: bool,
}

impl<R: Read> Rows<R> {
    /// Begins to read. `file` names the origin of items (`file:line`), `dataset` goes into the ids of rows that have
    /// none: the same data set has to be sent under the same name.
    ///
    /// # Errors
    /// When the header can't be read, or the mapping names columns that aren't there.
    pub fn open(input: R, shape: Shape, file: &str, dataset: &str) -> Result<Self, OpenError> {
        let mut lines = Lines::new(input);
        let reading = match shape {
            Shape::JsonLines => Reading::JsonLines,
            Shape::Csv(mapping) => Reading::Csv(Box::new(Csv::open(&mut lines, &mapping)?)),
        };
        Ok(Self {
            lines,
            file: file.to_owned(),
            dataset: dataset.to_owned(),
            reading,
            chunk: BytesMut::new(),
        })
    }

    /// How many bytes have been read so far.
    pub fn consumed(&self) -> u64 {
        self.lines.consumed()
    }

    /// The next row; nothing at the end.
    ///
    /// # Errors
    /// When the file can't be read on.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        loop {
            let Some(line) = self.lines.next_line()? else { return Ok(None) };
            if line.bytes.iter().all(u8::is_ascii_whitespace) && line.is_whole() {
                continue;
            }
            let number = line.number;
            let body = match &mut self.reading {
                Reading::JsonLines => json_body(&line, &self.dataset, &mut self.chunk),
                Reading::Csv(csv) => {
                    csv.begin(&line);
                    csv.body(&mut self.lines, number, &self.dataset)?
                }
            };
            let item = IngestItem { body: Some(body), origin: format!("{}:{number}", self.file) };
            return Ok(Some(Row { item, line: number }));
        }
    }
}

/// A JSON line as an item's body.
fn json_body(line: &Line<'_>, dataset: &str, chunk: &mut BytesMut) -> Body {
    if let Some(problem) = problem_of(line) {
        return unreadable(line.bytes, "application/json", problem);
    }
    let slot = message_id::find_slot(line.bytes);
    let longer = if slot.is_open() { message_id::SPLICE_BYTES_MAX } else { 0 };
    if line.bytes.len() + longer > ITEM_BYTES_MAX {
        let problem = "the line is too long to be given a message id: give it one, or less to say";
        return unreadable(line.bytes, "application/json", problem.to_owned());
    }
    if chunk.capacity() < line.bytes.len() + longer {
        *chunk = BytesMut::with_capacity(CHUNK_BYTES);
    }
    if slot.is_open() {
        let id = message_id::of_row(dataset, line.number, line.bytes);
        message_id::splice(chunk, line.bytes, &slot, &id);
    } else {
        chunk.extend_from_slice(line.bytes);
    }
    Body::Json(chunk.split().freeze())
}

/// What keeps a line from being text of a bearable length.
fn problem_of(line: &Line<'_>) -> Option<String> {
    if line.length > ITEM_BYTES_MAX as u64 {
        return Some(format!("the line has {} bytes; at most {ITEM_BYTES_MAX} are taken", line.length));
    }
    let error = std::str::from_utf8(line.bytes).err()?;
    Some(format!("byte {} of the line isn't UTF-8: save the file as UTF-8", error.valid_up_to() + 1))
}

/// An item that the hub keeps in quarantine.
fn unreadable(bytes: &[u8], content_type: &str, problem: String) -> Body {
    let content = Bytes::copy_from_slice(&bytes[..bytes.len().min(ITEM_BYTES_MAX)]);
    Body::Unreadable(UnreadableItem { content, content_type: content_type.to_owned(), problem })
}

impl Csv {
    fn open<R: Read>(lines: &mut Lines<R>, mapping: &Mapping) -> Result<Self, OpenError> {
        let mut splitter = Splitter::new(mapping.delimiter());
        let mut header = Vec::new();
        if mapping.has_header() {
            while let Some(line) = lines.next_line()? {
                if line.bytes.iter().all(u8::is_ascii_whitespace) && line.is_whole() {
                    continue;
                }
                let text = problem_of(&line)
                    .map_or_else(|| std::str::from_utf8(line.bytes).map_err(|_| ()), |_| Err(()));
                splitter.begin();
                let whole =
                    text.is_ok_and(|text| matches!(splitter.feed(text.as_bytes()), Ok(Progress::Whole)));
                if !whole {
                    return Err(mapping.header_unreadable(line.number).into());
                }
                header = splitter.fields().map(str::to_owned).collect();
                break;
            }
        }
        let plan = Plan::bind(mapping, &header)?;
        Ok(Self { plan, splitter, record: Vec::new(), quoted_newlines: mapping.quoted_newlines() })
    }

    /// Takes a record's first line.
    fn begin(&mut self, line: &Line<'_>) {
        self.record.clear();
        self.record.extend_from_slice(line.bytes);
        self.splitter.begin();
        self.splitter.refuse(problem_of(line));
    }

    /// Makes an item's body of the record begun, reading on where a quoted field goes over several lines.
    fn body<R: Read>(&mut self, lines: &mut Lines<R>, number: u64, dataset: &str) -> io::Result<Body> {
        let mut from = 0;
        let problem = loop {
            match self.splitter.feed(&self.record[from..]) {
                Err(problem) => break problem,
                Ok(Progress::Whole) => match self.plan.event(&self.splitter) {
                    Ok(mut event) => {
                        if event.message_id.is_empty() {
                            event.message_id = message_id::of_row(dataset, number, &self.record);
                        }
                        return Ok(Body::Event(event));
                    }
                    Err(problem) => break problem,
                },
                Ok(Progress::Open) if !self.quoted_newlines => {
                    break "a quoted field isn't closed on its line; say `quoted_newlines = true` in the mapping if \
                           fields may hold line ends"
                        .to_owned();
                }
                Ok(Progress::Open) => {
                    let Some(line) = lines.next_line()? else {
                        break "a quoted field isn't closed before the file ends".to_owned();
                    };
                    self.record.push(b'\n');
                    from = self.record.len();
                    self.record.extend_from_slice(line.bytes);
                    if !line.is_whole() || self.record.len() > ITEM_BYTES_MAX {
                        break format!("a quoted field isn't closed within {ITEM_BYTES_MAX} bytes");
                    }
                    if let Some(problem) = problem_of(&line) {
                        break problem;
                    }
                }
            }
        };
        Ok(unreadable(&self.record, "text/csv", problem))
    }
}

#[cfg(test)]
mod tests;
