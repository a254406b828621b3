//! `GroupService`: groups, their members, and the groups of a customer.
//!
//! **What it promises.** A group's name is normalised as ingest does. What was acknowledged before a read began is in it, at
//! either end of a membership. A customer is listed once in a group, whatever identifiers events came under, and merges and
//! unmerges are seen at once: whose an identifier is, is asked when the page is read.
//!
//! **How.** Memberships are of identifiers. A page of a group's identifiers is read at the group; the profiles that they
//! belong to are read as ever; and a profile is listed with the smallest of its identifiers that belongs to the group.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isthmus_domain::{FacetId, FacetSummary, IdentifierError, Stamp, group::GroupId, value::json};
use isthmus_proto::{
    internal::v1::{GroupRow, MembershipRow},
    v1::{
        self, Group, GroupMember, GroupServiceGetRequest, GroupServiceGetResponse, GroupServiceListRequest,
        GroupServiceListResponse, Identifier, ListMembersRequest, ListMembersResponse,
        ListMembershipsRequest, ListMembershipsResponse, group_service_server::GroupService,
    },
};
use isthmus_router::{ReadLevel, add_membership};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit, read_level},
    profile::{PAGE_BYTES, damaged, nothing_known},
    status::{Refusal, status},
    value::{timestamp, to_wire},
};

/// Identifiers of members that are looked at together, with their customers' profiles.
const MEMBERS_PART: usize = 128;

/// The service.
pub struct Groups {
    hub: Arc<Hub>,
}

impl Groups {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    fn facet(&self, group_id: &str) -> Result<FacetId, Refusal> {
        let group = GroupId::normalise(group_id).map_err(|error| {
            let what = match error {
                IdentifierError::Blank => "is missing: name a group as events do in groupId".to_owned(),
                other => format!("can't name a group: {other}"),
            };
            Refusal::field("INVALID_GROUP_ID", "group_id", what)
        })?;
        Ok(group.facet(&self.hub.identity_key))
    }

    /// A group that events have named.
    async fn read(
        &self,
        id: FacetId,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(GroupRow, Stamp), Status> {
        let read = self.hub.router.read_group(id, level, deadline).await;
        let (row, stamp) = read.map_err(|error| status(&error))?;
        let row = row.ok_or_else(|| Refusal::not_found("no event has named this group"))?;
        Ok((row, stamp))
    }

    /// A page of members, and where the next one begins.
    async fn members(
        &self,
        group: FacetId,
        (after, limit): (Option<FacetId>, u32),
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Vec<GroupMember>, Option<FacetId>), Status> {
        let router = &self.hub.router;
        let read = router.group_members(group, after, limit, level, deadline).await;
        let (page, more) = read.map_err(|error| status(&error))?;
        let ids: Vec<FacetId> = page.iter().map(|(id, _)| *id).collect();
        let next = ids.last().copied().filter(|_| more);
        let read = router.read_profiles(&ids, level, deadline).await;
        let (profiles, _) = read.map_err(|error| status(&error))?;
        let mut known: BTreeMap<FacetId, MembershipRow> = page.into_iter().collect();
        // A customer's other identifiers may belong to the group, too, wherever they stand in its list.
        let all = profiles.iter().flatten().flat_map(|parts| parts.members.iter().map(|(id, ..)| *id));
        let others: BTreeSet<FacetId> = all.filter(|id| !known.contains_key(id)).collect();
        let others: Vec<FacetId> = others.into_iter().collect();
        let read = router.group_members_among(group, &others, level, deadline).await;
        known.extend(read.map_err(|error| status(&error))?);
        let mut members = Vec::new();
        for (id, parts) in ids.iter().zip(&profiles) {
            let Some(parts) = parts else { continue };
            let of: Vec<&FacetId> =
                parts.members.iter().map(|(id, ..)| id).filter(|id| known.contains_key(id)).collect();
            if of.iter().min() != Some(&id) {
                continue;
            }
            let folded =
                parts.fold(&self.hub.identity_key, isthmus_coordinator::DEFAULT_CURRENCY, Stamp::ZERO);
            let profile = folded.map_err(|_| damaged("a facet's summary"))?;
            let profile_id = profile.map_or(*id, |profile| profile.profile_id);
            members.push(member(profile_id, of.iter().filter_map(|id| known.get(id))));
        }
        Ok((members, next))
    }
}

fn member<'a>(profile_id: FacetId, rows: impl Iterator<Item = &'a MembershipRow>) -> GroupMember {
    let mut sum: Option<MembershipRow> = None;
    let mut identifiers = Vec::new();
    for row in rows {
        identifiers.push(Identifier { namespace: row.namespace.clone(), value: row.value.clone() });
        match &mut sum {
            Some(sum) => add_membership(sum, row),
            None => sum = Some(row.clone()),
        }
    }
    identifiers.sort_unstable_by(|a, b| (&a.namespace, &a.value).cmp(&(&b.namespace, &b.value)));
    let sum = sum.unwrap_or_default();
    GroupMember {
        profile_id: profile_id.to_string(),
        identifiers,
        first_seen: Some(timestamp(sum.first_seen)),
        last_seen: Some(timestamp(sum.last_seen)),
        events: sum.events,
    }
}

fn shown(row: &GroupRow, stamp: Stamp) -> Result<Group, Status> {
    let summary = FacetSummary::from_bytes(&row.summary).map_err(|_| damaged("a group"))?;
    let name = summary.identifier().map_err(|_| damaged("a group's name"))?;
    let mut traits = BTreeMap::new();
    for (name, state) in summary.traits().iter().filter(|(_, state)| !state.is_removed()) {
        let value = json::parse(&state.value).map_err(|_| damaged("a trait"))?;
        traits.insert(name.to_string(), to_wire(value));
    }
    Ok(Group {
        group_id: name.value().to_owned(),
        traits,
        member_identifiers: row.members,
        events: summary.events(),
        first_seen: summary.first_seen().map(timestamp),
        last_seen: summary.last_seen().map(timestamp),
        sources: summary.sources().iter().map(|(source, _)| source.to_string()).collect(),
        version: stamp.to_string(),
    })
}

#[tonic::async_trait]
impl GroupService for Groups {
    async fn get(
        &self,
        request: Request<GroupServiceGetRequest>,
    ) -> Result<Response<GroupServiceGetResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let level = read_level(request.consistency.as_ref())?;
        let (row, stamp) = self.read(self.facet(&request.group_id)?, level, deadline).await?;
        Ok(Response::new(GroupServiceGetResponse { group: Some(shown(&row, stamp)?) }))
    }

    async fn list(
        &self,
        request: Request<GroupServiceListRequest>,
    ) -> Result<Response<GroupServiceListResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let after = cursor::decode(Kind::Groups, &request.cursor)?.map(FacetId::from_bytes);
        let read = self.hub.router.list_groups(after, limit, level, deadline).await;
        let (page, mut more, stamp) = read.map_err(|error| status(&error))?;
        let (mut groups, mut bytes, mut last) = (Vec::with_capacity(page.len()), 0, None);
        for (id, row) in &page {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            let group = shown(row, stamp)?;
            bytes += group.encoded_len();
            groups.push(group);
            last = Some(id);
        }
        let last = last.filter(|_| more);
        let next_cursor = last.map(|id| cursor::encode(Kind::Groups, id.as_bytes())).unwrap_or_default();
        Ok(Response::new(GroupServiceListResponse { groups, next_cursor }))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let group = self.facet(&request.group_id)?;
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let mut after = cursor::decode(Kind::Members, &request.cursor)?.map(FacetId::from_bytes);
        self.read(group, level, deadline).await?;
        // Part by part, so that neither the profiles that are looked at nor the page grow beyond bounds. A part whose
        // identifiers all belong to customers who are listed elsewhere shows nobody.
        let (mut members, mut bytes, limit) = (Vec::new(), 0, limit as usize);
        loop {
            let part = MEMBERS_PART.min(limit - members.len());
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            let (found, next) = self.members(group, (after, part), level, deadline).await?;
            bytes += found.iter().map(GroupMember::encoded_len).sum::<usize>();
            members.extend(found);
            after = next;
            if after.is_none() || members.len() >= limit || bytes >= PAGE_BYTES {
                break;
            }
        }
        let next_cursor = after.map(|id| cursor::encode(Kind::Members, id.as_bytes())).unwrap_or_default();
        Ok(Response::new(ListMembersResponse { members, next_cursor }))
    }

    async fn list_memberships(
        &self,
        request: Request<ListMembershipsRequest>,
    ) -> Result<Response<ListMembershipsResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let after = cursor::decode(Kind::Memberships, &request.cursor)?.map(FacetId::from_bytes);
        let facet = self.hub.facet(request.key.as_ref())?;
        let router = &self.hub.router;
        let read = router.read_profiles(&[facet], level, deadline).await;
        let (profiles, _) = read.map_err(|error| status(&error))?;
        let parts = profiles.into_iter().next().flatten().ok_or_else(nothing_known)?;
        let members: Vec<FacetId> = parts.members.iter().map(|(id, ..)| *id).collect();
        let read = router.groups_of(&members, after, limit, level, deadline).await;
        let (page, more) = read.map_err(|error| status(&error))?;
        let next = page.last().map(|(id, _)| *id).filter(|_| more);
        let memberships = page.into_iter().map(|(_, row)| v1::Membership {
            group_id: row.value,
            first_seen: Some(timestamp(row.first_seen)),
            last_seen: Some(timestamp(row.last_seen)),
            events: row.events,
        });
        Ok(Response::new(ListMembershipsResponse {
            memberships: memberships.collect(),
            next_cursor: next.map(|id| cursor::encode(Kind::Memberships, id.as_bytes())).unwrap_or_default(),
        }))
    }
}
