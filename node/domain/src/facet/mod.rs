//! Facet summaries: the fold over all events that were said under one identifier.
//!
//! The fold is commutative and associative: [`FacetSummary::absorb`] for single records and
//! [`FacetSummary::merge`] for sums of them give the same bytes in any order and any grouping. So runs on disk may
//! hold *deltas* (summaries of some of a facet's events), and reads and merges put them together as they come.
//!
//! **Each event must be counted once.** Counters and sums are not idempotent; deduplication comes before, and the
//! summaries that are merged must be of disjoint sets of events.
//!
//! Traits: of all that was said about a trait the newest wins, by (timestamp, source, message id). A removal is kept
//! like a value, or else an older value that arrives later would come back to life. Should two statements agree in
//! all three (which deduplication rules out within a facet), the larger value wins, so that the order still doesn't
//! matter.
//!
//! Counters: `track` events are counted under their names ([`FacetSummary::event_counts`]); the other types have no
//! name that identifies them and are counted by type ([`FacetSummary::type_counts`]).
//!
//! A summary is a protobuf message whose maps are written in the order of their keys, so equal summaries are equal
//! bytes. Nothing in it shares memory with the records that it was made of: a trait of a few bytes would keep a
//! whole log entry alive.

use std::collections::BTreeMap;
use std::fmt;

use prost::Message;

use crate::amount::Amount;
use crate::error::Error;
use crate::event::EventType;
use crate::identifier::{Identifier, IdentifierError};
use crate::record::{EventRecord, TraitChange};

/// What all events of a facet, or some of them, come to. `Debug` shows no personal data.
///
/// Protobuf tags never change their meaning.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct FacetSummary {
    /// The facet's identifier; both parts are empty in an empty summary.
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(uint64, tag = "3")]
    events: u64,
    /// Microseconds since the epoch; without meaning while `events` is zero.
    #[prost(int64, tag = "4")]
    first_seen: i64,
    #[prost(int64, tag = "5")]
    last_seen: i64,
    /// Events by source.
    #[prost(btree_map = "string, uint64", tag = "6")]
    sources: BTreeMap<String, u64>,
    #[prost(btree_map = "string, uint64", tag = "7")]
    event_counts: BTreeMap<String, u64>,
    /// Keys are numbers of [`EventType`]; `track` is not among them.
    #[prost(btree_map = "int32, uint64", tag = "8")]
    type_counts: BTreeMap<i32, u64>,
    /// Sums by currency.
    #[prost(btree_map = "string, message", tag = "9")]
    revenue: BTreeMap<String, Amount>,
    #[prost(btree_map = "string, message", tag = "10")]
    traits: BTreeMap<String, TraitState>,
}

/// The newest that was said about a trait. The order of the fields is the order in which newer is decided.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
#[prost(skip_debug)]
pub struct TraitState {
    /// The time of the event that said it, microseconds since the epoch.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    /// The source that said it.
    #[prost(string, tag = "2")]
    pub source: String,
    /// The message in which it was said.
    #[prost(string, tag = "3")]
    pub message_id: String,
    /// Canonical JSON; empty when the trait was removed.
    #[prost(bytes = "vec", tag = "4")]
    pub value: Vec<u8>,
}

impl TraitState {
    /// Whether the trait was removed.
    pub fn is_removed(&self) -> bool {
        self.value.is_empty()
    }
}

impl FacetSummary {
    /// The summary of one event.
    pub fn of(record: &EventRecord) -> Self {
        let mut summary = Self::default();
        summary.absorb(record);
        summary
    }

    /// Adds an event of this facet that is not yet in the summary.
    pub fn absorb(&mut self, record: &EventRecord) {
        self.take_identifier(&record.namespace, &record.value);
        self.take_times(record.timestamp, record.timestamp);
        self.events = self.events.saturating_add(1);
        count(&mut self.sources, &record.source, 1);
        match record.kind() {
            EventType::Track => count(&mut self.event_counts, &record.name, 1),
            other => add(self.type_counts.entry(other.into()).or_default(), 1),
        }
        if let Some(amount) = &record.revenue {
            earn(&mut self.revenue, &record.currency, amount);
        }
        for change in &record.traits {
            self.absorb_trait(change, record);
        }
    }

    fn absorb_trait(&mut self, change: &TraitChange, record: &EventRecord) {
        let said = (record.timestamp, record.source.as_str(), record.message_id.as_str(), &change.value[..]);
        let state = || TraitState {
            timestamp: record.timestamp,
            source: record.source.clone(),
            message_id: record.message_id.clone(),
            value: change.value.to_vec(),
        };
        match self.traits.get_mut(&change.name) {
            Some(known) => {
                let before = (known.timestamp, &known.source[..], &known.message_id[..], &known.value[..]);
                if before < said {
                    *known = state();
                }
            }
            None => {
                self.traits.insert(change.name.clone(), state());
            }
        }
    }

    /// Adds a summary of other events of the same facet. The two must have no event in common.
    pub fn merge(&mut self, other: &Self) {
        if other.events == 0 {
            return;
        }
        self.take_identifier(&other.namespace, &other.value);
        self.take_times(other.first_seen, other.last_seen);
        self.events = self.events.saturating_add(other.events);
        other.sources.iter().for_each(|(source, n)| count(&mut self.sources, source, *n));
        other.event_counts.iter().for_each(|(name, n)| count(&mut self.event_counts, name, *n));
        other.type_counts.iter().for_each(|(kind, n)| add(self.type_counts.entry(*kind).or_default(), *n));
        other.revenue.iter().for_each(|(currency, amount)| earn(&mut self.revenue, currency, amount));
        for (name, state) in &other.traits {
            match self.traits.get_mut(name) {
                Some(known) if *known < *state => known.clone_from(state),
                Some(_) => {}
                None => {
                    self.traits.insert(name.clone(), state.clone());
                }
            }
        }
    }

    /// All events of a facet have the same identifier. Should a caller mix two, the smaller stays, so that even then
    /// the order doesn't matter.
    fn take_identifier(&mut self, namespace: &str, value: &str) {
        let known = (self.namespace.as_str(), self.value.as_str());
        if self.namespace.is_empty() || (namespace, value) < known {
            namespace.clone_into(&mut self.namespace);
            value.clone_into(&mut self.value);
        }
    }

    fn take_times(&mut self, first: i64, last: i64) {
        let none_yet = self.events == 0;
        self.first_seen = if none_yet { first } else { self.first_seen.min(first) };
        self.last_seen = if none_yet { last } else { self.last_seen.max(last) };
    }

    /// The canonical encoding: equal summaries are equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Reads [`Self::to_bytes`] back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes).map_err(Error::decode("facet summary"))
    }

    /// Whether no event is in it.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// The facet's identifier; an error in an empty summary.
    pub fn identifier(&self) -> Result<Identifier, IdentifierError> {
        Identifier::from_stored(&self.namespace, &self.value)
    }

    /// How many events are in it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The time of the oldest event, microseconds since the epoch; `None` when there is none.
    pub fn first_seen(&self) -> Option<i64> {
        (self.events > 0).then_some(self.first_seen)
    }

    /// The time of the newest event, microseconds since the epoch; `None` when there is none.
    pub fn last_seen(&self) -> Option<i64> {
        (self.events > 0).then_some(self.last_seen)
    }

    /// How many events came from each source.
    pub fn sources(&self) -> &BTreeMap<String, u64> {
        &self.sources
    }

    /// How many `track` events there were under each name.
    pub fn event_counts(&self) -> &BTreeMap<String, u64> {
        &self.event_counts
    }

    /// How many events there were of each type but `track`.
    pub fn type_counts(&self) -> impl Iterator<Item = (EventType, u64)> + '_ {
        self.type_counts.iter().filter_map(|(kind, n)| Some((EventType::try_from(*kind).ok()?, *n)))
    }

    /// The exact sum of revenue by currency.
    pub fn revenue(&self) -> &BTreeMap<String, Amount> {
        &self.revenue
    }

    /// The newest that was said about each trait, removals included.
    pub fn traits(&self) -> &BTreeMap<String, TraitState> {
        &self.traits
    }

    /// About how many bytes the summary takes in memory, for budgets. Rises with what is in it; takes a walk over
    /// the maps, without allocating.
    pub fn weight_bytes(&self) -> usize {
        // A B-tree's node holds 11 entries and is two thirds full on average.
        const ENTRY: usize = 3 * size_of::<String>();
        let counters = self.sources.keys().chain(self.event_counts.keys()).map(|k| ENTRY + k.len());
        let sums = self.revenue.iter().map(|(k, a)| ENTRY + k.len() + a.weight_bytes());
        let traits = self.traits.iter().map(|(k, t)| {
            ENTRY + size_of::<TraitState>() + k.len() + t.source.len() + t.message_id.len() + t.value.len()
        });
        let fixed = size_of::<Self>() + self.namespace.len() + self.value.len() + self.type_counts.len() * 24;
        fixed + counters.sum::<usize>() + sums.sum::<usize>() + traits.sum::<usize>()
    }
}

/// Allocates the key only when it is new.
fn count(counters: &mut BTreeMap<String, u64>, key: &str, n: u64) {
    match counters.get_mut(key) {
        Some(known) => add(known, n),
        None => {
            counters.insert(key.to_owned(), n);
        }
    }
}

/// Stays at the largest number rather than starting anew; 2^64 events don't happen.
fn add(counter: &mut u64, n: u64) {
    *counter = counter.saturating_add(n);
}

fn earn(sums: &mut BTreeMap<String, Amount>, currency: &str, amount: &Amount) {
    match sums.get_mut(currency) {
        Some(sum) => *sum += amount,
        None => {
            sums.insert(currency.to_owned(), amount.clone());
        }
    }
}

impl fmt::Debug for FacetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacetSummary")
            .field("namespace", &self.namespace)
            .field("events", &self.events)
            .field("traits", &self.traits.len())
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TraitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraitState({} bytes at {} from {})", self.value.len(), self.timestamp, self.source)
    }
}
