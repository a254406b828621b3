//! Lines as items: JSON lines as they are or by a mapping, and CSV by a mapping.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

use super::{
    ITEM_BYTES_MAX, Line, Lines, Mapping, OpenError, Shape,
    objects::Object,
    plan::Plan,
    record::{Cell, Record as _},
    split::{Progress, Splitter},
};
use crate::{
    message_id,
    proto::{UnreadableItem, ingest_item::Body},
};

/// Lines are copied into buffers of this size, shared by the items cut from them.
const CHUNK_BYTES: usize = 256 * 1024;

/// A text file under way.
pub(super) struct Text<R> {
    pub(super) lines: Lines<R>,
    reading: Reading,
    chunk: BytesMut,
}

enum Reading {
    JsonLines,
    Objects(Box<Objects>),
    Csv(Box<Csv>),
}

impl<R: Read> Text<R> {
    pub(super) fn open(input: R, shape: &Shape) -> Result<Self, OpenError> {
        let mut lines = Lines::new(input);
        let reading = match shape {
            Shape::JsonLines => Reading::JsonLines,
            Shape::Objects(mapping) => Reading::Objects(Box::new(Objects::open(mapping)?)),
            Shape::Csv(mapping) => Reading::Csv(Box::new(Csv::open(&mut lines, mapping)?)),
        };
        Ok(Self { lines, reading, chunk: BytesMut::new() })
    }

    /// The next line that isn't blank, as an item's body; nothing at the end.
    pub(super) fn next_body(&mut self, dataset: &str) -> io::Result<Option<(u64, Body)>> {
        loop {
            let Some(line) = self.lines.next_line()? else { return Ok(None) };
            if is_blank(&line) {
                continue;
            }
            let number = line.number;
            let body = match &mut self.reading {
                Reading::JsonLines => json_body(&line, dataset, &mut self.chunk),
                Reading::Objects(objects) => objects.body(&line, dataset),
                Reading::Csv(csv) => {
                    csv.begin(&line);
                    csv.body(&mut self.lines, number, dataset)?
                }
            };
            return Ok(Some((number, body)));
        }
    }

    /// Columns that the mapping names and no line had so far.
    pub(super) fn never_seen(&self) -> Vec<&str> {
        let Reading::Objects(objects) = &self.reading else { return Vec::new() };
        let columns = objects.plan.columns().iter().zip(&objects.seen);
        columns.filter(|(_, seen)| !**seen).map(|(column, _)| column.as_str()).collect()
    }
}

/// Whether a line holds nothing but white space.
pub(super) fn is_blank(line: &Line<'_>) -> bool {
    line.bytes.iter().all(u8::is_ascii_whitespace) && line.is_whole()
}

/// A JSON line as an item's body.
fn json_body(line: &Line<'_>, dataset: &str, chunk: &mut BytesMut) -> Body {
    match problem_of(line) {
        Some(problem) => unreadable(line.bytes, "application/json", problem),
        None => json_item(line.number, line.bytes, dataset, chunk),
    }
}

/// JSON text as an item's body, with a message id put in if it has none.
pub(super) fn json_item(number: u64, text: &[u8], dataset: &str, chunk: &mut BytesMut) -> Body {
    let slot = message_id::find_slot(text);
    let longer = if slot.is_open() { message_id::SPLICE_BYTES_MAX } else { 0 };
    if text.len() + longer > ITEM_BYTES_MAX {
        let problem = "the line is too long to be given a message id: give it one, or less to say";
        return unreadable(text, "application/json", problem.to_owned());
    }
    if chunk.capacity() < text.len() + longer {
        *chunk = BytesMut::with_capacity(CHUNK_BYTES);
    }
    if slot.is_open() {
        let id = message_id::of_row(dataset, number, text);
        message_id::splice(chunk, text, &slot, &id);
    } else {
        chunk.extend_from_slice(text);
    }
    Body::Json(chunk.split().freeze())
}

/// What keeps a line from being text of a bearable length.
pub(super) fn problem_of(line: &Line<'_>) -> Option<String> {
    if line.length > ITEM_BYTES_MAX as u64 {
        return Some(format!("the line has {} bytes; at most {ITEM_BYTES_MAX} are taken", line.length));
    }
    let error = std::str::from_utf8(line.bytes).err()?;
    Some(format!("byte {} of the line isn't UTF-8: save the file as UTF-8", error.valid_up_to() + 1))
}

/// An item that the hub keeps in quarantine.
pub(super) fn unreadable(bytes: &[u8], content_type: &str, problem: String) -> Body {
    let content = Bytes::copy_from_slice(&bytes[..bytes.len().min(ITEM_BYTES_MAX)]);
    Body::Unreadable(UnreadableItem { content, content_type: content_type.to_owned(), problem })
}

/// JSON lines by a mapping.
struct Objects {
    plan: Plan,
    /// Which of its columns some line had.
    seen: Vec<bool>,
}

impl Objects {
    fn open(mapping: &Mapping) -> Result<Self, OpenError> {
        if let Some(error) = mapping.only_for_csv() {
            return Err(error.into());
        }
        let plan = Plan::bind_open(mapping)?;
        Ok(Self { seen: vec![false; plan.columns().len()], plan })
    }

    fn body(&mut self, line: &Line<'_>, dataset: &str) -> Body {
        let event = match problem_of(line) {
            Some(problem) => Err(problem),
            None => Object::read(line.bytes, self.plan.columns()).and_then(|object| {
                for (column, seen) in self.seen.iter_mut().enumerate().filter(|(_, seen)| !**seen) {
                    *seen = object.cell(column) != Ok(Cell::Empty);
                }
                self.plan.event(&object)
            }),
        };
        match event {
            Ok(mut event) => {
                if event.message_id.is_empty() {
                    event.message_id = message_id::of_row(dataset, line.number, line.bytes);
                }
                Body::Event(event)
            }
            Err(problem) => unreadable(line.bytes, "application/json", problem),
        }
    }
}

/// CSV by a mapping.
struct Csv {
    plan: Plan,
    splitter: Splitter,
    /// The bytes of the record under way.
    record: Vec<u8>,
    quoted_newlines: bool,
}

impl Csv {
    fn open<R: Read>(lines: &mut Lines<R>, mapping: &Mapping) -> Result<Self, OpenError> {
        let mut splitter = Splitter::new(mapping.delimiter());
        let mut header = Vec::new();
        if mapping.has_header() {
            while let Some(line) = lines.next_line()? {
                if is_blank(&line) {
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
