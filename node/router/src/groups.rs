//! Groups and who belongs to them: at the group's slot who its members are, at a member's its groups.
//!
//! Memberships are of identifiers. Whose these are by now is asked when somebody reads: a merge moves nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{
    GroupRow, MembershipRow, ReadGroupCall, ReadMembershipsCall, ReadMembershipsReply, shard_call,
    shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::read::ReadLevel;
use crate::router::Router;

/// Members that are asked for their groups at a time.
const WIDTH: usize = 16;
/// Memberships that are looked up by one call.
const ONLY_MAX: usize = 1_000;

/// A page of memberships: by rising facet of the other end, and whether there are more.
pub type Memberships = (Vec<(FacetId, MembershipRow)>, bool);

impl Router {
    /// Reads a group; `None` when nothing was said of it.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn read_group(
        &self,
        group: FacetId,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Option<GroupRow>, Stamp), Error> {
        let body =
            shard_call::Body::ReadGroup(ReadGroupCall { group: copied(&group), level: level.to_wire() });
        let read = |reply| match reply {
            shard_reply::Body::ReadGroup(reply) => {
                Some((!reply.not_owned).then_some((reply.row, Stamp(reply.stamp))))
            }
            _ => None,
        };
        self.at_slot(group.slot(), level.want(), &body, read, deadline).await
    }

    /// A page of the identifiers that belong to a group, from the first above `after`. `limit` is 1 to 1,000.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn group_members(
        &self,
        group: FacetId,
        after: Option<FacetId>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Memberships, Error> {
        let after = after.as_ref().map(copied).unwrap_or_default();
        let call = ReadMembershipsCall {
            facet: copied(&group),
            of_group: true,
            after,
            limit,
            only: Vec::new(),
            level: level.to_wire(),
        };
        self.memberships(group, call, level, deadline).await
    }

    /// Which of these identifiers belong to a group.
    ///
    /// # Errors
    /// When the shard doesn't answer by the deadline.
    pub async fn group_members_among(
        &self,
        group: FacetId,
        members: &[FacetId],
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<BTreeMap<FacetId, MembershipRow>, Error> {
        let mut found = BTreeMap::new();
        for part in members.chunks(ONLY_MAX) {
            let call = ReadMembershipsCall {
                facet: copied(&group),
                of_group: true,
                only: part.iter().map(copied).collect(),
                level: level.to_wire(),
                ..ReadMembershipsCall::default()
            };
            found.extend(self.memberships(group, call, level, deadline).await?.0);
        }
        Ok(found)
    }

    /// A page of the groups that any of a customer's identifiers belongs to, from the first above `after`, each once.
    /// `limit` is 1 to 1,000.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn groups_of(
        &self,
        members: &[FacetId],
        after: Option<FacetId>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Memberships, Error> {
        let after = after.as_ref().map(copied).unwrap_or_default();
        let calls: Vec<(FacetId, ReadMembershipsCall)> = members
            .iter()
            .map(|member| {
                let call = ReadMembershipsCall {
                    facet: copied(member),
                    of_group: false,
                    after: after.clone(),
                    limit,
                    only: Vec::new(),
                    level: level.to_wire(),
                };
                (*member, call)
            })
            .collect();
        let asked = stream::iter(calls).map(|(member, call)| self.memberships(member, call, level, deadline));
        let pages: Vec<Memberships> = asked.buffer_unordered(WIDTH).try_collect().await?;
        // Behind the last of a page that has more, others may have groups that it would have, too.
        let bound = pages.iter().filter(|(_, more)| *more).filter_map(|(page, _)| page.last());
        let bound = bound.map(|(group, _)| *group).min();
        let mut groups: BTreeMap<FacetId, MembershipRow> = BTreeMap::new();
        for (group, row) in pages.into_iter().flat_map(|(page, _)| page) {
            if bound.is_none_or(|bound| group <= bound) {
                groups.entry(group).and_modify(|known| add(known, &row)).or_insert(row);
            }
        }
        let more = bound.is_some() || groups.len() > limit as usize;
        Ok((groups.into_iter().take(limit as usize).collect(), more))
    }

    async fn memberships(
        &self,
        at: FacetId,
        call: ReadMembershipsCall,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Memberships, Error> {
        let body = shard_call::Body::ReadMemberships(call);
        let read = |reply| match reply {
            shard_reply::Body::ReadMemberships(reply) => Some((!reply.not_owned).then_some(reply)),
            _ => None,
        };
        let reply: ReadMembershipsReply =
            self.at_slot(at.slot(), level.want(), &body, read, deadline).await?;
        let found = reply
            .memberships
            .into_iter()
            .map(|entry| Some((FacetId::from_slice(&entry.other)?, entry.row.unwrap_or_default())));
        let found = found.collect::<Option<_>>().ok_or_else(|| {
            let shard = self.routes().owner(at.slot()).unwrap_or_default();
            Error::BadReply { shard, what: "a membership of nobody" }
        })?;
        Ok((found, reply.more))
    }
}

/// Adds what was said under another identifier of the same customer.
pub fn add(known: &mut MembershipRow, other: &MembershipRow) {
    known.first_seen = known.first_seen.min(other.first_seen);
    known.last_seen = known.last_seen.max(other.last_seen);
    known.events += other.events;
}

fn copied(facet: &FacetId) -> Bytes {
    Bytes::copy_from_slice(facet.as_bytes())
}
