//! Calls about pairs of profiles that may be one person.

use std::collections::BTreeSet;

use bytes::Bytes;
use isthmus_domain::{FacetId, Slot, SlotRanges};
use isthmus_proto::internal::v1::{
    MatchingCommand, MatchingReply, ReadModelCall, ReadModelReply, ReadPairsCall, ReadPairsReply,
    shard_command::Command,
};
use isthmus_raft::Role;
use tokio::time::Instant;

use super::PAGE_MAX;
use crate::{
    Error, ShardHandle,
    apply::{Outcome, matching},
    machine::blocking,
    read::{self, PairQuery},
};

/// Changes that one command may bring.
const CHANGES_MAX: usize = 1_000;

impl ShardHandle {
    pub(super) async fn matching(
        &self,
        call: MatchingCommand,
        deadline: Instant,
    ) -> Result<MatchingReply, Error> {
        self.must_lead()?;
        if call.changes.len() > CHANGES_MAX || !matching::is_sound(&call) {
            return Err(Error::Invalid("changes of pairs that are too many, or make no sense"));
        }
        match self.propose(Command::Matching(call), deadline).await? {
            Outcome::Matching(outcomes) => Ok(MatchingReply { outcomes }),
            _ => Err(Error::Invalid("the log answered changes of pairs with something else")),
        }
    }

    pub(super) async fn read_pairs(
        &self,
        call: ReadPairsCall,
        deadline: Instant,
    ) -> Result<ReadPairsReply, Error> {
        let after = match call.after.is_empty() {
            true => None,
            false => Some(
                FacetId::from_slice(&call.after).ok_or(Error::Invalid("a profile's id is not 16 bytes"))?,
            ),
        };
        let query = PairQuery {
            after,
            limit: (call.limit as usize).clamp(1, PAGE_MAX),
            probability_min: call.probability_min,
            state: call.state.checked_sub(1).and_then(|state| i32::try_from(state).ok()),
            unlinked: call.unlinked,
            before_model: (call.before_model > 0).then_some(call.before_model),
            end_slot: (call.end_slot > 0).then_some(call.end_slot),
        };
        self.barrier(None, deadline).await?;
        let shared = self.shared.clone();
        let page = blocking(move || read::pairs(&shared, &query)).await?;
        Ok(ReadPairsReply {
            rows: page.rows,
            more: page.next.is_some(),
            next: page.next.map(|next| Bytes::copy_from_slice(next.as_bytes())).unwrap_or_default(),
            owned_bounds: page.owned.to_bounds(),
        })
    }

    pub(super) async fn read_model(
        &self,
        call: ReadModelCall,
        deadline: Instant,
    ) -> Result<ReadModelReply, Error> {
        let slot = u16::try_from(call.slot).ok().and_then(Slot::new);
        let slot = slot.ok_or(Error::Invalid("there is no such slot"))?;
        self.barrier(None, deadline).await?;
        if !self.shared.state.read().meta.owned.contains(slot) {
            return Ok(ReadModelReply { not_owned: true, parts: Vec::new() });
        }
        let shared = self.shared.clone();
        let parts = blocking(move || read::model_parts(&shared, slot, call.model, call.first_part)).await?;
        Ok(ReadModelReply { not_owned: false, parts })
    }

    /// Begins to note which facets change, or ends it.
    pub fn note_touched(&self, on: bool) {
        self.shared.state.write().touched.turn(on);
    }

    /// Takes the facets whose traits or links have changed since; `None` when they were too many to be noted.
    pub fn take_touched(&self) -> Option<BTreeSet<FacetId>> {
        self.shared.state.write().touched.take()
    }

    /// How many facets are noted.
    pub fn touched(&self) -> usize {
        self.shared.state.read().touched.len()
    }

    /// Has facets looked at as if they had changed.
    pub fn touch(&self, facets: impl IntoIterator<Item = FacetId>) {
        let mut state = self.shared.state.write();
        facets.into_iter().for_each(|facet| state.touched.add(facet));
        drop(state);
        self.shared.touched.notify_one();
    }

    /// Waits until facets may have been noted.
    pub async fn until_touched(&self) {
        self.shared.touched.notified().await;
    }

    /// The slots that the shard owns.
    pub fn owned(&self) -> SlotRanges {
        self.shared.state.read().meta.owned.clone()
    }

    /// Whether the replica was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.group.leadership().1 == Role::Leader
    }
}
