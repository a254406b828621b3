//! What became of quarantine entries, and how many there are.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::Slot;
use isthmus_proto::internal::v1::{
    CountQuarantineCall, QuarantineCount, QuarantineVerdict, ResolveQuarantineCommand, VerdictOutcome,
    VerdictReply, shard_call, shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;
use crate::walk::Piece;

/// Entries that a shard counts in one call.
const COUNTED: u32 = 10_000;

impl Router {
    /// Has verdicts noted, each beside its entry; one reply for each, in order. A verdict on an entry that is resolved
    /// changes nothing, so this may be repeated.
    ///
    /// # Errors
    /// As a whole, when a shard does not answer by the deadline: some may be noted then.
    pub async fn resolve_quarantine(
        &self,
        verdicts: &[QuarantineVerdict],
        deadline: Instant,
    ) -> Result<Vec<VerdictReply>, Error> {
        let mut replies: Vec<VerdictReply> = vec![VerdictReply::default(); verdicts.len()];
        let mut open: Vec<usize> = (0..verdicts.len()).collect();
        let mut attempt = 0;
        while !open.is_empty() {
            let routes = self.routes();
            let revision = routes.revision;
            let mut parts: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            let mut elsewhere = Vec::new();
            for index in open {
                let slot = verdicts.get(index).and_then(|verdict| slot(&verdict.id));
                let slot =
                    slot.ok_or_else(|| Error::Invalid { message: "an id is not 16 bytes".to_owned() })?;
                match routes.owner(slot) {
                    Some(shard) => parts.entry(shard).or_default().push(index),
                    None => elsewhere.push(index),
                }
            }
            drop(routes);
            let asked =
                parts.into_iter().map(|(shard, part)| self.resolve_part(shard, part, verdicts, deadline));
            for (part, answers) in try_join_all(asked).await? {
                for (at, index) in part.into_iter().enumerate() {
                    match answers.get(at) {
                        Some(answer) if answer.outcome() != VerdictOutcome::NotOwned => {
                            if let Some(reply) = replies.get_mut(index) {
                                reply.clone_from(answer);
                            }
                        }
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
        Ok(replies)
    }

    /// The part of one shard; no answers when the shard is no more.
    async fn resolve_part(
        &self,
        shard: u64,
        part: Vec<usize>,
        verdicts: &[QuarantineVerdict],
        deadline: Instant,
    ) -> Result<(Vec<usize>, Vec<VerdictReply>), Error> {
        let own = part.iter().filter_map(|index| verdicts.get(*index)).cloned().collect();
        let body = shard_call::Body::ResolveQuarantine(ResolveQuarantineCommand { verdicts: own });
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await {
            Ok(shard_reply::Body::ResolveQuarantine(reply)) if reply.replies.len() == part.len() => {
                Ok((part, reply.replies))
            }
            Ok(_) => Err(Error::BadReply { shard, what: "not a reply for each verdict" }),
            Err(Error::NoShard { .. }) => Ok((part, Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// How many quarantine entries there are, by source and reason, rising.
    pub async fn count_quarantine(&self, deadline: Instant) -> Result<Vec<QuarantineCount>, Error> {
        let call = |after: Option<[u8; 16]>, end_slot: u32| {
            let after = after.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default();
            shard_call::Body::CountQuarantine(CountQuarantineCall { after, end_slot, limit: COUNTED })
        };
        let read = |reply| {
            let shard_reply::Body::CountQuarantine(reply) = reply else { return None };
            let next = match reply.next.is_empty() {
                true => None,
                false => Some(reply.next.as_ref().try_into().ok()?),
            };
            Some(Piece { found: reply.counts, next, owned_bounds: reply.owned_bounds })
        };
        let mut sums: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
        let add = |_, counts: Vec<QuarantineCount>| {
            for count in counts {
                let sum = sums.entry((count.source, count.reason)).or_default();
                sum[0] += count.open;
                sum[1] += count.resolved;
            }
            Ok(())
        };
        self.walk(call, read, add, deadline).await?;
        let counts = sums.into_iter().map(|((source, reason), [open, resolved])| QuarantineCount {
            source,
            reason,
            open,
            resolved,
        });
        Ok(counts.collect())
    }
}

fn slot(id: &[u8]) -> Option<Slot> {
    Some(Slot::of_hash(&id.try_into().ok()?))
}
