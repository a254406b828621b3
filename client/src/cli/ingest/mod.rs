//! `isthmus ingest FILE…`: sends the events in files.
//!
//! The files are found (`find`) and looked at (`files`) before anything is sent. A thread of its own reads the files front to back and cuts them into batches (`feed`); a bounded number of batches
//! is under way at once (`send`); what became of each item is counted and shown (`tally`). Memory is bounded by the
//! batches under way, whatever the files' size.
//!
//! A batch that fails for the moment is repeated until `--retry-for` has passed. Any other failure, and Ctrl-C, lets
//! the batches under way end, says how far everything is stored, and exits with 1, after Ctrl-C with 130. The same
//! command goes on from there (`resume`); and sending the files again is safe in any case: what was stored counts as
//! duplicate then. `--infer` sends nothing and guesses a mapping (`infer`).

mod feed;
mod files;
mod find;
mod infer;
mod resume;
mod send;
mod sender;
mod tally;

use std::{path::PathBuf, time::Duration};

use crate::Client;
use clap::{Args, ValueEnum};

use crate::cli::{
    failure::{Done, Failure},
    output::Output,
};
use feed::Limits;
use resume::{Dealt, Resume};
use sender::Sender;

/// The hub's own bounds of a batch.
const ITEMS_MAX: usize = 2_500;
const BYTES_MAX: usize = 4 << 20;
/// The largest item must fit into the smallest batch.
const BYTES_MIN: usize = 64 << 10;
const PARALLEL_MAX: usize = 64;

const EXAMPLES: &str = "\
Examples:
  isthmus ingest events.jsonl --write-key dev-write-key
  isthmus ingest events.jsonl --write-key-file /run/secrets/shop.key
  isthmus ingest orders.csv.gz --mapping orders.toml --source shop
  isthmus ingest exports/ 'logs/2024-*.jsonl.zst'
  isthmus ingest - --dataset events.jsonl < events.jsonl
  isthmus ingest --infer customers.parquet > customers.toml
  isthmus ingest customers.parquet --mapping customers.toml

Files of JSON lines hold one object a line in Segment's event shape; so does Parquet, a column for each field. Anything
else needs a mapping, a TOML file, of which --infer writes a first one:
  type = \"track\"
  event = \"Order Completed\"
  timestamp = { column = \"date\", format = \"%Y-%m-%d\", timezone = \"Europe/Berlin\" }
  [identifiers]
  user_id = \"customer\"
  [properties]
  revenue = { column = \"total\", type = \"decimal\" }
Also: message_id, previous_id, group_id, [traits]; types string, integer, number, decimal, boolean, date; for CSV delimiter
(\",\", \";\", \"\\t\", \"whitespace\"), has_header, columns, quoted_newlines. In JSON a column is a key, or keys with dots
between.

gzip and Zstandard are told by their first bytes. In folders files with .jsonl, .ndjson, .json, .csv, .tsv, .txt, .parquet
are taken, also with .gz or .zst behind, by name.

Rows without a message id get one made of the data set's name, the line's number and the line, so a file can be sent
again, may have grown, and may hold real repeats. A run that was stopped goes on where it was when the same command is
given again. Ctrl-C waits for what is under way; pressed again it doesn't.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 done with quarantined or rejected items, 130 stopped by Ctrl-C.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IngestCommand {
    /// Files to send; folders, with all that is in them; patterns such as 'logs/*.csv'; or `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Send as this source
    #[arg(long, value_name = "NAME", conflicts_with_all = ["write_key", "write_key_file"])]
    source: Option<String>,
    /// Send with this write key, which whoever may list this machine's processes sees: rather use the file, or ISTHMUS_WRITE_KEY
    /// in the environment
    #[arg(long, value_name = "KEY", conflicts_with = "write_key_file")]
    write_key: Option<String>,
    /// Send with the write key in this file [default: that of the environment's ISTHMUS_WRITE_KEY, if there is one]
    #[arg(long, value_name = "FILE")]
    write_key_file: Option<PathBuf>,
    /// What the files hold [default: by the file's extension]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Which column is what
    #[arg(long, value_name = "FILE.toml")]
    mapping: Option<PathBuf>,
    /// Send nothing: print a first mapping for a file, guessed from up to 10,000 of its rows
    #[arg(long, conflicts_with_all = ["mapping", "source", "write_key", "write_key_file", "resume_file"])]
    infer: bool,
    /// The data set's name, part of made message ids [default: the file's name, without .gz or .zst]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Where it is kept how far a stopped run came [default: a file for each command in $XDG_STATE_HOME/isthmus, else
    /// ~/.local/state/isthmus]
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    /// Begin at the beginning, wherever a stopped run came to
    #[arg(long)]
    from_start: bool,
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
    /// One JSON object a line
    Jsonl,
    /// Columns, by a mapping
    Csv,
    /// Columns, by a mapping or as an event's fields
    Parquet,
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
    if command.infer {
        return infer::run(&command, output);
    }
    let limits = Limits { items: command.batch_items, bytes: command.batch_bytes };
    let (parallel, retry_for) = (command.parallel, command.retry_for);
    let sender = Sender::of(&command)?;
    let client = match &sender {
        Sender::Source(source) => client.with_source(source),
        Sender::Key(key) => client.with_write_key(key),
        Sender::Default => client,
    };
    let inputs = files::plan(&command)?;
    let mut resume = Resume::of(&command, &sender, &inputs);
    let dealt = match command.from_start {
        true => vec![Dealt::default(); inputs.len()],
        false => resume.load(&client, retry_for, &inputs).await?,
    };
    send::run(send::Job { client, inputs, limits, parallel, retry_for, resume, dealt }, output).await
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
