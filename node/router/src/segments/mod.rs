//! Segments: every shard's leader is asked, at one stamp ([`hold`]), and answers add up.

mod frozen;
mod hold;

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Slot, Stamp};
use isthmus_proto::internal::v1::{
    SegmentBesideAsk, SegmentCall, SegmentMembersAsk, SegmentPreviewAsk, SegmentProfile, SegmentProfilesAsk,
    SegmentReply, SegmentShip, SegmentStatusAsk, segment_call::Ask, shard_call, shard_reply,
};
use tokio::time::Instant;

pub(crate) use self::hold::By;
pub use self::{
    frozen::{FrozenMembers, FrozenSegment, SegmentsWanted},
    hold::SegmentAnswers,
};
use crate::error::Error;
use crate::pages::owned;
use crate::pursuit::Want;
use crate::router::Router;

/// The pause before a preview is asked for again that is still worked out.
const AGAIN: Duration = Duration::from_millis(20);
/// How often that is done.
const PREVIEW_TRIES_MAX: u32 = 50_000;
/// Numbers of definitions from here on are those of previews, not versions.
const PREVIEWS_FROM: u64 = 1 << 63;

/// Homes of members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MembersPage {
    /// The homes, rising.
    pub homes: Vec<FacetId>,
    /// Behind which home the next page begins; `None`: this is the last.
    pub next: Option<FacetId>,
    /// The stamp that it is exact at.
    pub at: Stamp,
}

/// What is known of profiles, at one stamp.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentsOf {
    /// The stamp.
    pub at: Stamp,
    /// The version of the definitions.
    pub version: u64,
    /// Of each home that was asked for, in their order.
    pub known: Vec<SegmentProfile>,
}

impl Router {
    pub(crate) async fn ask_segments(
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
        let call = SegmentCall { document_version, hold: 0, ask: Some(Ask::Ship(ship)) };
        Ok(self.ask_segments(shard, call, deadline).await?.incarnation)
    }

    /// The oldest version of the definitions that a shard answers by.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn segments_version(&self, deadline: Instant) -> Result<u64, Error> {
        let shards = self.segment_shards();
        let asked = shards.iter().map(|shard| {
            let ask = Some(Ask::Status(SegmentStatusAsk {}));
            self.ask_segments(*shard, SegmentCall { ask, ..SegmentCall::default() }, deadline)
        });
        let replies = try_join_all(asked).await?;
        Ok(replies.iter().map(|reply| reply.document_version).min().unwrap_or_default())
    }

    /// A page of the members of a set of segments, by rising home.
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
        let after = after.map(|home| Bytes::copy_from_slice(home.as_bytes())).unwrap_or_default();
        let ask = SegmentMembersAsk { expression: expression.to_owned(), after, limit };
        let answers = self.segments(Ask::Members(ask), deadline).await?;
        let mut homes = Vec::new();
        for (shard, reply) in &answers.replies {
            for home in &reply.homes {
                let home = FacetId::from_slice(home);
                homes.push(home.ok_or(Error::BadReply { shard: *shard, what: "a home is not 16 bytes" })?);
            }
        }
        homes.sort_unstable();
        let more = homes.len() > limit as usize || answers.replies.iter().any(|(_, reply)| reply.more);
        homes.truncate(limit as usize);
        let next = homes.last().copied().filter(|_| more);
        Ok(MembersPage { homes, next, at: answers.at })
    }

    /// What is known of the profile that is put together at a home.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn segments_of(&self, homes: &[FacetId], deadline: Instant) -> Result<SegmentsOf, Error> {
        let ask = |_| {
            let homes = homes.iter().map(|home| Bytes::copy_from_slice(home.as_bytes()));
            Ask::Profiles(SegmentProfilesAsk { homes: homes.collect() })
        };
        let answers = self.segments_by(By::InForce, ask, deadline).await?;
        let mut known = vec![SegmentProfile::default(); homes.len()];
        for (shard, reply) in answers.replies {
            let slots = owned(shard, &reply.owned_bounds)?;
            for ((home, known), found) in homes.iter().zip(&mut known).zip(reply.known) {
                if slots.contains(home.slot()) {
                    *known = found;
                }
            }
        }
        Ok(SegmentsOf { at: answers.at, version: answers.version, known })
    }

    /// How many and who there would be in a segment of other definitions, a document as JSON: it is worked out by all shards,
    /// and then answered at one stamp.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline, or works out too much already.
    pub async fn preview_segment(
        &self,
        document: Bytes,
        segment: &str,
        limit: u32,
        deadline: Instant,
    ) -> Result<SegmentAnswers, Error> {
        let number = self.next_attempt() | PREVIEWS_FROM;
        let lease_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let begin = SegmentBesideAsk { document, lease_ms: u32::try_from(lease_ms).unwrap_or(u32::MAX) };
        let worked_out = async {
            for _ in 0..PREVIEW_TRIES_MAX {
                self.beside(number, begin.clone(), deadline).await?;
                let ask = Ask::Preview(SegmentPreviewAsk { segment: segment.to_owned(), limit });
                if let Some(hold) =
                    self.hold_segments(By::Beside(number), &mut 0, Stamp::ZERO, deadline).await?
                    && let Some(answers) = hold.ask(|_| ask.clone(), deadline).await?
                {
                    return Ok(answers);
                }
                if Instant::now() + AGAIN >= deadline {
                    break;
                }
                // Should a leader have gone, its successor is asked to work it out in its turn.
                tokio::time::sleep(AGAIN).await;
            }
            Err(Error::Unavailable { shard: self.segment_shards().first().copied().unwrap_or_default() })
        };
        let answered = worked_out.await;
        if let Err(error) = self.beside(number, SegmentBesideAsk::default(), deadline).await {
            tracing::debug!(%error, "a preview waits for its lease's end");
        }
        answered
    }

    /// Has all shards work definitions out under a number, or let them go.
    async fn beside(&self, number: u64, ask: SegmentBesideAsk, deadline: Instant) -> Result<(), Error> {
        let shards = self.segment_shards();
        let asked = shards.iter().map(|shard| {
            let ask = Some(Ask::Beside(ask.clone()));
            self.ask_segments(*shard, SegmentCall { document_version: number, hold: 0, ask }, deadline)
        });
        try_join_all(asked).await.map(|_| ())
    }
}
