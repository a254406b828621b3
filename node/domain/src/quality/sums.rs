//! What adds up: counts and sketches by source and trait, and their stored form.

use std::collections::BTreeMap;

use prost::Message;

use super::{Distinct, LagSketch};
use crate::error::Error;

/// Groups of source and trait that a report has at most; and traits that it compares over sources.
pub const GROUPS_MAX: usize = 2_000;

/// A source and a trait.
pub(super) type Group = (String, String);

/// Of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceSums {
    pub(super) customers: u64,
    pub(super) events: u64,
}

/// Of a source and trait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TraitSums {
    /// Customers with a value.
    pub(super) values: u64,
    pub(super) checked: u64,
    pub(super) valid: u64,
    pub(super) distinct: Distinct,
    /// Customers with a value from another source, too.
    pub(super) shared: u64,
    pub(super) agreeing: u64,
    pub(super) updated: u64,
    pub(super) lag: LagSketch,
}

/// Of a trait, over all sources: customers with values from several, and those of them where all agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overlaps {
    pub(super) shared: u64,
    pub(super) agreeing: u64,
}

/// Everything that adds up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) sources: BTreeMap<String, SourceSums>,
    pub(super) groups: BTreeMap<Group, TraitSums>,
    pub(super) overlaps: BTreeMap<String, Overlaps>,
    /// Whether groups or traits were left out.
    pub(super) cut: bool,
}

/// Adds up; what other nodes send may be anything.
fn add(sum: &mut u64, other: u64) {
    *sum = sum.saturating_add(other);
}

impl Sums {
    /// The sums of a group.
    pub(super) fn group(&mut self, source: &str, name: &str) -> &mut TraitSums {
        self.groups.entry((source.to_owned(), name.to_owned())).or_default()
    }

    /// Leaves out the groups that come last by name, if there are too many. What stays at the end has never been left
    /// out on the way, for there were never as many groups in front of it: so its sums are whole.
    pub(super) fn cut(&mut self) {
        while self.groups.len() > GROUPS_MAX {
            self.groups.pop_last();
            self.cut = true;
        }
        while self.overlaps.len() > GROUPS_MAX {
            self.overlaps.pop_last();
            self.cut = true;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.cut |= other.cut;
        for (source, sums) in other.sources {
            let own = self.sources.entry(source).or_default();
            add(&mut own.customers, sums.customers);
            add(&mut own.events, sums.events);
        }
        for (group, sums) in other.groups {
            let own = self.groups.entry(group).or_default();
            add(&mut own.values, sums.values);
            add(&mut own.checked, sums.checked);
            add(&mut own.valid, sums.valid);
            own.distinct.merge(&sums.distinct);
            add(&mut own.shared, sums.shared);
            add(&mut own.agreeing, sums.agreeing);
            add(&mut own.updated, sums.updated);
            own.lag.merge(&sums.lag);
        }
        for (name, sums) in other.overlaps {
            let own = self.overlaps.entry(name).or_default();
            add(&mut own.shared, sums.shared);
            add(&mut own.agreeing, sums.agreeing);
        }
        self.cut();
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let sources = self.sources.iter().map(|(source, sums)| StoredSource {
            source: source.clone(),
            customers: sums.customers,
            events: sums.events,
        });
        let groups = self.groups.iter().map(|((source, name), sums)| {
            let (hashes, over) = sums.distinct.parts();
            let (lag_zero, lag_buckets, lag_counts) = sums.lag.parts();
            StoredGroup {
                source: source.clone(),
                name: name.clone(),
                values: sums.values,
                checked: sums.checked,
                valid: sums.valid,
                hashes,
                over,
                shared: sums.shared,
                agreeing: sums.agreeing,
                updated: sums.updated,
                lag_zero,
                lag_buckets,
                lag_counts,
            }
        });
        let overlaps = self.overlaps.iter().map(|(name, sums)| StoredOverlap {
            name: name.clone(),
            shared: sums.shared,
            agreeing: sums.agreeing,
        });
        let stored = StoredSums {
            sources: sources.collect(),
            groups: groups.collect(),
            overlaps: overlaps.collect(),
            cut: self.cut,
        };
        stored.encode_to_vec()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let stored = StoredSums::decode(bytes).map_err(Error::decode("quality sums"))?;
        let sources = stored
            .sources
            .into_iter()
            .map(|of| (of.source, SourceSums { customers: of.customers, events: of.events }));
        let groups = stored.groups.into_iter().map(|of| {
            let sums = TraitSums {
                values: of.values,
                checked: of.checked,
                valid: of.valid,
                distinct: Distinct::from_parts(&of.hashes, of.over),
                shared: of.shared,
                agreeing: of.agreeing,
                updated: of.updated,
                lag: LagSketch::from_parts(of.lag_zero, &of.lag_buckets, &of.lag_counts),
            };
            ((of.source, of.name), sums)
        });
        let overlaps = stored
            .overlaps
            .into_iter()
            .map(|of| (of.name, Overlaps { shared: of.shared, agreeing: of.agreeing }));
        Ok(Self {
            sources: sources.collect(),
            groups: groups.collect(),
            overlaps: overlaps.collect(),
            cut: stored.cut,
        })
    }
}

/// As it travels between nodes. Tags never change their meaning.
#[derive(Clone, PartialEq, Message)]
struct StoredSums {
    #[prost(message, repeated, tag = "1")]
    sources: Vec<StoredSource>,
    #[prost(message, repeated, tag = "2")]
    groups: Vec<StoredGroup>,
    #[prost(message, repeated, tag = "3")]
    overlaps: Vec<StoredOverlap>,
    #[prost(bool, tag = "4")]
    cut: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSource {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(uint64, tag = "2")]
    customers: u64,
    #[prost(uint64, tag = "3")]
    events: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredGroup {
    #[prost(string, tag = "1")]
    source: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    values: u64,
    #[prost(uint64, tag = "4")]
    checked: u64,
    #[prost(uint64, tag = "5")]
    valid: u64,
    #[prost(fixed64, repeated, tag = "6")]
    hashes: Vec<u64>,
    #[prost(bool, tag = "7")]
    over: bool,
    #[prost(uint64, tag = "8")]
    shared: u64,
    #[prost(uint64, tag = "9")]
    agreeing: u64,
    #[prost(uint64, tag = "10")]
    updated: u64,
    #[prost(uint64, tag = "11")]
    lag_zero: u64,
    #[prost(sint32, repeated, tag = "12")]
    lag_buckets: Vec<i32>,
    #[prost(uint64, repeated, tag = "13")]
    lag_counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOverlap {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    shared: u64,
    #[prost(uint64, tag = "3")]
    agreeing: u64,
}
