//! Mending, replaying and dropping.

use std::{fs, path::Path};

use crate::{
    Client, Error, json,
    proto::{self, QuarantineOutcome, mend_request::Change},
};

use super::ChangeArgs;
use crate::cli::{
    failure::{Done, Failure},
    output::{Output, harmless},
};

/// Entries that one call brings.
const STEP: usize = 100;

/// Changes one entry. One that can't be taken still is a refusal.
pub async fn mend(
    client: &Client,
    id: String,
    change: ChangeArgs,
    by: String,
    output: &mut Output,
) -> Result<Done, Failure> {
    let change = match change {
        ChangeArgs { patch: Some(patch), .. } => patched("--patch", patch)?,
        ChangeArgs { file: Some(file), .. } => {
            let text = String::from_utf8(read(&file)?)
                .map_err(|_| Failure::Usage(format!("{} is not UTF-8", file.display())))?;
            patched(&file.display().to_string(), text)?
        }
        ChangeArgs { replace: Some(file), .. } => Change::Replacement(read(&file)?.into()),
        ChangeArgs { .. } => return Err(Failure::Usage("give --patch, --file or --replace".to_owned())),
    };
    let result = client.mend(proto::MendRequest { id, change: Some(change), by }).await?;
    tell(&result, output)?;
    Ok(if is_well(&result) { Done::Well } else { Done::NotWell })
}

/// Checked here, so that what is no JSON is a wrong use and nothing is asked.
fn patched(place: &str, text: String) -> Result<Change, Failure> {
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(Change::Patch(text)),
        Err(error) => Err(Failure::Usage(format!("{place} is not JSON: {error}"))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::Failed(format!("can't read {}: {error}", file.display())))
}

/// Takes entries in as they are, page by page.
pub async fn replay(
    client: &Client,
    mut request: proto::ReplayRequest,
    output: &mut Output,
) -> Result<Done, Failure> {
    let mut tally = Tally::default();
    let named = std::mem::take(&mut request.ids);
    for ids in named.chunks(STEP) {
        let step = proto::ReplayRequest { ids: ids.to_vec(), by: request.by.clone(), ..Default::default() };
        tally.take(client.replay(step).await?.results, output)?;
    }
    while named.is_empty() {
        let page = client.replay(request.clone()).await?;
        tally.take(page.results, output)?;
        if page.next_cursor.is_empty() {
            break;
        }
        if page.next_cursor == request.cursor {
            return Err(Error::BadAnswer("a page's cursor leads back to it").into());
        }
        request.cursor = page.next_cursor;
    }
    tally.end(output)
}

/// Gives entries up.
pub async fn give_up(
    client: &Client,
    ids: Vec<String>,
    reason: String,
    by: String,
    output: &mut Output,
) -> Result<Done, Failure> {
    let mut tally = Tally::default();
    for some in ids.chunks(STEP) {
        let request = proto::DropRequest { ids: some.to_vec(), reason: reason.clone(), by: by.clone() };
        tally.take(client.drop_quarantined(request).await?, output)?;
    }
    tally.end(output)
}

/// How many entries ended how.
#[derive(Default)]
struct Tally {
    resolved: u64,
    already: u64,
    still: u64,
    refused: u64,
}

impl Tally {
    fn take(&mut self, results: Vec<proto::QuarantineResult>, output: &mut Output) -> Result<(), Failure> {
        for result in results {
            *match result.outcome() {
                QuarantineOutcome::Resolved => &mut self.resolved,
                QuarantineOutcome::AlreadyResolved if is_well(&result) => &mut self.already,
                QuarantineOutcome::StillQuarantined => &mut self.still,
                _ => &mut self.refused,
            } += 1;
            tell(&result, output)?;
        }
        Ok(())
    }

    /// What was refused outright (not there, resolved otherwise) counts more than what stays in quarantine.
    fn end(self, output: &mut Output) -> Result<Done, Failure> {
        if !output.is_json() {
            output.line(&format!(
                "{} resolved, {} resolved before, {} still quarantined, {} refused",
                self.resolved, self.already, self.still, self.refused
            ))?;
        }
        Ok(match self {
            Self { refused: 1.., .. } => Done::NotWell,
            Self { still: 1.., .. } => Done::WithRejects,
            _ => Done::Well,
        })
    }
}

/// Whether the entry is resolved as it was asked for.
fn is_well(result: &proto::QuarantineResult) -> bool {
    let outcome = result.outcome();
    let resolved = outcome == QuarantineOutcome::Resolved || outcome == QuarantineOutcome::AlreadyResolved;
    resolved && result.reason.is_empty()
}

fn tell(result: &proto::QuarantineResult, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.json(&json::QuarantineResult::from(result))?;
        return Ok(());
    }
    let known = result.resolution.as_ref();
    let kind = known.map_or("resolved", |known| json::resolution_name(known.kind()));
    let under = known.filter(|known| !known.message_id.is_empty());
    let under = under.map(|known| format!(", message id {}", known.message_id)).unwrap_or_default();
    let place = if result.field.is_empty() { String::new() } else { format!(" {}", result.field) };
    let text = match result.outcome() {
        QuarantineOutcome::Resolved => format!("{kind}{under}"),
        QuarantineOutcome::AlreadyResolved if result.reason.is_empty() => format!("{kind} before{under}"),
        QuarantineOutcome::AlreadyResolved => format!("{kind} before: {}", result.message),
        QuarantineOutcome::NotFound => "there is no entry of this id".to_owned(),
        _ => format!("still quarantined: {}{place}: {}", result.reason, result.message),
    };
    output.line(&harmless(&format!("{}  {text}", result.id)))?;
    Ok(())
}
