//! Segments: every shard's leader is asked, and answers add up.
//!
//! Shards take up new definitions one after the other. Answers add up only if they are of one version: else those who are
//! behind are asked again, until the deadline.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Slot};
use isthmus_proto::internal::v1::{
    SegmentCall, SegmentFlushAsk, SegmentMembersAsk, SegmentProfilesAsk, SegmentReply, SegmentShip,
    SegmentStatusAsk, segment_call::Ask, shard_call, shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::pages::owned;
use crate::pursuit::Want;
use crate::router::Router;
use crate::walk::Piece;

/// The pause before shards are asked again that answer by different versions of the definitions.
const AGAIN: Duration = Duration::from_millis(10);

/// Homes of members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MembersPage {
    /// The homes, rising.
    pub homes: Vec<FacetId>,
    /// Behind which home the next page begins; `None`: this is the last.
    pub next: Option<FacetId>,
}

impl Router {
    async fn ask_segments(
        &self,
        shard: u64,
        call: SegmentCall,
        deadline: Instant,
    ) -> Result<SegmentReply, Error> {
        let body = shard_call::Body::Segment(call);
        match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await? {
            shard_reply::Body::Segment(reply) => Ok(reply),
            _ => Err(Error::BadReply { shard, what: "not an answer about segments" }),
        }
    }

    /// All shards.
    pub fn segment_shards(&self) -> Vec<u64> {
        let mut shards: Vec<u64> = self.routes().shards().map(|route| route.id).collect();
        shards.sort_unstable();
        shards
    }

    /// The shard that puts together the profiles of a slot.
    pub fn segment_owner(&self, slot: Slot) -> Option<u64> {
        self.routes().owner(slot)
    }

    /// Tells a shard what another one knows of facets; the incarnation that has it, 0: nobody by these definitions.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn ship_segments(
        &self,
        shard: u64,
        document_version: u64,
        ship: SegmentShip,
        deadline: Instant,
    ) -> Result<u64, Error> {
        let call = SegmentCall { document_version, min_stamp: 0, ask: Some(Ask::Ship(ship)) };
        Ok(self.ask_segments(shard, call, deadline).await?.incarnation)
    }

    /// Has all shards tell each other what they know; a stamp that all of it is below.
    async fn flush_segments(&self, deadline: Instant) -> Result<u64, Error> {
        let shards = self.segment_shards();
        if shards.len() == 1 {
            return Ok(0);
        }
        let asked = shards.iter().map(|shard| {
            let call = SegmentCall { ask: Some(Ask::Flush(SegmentFlushAsk {})), ..SegmentCall::default() };
            self.ask_segments(*shard, call, deadline)
        });
        Ok(try_join_all(asked).await?.iter().map(|reply| reply.stamp).max().unwrap_or_default())
    }

    /// Asks all shards, each of which answers for its own slots, by one version of the definitions.
    ///
    /// # Errors
    /// When one doesn't answer by the deadline, or what is asked makes no sense.
    pub async fn segments(&self, ask: Ask, deadline: Instant) -> Result<Vec<(u64, SegmentReply)>, Error> {
        let mut version = 0;
        loop {
            let min_stamp = match ask {
                Ask::Status(_) => 0,
                _ => self.flush_segments(deadline).await?,
            };
            let shards = self.segment_shards();
            let asked = shards.iter().map(|shard| async {
                let call = SegmentCall { document_version: version, min_stamp, ask: Some(ask.clone()) };
                Ok::<_, Error>((*shard, self.ask_segments(*shard, call, deadline).await?))
            });
            let replies = try_join_all(asked).await?;
            let newest = replies.iter().map(|(_, reply)| reply.document_version).max().unwrap_or_default();
            let slots = replies.iter().try_fold(0_u32, |sum, (shard, reply)| {
                Ok::<_, Error>(sum + u32::from(owned(*shard, &reply.owned_bounds)?.len()))
            })?;
            let is_whole = slots == u32::from(isthmus_domain::slot::SLOT_COUNT);
            let is_one = replies.iter().all(|(_, reply)| reply.document_version == newest);
            let is_status = matches!(ask, Ask::Status(_));
            if is_whole && (is_one || is_status) {
                return Ok(replies);
            }
            if Instant::now() + AGAIN >= deadline {
                return Err(Error::Unavailable { shard: shards.first().copied().unwrap_or_default() });
            }
            version = newest;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The oldest version of the definitions that a shard answers by.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn segments_version(&self, deadline: Instant) -> Result<u64, Error> {
        let replies = self.segments(Ask::Status(SegmentStatusAsk {}), deadline).await?;
        Ok(replies.iter().map(|(_, reply)| reply.document_version).min().unwrap_or_default())
    }

    /// A page of the members of a set of segments, by rising home, of about `limit`.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline, or the expression makes no sense.
    pub async fn segment_members(
        &self,
        expression: &str,
        after: Option<FacetId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<MembersPage, Error> {
        let min_stamp = self.flush_segments(deadline).await?;
        let call = |after: Option<[u8; 16]>, end_slot: u32| {
            let after = after.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default();
            let ask = SegmentMembersAsk { expression: expression.to_owned(), after, limit, end_slot };
            shard_call::Body::Segment(SegmentCall {
                document_version: 0,
                min_stamp,
                ask: Some(Ask::Members(ask)),
            })
        };
        let read = |reply| match reply {
            shard_reply::Body::Segment(SegmentReply { homes, more, owned_bounds, .. }) => {
                let homes: Vec<FacetId> =
                    homes.iter().map(|home| FacetId::from_slice(home)).collect::<Option<_>>()?;
                let next = homes.last().filter(|_| more).map(|home| *home.as_bytes());
                Some(Piece { found: homes, next, owned_bounds })
            }
            _ => None,
        };
        let mut homes = Vec::new();
        let take = |_, mut found: Vec<FacetId>| {
            homes.append(&mut found);
            Ok(homes.len() < limit as usize)
        };
        let next = self.walk_from(after.map(|id| *id.as_bytes()), call, read, take, deadline).await?;
        Ok(MembersPage { homes, next: next.map(FacetId::from_bytes) })
    }

    /// What is known of the profile that is put together at a home.
    ///
    /// # Errors
    /// When its shard doesn't answer by the deadline.
    pub async fn segments_of(&self, home: FacetId, deadline: Instant) -> Result<SegmentReply, Error> {
        let min_stamp = self.flush_segments(deadline).await?;
        let mut attempt = 0;
        loop {
            let routes = self.routes();
            let (revision, shard) = (routes.revision, routes.owner(home.slot()));
            drop(routes);
            if let Some(shard) = shard {
                let homes = vec![Bytes::copy_from_slice(home.as_bytes())];
                let ask = Some(Ask::Profiles(SegmentProfilesAsk { homes }));
                let reply = self
                    .ask_segments(shard, SegmentCall { ask, min_stamp, document_version: 0 }, deadline)
                    .await?;
                if owned(shard, &reply.owned_bounds)?.contains(home.slot()) {
                    return Ok(reply);
                }
            }
            self.await_newer(revision, attempt, deadline).await?;
            attempt += 1;
        }
    }
}
