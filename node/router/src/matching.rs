//! Pairs of profiles that may be one person: where they are kept, and the shards' parts in finding them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Slot};
use isthmus_proto::internal::v1::{
    CompareCall, CompareReply, MatchingChange, MatchingCommand, MatchingOutcome, MatchingStatusCall,
    MatchingStatusReply, PairKey, PairRow, PairState, ReadModelCall, ReadPairsCall, TouchCall,
    matching_change::Change, shard_call, shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;
use crate::walk::Piece;

/// Changes that one command brings, and their bytes: it has to fit a log entry.
const CHANGES: usize = 500;
const CHANGES_BYTES: usize = 512 << 10;
/// Pairs of a page of one shard.
const SHARD_PAGE: u32 = 500;

/// Which pairs are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairFilter {
    /// Only from this probability on.
    pub probability_min: f64,
    /// Only in this state.
    pub state: Option<PairState>,
    /// Only those that were found by an older model.
    pub before_model: u64,
}

/// A page of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct PairsPage {
    /// The pairs, by rising ids.
    pub rows: Vec<PairRow>,
    /// Behind which id the next page begins; `None`: this is the last.
    pub next: Option<FacetId>,
}

fn slot(change: &MatchingChange) -> Option<Slot> {
    let pair = |key: Option<&PairKey>| Some(FacetId::from_slice(&key?.a)?.slot());
    match change.change.as_ref()? {
        Change::Put(row) => pair(row.key.as_ref()),
        Change::Drop(drop) => pair(drop.key.as_ref()),
        Change::Decide(decision) => pair(decision.key.as_ref()),
        Change::Linked(key) => pair(Some(key)),
        Change::PutPart(part) | Change::DropPart(part) => Slot::new(u16::try_from(part.slot).ok()?),
    }
}

impl Router {
    /// Has changes made where what they are about is kept; one outcome for each, in order. Repeating them changes
    /// nothing.
    ///
    /// # Errors
    /// As a whole, when a shard does not answer by the deadline: some may be made then.
    pub async fn change_matching(
        &self,
        changes: &[MatchingChange],
        deadline: Instant,
    ) -> Result<Vec<MatchingOutcome>, Error> {
        let mut outcomes = vec![MatchingOutcome::default(); changes.len()];
        let mut open: Vec<usize> = (0..changes.len()).collect();
        let mut attempt = 0;
        while !open.is_empty() {
            let routes = self.routes();
            let revision = routes.revision;
            let mut parts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            let mut elsewhere = Vec::new();
            for index in open {
                let slot = changes.get(index).and_then(slot);
                let slot = slot.ok_or_else(|| Error::Invalid { message: "a change names nothing".into() })?;
                match routes.owner(slot) {
                    Some(shard) => parts.entry(shard).or_default().push(index),
                    None => elsewhere.push(index),
                }
            }
            drop(routes);
            let commands = parts.into_iter().flat_map(|(shard, part)| {
                let commands = in_commands(part, changes);
                commands.into_iter().map(move |command| (shard, command))
            });
            let asked = commands.map(|(shard, part)| self.change_part(shard, part, changes, deadline));
            for (part, answers) in try_join_all(asked).await? {
                for (at, index) in part.into_iter().enumerate() {
                    match (answers.get(at), outcomes.get_mut(index)) {
                        (Some(answer), Some(outcome)) if !answer.not_owned => outcome.clone_from(answer),
                        _ => elsewhere.push(index),
                    }
                }
            }
            open = elsewhere;
            if !open.is_empty() {
                self.await_newer(revision, attempt, deadline).await?;
                attempt += 1;
            }
        }
        Ok(outcomes)
    }

    /// One command of one shard; no answers when the shard is no more.
    async fn change_part(
        &self,
        shard: u64,
        part: Vec<usize>,
        changes: &[MatchingChange],
        deadline: Instant,
    ) -> Result<(Vec<usize>, Vec<MatchingOutcome>), Error> {
        let own = part.iter().filter_map(|index| changes.get(*index)).cloned().collect();
        let body = shard_call::Body::Matching(MatchingCommand { changes: own });
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await {
            Ok(shard_reply::Body::Matching(reply)) if reply.outcomes.len() == part.len() => {
                Ok((part, reply.outcomes))
            }
            Ok(_) => Err(Error::BadReply { shard, what: "not an outcome for each change" }),
            Err(Error::NoShard { .. }) => Ok((part, Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Reads a page of pairs, by rising ids, of about `limit`.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn list_pairs(
        &self,
        after: Option<FacetId>,
        limit: u32,
        filter: &PairFilter,
        deadline: Instant,
    ) -> Result<PairsPage, Error> {
        let call = |after: Option<[u8; 16]>, end_slot: u32| {
            shard_call::Body::ReadPairs(ReadPairsCall {
                after: after.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default(),
                limit,
                probability_min: filter.probability_min,
                state: filter.state.map_or(0, |state| state as u32 + 1),
                unlinked: false,
                before_model: filter.before_model,
                end_slot,
            })
        };
        let mut rows: Vec<PairRow> = Vec::new();
        let add = |_, mut found: Vec<PairRow>| {
            rows.append(&mut found);
            Ok(rows.len() < limit as usize)
        };
        let next = self.walk_from(after.map(|id| *id.as_bytes()), call, pairs, add, deadline).await?;
        Ok(PairsPage { rows, next: next.map(FacetId::from_bytes) })
    }

    /// A page of those pairs of one shard that were accepted and whose link is not known to be in force.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn unlinked_pairs(
        &self,
        shard: u64,
        after: Option<FacetId>,
        deadline: Instant,
    ) -> Result<PairsPage, Error> {
        let state = PairState::Accepted as u32 + 1;
        let call = ReadPairsCall { state, unlinked: true, ..ReadPairsCall::default() };
        self.pairs_of(shard, after, call, deadline).await
    }

    /// A page of those pairs of one shard that nothing was decided about and that only models older than this one have
    /// found.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn older_pairs(
        &self,
        shard: u64,
        before_model: u64,
        after: Option<FacetId>,
        deadline: Instant,
    ) -> Result<PairsPage, Error> {
        let state = PairState::Unspecified as u32 + 1;
        let call = ReadPairsCall { state, before_model, ..ReadPairsCall::default() };
        self.pairs_of(shard, after, call, deadline).await
    }

    async fn pairs_of(
        &self,
        shard: u64,
        after: Option<FacetId>,
        call: ReadPairsCall,
        deadline: Instant,
    ) -> Result<PairsPage, Error> {
        let after = after.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default();
        let body = shard_call::Body::ReadPairs(ReadPairsCall { after, limit: SHARD_PAGE, ..call });
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await? {
            shard_reply::Body::ReadPairs(reply) => {
                let next = reply.more.then(|| FacetId::from_slice(&reply.next)).flatten();
                Ok(PairsPage { rows: reply.rows, next })
            }
            _ => Err(Error::BadReply { shard, what: "not a page of pairs" }),
        }
    }

    /// The parts of a model.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn read_model(
        &self,
        slot: Slot,
        model: u64,
        parts: u32,
        deadline: Instant,
    ) -> Result<Vec<Bytes>, Error> {
        let mut found: Vec<Bytes> = Vec::new();
        while found.len() < parts as usize {
            let body = shard_call::Body::ReadModel(ReadModelCall {
                slot: u32::from(slot.number()),
                model,
                first_part: u32::try_from(found.len()).unwrap_or(u32::MAX),
            });
            let read = |reply| match reply {
                shard_reply::Body::ReadModel(reply) => Some((!reply.not_owned).then_some(reply.parts)),
                _ => None,
            };
            let more = self.at_slot(slot, Want::Leader, &body, read, deadline).await?;
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        Ok(found)
    }

    /// Brings records to a shard that holds some of their blocks.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline, or is no more.
    pub async fn compare(
        &self,
        shard: u64,
        call: CompareCall,
        deadline: Instant,
    ) -> Result<CompareReply, Error> {
        let body = shard_call::Body::Compare(call);
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await? {
            shard_reply::Body::Compare(reply) => Ok(reply),
            _ => Err(Error::BadReply { shard, what: "not what comparing comes to" }),
        }
    }

    /// Has a shard look at profiles again.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline, or is no more.
    pub async fn touch(
        &self,
        shard: u64,
        facets: impl IntoIterator<Item = FacetId>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let facets = facets.into_iter().map(|facet| Bytes::copy_from_slice(facet.as_bytes())).collect();
        let body = shard_call::Body::Touch(TouchCall { facets });
        self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await.map(|_| ())
    }

    /// How far a shard has come with matching.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline, or is no more.
    pub async fn matching_status(&self, shard: u64, deadline: Instant) -> Result<MatchingStatusReply, Error> {
        let body = shard_call::Body::MatchingStatus(MatchingStatusCall {});
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await? {
            shard_reply::Body::MatchingStatus(reply) => Ok(reply),
            _ => Err(Error::BadReply { shard, what: "not a status" }),
        }
    }

    /// The shard that owns a slot, as far as this node knows.
    pub fn owner(&self, slot: Slot) -> Option<u64> {
        self.routes().owner(slot)
    }

    /// The ids of all shards, as far as this node knows.
    pub fn shards(&self) -> Vec<u64> {
        self.routes().shards().map(|shard| shard.id).collect()
    }
}

fn pairs(reply: shard_reply::Body) -> Option<Piece<Vec<PairRow>>> {
    let shard_reply::Body::ReadPairs(reply) = reply else { return None };
    let next = match reply.more {
        true => Some(reply.next.as_ref().try_into().ok()?),
        false => None,
    };
    Some(Piece { found: reply.rows, next, owned_bounds: reply.owned_bounds })
}

/// Cuts changes into commands of a bounded size.
fn in_commands(part: Vec<usize>, changes: &[MatchingChange]) -> Vec<Vec<usize>> {
    let mut commands: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for index in part {
        let size = changes.get(index).map_or(0, prost::Message::encoded_len);
        match commands.last_mut() {
            Some(last) if last.len() < CHANGES && bytes + size <= CHANGES_BYTES => last.push(index),
            _ => {
                bytes = 0;
                commands.push(vec![index]);
            }
        }
        bytes += size;
    }
    commands
}
