//! The three things that are paged through all shards, in what they differ: how they are asked for.

use bytes::Bytes;
use isthmus_domain::{FacetId, Slot, Stamp};
use isthmus_proto::internal::v1::{
    GroupRow, QuarantineRow, ReadQuarantineCall, ScanFacetsCall, ScanGroupsCall, shard_call, shard_reply,
};

use super::QuarantineFilter;
use crate::pursuit::Want;
use crate::read::{Facet, ReadLevel};

/// What orders the rows: a facet's, a group's or a quarantine entry's id, whose top 14 bits are its slot.
pub(crate) type Key = [u8; 16];

/// The greatest key below the slot's first; `None` for the first slot.
pub(crate) fn before(slot: Slot) -> Option<Key> {
    u128::from_be_bytes(slot.first_hash()).checked_sub(1).map(u128::to_be_bytes)
}

/// Rows of one shard, by rising key.
pub(super) struct Rows<R> {
    pub(super) rows: Vec<(Key, R)>,
    pub(super) more: bool,
    pub(super) owned_bounds: Vec<u32>,
    pub(super) stamp: Stamp,
}

/// Something whose rows are paged.
pub(super) trait Kind: Sync {
    /// What is handed out.
    type Row: Send;

    /// Which replicas can answer.
    fn want(&self) -> Want;

    /// Asks for rows with keys above `after`.
    fn call(&self, after: Option<&Key>, limit: u32) -> shard_call::Body;

    /// The rows in a reply; `None` when it is something else.
    fn read(&self, reply: shard_reply::Body) -> Option<Rows<Self::Row>>;
}

/// All facets.
pub(super) struct Facets {
    pub(super) level: ReadLevel,
}

impl Kind for Facets {
    type Row = (FacetId, Facet);

    fn want(&self) -> Want {
        self.level.want()
    }

    fn call(&self, after: Option<&Key>, limit: u32) -> shard_call::Body {
        let after = after.map(|key| Bytes::copy_from_slice(key)).unwrap_or_default();
        shard_call::Body::ScanFacets(ScanFacetsCall { after, limit, level: self.level.to_wire() })
    }

    fn read(&self, reply: shard_reply::Body) -> Option<Rows<Self::Row>> {
        let shard_reply::Body::ScanFacets(reply) = reply else { return None };
        let rows = reply.facets.into_iter().map(|entry| {
            let id = FacetId::from_slice(&entry.facet)?;
            Some((*id.as_bytes(), (id, Facet::of(entry))))
        });
        let rows = rows.collect::<Option<_>>()?;
        Some(Rows { rows, more: reply.more, owned_bounds: reply.owned_bounds, stamp: Stamp(reply.stamp) })
    }
}

/// All groups.
pub(super) struct Groups {
    pub(super) level: ReadLevel,
}

impl Kind for Groups {
    type Row = (FacetId, GroupRow);

    fn want(&self) -> Want {
        self.level.want()
    }

    fn call(&self, after: Option<&Key>, limit: u32) -> shard_call::Body {
        let after = after.map(|key| Bytes::copy_from_slice(key)).unwrap_or_default();
        shard_call::Body::ScanGroups(ScanGroupsCall { after, limit, level: self.level.to_wire() })
    }

    fn read(&self, reply: shard_reply::Body) -> Option<Rows<Self::Row>> {
        let shard_reply::Body::ScanGroups(reply) = reply else { return None };
        let rows = reply.groups.into_iter().map(|entry| {
            let id = FacetId::from_slice(&entry.group)?;
            Some((*id.as_bytes(), (id, entry.row.unwrap_or_default())))
        });
        let rows = rows.collect::<Option<_>>()?;
        Some(Rows { rows, more: reply.more, owned_bounds: reply.owned_bounds, stamp: Stamp(reply.stamp) })
    }
}

/// Quarantine entries.
pub(super) struct Quarantine(pub(super) QuarantineFilter);

impl Kind for Quarantine {
    type Row = QuarantineRow;

    fn want(&self) -> Want {
        Want::Leader
    }

    fn call(&self, after: Option<&Key>, limit: u32) -> shard_call::Body {
        shard_call::Body::ReadQuarantine(ReadQuarantineCall {
            after: after.map(|key| Bytes::copy_from_slice(key)).unwrap_or_default(),
            limit,
            only: Bytes::new(),
            source: self.0.source.clone(),
            reason: self.0.reason.clone(),
            resolved_too: self.0.resolved_too,
        })
    }

    fn read(&self, reply: shard_reply::Body) -> Option<Rows<Self::Row>> {
        let shard_reply::Body::ReadQuarantine(reply) = reply else { return None };
        let rows = reply.rows.into_iter().map(|row| Some((row.id.as_ref().try_into().ok()?, row)));
        let rows = rows.collect::<Option<_>>()?;
        Some(Rows { rows, more: reply.more, owned_bounds: reply.owned_bounds, stamp: Stamp::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_key_before_a_slot_is_the_last_of_the_slot_before(number in 0_u16..16_384) {
            let slot = Slot::new(number).unwrap();
            let last = before(slot);
            prop_assert_eq!(last.map(|key| Slot::of_hash(&key)), number.checked_sub(1).and_then(Slot::new));
            if let Some(key) = last {
                prop_assert_eq!(u128::from_be_bytes(key) + 1, u128::from_be_bytes(slot.first_hash()));
            }
        }
    }
}
