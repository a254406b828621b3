//! `isthmus quarantine …`

mod resolve;

use std::path::PathBuf;

use crate::{Client, Error, json, proto};
use clap::{Args, Subcommand};
use serde_json::json as object;

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain, harmless},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus quarantine counts
  isthmus quarantine list --reason NO_IDENTIFIER
  isthmus quarantine show 00000000000000100000000000000000
  isthmus quarantine mend 00000000000000100000000000000000 --patch '{\"userId\":\"42\"}'
  isthmus quarantine replay --source shop --reason SCHEMA_VIOLATION
  isthmus quarantine drop 00000000000000100000000000000000 --reason 'a test of the till'

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 done with some still quarantined.";

/// How many rows a table has unless a limit is given.
const TABLE_ROWS: u64 = 50;
/// A table is laid out in memory, so it has a bound.
const TABLE_ROWS_MAX: u64 = 10_000;
/// The most that a page may hold.
const PAGE_MAX: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum QuarantineVerb {
    /// List what was kept, without its content
    #[command(
        after_help = "Examples:\n  isthmus quarantine list --source shop --reason NO_IDENTIFIER\n  isthmus quarantine list --output json"
    )]
    List {
        /// Only what this source sent
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Only what was kept for this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// At most so many entries [default: all with --output json, else 50]
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        /// Also those that were mended, replayed or dropped
        #[arg(long)]
        all: bool,
    },
    /// Count entries by source and reason
    #[command(after_help = "Example:\n  isthmus quarantine counts")]
    Counts,
    /// Show one entry with what was sent
    #[command(after_help = "Example:\n  isthmus quarantine show 00000000000000100000000000000000")]
    Show {
        /// Its id, as `list` shows it
        id: String,
    },
    /// Change an entry and take it in, as if it had come so when it came
    #[command(
        after_help = "Examples:\n  isthmus quarantine mend 00000000000000100000000000000000 --patch '{\"userId\":\"42\"}'\n  isthmus quarantine mend 00000000000000100000000000000000 --replace event.json"
    )]
    Mend {
        /// Its id, as `list` shows it
        id: String,
        #[command(flatten)]
        change: ChangeArgs,
        #[command(flatten)]
        who: Who,
    },
    /// Take entries in as they are, after rules or schemas changed
    #[command(after_help = "Example:\n  isthmus quarantine replay --source shop --reason SCHEMA_VIOLATION")]
    Replay {
        /// Their ids; else give --source, --reason or --all
        #[arg(conflicts_with_all = ["source", "reason", "all"], required_unless_present_any = ["source", "reason", "all"])]
        ids: Vec<String>,
        /// All that this source sent
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// All that was kept for this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// All that is open
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        who: Who,
    },
    /// Give entries up
    #[command(
        after_help = "Example:\n  isthmus quarantine drop 00000000000000100000000000000000 --reason 'a test of the till'"
    )]
    Drop {
        /// Their ids, as `list` shows them
        #[arg(required = true)]
        ids: Vec<String>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        who: Who,
    },
}

/// How an entry is changed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ChangeArgs {
    /// What changes, as a JSON Merge Patch (RFC 7396)
    #[arg(long, value_name = "JSON")]
    patch: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The whole event as JSON, in place of what was sent
    #[arg(long, value_name = "FILE")]
    replace: Option<PathBuf>,
}

/// Who asks.
#[derive(Debug, Args)]
pub struct Who {
    /// Who does this, for the record
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true, default_value = "")]
    by: String,
}

pub async fn run(verb: QuarantineVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        QuarantineVerb::List { source, reason, limit, all } => {
            let request = proto::QuarantineServiceListRequest {
                source: source.unwrap_or_default(),
                reason: reason.unwrap_or_default(),
                all,
                ..Default::default()
            };
            list(&client, request, limit, output).await?;
        }
        QuarantineVerb::Show { id } => {
            let entry = client.quarantine_entry(&id).await?;
            match output.is_json() {
                true => output.json(&json::QuarantineEntry::from(&entry))?,
                false => show(&entry, output)?,
            }
        }
        QuarantineVerb::Counts => counts(&client, output).await?,
        QuarantineVerb::Mend { id, change, who } => {
            return resolve::mend(&client, id, change, who.by, output).await;
        }
        QuarantineVerb::Replay { ids, source, reason, all: _, who } => {
            let request = proto::ReplayRequest {
                ids,
                source: source.unwrap_or_default(),
                reason: reason.unwrap_or_default(),
                by: who.by,
                ..Default::default()
            };
            return resolve::replay(&client, request, output).await;
        }
        QuarantineVerb::Drop { ids, reason, who } => {
            return resolve::give_up(&client, ids, reason, who.by, output).await;
        }
    }
    Ok(Done::Well)
}

async fn list(
    client: &Client,
    mut request: proto::QuarantineServiceListRequest,
    limit: Option<u64>,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut left = match output.is_json() {
        true => limit.unwrap_or(u64::MAX),
        false => limit.unwrap_or(TABLE_ROWS).min(TABLE_ROWS_MAX),
    };
    let mut rows = Vec::new();
    let mut more = false;
    while left > 0 {
        request.limit = u32::try_from(left.min(PAGE_MAX)).unwrap_or(u32::MAX);
        let page = client.quarantine_page(request.clone()).await?;
        left = left.saturating_sub(page.entries.len() as u64);
        for entry in &page.entries {
            match output.is_json() {
                true => output.json(&json::QuarantineEntry::from(entry))?,
                false => rows.push(vec![
                    entry.id.clone(),
                    entry.reason.clone(),
                    entry.source.clone(),
                    entry.origin.clone(),
                    json::time(entry.received_at.as_ref()).unwrap_or_default(),
                    state(entry),
                    entry.message.clone(),
                ]),
            }
        }
        more = !page.next_cursor.is_empty();
        if !more {
            break;
        }
        if page.next_cursor == request.cursor {
            return Err(Error::BadAnswer("a page's cursor leads back to it").into());
        }
        request.cursor = page.next_cursor;
    }
    if !output.is_json() {
        output.table(&["ID", "REASON", "SOURCE", "ORIGIN", "RECEIVED", "STATE", "MESSAGE"], rows)?;
        if more {
            complain("there are more: --limit says how many to show, --output json shows all");
        }
    }
    Ok(())
}

/// Open, or how it was resolved.
fn state(entry: &proto::QuarantineEntry) -> String {
    entry.resolution.as_ref().map_or("open", |known| json::resolution_name(known.kind())).to_owned()
}

async fn counts(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let counts = client.quarantine_counts().await?;
    if output.is_json() {
        for count in &counts {
            output.json(&object!({
                "source": count.source,
                "reason": count.reason,
                "open": count.open,
                "resolved": count.resolved,
            }))?;
        }
        return Ok(());
    }
    let rows = counts.iter().map(|count| {
        vec![count.source.clone(), count.reason.clone(), count.open.to_string(), count.resolved.to_string()]
    });
    output.table(&["SOURCE", "REASON", "OPEN", "RESOLVED"], rows)?;
    Ok(())
}

fn show(entry: &proto::QuarantineEntry, output: &mut Output) -> Result<(), Failure> {
    output.facts(&[
        ("id", entry.id.clone()),
        ("reason", entry.reason.clone()),
        ("message", entry.message.clone()),
        ("source", entry.source.clone()),
        ("origin", entry.origin.clone()),
        ("received", json::time(entry.received_at.as_ref()).unwrap_or_default()),
        ("message id", entry.message_id.clone()),
        ("type", entry.content_type.clone()),
        ("state", state(entry)),
    ])?;
    if let Some(known) = &entry.resolution {
        output.facts(&[
            ("by", known.by.clone()),
            ("at", json::time(known.resolved_at.as_ref()).unwrap_or_default()),
            ("as", known.message_id.clone()),
            ("because", known.note.clone()),
        ])?;
    }
    output.line("")?;
    for line in String::from_utf8_lossy(&entry.content).lines() {
        output.line(&harmless(line))?;
    }
    Ok(())
}
