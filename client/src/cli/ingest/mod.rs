//! `isthmus ingest FILE…`: sends the events in files.
//!
//! A thread of its own reads the files front to back and cuts them into batches (`feed`); a bounded number of batches
//! is under way at once (`send`); what became of each item is counted and shown (`tally`). Memory is bounded by the
//! batches under way, whatever the files' size.
//!
//! A batch that fails for the moment is repeated until `--retry-for` has passed. Any other failure, and Ctrl-C, lets
//! the batches under way end, says how far everything is stored, and exits with 1. Sending the files again is safe:
//! what was stored counts as duplicate then.

mod feed;
mod files;
mod send;
mod tally;

use std::{path::PathBuf, time::Duration};

use crate::Client;
use clap::{Args, ValueEnum};

use crate::cli::{
    failure::{Done, Failure},
    output::Output,
};
use feed::Limits;

/// The hub's own bounds of a batch.
const ITEMS_MAX: usize = 2_500;
const BYTES_MAX: usize = 4 << 20;
/// The largest item must fit into the smallest batch.
const BYTES_MIN: usize = 64 << 10;
const PARALLEL_MAX: usize = 64;

const EXAMPLES: &str = "\
Examples:
  isthmus ingest events.jsonl --write-key dev-write-key
  isthmus ingest orders.csv --mapping orders.toml --source shop
  gunzip -c events.jsonl.gz | isthmus ingest - --dataset events.jsonl

Files of JSON lines hold one object a line in Segment's event shape. CSV needs a mapping, a TOML file:
  type = \"track\"
  event = \"Order Completed\"
  timestamp = { column = \"date\", format = \"%Y-%m-%d\", timezone = \"Europe/Berlin\" }
  [identifiers]
  user_id = \"customer\"
  [properties]
  revenue = { column = \"total\", type = \"decimal\" }
Also: delimiter (\",\", \";\", \"\\t\", \"whitespace\"), has_header, columns, quoted_newlines, message_id, previous_id,
group_id, [traits]; types string, integer, number, decimal, boolean, date.

Rows without a message id get one made of the data set's name, the line's number and the line, so a file can be sent
again, may have grown, and may hold real repeats. Exits with 3 when items were quarantined or rejected.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IngestCommand {
    /// Files to send, or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Send as this source
    #[arg(long, value_name = "NAME", conflicts_with = "write_key")]
    source: Option<String>,
    /// Send with this write key
    #[arg(long, value_name = "KEY")]
    write_key: Option<String>,
    /// What the files hold [default: by the file's extension]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// For CSV: which column is what
    #[arg(long, value_name = "FILE.toml")]
    mapping: Option<PathBuf>,
    /// The data set's name, part of made message ids [default: the file's name]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Repeat what fails for the moment for so long [default: 5m, or 10s as long as no node has answered]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    retry_for: Option<Duration>,
    /// Send at most so many items at once, up to 2500
    #[arg(long, value_name = "COUNT", default_value = "500", value_parser = items)]
    batch_items: usize,
    /// Send at most so many bytes at once, 64KiB to 4MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    batch_bytes: usize,
    /// So many batches at a time, up to 64
    #[arg(long, value_name = "COUNT", default_value = "8", value_parser = parallel)]
    parallel: usize,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// Columns, by a mapping.
    Csv,
}

fn items(text: &str) -> Result<usize, String> {
    within(text.parse().ok(), 1, ITEMS_MAX)
}

fn parallel(text: &str) -> Result<usize, String> {
    within(text.parse().ok(), 1, PARALLEL_MAX)
}

fn within(number: Option<usize>, least: usize, most: usize) -> Result<usize, String> {
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("has to be {least} to {most}"))
}

/// A size such as `1MiB`, `512KiB`, or just bytes.
fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match lower[digits.len()..].trim() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        _ => None,
    };
    let number = digits.trim().parse::<usize>().ok();
    let size = number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    size.filter(|size| (BYTES_MIN..=BYTES_MAX).contains(size))
        .ok_or_else(|| "has to be 64KiB to 4MiB, such as 512KiB".to_owned())
}

pub async fn run(command: IngestCommand, client: Client, output: &mut Output) -> Result<Done, Failure> {
    let limits = Limits { items: command.batch_items, bytes: command.batch_bytes };
    let (parallel, retry_for) = (command.parallel, command.retry_for);
    let client = match (&command.source, &command.write_key) {
        (Some(source), _) => client.with_source(source),
        (None, Some(key)) => client.with_write_key(key),
        (None, None) => client,
    };
    let inputs = files::plan(&command)?;
    send::run(send::Job { client, inputs, limits, parallel, retry_for }, output).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        assert_eq!(
            [bytes("1MiB"), bytes("64kib"), bytes("4m"), bytes("100000")],
            [Ok(1 << 20), Ok(1 << 16), Ok(4 << 20), Ok(100_000)]
        );
        for wrong in ["", "1", "5MiB", "MiB", "1GiB", "-1MiB", "99999999999999999999MiB", "1é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(items("2501").is_err() && items("0").is_err() && items("x").is_err());
        assert_eq!(items("2500"), Ok(2_500));
    }
}
