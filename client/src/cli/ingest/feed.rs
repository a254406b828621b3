//! Cuts files into batches, on a thread of its own: reading may block.
//!
//! A batch holds items of one file only, at most so many and so large. The channel to the senders is short, so
//! reading waits when they do.

use std::sync::Arc;

use crate::proto::IngestItem;
use prost::{Message as _, length_delimiter_len};
use tokio::sync::mpsc;

use super::files::Input;
use crate::cli::failure::Failure;

/// Kept free for what a request holds besides its items: key, source, framing.
const REQUEST_BYTES: usize = 8 << 10;

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub items: usize,
    pub bytes: usize,
}

/// Some items of one file.
#[derive(Debug)]
pub struct Batch {
    /// Counts up from 0 over all files.
    pub sequence: u64,
    pub file: Arc<str>,
    pub items: Vec<IngestItem>,
    /// The line of each item.
    pub lines: Vec<u64>,
    /// How many bytes of the file went by since the batch before.
    pub bytes_read: u64,
}

/// Reads all inputs and sends their batches; ends early when nobody takes them any more.
pub fn feed(inputs: &[Input], limits: Limits, out: &mpsc::Sender<Batch>) -> Result<(), Failure> {
    let bytes_max = limits.bytes.saturating_sub(REQUEST_BYTES);
    let mut sequence = 0;
    for input in inputs {
        let mut rows = input.open()?;
        let mut batch = Pending::new(limits.items);
        loop {
            let row = rows.next_row().map_err(|error| Failure::Failed(format!("{}: {error}", input.name)))?;
            let size = row.as_ref().map_or(0, |row| framed_len(&row.item));
            let full = batch.items.len() == limits.items || batch.bytes + size > bytes_max;
            if !batch.items.is_empty() && (full || row.is_none()) {
                let taken = std::mem::replace(&mut batch, Pending::new(limits.items));
                let bytes_read = rows.consumed() - taken.consumed_before;
                batch.consumed_before = rows.consumed();
                let (items, lines) = (taken.items, taken.lines);
                let sent = Batch { sequence, file: input.name.clone(), items, lines, bytes_read };
                if out.blocking_send(sent).is_err() {
                    return Ok(());
                }
                sequence += 1;
            }
            let Some(row) = row else { break };
            batch.bytes += size;
            batch.lines.push(row.line);
            batch.items.push(row.item);
        }
    }
    Ok(())
}

/// A batch that is being filled.
struct Pending {
    items: Vec<IngestItem>,
    lines: Vec<u64>,
    bytes: usize,
    consumed_before: u64,
}

impl Pending {
    fn new(items: usize) -> Self {
        Self {
            items: Vec::with_capacity(items),
            lines: Vec::with_capacity(items),
            bytes: 0,
            consumed_before: 0,
        }
    }
}

/// What an item adds to a request: itself, its length, its tag.
fn framed_len(item: &IngestItem) -> usize {
    let length = item.encoded_len();
    1 + length_delimiter_len(length) + length
}
