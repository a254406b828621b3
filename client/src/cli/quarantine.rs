//! `isthmus quarantine …`

use crate::{Client, Error, json, proto};
use clap::Subcommand;

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain, harmless},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus quarantine list --reason NO_IDENTIFIER
  isthmus quarantine show 0000000000000010000000000000001f0000000000000000";

/// How many rows a table has unless a limit is given.
const TABLE_ROWS: u64 = 50;
/// A table is laid out in memory, so it has a bound.
const TABLE_ROWS_MAX: u64 = 10_000;
/// The most that a page may hold.
const PAGE_MAX: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum QuarantineVerb {
    /// List what was kept, without its content
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
    },
    /// Show one entry with what was sent
    Show {
        /// Its id, as `list` shows it
        id: String,
    },
}

pub async fn run(verb: QuarantineVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        QuarantineVerb::List { source, reason, limit } => {
            let request = proto::QuarantineServiceListRequest {
                source: source.unwrap_or_default(),
                reason: reason.unwrap_or_default(),
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
        output.table(&["ID", "REASON", "SOURCE", "ORIGIN", "RECEIVED", "MESSAGE"], rows)?;
        if more {
            complain("there are more: --limit says how many to show, --output json shows all");
        }
    }
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
    ])?;
    output.line("")?;
    for line in String::from_utf8_lossy(&entry.content).lines() {
        output.line(&harmless(line))?;
    }
    Ok(())
}
