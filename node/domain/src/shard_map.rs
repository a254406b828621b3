//! The shard map: which shard owns which slots, and on which replicas it lives.
//!
//! The map is a hint for whoever routes: a shard itself decides, in apply, against its own replicated ranges. Maps
//! have versions; a larger version replaces a smaller one. [`ShardMap::validate`] states the invariants:
//!
//! 1. every slot is owned by exactly one shard;
//! 2. shard ids are unique and not zero;
//! 3. the replica ids of a shard are unique and not zero.
//!
//! [`ShardMap::owner`] looks at every shard in turn, which is right for administration; routing of events builds an
//! [`OwnerTable`] once per version and looks up in constant time.

use std::fmt;
use std::str::FromStr;

use prost::Message;

use crate::error::Error;
use crate::slot::{SLOT_COUNT, Slot, SlotRange, SlotRanges};

/// A shard's id, which is its raft group's too: 1 or more, never used twice. Zero stands for no shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u64);

/// A node's id: 1 or more. A wiped node comes back under another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u32);

/// One replica of one shard for its whole life, which is a raft peer id.
///
/// The node is in the upper 32 bits. The generation in the lower 32 rises whenever a node is given a replica of the
/// shard anew and is never used twice, so a replica that was removed can't be mistaken for its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    /// The replica of this generation on this node.
    pub const fn new(node: NodeId, generation: u32) -> Self {
        Self(((node.0 as u64) << 32) | generation as u64)
    }

    /// The node that it lives on.
    pub const fn node(self) -> NodeId {
        NodeId((self.0 >> 32) as u32)
    }

    /// Which of the node's replicas of this shard it is, in the order of their making.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }
}

macro_rules! number_text {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $type {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}
number_text!(ShardId, NodeId);

impl fmt::Display for ReplicaId {
    /// `node.generation`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.generation())
    }
}

/// One shard: what it owns and where it lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardEntry {
    /// The shard's id.
    pub id: ShardId,
    /// The slots that it owns.
    pub ranges: SlotRanges,
    /// Its replicas, in the order in which placement lists them (the first is where a leader is preferred).
    pub replicas: Vec<ReplicaId>,
}

/// All shards at one version.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardMap {
    /// Rises with every change. Zero is the empty map of a node that has heard nothing yet.
    pub version: u64,
    /// The shards, by rising id.
    pub shards: Vec<ShardEntry>,
}

/// Which invariant a shard map breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardMapError {
    /// No shard owns the slot.
    #[error("no shard owns slot {0}")]
    Unowned(Slot),
    /// Two shards own the slot.
    #[error("shards {1} and {2} both own slot {0}")]
    OwnedTwice(Slot, ShardId, ShardId),
    /// An id is zero, used twice, or out of order.
    #[error("shard ids must be 1 or more and rise: {0}")]
    BadShardId(ShardId),
    /// A replica is listed twice or has the id zero.
    #[error("shard {0} lists replica {1} twice, or it is zero")]
    BadReplica(ShardId, ReplicaId),
    /// There must be 1 to 16,384 shards.
    #[error("{0} is not a number of shards: 1 to 16384")]
    BadCount(u32),
}

impl ShardMap {
    /// `count` shards with ids from 1 on, whose shares of the slots differ by at most one; version 1, no replicas.
    pub fn even(count: u32) -> Result<Self, ShardMapError> {
        if count == 0 || count > u32::from(SLOT_COUNT) {
            return Err(ShardMapError::BadCount(count));
        }
        let bound = |i: u32| (u64::from(i) * u64::from(SLOT_COUNT) / u64::from(count)) as u16;
        let shards = (0..count).map(|i| ShardEntry {
            id: ShardId(u64::from(i) + 1),
            // Never empty, since there are at most as many shards as slots.
            ranges: SlotRange::new(bound(i), bound(i + 1)).map(SlotRanges::from).unwrap_or_default(),
            replicas: Vec::new(),
        });
        Ok(Self { version: 1, shards: shards.collect() })
    }

    /// The shard that owns the slot; `None` only in a map that is not valid.
    pub fn owner(&self, slot: Slot) -> Option<&ShardEntry> {
        self.shards.iter().find(|s| s.ranges.contains(slot))
    }

    /// The shard with this id.
    pub fn shard(&self, id: ShardId) -> Option<&ShardEntry> {
        self.shards.iter().find(|s| s.id == id)
    }

    /// Checks the invariants in the module's documentation.
    pub fn validate(&self) -> Result<(), ShardMapError> {
        let mut owners: Vec<Option<ShardId>> = vec![None; usize::from(SLOT_COUNT)];
        let mut last = ShardId(0);
        for shard in &self.shards {
            if shard.id <= last {
                return Err(ShardMapError::BadShardId(shard.id));
            }
            last = shard.id;
            for (i, replica) in shard.replicas.iter().enumerate() {
                if replica.0 == 0 || shard.replicas[..i].contains(replica) {
                    return Err(ShardMapError::BadReplica(shard.id, *replica));
                }
            }
            for slot in shard.ranges.slots() {
                if let Some(other) = owners[usize::from(slot.number())].replace(shard.id) {
                    return Err(ShardMapError::OwnedTwice(slot, other, shard.id));
                }
            }
        }
        match Slot::all().find(|slot| owners[usize::from(slot.number())].is_none()) {
            Some(slot) => Err(ShardMapError::Unowned(slot)),
            None => Ok(()),
        }
    }

    /// The table for routing at this version.
    pub fn owner_table(&self) -> OwnerTable {
        let mut owners = vec![ShardId(0); usize::from(SLOT_COUNT)];
        for shard in &self.shards {
            for slot in shard.ranges.slots() {
                owners[usize::from(slot.number())] = shard.id;
            }
        }
        OwnerTable { version: self.version, owners }
    }

    /// The map as a protobuf message: `version = 1; repeated Shard shards = 2` with `id = 1; repeated uint32
    /// bounds = 2` (see [`SlotRanges::to_bounds`]) `; repeated fixed64 replicas = 3`.
    pub fn encode(&self) -> Vec<u8> {
        let shards = self.shards.iter().map(|s| wire::Shard {
            id: s.id.0,
            bounds: s.ranges.to_bounds(),
            replicas: s.replicas.iter().map(|r| r.0).collect(),
        });
        wire::Map { version: self.version, shards: shards.collect() }.encode_to_vec()
    }

    /// Reads [`Self::encode`] back. Does not validate: an empty map is a map.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let map = wire::Map::decode(bytes).map_err(Error::decode("shard map"))?;
        let shards = map.shards.into_iter().map(|s| {
            Ok(ShardEntry {
                id: ShardId(s.id),
                ranges: SlotRanges::from_bounds(&s.bounds)?,
                replicas: s.replicas.into_iter().map(ReplicaId).collect(),
            })
        });
        Ok(Self { version: map.version, shards: shards.collect::<Result<_, Error>>()? })
    }
}

/// Slot to shard in constant time, for one version of the map. 128 KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerTable {
    version: u64,
    owners: Vec<ShardId>,
}

impl OwnerTable {
    /// The version of the map that it was made of.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The shard that owns the slot; `None` only when the map was not valid.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.owners.get(usize::from(slot.number())).copied().filter(|id| id.0 != 0)
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Map {
        #[prost(uint64, tag = "1")]
        pub(super) version: u64,
        #[prost(message, repeated, tag = "2")]
        pub(super) shards: Vec<Shard>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Shard {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(uint32, repeated, tag = "2")]
        pub(super) bounds: Vec<u32>,
        #[prost(fixed64, repeated, tag = "3")]
        pub(super) replicas: Vec<u64>,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_even_map_is_valid_even_and_read_back(count in 1_u32..400) {
            let map = ShardMap::even(count).unwrap();
            map.validate().unwrap();
            let sizes: Vec<u16> = map.shards.iter().map(|s| s.ranges.len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            prop_assert_eq!(ShardMap::decode(&map.encode()).unwrap(), map);
        }

        #[test]
        fn the_table_agrees_with_the_map(count in 1_u32..40, slot in 0..SLOT_COUNT) {
            let map = ShardMap::even(count).unwrap();
            let slot = Slot::new(slot).unwrap();
            prop_assert_eq!(map.owner_table().owner(slot), map.owner(slot).map(|s| s.id));
        }

        #[test]
        fn a_slot_taken_or_given_twice_is_noticed(count in 2_u32..40, slot in 0..SLOT_COUNT) {
            let whole = ShardMap::even(count).unwrap();
            let slot = Slot::new(slot).unwrap();
            let one = SlotRange::new(slot.number(), slot.number() + 1).unwrap();
            let owner = whole.owner(slot).unwrap().id;

            let mut hole = whole.clone();
            hole.shards.iter_mut().for_each(|s| s.ranges.remove(one));
            prop_assert_eq!(hole.validate(), Err(ShardMapError::Unowned(slot)));

            let mut double = whole;
            let other = double.shards.iter_mut().find(|s| s.id != owner).unwrap();
            other.ranges.insert(one);
            prop_assert!(matches!(double.validate(), Err(ShardMapError::OwnedTwice(s, ..)) if s == slot));
        }

        #[test]
        fn bytes_that_are_no_map_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = ShardMap::decode(&bytes);
        }
    }

    #[test]
    fn a_replica_id_holds_its_node_and_generation() {
        let id = ReplicaId::new(NodeId(3), 7);
        assert_eq!((id.node(), id.generation(), id.to_string().as_str()), (NodeId(3), 7, "3.7"));
    }

    #[test]
    fn ids_and_replicas_are_checked() {
        let mut map = ShardMap::even(2).unwrap();
        map.shards[1].id = ShardId(1);
        assert_eq!(map.validate(), Err(ShardMapError::BadShardId(ShardId(1))));
        let mut map = ShardMap::even(2).unwrap();
        let replica = ReplicaId::new(NodeId(1), 1);
        map.shards[0].replicas = vec![replica, replica];
        assert_eq!(map.validate(), Err(ShardMapError::BadReplica(ShardId(1), replica)));
        assert_eq!(ShardMap::even(0), Err(ShardMapError::BadCount(0)));
        assert_eq!(ShardMap::even(16_385), Err(ShardMapError::BadCount(16_385)));
    }
}
