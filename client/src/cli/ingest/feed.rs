//! Cuts files into batches, on a thread of its own: reading may block.
//!
//! A batch holds items of one file only, at most so many and so large. The channel to the senders is short, so
//! reading waits when they do. What an earlier run dealt with is read over, if it is still what it was then.

use std::sync::Arc;

use crate::{files::Mark, proto::IngestItem};
use prost::{Message as _, length_delimiter_len};
use tokio::sync::mpsc;

use super::files::{Input, Opened};
use crate::cli::failure::Failure;

/// Kept free for what a request holds besides its items: key, source, framing.
const REQUEST_BYTES: usize = 8 << 10;

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub items: usize,
    pub bytes: usize,
}

/// What reading gives.
#[derive(Debug)]
pub enum Fed {
    Batch(Batch),
    /// A file isn't what it was when an earlier run dealt with its beginning: it comes from there again.
    Anew(usize),
    /// Something that people should know.
    Word(String),
    /// So many bytes of a file were read over.
    Passed(u64),
}

/// Some items of one file.
#[derive(Debug)]
pub struct Batch {
    /// Counts up from 0 over all files.
    pub sequence: u64,
    /// The number of the file.
    pub input: usize,
    pub file: Arc<str>,
    pub items: Vec<IngestItem>,
    /// The line of each item.
    pub lines: Vec<u64>,
    /// Up to where the file is read with it.
    pub mark: Mark,
    /// How many bytes of the file went by since the batch before.
    pub bytes_read: u64,
}

/// Nobody takes batches any more.
struct Unwanted;

/// Reads all inputs from where an earlier run came to, and sends their batches; ends early when nobody takes them.
pub fn feed(inputs: &[Input], from: &[Mark], limits: Limits, out: &mpsc::Sender<Fed>) -> Result<(), Failure> {
    let mut sequence = 0;
    for (number, input) in inputs.iter().enumerate() {
        let from = from.get(number).copied().unwrap_or_default();
        let Ok(opened) = begin(number, input, &from, out)? else { return Ok(()) };
        if one(number, input, opened, limits, &mut sequence, out)?.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn send(out: &mpsc::Sender<Fed>, fed: Fed) -> Result<(), Unwanted> {
    out.blocking_send(fed).map_err(|_| Unwanted)
}

/// Opens a file and reads over what was dealt with.
fn begin(
    number: usize,
    input: &Input,
    from: &Mark,
    out: &mpsc::Sender<Fed>,
) -> Result<Result<Opened, Unwanted>, Failure> {
    let mut opened = input.open()?;
    if from.lines == 0 {
        return Ok(Ok(opened));
    }
    if opened.rows.skip(from).map_err(|error| broken(input, &opened, &error))? {
        let word = format!("{}: going on behind line {}", input.name, from.lines);
        let sent = send(out, Fed::Passed(opened.advance())).and_then(|()| send(out, Fed::Word(word)));
        return Ok(sent.map(|()| opened));
    }
    let word = format!("{}: has changed since the run before: it is sent from its beginning", input.name);
    if send(out, Fed::Anew(number)).and_then(|()| send(out, Fed::Word(word))).is_err() {
        return Ok(Err(Unwanted));
    }
    Ok(Ok(input.open()?))
}

fn broken(input: &Input, opened: &Opened, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{}: behind line {}: {error}", input.name, opened.rows.mark().lines))
}

/// Sends the batches of one file, also those before a place where it can't be read any more.
fn one(
    number: usize,
    input: &Input,
    mut opened: Opened,
    limits: Limits,
    sequence: &mut u64,
    out: &mpsc::Sender<Fed>,
) -> Result<Result<(), Unwanted>, Failure> {
    let bytes_max = limits.bytes.saturating_sub(REQUEST_BYTES);
    let mut batch = Pending::new(limits.items);
    loop {
        let (row, failure) = match opened.rows.next_row() {
            Ok(row) => (row, None),
            Err(error) => (None, Some(broken(input, &opened, &error))),
        };
        let size = row.as_ref().map_or(0, |row| framed_len(&row.item));
        let full = batch.items.len() == limits.items || batch.bytes + size > bytes_max;
        if !batch.items.is_empty() && (full || row.is_none()) {
            let taken = std::mem::replace(&mut batch, Pending::new(limits.items));
            let sent = Batch {
                sequence: *sequence,
                input: number,
                file: input.name.clone(),
                items: taken.items,
                lines: taken.lines,
                mark: taken.mark,
                bytes_read: opened.advance(),
            };
            if send(out, Fed::Batch(sent)).is_err() {
                return Ok(Err(Unwanted));
            }
            *sequence += 1;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        let Some(row) = row else { break };
        batch.bytes += size;
        batch.lines.push(row.line);
        batch.items.push(row.item);
        batch.mark = opened.rows.mark();
    }
    if send(out, Fed::Passed(opened.advance())).is_err() {
        return Ok(Err(Unwanted));
    }
    let unseen = opened.rows.never_seen();
    if unseen.is_empty() {
        return Ok(Ok(()));
    }
    let word = format!("{}: no line had what the mapping names: {}", input.name, unseen.join(", "));
    Ok(send(out, Fed::Word(word)))
}

/// A batch that is being filled.
struct Pending {
    items: Vec<IngestItem>,
    lines: Vec<u64>,
    bytes: usize,
    mark: Mark,
}

impl Pending {
    fn new(items: usize) -> Self {
        Self {
            items: Vec::with_capacity(items),
            lines: Vec::with_capacity(items),
            bytes: 0,
            mark: Mark::default(),
        }
    }
}

/// What an item adds to a request: itself, its length, its tag.
fn framed_len(item: &IngestItem) -> usize {
    let length = item.encoded_len();
    1 + length_delimiter_len(length) + length
}
