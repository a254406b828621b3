//! Putting the results of parts back into the order of the batch. Pure.

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::IngestReply;
use isthmus_proto::v1::ItemOutcome;

use super::split::Part;
use super::{Answer, IngestSummary, ItemResult, Landed};
use crate::error::Error;

/// The outcome of an item whose slot the shard doesn't own.
const STALE_SHARD_MAP: u8 = 100;

/// The results of a batch as they come in.
pub(super) struct Gather {
    results: Vec<Option<ItemResult>>,
    stamp: Option<Stamp>,
    /// How many items are known not to be stored because their part was refused, and the first reason.
    refused: usize,
    refusal: Option<Error>,
}

impl Gather {
    pub(super) fn new(items: usize) -> Self {
        Self { results: vec![None; items], stamp: None, refused: 0, refusal: None }
    }

    /// Takes what came of a part; gives back the items that belong to another shard.
    pub(super) fn take(&mut self, landed: Landed) -> Option<Part> {
        let Landed { part, answer } = landed;
        match answer {
            Answer::Reply(reply) => self.take_reply(part, &reply),
            Answer::Failed(error) => {
                self.take_failure(&part, error);
                None
            }
            Answer::Waited => Some(part),
        }
    }

    fn take_reply(&mut self, mut part: Part, reply: &IngestReply) -> Option<Part> {
        let mut stored = false;
        for (index, (outcome, position)) in reply.outcomes.iter().zip(&part.positions).enumerate() {
            if *outcome == STALE_SHARD_MAP {
                continue;
            }
            let reason = || {
                let found = reply.reasons.iter().find(|reason| reason.index as usize == index);
                found.map(|reason| reason.reason.clone()).unwrap_or_default()
            };
            let result = match ItemOutcome::try_from(i32::from(*outcome)) {
                Ok(ItemOutcome::Accepted) => ItemResult::Accepted,
                Ok(ItemOutcome::Duplicate) => ItemResult::Duplicate,
                Ok(ItemOutcome::Quarantined) => ItemResult::Quarantined { reason: reason() },
                Ok(ItemOutcome::Rejected) => ItemResult::Rejected { reason: reason() },
                Ok(ItemOutcome::OutcomeUnknown | ItemOutcome::Unspecified) | Err(_) => ItemResult::Unknown,
            };
            stored |= !matches!(result, ItemResult::Rejected { .. } | ItemResult::Unknown);
            self.place(*position, result);
        }
        if stored {
            self.stamp = self.stamp.max(Some(Stamp(reply.stamp)));
        }
        let mut stale = reply.outcomes.iter().map(|outcome| *outcome == STALE_SHARD_MAP);
        if !reply.outcomes.contains(&STALE_SHARD_MAP) {
            return None;
        }
        let mut stale_too = stale.clone();
        part.items.retain(|_| stale.next().unwrap_or(false));
        part.positions.retain(|_| stale_too.next().unwrap_or(false));
        part.stales = part.stales.saturating_add(1);
        Some(part)
    }

    fn take_failure(&mut self, part: &Part, error: Error) {
        let result = match &error {
            _ if part.maybe_done => ItemResult::Unknown,
            Error::Overloaded { .. } | Error::DiskFull { .. } | Error::Invalid { .. } => {
                ItemResult::Rejected { reason: error.reason().to_owned() }
            }
            // Not stored; but "unknown" is what makes a caller send it again.
            _ => ItemResult::Unknown,
        };
        for position in &part.positions {
            self.place(*position, result.clone());
        }
        if !part.maybe_done {
            self.refused += part.positions.len();
            self.refusal.get_or_insert(error);
        }
    }

    fn place(&mut self, position: u32, result: ItemResult) {
        if let Some(place) = self.results.get_mut(position as usize) {
            debug_assert!(place.is_none(), "an item is answered once");
            *place = Some(result);
        }
    }

    /// The answer to the batch: an error only if nothing of it can have been stored.
    pub(super) fn finish(self) -> Result<IngestSummary, Error> {
        match self.refusal {
            Some(error) if self.refused == self.results.len() => Err(error),
            _ => {
                // An item that no part spoke for would be a defect; all that can be said of it is this.
                let results =
                    self.results.into_iter().map(|result| result.unwrap_or(ItemResult::Unknown)).collect();
                Ok(IngestSummary { results, stamp: self.stamp })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use isthmus_proto::internal::v1::ItemReason;

    use super::*;

    fn part(positions: &[u32]) -> Part {
        let mut part = Part::whole(Vec::new());
        part.positions = positions.to_vec();
        part
    }

    fn reply(stamp: u64, outcomes: &'static [u8]) -> Answer {
        let reasons = vec![ItemReason { index: 1, reason: "MESSAGE_ID_CONFLICT".to_owned() }];
        Answer::Reply(IngestReply { stamp, outcomes: outcomes.into(), reasons, shard_map_version: 1 })
    }

    fn failed(positions: &[u32], error: Error, maybe_done: bool) -> Landed {
        Landed { part: Part { maybe_done, ..part(positions) }, answer: Answer::Failed(error) }
    }

    #[test]
    fn results_go_where_their_items_came_from_with_the_largest_stamp() {
        let mut gather = Gather::new(5);
        assert!(gather.take(Landed { part: part(&[4, 0]), answer: reply(7, &[1, 3]) }).is_none());
        assert!(gather.take(Landed { part: part(&[1, 3]), answer: reply(5, &[2, 4]) }).is_none());
        assert!(gather.take(Landed { part: part(&[2]), answer: reply(9, &[5]) }).is_none());
        let summary = gather.finish().unwrap();
        let conflict = || "MESSAGE_ID_CONFLICT".to_owned();
        assert_eq!(
            summary.results,
            [
                ItemResult::Quarantined { reason: conflict() },
                ItemResult::Duplicate,
                ItemResult::Unknown,
                ItemResult::Rejected { reason: conflict() },
                ItemResult::Accepted,
            ]
        );
        assert_eq!(summary.stamp, Some(Stamp(7)), "a part of which nothing was stored has no say");
    }

    #[test]
    fn only_items_of_another_shard_go_out_again() {
        let mut gather = Gather::new(3);
        let again = gather.take(Landed { part: part(&[0, 1, 2]), answer: reply(7, &[1, 100, 2]) }).unwrap();
        assert_eq!((again.positions.as_slice(), again.stales), ([1].as_slice(), 1));
    }

    #[test]
    fn a_batch_fails_as_a_whole_only_if_nothing_can_have_been_stored() {
        let none = Error::NoLeader { shard: 1 };
        let mut gather = Gather::new(2);
        gather.take(failed(&[0], none.clone(), false));
        gather.take(failed(&[1], Error::Unavailable { shard: 2 }, false));
        assert_eq!(gather.finish(), Err(none.clone()));

        let mut gather = Gather::new(2);
        gather.take(failed(&[0], none.clone(), true));
        gather.take(failed(&[1], none, false));
        assert_eq!(gather.finish().unwrap().results, [ItemResult::Unknown, ItemResult::Unknown]);
    }

    #[test]
    fn what_may_have_been_stored_is_never_called_rejected() {
        let retry_after = Duration::from_millis(5);
        let invalid = Error::Invalid { message: String::new() };
        for (refused, retryable) in [
            (Error::Overloaded { retry_after }, true),
            (Error::DiskFull { shard: 1, retry_after }, true),
            (invalid, false),
        ] {
            let mut gather = Gather::new(2);
            gather.take(failed(&[0], refused.clone(), true));
            gather.take(failed(&[1], refused.clone(), false));
            let rejected = ItemResult::Rejected { reason: refused.reason().to_owned() };
            assert_eq!(rejected.retryable(), retryable, "{rejected:?}");
            assert_eq!(gather.finish().unwrap().results, [ItemResult::Unknown, rejected]);
        }
    }
}
