//! Taking events in, whichever door they came through.
//!
//! **What it promises.** A batch is refused as a whole only before anything of it goes on its way. After that every
//! item has its own result, in order. What can't be taken is kept in quarantine with the reason; nothing is dropped. An
//! answer leaves by the caller's deadline, with `OUTCOME_UNKNOWN` for what is not known by then.
//!
//! **How.** The doors, `grpc::ingest` and `http::ingest`, say whose key it is ([`source`]) and what the items are; each
//! item is made a record or a quarantine entry ([`item`]) by pure functions: the domain accepts it, the registry of rules
//! and schemas in force standardises and checks it. The router brings them to their shards, each under an attempt id of
//! its own. Standardising takes some microseconds an item: it pauses every [`PIECE`] items, so that a large batch doesn't
//! keep a thread from heartbeats.
//!
//! A stream's items are made ready one by one, and go out by its own rules ([`stream`], [`window`]).
//!
//! **What it leaves out.** Limits of rate per source; the router refuses what would be too much for the node.

mod counted;
mod item;
pub mod source;
pub mod stream;
mod typed;
pub mod window;

use std::time::Duration;

use isthmus_coordinator::View;
use isthmus_domain::{AcceptContext, BlockedValues, Limits, SourceView, Stamp};
use isthmus_proto::v1::{IngestItem, ItemOutcome, ItemResult as Answer};
use isthmus_quality::Registry;
use isthmus_router::{IngestSummary, ItemResult, RoutedItem};
use tokio::time::Instant;
use tonic::Code;

use self::counted::Counted;
pub(crate) use self::item::{Prepared, prepare};
pub use self::{item::EVENT_CONTENT_TYPE, source::viewed as viewed_source, typed::fields as typed_fields};
use crate::{
    fault::{Fault, Refusal},
    grpc::hub::Hub,
};

/// The most items of a batch.
pub const ITEMS_MAX: usize = 2_500;
/// Items that are standardised without a pause.
pub const PIECE: usize = 64;

/// Events of one source.
pub struct Batch {
    /// Who sends.
    pub source: SourceView,
    /// When the batch was sent, microseconds since 1970; an item's own time comes first.
    pub sent_at: Option<i64>,
    /// The events, in order.
    pub items: Vec<IngestItem>,
}

/// What became of a batch.
pub struct Outcome {
    /// One result for each item, in order.
    pub results: Vec<Answer>,
    /// A read that waits for this sees all that was stored; `None` when nothing was.
    pub stamp: Option<Stamp>,
}

/// Why nothing of a batch was taken.
pub enum Untaken {
    /// It was refused here.
    Refused(Refusal),
    /// The router could bring nothing of it to a shard.
    Unrouted(isthmus_router::Error),
}

impl Untaken {
    fn fault(&self) -> &dyn Fault {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unrouted(error) => error,
        }
    }
}

impl Fault for Untaken {
    fn code(&self) -> Code {
        self.fault().code()
    }

    fn reason(&self) -> &str {
        self.fault().reason()
    }

    fn message(&self) -> String {
        self.fault().message()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.fault().metadata()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.fault().retry_after()
    }

    fn fields(&self) -> &[(&'static str, String)] {
        self.fault().fields()
    }
}

impl From<Refusal> for Untaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Refuses more items than a batch may have.
///
/// # Errors
/// INVALID_ARGUMENT `BATCH_TOO_MANY`.
pub fn check_count(items: usize) -> Result<(), Refusal> {
    if items <= ITEMS_MAX {
        return Ok(());
    }
    let message = format!("a batch has at most {ITEMS_MAX} items: send smaller ones");
    Err(Refusal::new(Code::InvalidArgument, "BATCH_TOO_MANY", message).with("items", items))
}

/// Takes a batch in, under the rules and schemas of a view.
///
/// # Errors
/// [`Untaken`], and then nothing of it can have been stored.
pub async fn take(hub: &Hub, view: &View, batch: Batch, deadline: Instant) -> Result<Outcome, Untaken> {
    check_count(batch.items.len())?;
    let registry = hub.registries.of(view)?;
    let source = batch.source.name.clone();
    let prepared = prepare_all(hub, &registry, batch).await;
    let mut told = Vec::with_capacity(prepared.len());
    let items: Vec<RoutedItem> = prepared
        .into_iter()
        .filter_map(|Prepared { routed, told: mine }| {
            told.push(mine);
            routed
        })
        .collect();
    let summary = hub.router.ingest(items, deadline).await.map_err(Untaken::Unrouted)?;
    Ok(outcome(hub, &source, summary, told))
}

/// Makes all items ready for their shards.
async fn prepare_all(hub: &Hub, registry: &Registry, batch: Batch) -> Vec<Prepared> {
    let Batch { source, sent_at, items } = batch;
    let mut prepared = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    loop {
        prepare_piece(hub, &source, registry, sent_at, items.by_ref().take(PIECE), &mut prepared);
        if items.len() == 0 {
            return prepared;
        }
        tokio::task::yield_now().await;
    }
}

fn prepare_piece(
    hub: &Hub,
    source: &SourceView,
    registry: &Registry,
    sent_at: Option<i64>,
    items: impl Iterator<Item = IngestItem>,
    prepared: &mut Vec<Prepared>,
) {
    // Unique: the node, when it started, and a number that it gives out once.
    let make_message_id =
        || format!("made-{:x}-{:x}-{:016x}", hub.node, hub.started_micros, hub.router.next_attempt());
    let context = AcceptContext {
        source,
        key: &hub.identity_key,
        now_micros: hub.clock.now_micros(),
        sent_at,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &make_message_id,
    };
    prepared.extend(items.map(|item| prepare(item, &context, registry, hub.router.next_attempt())));
}

fn outcome(hub: &Hub, source: &str, summary: IngestSummary, told: Vec<item::Told>) -> Outcome {
    let mut counted = Counted::new(hub, source);
    let mut results = summary.results.into_iter();
    let results = told.into_iter().map(|told| {
        let happened = told.happened;
        // Each item that went to a shard has a result, in order; one without would be unknown.
        let answer = match told.rejected {
            true => rejected(told),
            false => answer(results.next().unwrap_or(ItemResult::Unknown), told),
        };
        counted.told(answer.outcome(), happened);
        answer
    });
    let results = results.collect();
    counted.end();
    Outcome { results, stamp: summary.stamp }
}

/// What a client is told of an item that was refused here and went to no shard.
fn rejected(told: item::Told) -> Answer {
    let (reason, message) = told.refused.unwrap_or_default();
    let outcome = ItemOutcome::Rejected.into();
    Answer { outcome, message_id: told.message_id, reason, message, ..Answer::default() }
}

/// What a client is told of an item.
fn answer(result: ItemResult, told: item::Told) -> Answer {
    let retryable = result.retryable();
    let item::Told { message_id, refused, .. } = told;
    let plain = |outcome: ItemOutcome| Answer {
        outcome: outcome.into(),
        message_id: message_id.clone(),
        retryable,
        ..Answer::default()
    };
    match result {
        ItemResult::Accepted => plain(ItemOutcome::Accepted),
        ItemResult::Duplicate => plain(ItemOutcome::Duplicate),
        ItemResult::Quarantined { reason } => {
            let (code, message) = match refused {
                Some((code, message)) => (code, message),
                None => (reason.clone(), explained(&reason).to_owned()),
            };
            Answer { reason: code, message, ..plain(ItemOutcome::Quarantined) }
        }
        ItemResult::Rejected { reason } => {
            let message = explained(&reason).to_owned();
            Answer { reason, message, ..plain(ItemOutcome::Rejected) }
        }
        ItemResult::Unknown => {
            let message = explained("OUTCOME_UNKNOWN").to_owned();
            Answer { reason: "OUTCOME_UNKNOWN".to_owned(), message, ..plain(ItemOutcome::OutcomeUnknown) }
        }
    }
}

/// What a reason that a shard or the router gives means for people.
fn explained(reason: &str) -> &'static str {
    match reason {
        "MESSAGE_ID_CONFLICT" => {
            "the message id was used before for an event that says something else; the first one counts: send this \
             one with a message id of its own"
        }
        "OVERLOADED" => "too much is waiting for this shard: send the item again a little later",
        "DISK_FULL" => {
            "the disk of the node that leads this shard is nearly full: make room or let another node join, and send \
             the item again"
        }
        "OUTCOME_UNKNOWN" => "not known to be stored by the deadline: send it again with the same message id",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message_id: &str) -> item::Told {
        item::Told { message_id: message_id.to_owned(), happened: None, refused: None, rejected: false }
    }

    #[test]
    fn each_result_says_whether_to_send_again() {
        let conflict = ItemResult::Quarantined { reason: "MESSAGE_ID_CONFLICT".to_owned() };
        let overloaded = ItemResult::Rejected { reason: "OVERLOADED".to_owned() };
        let full = ItemResult::Rejected { reason: "DISK_FULL".to_owned() };
        for (result, outcome, reason, retryable) in [
            (ItemResult::Accepted, ItemOutcome::Accepted, "", false),
            (ItemResult::Duplicate, ItemOutcome::Duplicate, "", false),
            (conflict, ItemOutcome::Quarantined, "MESSAGE_ID_CONFLICT", false),
            (overloaded, ItemOutcome::Rejected, "OVERLOADED", true),
            (full, ItemOutcome::Rejected, "DISK_FULL", true),
            (ItemResult::Unknown, ItemOutcome::OutcomeUnknown, "OUTCOME_UNKNOWN", true),
        ] {
            let answer = answer(result, told("m-1"));
            assert_eq!(
                (answer.outcome(), answer.reason.as_str(), answer.retryable),
                (outcome, reason, retryable)
            );
            assert_eq!(answer.message.is_empty(), reason.is_empty());
            assert_eq!(answer.message_id, "m-1");
        }
    }

    #[test]
    fn what_the_gateway_refused_keeps_its_own_words() {
        let refused = Some(("NO_IDENTIFIER".to_owned(), "send one".to_owned()));
        let told = item::Told { message_id: String::new(), happened: None, refused, rejected: false };
        let answer = answer(ItemResult::Quarantined { reason: String::new() }, told);
        assert_eq!((answer.reason.as_str(), answer.message.as_str()), ("NO_IDENTIFIER", "send one"));
    }
}
