//! Groups and memberships.

use bytes::Bytes;
use isthmus_domain::{FacetId, SlotRanges, Stamp};
use isthmus_proto::internal::v1::{GroupRow, MembershipRow};
use isthmus_raft::Broken;
use prost::Message as _;

use super::{control_rows::rows, identity::stored_row};
use crate::{apply::group, below::Below, error::broken, keys, machine::Shared};

/// A page of groups.
pub struct GroupsPage {
    /// The groups, by rising facet.
    pub groups: Vec<(FacetId, GroupRow)>,
    /// Whether there are more.
    pub more: bool,
    /// The stamp that the page is exact at, or later.
    pub stamp: Stamp,
    /// The slots that the shard owned then.
    pub owned: SlotRanges,
}

/// A page of the members of a group, or of the groups of an identifier.
pub struct MembershipsPage {
    /// By rising facet of the other end.
    pub memberships: Vec<(FacetId, MembershipRow)>,
    /// Whether there are more.
    pub more: bool,
}

/// A group; `None` when nothing was said of it. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn group(shared: &Shared, id: &FacetId) -> Result<Option<GroupRow>, Broken> {
    let row = stored_row(shared, &keys::group(id))?;
    row.map(GroupRow::decode).transpose().map_err(broken)
}

/// The next groups above `after` that the shard owns, at most `limit`. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn groups(shared: &Shared, after: Option<&FacetId>, limit: usize) -> Result<GroupsPage, Broken> {
    let (owned, stamp) = {
        let state = shared.state.read();
        (state.meta.owned.clone(), state.meta.stamp)
    };
    let mut start = after.map_or_else(|| vec![keys::table::GROUP], keys::group);
    if after.is_some() {
        start.push(0);
    }
    let mut groups = Vec::new();
    let mut more = true;
    while more && groups.len() < limit {
        let (found, next) = rows(shared, &start, &[keys::table::GROUP], limit - groups.len())?;
        for (key, _) in found {
            let id = key.get(3..19).and_then(FacetId::from_slice);
            let id = id.ok_or_else(|| broken("the key of a group is damaged"))?;
            // Whole: what the page has may be the first of several parts.
            if let Some(row) = group(shared, &id)?.filter(|_| owned.contains(id.slot())) {
                groups.push((id, row));
            }
        }
        more = next.is_some();
        start = next.unwrap_or_default();
    }
    Ok(GroupsPage { groups, more, stamp, owned })
}

/// The members of a group above `after`, or, unless `of_group`, the groups of an identifier, at most `limit`. Waits for
/// a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn memberships(
    shared: &Shared,
    facet: &FacetId,
    of_group: bool,
    after: Option<&FacetId>,
    limit: usize,
) -> Result<MembershipsPage, Broken> {
    let prefix = key(facet, of_group, None);
    let mut start = key(facet, of_group, after);
    if after.is_some() {
        start.push(0);
    }
    let (mut found, mut more) = (Vec::new(), true);
    while more && found.len() < limit {
        let (page, next) = rows(shared, &start, &prefix, limit - found.len())?;
        for (key, _) in page {
            let other = key.get(19..).and_then(FacetId::from_slice);
            let other = other.ok_or_else(|| broken("the key of a membership is damaged"))?;
            // Whole, as above: a member may have told its group of very much at once.
            if let Some(row) = membership(shared, facet, of_group, &other)? {
                found.push((other, row));
            }
        }
        more = next.is_some();
        start = next.unwrap_or_default();
    }
    Ok(MembershipsPage { memberships: found, more })
}

/// The same, of some only. Waits for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn memberships_among(
    shared: &Shared,
    facet: &FacetId,
    of_group: bool,
    others: &[FacetId],
) -> Result<Vec<(FacetId, MembershipRow)>, Broken> {
    let mut found = Vec::new();
    for other in others {
        found.extend(membership(shared, facet, of_group, other)?.map(|row| (*other, row)));
    }
    found.sort_unstable_by_key(|(other, _)| *other);
    Ok(found)
}

fn membership(
    shared: &Shared,
    facet: &FacetId,
    of_group: bool,
    other: &FacetId,
) -> Result<Option<MembershipRow>, Broken> {
    let row = stored_row(shared, &key(facet, of_group, Some(other)))?;
    row.map(|bytes: Bytes| MembershipRow::decode(bytes)).transpose().map_err(broken)
}

fn key(facet: &FacetId, of_group: bool, other: Option<&FacetId>) -> Vec<u8> {
    match of_group {
        true => keys::group_member(facet, other),
        false => keys::member_of(facet, other),
    }
}

/// Whether a group has not yet confirmed a message. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn is_unconfirmed(shared: &Shared, member: &FacetId, of: &FacetId, number: u64) -> Result<bool, Broken> {
    let state = shared.state.read();
    let below = Below::of(shared, &state);
    group::is_unconfirmed(&state, member, of, number, Some(&below))
}
