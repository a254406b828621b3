//! `IngestService`: events come in.
//!
//! **What it promises.** A batch is refused as a whole only before anything of it goes on its way. After that every
//! item has its own result, in order. What can't be taken is kept in quarantine with the reason; nothing is dropped. An
//! answer leaves by the caller's deadline, with `OUTCOME_UNKNOWN` for what is not known by then.
//!
//! **How.** The source is found by its write key ([`source`]); each item is made a record or a quarantine entry
//! ([`item`]) by pure functions: the domain accepts it, the registry of rules and schemas in force standardises and checks
//! it. The router brings them to their shards, each under an attempt id of its
//! own. Standardising takes some microseconds an item: it pauses every [`PIECE`] items, so that a large batch doesn't
//! keep a thread from heartbeats.
//!
//! **What it leaves out.** Limits of rate per source; the router refuses what would be too much for the node.

mod item;
mod source;
mod typed;

use std::sync::Arc;

use isthmus_domain::{AcceptContext, BlockedValues, Limits, SourceView};
use isthmus_proto::v1::{
    IngestRequest, IngestResponse, ItemOutcome, ItemResult as Answer, ingest_service_server::IngestService,
};
use isthmus_quality::Registry;
use isthmus_router::{IngestSummary, ItemResult, RoutedItem};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

pub(super) use self::item::EVENT_CONTENT_TYPE;
use self::item::{Prepared, prepare};
pub(super) use self::{source::viewed as viewed_source, typed::fields as typed_fields};
use super::{
    hub::Hub,
    status::{Refusal, status},
    value::micros,
};

/// The most items of a batch.
pub const ITEMS_MAX: usize = 2_500;
/// Items that are standardised without a pause.
const PIECE: usize = 64;

/// The service.
pub struct Ingest {
    hub: Arc<Hub>,
}

impl Ingest {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    async fn take(&self, request: Request<IngestRequest>) -> Result<IngestResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let (metadata, _, batch) = request.into_parts();
        let key = source::key(&metadata, &batch)?;
        let view = match &key {
            Some(key) => {
                self.hub.coordinator.view_for_key(key, deadline).await.map_err(|error| status(&error))?
            }
            None => self.hub.view(),
        };
        let source = source::of(&view, key.as_deref(), &batch.source)?;
        if batch.items.len() > ITEMS_MAX {
            let message = format!("a batch has at most {ITEMS_MAX} items: send smaller ones");
            let refusal = Refusal::new(Code::InvalidArgument, "BATCH_TOO_MANY", message);
            return Err(refusal.with("items", batch.items.len()).into());
        }
        let registry = self.hub.registries.of(&view)?;
        let sent_at = batch.sent_at.as_ref().map(micros);
        let prepared = self.prepare(&source, &registry, sent_at, batch).await;
        let mut told = Vec::with_capacity(prepared.len());
        let items: Vec<RoutedItem> = prepared
            .into_iter()
            .filter_map(|Prepared { routed, told: mine }| {
                told.push(mine);
                routed
            })
            .collect();
        let summary = self.hub.router.ingest(items, deadline).await.map_err(|error| status(&error))?;
        Ok(self.answer(summary, told))
    }

    /// Makes all items ready for their shards.
    async fn prepare(
        &self,
        source: &SourceView,
        registry: &Registry,
        sent_at: Option<i64>,
        batch: IngestRequest,
    ) -> Vec<Prepared> {
        let mut prepared = Vec::with_capacity(batch.items.len());
        let mut items = batch.items.into_iter();
        loop {
            self.prepare_piece(source, registry, sent_at, items.by_ref().take(PIECE), &mut prepared);
            if items.len() == 0 {
                return prepared;
            }
            tokio::task::yield_now().await;
        }
    }

    fn prepare_piece(
        &self,
        source: &SourceView,
        registry: &Registry,
        sent_at: Option<i64>,
        items: impl Iterator<Item = isthmus_proto::v1::IngestItem>,
        prepared: &mut Vec<Prepared>,
    ) {
        let hub = &*self.hub;
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

    fn answer(&self, summary: IngestSummary, told: Vec<item::Told>) -> IngestResponse {
        let metrics = &self.hub.metrics;
        let mut results = summary.results.into_iter();
        let results = told.into_iter().map(|told| {
            // Each item that went to a shard has a result, in order; one without would be unknown.
            let answer = match told.rejected {
                true => rejected(told),
                false => answer(results.next().unwrap_or(ItemResult::Unknown), told),
            };
            metrics.ingested(answer.outcome());
            answer
        });
        IngestResponse {
            results: results.collect(),
            version: summary.stamp.map(|stamp| stamp.to_string()).unwrap_or_default(),
        }
    }
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

#[tonic::async_trait]
impl IngestService for Ingest {
    async fn ingest(&self, request: Request<IngestRequest>) -> Result<Response<IngestResponse>, Status> {
        let span =
            tracing::debug_span!("ingest.batch", node = self.hub.node, items = request.get_ref().items.len());
        Ok(Response::new(self.take(request).instrument(span).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message_id: &str) -> item::Told {
        item::Told { message_id: message_id.to_owned(), refused: None, rejected: false }
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
        let told = item::Told { message_id: String::new(), refused, rejected: false };
        let answer = answer(ItemResult::Quarantined { reason: String::new() }, told);
        assert_eq!((answer.reason.as_str(), answer.message.as_str()), ("NO_IDENTIFIER", "send one"));
    }
}
