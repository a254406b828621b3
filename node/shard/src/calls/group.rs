//! Calls about groups.

use bytes::Bytes;
use isthmus_domain::FacetId;
use isthmus_proto::internal::v1::{
    GroupEntry, MembershipEntry, ReadGroupCall, ReadGroupReply, ReadMembershipsCall, ReadMembershipsReply,
    ScanGroupsCall, ScanGroupsReply,
};
use tokio::time::Instant;

use super::PAGE_MAX;
use crate::{Error, ShardHandle, identity_calls::copied, machine::blocking, read};

fn facet(bytes: &Bytes) -> Result<FacetId, Error> {
    FacetId::from_slice(bytes).ok_or(Error::Invalid("a facet's id is not 16 bytes"))
}

fn after(bytes: &Bytes) -> Result<Option<FacetId>, Error> {
    if bytes.is_empty() { Ok(None) } else { facet(bytes).map(Some) }
}

impl ShardHandle {
    pub(super) async fn read_group(
        &self,
        call: ReadGroupCall,
        deadline: Instant,
    ) -> Result<ReadGroupReply, Error> {
        let group = facet(&call.group)?;
        self.barrier(call.level, deadline).await?;
        let (owned, stamp) = self.owns(&group);
        if !owned {
            return Ok(ReadGroupReply { not_owned: true, ..ReadGroupReply::default() });
        }
        let shared = self.shared.clone();
        let row = blocking(move || read::group(&shared, &group)).await?;
        Ok(ReadGroupReply { row, not_owned: false, stamp })
    }

    pub(super) async fn scan_groups(
        &self,
        call: ScanGroupsCall,
        deadline: Instant,
    ) -> Result<ScanGroupsReply, Error> {
        let after = after(&call.after)?;
        let limit = (call.limit as usize).clamp(1, PAGE_MAX);
        self.barrier(call.level, deadline).await?;
        let shared = self.shared.clone();
        let page = blocking(move || read::groups(&shared, after.as_ref(), limit)).await?;
        let groups =
            page.groups.into_iter().map(|(id, row)| GroupEntry { group: copied(&id), row: Some(row) });
        Ok(ScanGroupsReply {
            groups: groups.collect(),
            more: page.more,
            stamp: page.stamp.0,
            owned_bounds: page.owned.to_bounds(),
        })
    }

    pub(super) async fn read_memberships(
        &self,
        call: ReadMembershipsCall,
        deadline: Instant,
    ) -> Result<ReadMembershipsReply, Error> {
        let (of, after, of_group) = (facet(&call.facet)?, after(&call.after)?, call.of_group);
        let only = call.only.iter().map(facet).collect::<Result<Vec<_>, _>>()?;
        if only.len() > PAGE_MAX {
            return Err(Error::Invalid("too many memberships in one call"));
        }
        let limit = (call.limit as usize).clamp(1, PAGE_MAX);
        self.barrier(call.level, deadline).await?;
        let (owned, stamp) = self.owns(&of);
        if !owned {
            return Ok(ReadMembershipsReply { not_owned: true, ..ReadMembershipsReply::default() });
        }
        let shared = self.shared.clone();
        let (found, more) = blocking(move || match only.is_empty() {
            true => {
                let page = read::memberships(&shared, &of, of_group, after.as_ref(), limit)?;
                Ok((page.memberships, page.more))
            }
            false => Ok((read::memberships_among(&shared, &of, of_group, &only)?, false)),
        })
        .await?;
        let entry = |(other, row)| MembershipEntry { other: copied(&other), row: Some(row) };
        let memberships = found.into_iter().map(entry).collect();
        Ok(ReadMembershipsReply { memberships, more, not_owned: false, stamp })
    }

    /// Whether the shard owns a slot, and its stamp.
    fn owns(&self, facet: &FacetId) -> (bool, u64) {
        let state = self.shared.state.read();
        (state.meta.owned.contains(facet.slot()), state.meta.stamp.0)
    }
}
