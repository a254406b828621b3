//! Items of a stream on their way to their shards: each is made ready with the time of receipt and the message id that
//! the stream gives it, and goes out in chunks that are tried again until it is known what became of them.
//!
//! What may go out when is [`window`](super::window)'s; the protocol is `grpc::ingest::stream`'s.

use std::time::Duration;

use isthmus_domain::{AcceptContext, BlockedValues, Limits, SourceView, Stamp, slot::SLOT_COUNT};
use isthmus_proto::v1::{IngestItem, ItemOutcome, ItemResult as Answer};
use isthmus_quality::Registry;
use isthmus_router::RoutedItem;
use prost::Message as _;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{
    Untaken, answer,
    counted::Counted,
    explained,
    item::{Prepared, Told, prepare},
    rejected,
    window::{Chunk, LANES, Landing},
};
use crate::{fault::Refusal, grpc::hub::Hub};

/// How long one try of a chunk may take; within it the router follows leaders and tries again by itself.
const TRY: Duration = Duration::from_secs(5);
/// When a chunk is tried again where nobody says when.
const AGAIN: Duration = Duration::from_millis(50);
/// How far ahead of this node's clock a stream may begin with its times of receipt.
const AHEAD_MICROS_MAX: i64 = 60_000_000;

/// An item that is ready for its shard, and what is known of its answer before that has spoken.
pub struct Ready {
    routed: RoutedItem,
    told: Told,
}

/// What a stream gives its items.
pub struct Sequenced {
    /// What the client calls the stream.
    id: String,
    /// The latest time of receipt that was given.
    received_until: i64,
}

/// What became of an item when it was made ready.
pub enum Made {
    /// It goes out, by this lane; it weighs so many bytes.
    Ready {
        /// The lane.
        lane: usize,
        /// Bytes in its shard's command.
        bytes: u64,
        /// The item.
        item: Box<Ready>,
    },
    /// It is refused, and kept nowhere.
    Refused(Answer),
}

impl Sequenced {
    /// A stream that goes on from a time of receipt, microseconds since 1970.
    pub fn new(id: String, received_until: i64) -> Self {
        Self { id, received_until }
    }

    /// The latest time of receipt that an item was given, microseconds since 1970; 0 before there are any.
    pub fn received_until(&self) -> i64 {
        self.received_until
    }

    /// Makes an item ready: later than all before it, and with a message id that it has the next time, too.
    pub fn make(
        &mut self,
        hub: &Hub,
        source: &SourceView,
        registry: &Registry,
        sent_at: Option<i64>,
        (sequence, item): (u64, IngestItem),
    ) -> Made {
        let now_micros = next_receipt(hub.clock.now_micros(), self.received_until);
        self.received_until = now_micros;
        let make_message_id = || format!("{}-{sequence}", self.id);
        let context = AcceptContext {
            source,
            key: &hub.identity_key,
            now_micros,
            sent_at,
            limits: Limits::default(),
            blocked: &BlockedValues::default(),
            make_message_id: &make_message_id,
        };
        match prepare(item, &context, registry, hub.router.next_attempt()) {
            Prepared { routed: Some(routed), told } => {
                let lane = usize::from(routed.slot.number()) * LANES / usize::from(SLOT_COUNT);
                let bytes = routed.item.encoded_len() as u64;
                Made::Ready { lane, bytes, item: Box::new(Ready { routed, told }) }
            }
            Prepared { routed: None, told } => {
                let mut counted = Counted::new(hub, &source.name);
                counted.told(ItemOutcome::Rejected, told.happened);
                counted.end();
                Made::Refused(rejected(told))
            }
        }
    }
}

/// The time of receipt of the next item: now, and later than the last one. One that lies far ahead, which a client may
/// have made up, is not gone on from.
fn next_receipt(now: i64, last: i64) -> i64 {
    now.max(last.saturating_add(1).min(now.saturating_add(AHEAD_MICROS_MAX)))
}

/// What came of a chunk.
pub struct Carried {
    /// Its lane.
    pub lane: usize,
    /// What came of each item.
    pub landings: Vec<(u64, Landing<Box<Ready>, Answer>)>,
    /// A read that waits for this sees all that was stored.
    pub stamp: Option<Stamp>,
    /// Why some are to be tried again, and when.
    pub trouble: Option<(Untaken, Duration)>,
}

/// Brings a chunk of a source's items to its shards, once.
pub async fn carry(hub: &Hub, source: &str, chunk: Chunk<Box<Ready>>) -> Carried {
    let Chunk { lane, items } = chunk;
    let routed = items.iter().map(|(_, ready)| ready.routed.clone()).collect();
    let deadline = Instant::now() + TRY.min(hub.deadline);
    let summary = match hub.router.ingest(routed, deadline).await {
        Ok(summary) => summary,
        Err(isthmus_router::Error::Invalid { message }) => {
            let mut counted = Counted::new(hub, source);
            let mut refused = |sequence: u64, told: Told| {
                counted.told(ItemOutcome::Rejected, told.happened);
                let refused = Some(("INVALID".to_owned(), message.clone()));
                (sequence, Landing::Answered(rejected(Told { refused, ..told })))
            };
            let landings = items.into_iter().map(|(sequence, item)| refused(sequence, item.told)).collect();
            counted.end();
            return Carried { lane, landings, stamp: None, trouble: None };
        }
        Err(error) => {
            let wait = error.retry_after().unwrap_or(AGAIN);
            let landings = items.into_iter().map(|(sequence, item)| (sequence, Landing::Again(item)));
            let trouble = Some((Untaken::Unrouted(error), wait));
            return Carried { lane, landings: landings.collect(), stamp: None, trouble };
        }
    };
    let mut trouble = None;
    let mut counted = Counted::new(hub, source);
    let landings = items.into_iter().zip(summary.results).map(|((sequence, item), result)| {
        if result.retryable() {
            let again = answer(result, Told::default());
            trouble.get_or_insert_with(|| waits(&again));
            return (sequence, Landing::Again(item));
        }
        let happened = item.told.happened;
        let answer = answer(result, item.told);
        counted.told(answer.outcome(), happened);
        (sequence, Landing::Answered(answer))
    });
    let landings = landings.collect();
    counted.end();
    Carried { lane, landings, stamp: summary.stamp, trouble }
}

/// Why an item of a chunk that was answered has to be tried again.
fn waits(answer: &Answer) -> (Untaken, Duration) {
    let (code, reason) = match answer.reason.as_str() {
        "OVERLOADED" => (Code::ResourceExhausted, "OVERLOADED"),
        "DISK_FULL" => (Code::Unavailable, "DISK_FULL"),
        _ => (Code::Unavailable, "OUTCOME_UNKNOWN"),
    };
    (Refusal::new(code, reason, explained(reason)).retry_after(AGAIN).into(), AGAIN)
}

/// Waits as long as a lane has to rest.
pub async fn rest(lane: usize, wait: Duration) -> usize {
    sleep(wait).await;
    lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_receipt_rise_with_every_item_whatever_the_clock_does() {
        assert_eq!(next_receipt(100, 0), 100);
        assert_eq!(next_receipt(100, 100), 101);
        assert_eq!(next_receipt(90, 101), 102, "a clock that was set back, or another node's");
        let (now, made_up) = (1_000, i64::MAX);
        assert_eq!(next_receipt(now, made_up), now + AHEAD_MICROS_MAX, "not for ever");
    }
}
