//! The resident part of a shard's state that is written out with each freeze: small, and in one row.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::{ShardMap, SlotRanges, Stamp, shard_map::OwnerTable};
use prost::Message as _;

use crate::StateHash;

/// What apply depends on besides rows: stamps, configuration, the map of who owns what.
#[derive(Clone)]
pub struct ShardMeta {
    /// The last command's stamp.
    pub stamp: Stamp,
    /// Version of the configuration in force; 0 before the first.
    pub config_version: u64,
    /// The shard map in force.
    pub map: Arc<ShardMap>,
    /// The slots that this shard owns by that map.
    pub owned: SlotRanges,
    /// Who owns each slot by that map.
    pub owners: Arc<OwnerTable>,
    /// Hash of all rows.
    pub hash: StateHash,
    /// How many messages of couriers were handled here, those to itself included. Over all shards this is the number
    /// of messages that were ever made: each is handled exactly once, wherever it went.
    pub handled: u64,
}

/// Stored form. Tags never change their meaning.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(uint64, tag = "1")]
    stamp: u64,
    #[prost(uint64, tag = "2")]
    config_version: u64,
    #[prost(bytes = "bytes", tag = "3")]
    shard_map: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    hash: Bytes,
    #[prost(uint64, tag = "5")]
    handled: u64,
}

impl ShardMeta {
    /// The state of a shard that has applied nothing: it owns no slot until a command says so.
    pub fn empty() -> Self {
        let map = ShardMap::default();
        Self {
            stamp: Stamp::ZERO,
            config_version: 0,
            owners: Arc::new(map.owner_table()),
            map: Arc::new(map),
            owned: SlotRanges::new(),
            hash: StateHash::default(),
            handled: 0,
        }
    }

    /// Puts a shard map in force.
    pub(crate) fn set_map(&mut self, shard: u64, map: ShardMap) {
        self.owned =
            map.shards.iter().find(|entry| entry.id.0 == shard).map(|e| e.ranges.clone()).unwrap_or_default();
        self.owners = Arc::new(map.owner_table());
        self.map = Arc::new(map);
    }

    /// As stored.
    pub fn encode(&self) -> Bytes {
        Stored {
            stamp: self.stamp.0,
            config_version: self.config_version,
            shard_map: self.map.encode().into(),
            hash: self.hash.to_bytes().to_vec().into(),
            handled: self.handled,
        }
        .encode_to_vec()
        .into()
    }

    /// From the stored form, for the shard with this id. Empty bytes are a shard that has applied nothing.
    ///
    /// # Errors
    /// What can't be read, for people.
    pub fn decode(shard: u64, bytes: &Bytes) -> Result<Self, String> {
        let mut meta = Self::empty();
        if bytes.is_empty() {
            return Ok(meta);
        }
        let stored = Stored::decode(bytes.clone()).map_err(|error| format!("a shard's meta row: {error}"))?;
        meta.stamp = Stamp(stored.stamp);
        meta.config_version = stored.config_version;
        meta.handled = stored.handled;
        meta.hash =
            StateHash::from_slice(&stored.hash).ok_or("a shard's meta row: the hash is not 16 bytes")?;
        let map =
            ShardMap::decode(&stored.shard_map).map_err(|error| format!("a shard's meta row: {error}"))?;
        meta.set_map(shard, map);
        Ok(meta)
    }
}
