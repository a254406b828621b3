//! The resident part of a shard's state that is written out with each freeze: small, and in one row.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::identity::{IdentityRules, Retraction, Retractions};
use isthmus_domain::{ShardMap, SlotRanges, Stamp, shard_map::OwnerTable};
use prost::Message as _;

use crate::{StateHash, segments::Through};

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
    /// How many messages identifiers of this shard have sent, those to one another included.
    pub made: u64,
    /// How many were handled here. Over all shards this is the number of those that were made, once all have arrived:
    /// each is handled exactly once, wherever it went.
    pub handled: u64,
    /// The identity rules in force.
    pub rules: Arc<IdentityRules>,
    /// Retractions of whole sources.
    pub sources: Arc<Retractions>,
    /// How far changes of those have been brought to the identifiers.
    pub sweep: Sweep,
    /// Changes of the feed with this stamp or an older one are not kept. `None`: the feed has not begun, since a version
    /// without one has made the shard.
    pub feed_floor: Option<Stamp>,
    /// How far segments have been worked out.
    pub segments: Through,
}

/// A walk over all identifiers of a shard, in bounded steps: what has changed for all of them is brought to each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    /// The sweep that is wanted; rises with each change.
    pub wanted: u64,
    /// The last that came to its end.
    pub done: u64,
    /// The facet that was looked at last (16 bytes); empty at the beginning.
    pub after: Bytes,
}

impl Sweep {
    /// Something has changed for all identifiers: from the first again.
    pub(crate) fn begin(&mut self) {
        self.wanted += 1;
        self.after = Bytes::new();
    }

    /// Whether all identifiers know.
    pub fn is_done(&self) -> bool {
        self.done == self.wanted
    }

    /// The slots that it has passed.
    pub fn slots(&self) -> u32 {
        let after = isthmus_domain::FacetId::from_slice(&self.after);
        match (self.is_done(), after) {
            (true, _) => isthmus_domain::slot::SLOT_COUNT.into(),
            (false, Some(facet)) => facet.slot().number().into(),
            (false, None) => 0,
        }
    }
}

/// What counts one by one never gets this far: a larger number is damage, and could not be counted on.
pub(crate) const COUNT_MAX: u64 = u64::MAX / 2;

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
    #[prost(bytes = "bytes", tag = "6")]
    identity_rules: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    source_retractions: Vec<Bytes>,
    #[prost(uint64, tag = "8")]
    sweep_wanted: u64,
    #[prost(uint64, tag = "9")]
    sweep_done: u64,
    #[prost(bytes = "bytes", tag = "10")]
    sweep_after: Bytes,
    #[prost(uint64, tag = "11")]
    made: u64,
    #[prost(uint64, optional, tag = "20")]
    feed_floor: Option<u64>,
    #[prost(uint64, tag = "30")]
    segments_through: u64,
    #[prost(uint64, tag = "31")]
    segments_version: u64,
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
            made: 0,
            handled: 0,
            rules: Arc::default(),
            sources: Arc::default(),
            sweep: Sweep::default(),
            feed_floor: Some(Stamp::ZERO),
            segments: Through::default(),
        }
    }

    /// Puts a shard map in force.
    pub(crate) fn set_map(&mut self, shard: u64, map: ShardMap) {
        self.owned =
            map.shards.iter().find(|entry| entry.id.0 == shard).map(|e| e.ranges.clone()).unwrap_or_default();
        self.owners = Arc::new(map.owner_table());
        self.map = Arc::new(map);
    }

    /// Whether all identifiers know of all changes. A shard that has not begun its first sweep has not brought anything
    /// to anyone.
    pub fn is_swept(&self) -> bool {
        self.sweep.wanted > 0 && self.sweep.is_done()
    }

    /// How many of the owned slots the sweep under way has passed; all when none is.
    pub fn swept_slots(&self) -> u16 {
        if self.is_swept() {
            return self.owned.len();
        }
        // The slot of the facet that was looked at last may hold more.
        let passed = isthmus_domain::FacetId::from_slice(&self.sweep.after);
        let passed = passed.map_or(0, |facet| facet.slot().number());
        let ranges = self.owned.as_slice().iter();
        ranges.map(|range| passed.min(range.end_exclusive()).saturating_sub(range.start().number())).sum()
    }

    /// As stored.
    pub fn encode(&self) -> Bytes {
        Stored {
            stamp: self.stamp.0,
            config_version: self.config_version,
            shard_map: self.map.encode().into(),
            hash: self.hash.to_bytes().to_vec().into(),
            handled: self.handled,
            made: self.made,
            identity_rules: self.rules.encode().into(),
            source_retractions: self.sources.iter().map(|retraction| retraction.encode().into()).collect(),
            sweep_wanted: self.sweep.wanted,
            sweep_done: self.sweep.done,
            sweep_after: self.sweep.after.clone(),
            feed_floor: self.feed_floor.map(|floor| floor.0),
            segments_through: self.segments.stamp.0,
            segments_version: self.segments.version,
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
        let counts = [stored.handled, stored.made, stored.sweep_wanted, stored.sweep_done];
        if counts.iter().any(|count| *count > COUNT_MAX) {
            return Err("a shard's meta row: it counts more than can have happened".to_owned());
        }
        meta.stamp = Stamp(stored.stamp);
        meta.config_version = stored.config_version;
        meta.handled = stored.handled;
        meta.made = stored.made;
        meta.feed_floor = stored.feed_floor.map(Stamp);
        meta.segments = Through { stamp: Stamp(stored.segments_through), version: stored.segments_version };
        meta.hash =
            StateHash::from_slice(&stored.hash).ok_or("a shard's meta row: the hash is not 16 bytes")?;
        let map =
            ShardMap::decode(&stored.shard_map).map_err(|error| format!("a shard's meta row: {error}"))?;
        meta.set_map(shard, map);
        // A version without identity resolution wrote none.
        if !stored.identity_rules.is_empty() {
            let rules = IdentityRules::decode(&stored.identity_rules);
            meta.rules = Arc::new(rules.map_err(|error| format!("a shard's meta row: {error}"))?);
        }
        for bytes in &stored.source_retractions {
            let retraction = Retraction::decode(bytes);
            let retraction = retraction.map_err(|error| format!("a shard's meta row: {error}"))?;
            Arc::make_mut(&mut meta.sources).add(retraction);
        }
        let (wanted, done, after) = (stored.sweep_wanted, stored.sweep_done, stored.sweep_after);
        meta.sweep = Sweep { wanted, done, after };
        Ok(meta)
    }
}
