//! Files as events: JSON lines, as they are or by a mapping, CSV by a mapping, Parquet either way.
//!
//! [`Rows`] reads a file once, front to back, in bounded memory, and makes one [`IngestItem`] of each line that isn't
//! blank, or of each row. No line is dropped and none stops the others: what can't be read as an event (not UTF-8,
//! longer than an item may be, a cell that isn't the number it should be) becomes an unreadable item that the hub keeps
//! in quarantine, with the line's number as its origin.
//!
//! JSON lines go out as they are, whatever they hold; the hub judges them. Only a message id is put into those that
//! have none ([`crate::message_id`]). Lines share large buffers, so a line costs one allocation: its origin. A row of
//! Parquet without a mapping is treated as the JSON line that says the same.
//!
//! [`unpacked`] takes gzip and Zstandard off. [`Rows::mark`] says how far a file was read, so that another run can go on
//! there ([`Rows::skip`]). [`infer`] guesses a first mapping.
//!
//! Left out: one JSON document over several lines.

mod arrow_value;
mod cell;
mod columnar;
mod compressed;
pub mod infer;
mod lines;
mod mapping;
mod objects;
mod plan;
mod record;
mod split;
mod table;
mod text;

use std::{
    fs::File,
    io::{self, Read},
};

pub use compressed::{Compression, Reader, is_parquet, unpacked};
pub use lines::{Line, Lines, Mark};
pub use mapping::{Mapping, MappingError};

use crate::proto::{IngestItem, ingest_item::Body};
use table::TableRows;
use text::Text;

/// The most that an item may hold, in bytes; of longer lines so much is kept.
pub const ITEM_BYTES_MAX: usize = 32 * 1024;

/// How the lines of a text file are to be read.
#[derive(Debug, Clone)]
pub enum Shape {
    /// One JSON object a line, in Segment's event shape.
    JsonLines,
    /// One JSON object a line, its keys by a mapping.
    Objects(Mapping),
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
    reading: Reading<R>,
    file: String,
    dataset: String,
}

enum Reading<R> {
    Text(Box<Text<R>>),
    Table(Box<TableRows>),
}

impl<R: Read> Rows<R> {
    /// Begins to read text. `file` names the origin of items (`file:line`), `dataset` goes into the ids of rows that have
    /// none: the same data set has to be sent under the same name.
    ///
    /// # Errors
    /// When the header can't be read, or the mapping names columns that aren't there.
    pub fn open(input: R, shape: &Shape, file: &str, dataset: &str) -> Result<Self, OpenError> {
        Ok(Self {
            reading: Reading::Text(Box::new(Text::open(input, shape)?)),
            file: file.to_owned(),
            dataset: dataset.to_owned(),
        })
    }

    /// Begins to read a Parquet file: with a mapping, or each row as an event whose fields are the columns.
    ///
    /// # Errors
    /// When it isn't a Parquet file, a column that is asked for holds binary data, or the mapping names columns that
    /// aren't there.
    pub fn open_parquet(
        input: File,
        mapping: Option<&Mapping>,
        file: &str,
        dataset: &str,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            reading: Reading::Table(Box::new(TableRows::open(input, mapping)?)),
            file: file.to_owned(),
            dataset: dataset.to_owned(),
        })
    }

    /// How much has been read so far: bytes of text, rows of Parquet.
    pub fn consumed(&self) -> u64 {
        match &self.reading {
            Reading::Text(text) => text.lines.consumed(),
            Reading::Table(table) => table.mark().lines,
        }
    }

    /// How many rows there are, where that is known beforehand: in Parquet.
    pub fn rows(&self) -> Option<u64> {
        match &self.reading {
            Reading::Text(_) => None,
            Reading::Table(table) => Some(table.rows()),
        }
    }

    /// How far it was read, so that another run can go on behind the row handed out last.
    pub fn mark(&self) -> Mark {
        match &self.reading {
            Reading::Text(text) => text.lines.mark(),
            Reading::Table(table) => table.mark(),
        }
    }

    /// Reads up to where another run came, and tells whether all up to there is what it was then. If not, the file has
    /// to be opened again.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn skip(&mut self, to: &Mark) -> io::Result<bool> {
        loop {
            let here = match &self.reading {
                Reading::Text(text) => text.lines.number(),
                Reading::Table(table) => table.mark().lines,
            };
            if here >= to.lines {
                return Ok(self.mark() == *to);
            }
            let more = match &mut self.reading {
                Reading::Text(text) => text.lines.next_line()?.is_some(),
                Reading::Table(table) => table.pass()?,
            };
            if !more {
                return Ok(false);
            }
        }
    }

    /// Columns that the mapping names and no JSON line had so far.
    pub fn never_seen(&self) -> Vec<&str> {
        match &self.reading {
            Reading::Text(text) => text.never_seen(),
            Reading::Table(_) => Vec::new(),
        }
    }

    /// The next row; nothing at the end.
    ///
    /// # Errors
    /// When the file can't be read on.
    pub fn next_row(&mut self) -> io::Result<Option<Row>> {
        let next = match &mut self.reading {
            Reading::Text(text) => text.next_body(&self.dataset)?,
            Reading::Table(table) => table.next_body(&self.dataset)?,
        };
        let row = |(line, body): (u64, Body)| {
            let item = IngestItem { body: Some(body), origin: format!("{}:{line}", self.file) };
            Row { item, line }
        };
        Ok(next.map(row))
    }
}

#[cfg(test)]
mod tests;
