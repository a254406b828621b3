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
//! A summary is a protobuf message whose maps are written in the order of their keys (`codec`), so equal summaries
//! are equal bytes.
//!
//! **Borrowed and owned.** Writing out and merging fold millions of summaries that live for a moment: there a
//! [`Summary`] borrows its texts from the records or bytes that it was made of. A [`FacetSummary`] is one that owns
//! them and shares no memory with records: a trait of a few bytes would keep a whole log entry alive.

mod codec;
mod entries;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

pub(crate) use codec::amount as read_amount;
pub use entries::Entries;

use crate::amount::Amount;
use crate::event::EventType;
use crate::identifier::{Identifier, IdentifierError};
use crate::record::EventRecord;
use crate::record_view::RecordView;

/// What all events of a facet, or some of them, come to, in memory of its own.
pub type FacetSummary = Summary<'static>;

/// Entries by name.
pub type Texts<'a, V> = Entries<Cow<'a, str>, V>;

/// What all events of a facet, or some of them, come to. `Debug` shows no personal data.
#[derive(Clone, PartialEq, Default)]
pub struct Summary<'a> {
    /// The facet's identifier; both parts are empty in an empty summary.
    namespace: Cow<'a, str>,
    value: Cow<'a, str>,
    events: u64,
    /// Microseconds since the epoch; without meaning while `events` is zero.
    first_seen: i64,
    last_seen: i64,
    /// Events by source.
    sources: Texts<'a, u64>,
    event_counts: Texts<'a, u64>,
    /// Keys are numbers of [`EventType`]; `track` is not among them.
    type_counts: Entries<i32, u64>,
    /// Sums by currency.
    revenue: Texts<'a, Amount>,
    traits: Texts<'a, TraitState<'a>>,
}

/// A map of a summary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SummaryMap {
    /// [`Summary::sources`].
    Sources,
    /// [`Summary::event_counts`].
    EventCounts,
    /// [`Summary::type_counts`].
    TypeCounts,
    /// [`Summary::revenue`].
    Revenue,
    /// [`Summary::traits`].
    Traits,
}

/// The newest that was said about a trait. The order of the fields is the order in which newer is decided.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TraitState<'a> {
    /// The time of the event that said it, microseconds since the epoch.
    pub timestamp: i64,
    /// The source that said it.
    pub source: Cow<'a, str>,
    /// The message in which it was said.
    pub message_id: Cow<'a, str>,
    /// Canonical JSON; empty when the trait was removed.
    pub value: Cow<'a, [u8]>,
}

impl TraitState<'_> {
    /// Whether the trait was removed.
    pub fn is_removed(&self) -> bool {
        self.value.is_empty()
    }

    /// The same in memory of its own.
    pub fn into_owned(self) -> TraitState<'static> {
        TraitState {
            timestamp: self.timestamp,
            source: Cow::Owned(self.source.into_owned()),
            message_id: Cow::Owned(self.message_id.into_owned()),
            value: Cow::Owned(self.value.into_owned()),
        }
    }
}

/// How a summary takes texts of another lifetime in: [`Share`] or [`Copied`].
trait Keep<'b, 'a> {
    fn text(text: Cow<'b, str>) -> Cow<'a, str>;
    fn state(state: &TraitState<'b>) -> TraitState<'a>;
}

/// Borrows what the other borrows.
struct Share;

impl<'a> Keep<'a, 'a> for Share {
    fn text(text: Cow<'a, str>) -> Cow<'a, str> {
        text
    }

    fn state(state: &TraitState<'a>) -> TraitState<'a> {
        state.clone()
    }
}

/// Copies.
struct Copied;

impl<'b, 'a> Keep<'b, 'a> for Copied {
    fn text(text: Cow<'b, str>) -> Cow<'a, str> {
        Cow::Owned(text.into_owned())
    }

    fn state(state: &TraitState<'b>) -> TraitState<'a> {
        state.clone().into_owned()
    }
}

/// An event as the fold sees it.
struct Said<'b, 'e> {
    namespace: &'b str,
    value: &'b str,
    source: &'b str,
    message_id: &'b str,
    name: &'b str,
    kind: EventType,
    timestamp: i64,
    revenue: Option<&'e Amount>,
    currency: &'b str,
}

impl<'b, 'e> Said<'b, 'e> {
    fn of(record: &'e RecordView<'b>) -> Self {
        Self {
            namespace: record.namespace,
            value: record.value,
            source: record.source,
            message_id: record.message_id,
            name: record.name,
            kind: record.kind,
            timestamp: record.timestamp,
            revenue: record.revenue.as_ref(),
            currency: record.currency,
        }
    }
}

impl FacetSummary {
    /// The summary of one event.
    pub fn of(record: &EventRecord) -> Self {
        let mut summary = Self::default();
        summary.absorb(record);
        summary
    }
}

impl<'a> Summary<'a> {
    /// Adds an event of this facet that is not yet in the summary, and copies what it keeps of it.
    pub fn absorb(&mut self, record: &EventRecord) {
        let said = Said {
            namespace: &record.namespace,
            value: &record.value,
            source: &record.source,
            message_id: &record.message_id,
            name: &record.name,
            kind: record.kind(),
            timestamp: record.timestamp,
            revenue: record.revenue.as_ref(),
            currency: &record.currency,
        };
        let traits = record.traits.iter().map(|change| (change.name.as_str(), &change.value[..]));
        self.take_event::<Copied>(&said, traits);
    }

    /// As [`Self::absorb`], from an encoded record.
    pub fn absorb_copy(&mut self, record: &RecordView<'_>) {
        self.take_event::<Copied>(&Said::of(record), record.traits());
    }

    /// As [`Self::absorb_copy`], and borrows what it keeps.
    pub fn absorb_view(&mut self, record: &RecordView<'a>) {
        self.take_event::<Share>(&Said::of(record), record.traits());
    }

    fn take_event<'b, K: Keep<'b, 'a>>(
        &mut self,
        said: &Said<'b, '_>,
        traits: impl Iterator<Item = (&'b str, &'b [u8])>,
    ) {
        let text = |text: &'b str| K::text(Cow::Borrowed(text));
        self.take_identifier(said.namespace, said.value, || (text(said.namespace), text(said.value)));
        self.take_times(said.timestamp, said.timestamp);
        self.events = self.events.saturating_add(1);
        self.sources.upsert(said.source, |n| add(n, 1), || (text(said.source), 1));
        match said.kind {
            EventType::Track => self.event_counts.upsert(said.name, |n| add(n, 1), || (text(said.name), 1)),
            other => self.type_counts.upsert(&i32::from(other), |n| add(n, 1), || (other.into(), 1)),
        }
        if let Some(amount) = said.revenue {
            let new = || (text(said.currency), amount.clone());
            self.revenue.upsert(said.currency, |sum| *sum += amount, new);
        }
        for (name, value) in traits {
            let state = TraitState {
                timestamp: said.timestamp,
                source: Cow::Borrowed(said.source),
                message_id: Cow::Borrowed(said.message_id),
                value: Cow::Borrowed(value),
            };
            self.traits.upsert(name, |known| newest::<K>(known, &state), || (text(name), K::state(&state)));
        }
    }

    /// Adds a summary of other events of the same facet, and copies what it keeps of it. The two must have no event in
    /// common.
    pub fn merge(&mut self, other: &Summary<'_>) {
        self.take_summary::<Copied>(other);
    }

    /// As [`Self::merge`], and borrows what the other borrows.
    pub fn merge_shared(&mut self, other: &Summary<'a>) {
        self.take_summary::<Share>(other);
    }

    fn take_summary<'b, K: Keep<'b, 'a>>(&mut self, other: &Summary<'b>) {
        if other.events == 0 {
            return;
        }
        let identifier = || (K::text(other.namespace.clone()), K::text(other.value.clone()));
        self.take_identifier(&other.namespace, &other.value, identifier);
        self.take_times(other.first_seen, other.last_seen);
        self.events = self.events.saturating_add(other.events);
        let counter = |sum: &mut u64, n: &u64| add(sum, *n);
        self.sources.merge::<str, _, _>(&other.sources, counter, |key, n| (K::text(key.clone()), *n));
        self.event_counts
            .merge::<str, _, _>(&other.event_counts, counter, |key, n| (K::text(key.clone()), *n));
        self.type_counts.merge::<i32, _, _>(&other.type_counts, counter, |key, n| (*key, *n));
        self.revenue.merge::<str, _, _>(
            &other.revenue,
            |sum, amount| *sum += amount,
            |key, amount| (K::text(key.clone()), amount.clone()),
        );
        self.traits.merge::<str, _, _>(
            &other.traits,
            |known, state| newest::<K>(known, state),
            |key, state| (K::text(key.clone()), K::state(state)),
        );
    }

    /// All events of a facet have the same identifier. Should a caller mix two, the smaller stays, so that even then
    /// the order doesn't matter.
    fn take_identifier(
        &mut self,
        namespace: &str,
        value: &str,
        take: impl FnOnce() -> (Cow<'a, str>, Cow<'a, str>),
    ) {
        if self.namespace.is_empty() || (namespace, value) < (&*self.namespace, &*self.value) {
            (self.namespace, self.value) = take();
        }
    }

    fn take_times(&mut self, first: i64, last: i64) {
        let none_yet = self.events == 0;
        self.first_seen = if none_yet { first } else { self.first_seen.min(first) };
        self.last_seen = if none_yet { last } else { self.last_seen.max(last) };
    }

    /// Forgets everything but the memory of its vectors, for the next facet.
    pub fn clear(&mut self) {
        (self.namespace, self.value) = (Cow::Borrowed(""), Cow::Borrowed(""));
        (self.events, self.first_seen, self.last_seen) = (0, 0, 0);
        self.sources.clear();
        self.event_counts.clear();
        self.type_counts.clear();
        self.revenue.clear();
        self.traits.clear();
    }

    /// The summary with one of its maps and without identifier and times: of several facets these come to the same map as
    /// the summaries would.
    pub fn only(self, map: SummaryMap) -> Self {
        let none = Self { events: self.events, ..Self::default() };
        match map {
            SummaryMap::Sources => Self { sources: self.sources, ..none },
            SummaryMap::EventCounts => Self { event_counts: self.event_counts, ..none },
            SummaryMap::TypeCounts => Self { type_counts: self.type_counts, ..none },
            SummaryMap::Revenue => Self { revenue: self.revenue, ..none },
            SummaryMap::Traits => Self { traits: self.traits, ..none },
        }
    }

    /// Whether one of its maps is empty.
    pub fn has_none(&self, map: SummaryMap) -> bool {
        match map {
            SummaryMap::Sources => self.sources.is_empty(),
            SummaryMap::EventCounts => self.event_counts.is_empty(),
            SummaryMap::TypeCounts => self.type_counts.is_empty(),
            SummaryMap::Revenue => self.revenue.is_empty(),
            SummaryMap::Traits => self.traits.is_empty(),
        }
    }

    /// The same in memory of its own, and no more than it needs.
    pub fn into_owned(self) -> FacetSummary {
        FacetSummary {
            namespace: Cow::Owned(self.namespace.into_owned()),
            value: Cow::Owned(self.value.into_owned()),
            events: self.events,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            sources: owned(self.sources, |n| n),
            event_counts: owned(self.event_counts, |n| n),
            type_counts: self.type_counts,
            revenue: owned(self.revenue, |amount| amount),
            traits: owned(self.traits, TraitState::into_owned),
        }
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
    pub fn sources(&self) -> &Texts<'a, u64> {
        &self.sources
    }

    /// How many `track` events there were under each name.
    pub fn event_counts(&self) -> &Texts<'a, u64> {
        &self.event_counts
    }

    /// How many events there were of each type but `track`.
    pub fn type_counts(&self) -> impl Iterator<Item = (EventType, u64)> + '_ {
        self.type_counts.iter().filter_map(|(kind, n)| Some((EventType::try_from(*kind).ok()?, *n)))
    }

    /// The exact sum of revenue by currency.
    pub fn revenue(&self) -> &Texts<'a, Amount> {
        &self.revenue
    }

    /// The newest that was said about each trait, removals included.
    pub fn traits(&self) -> &Texts<'a, TraitState<'a>> {
        &self.traits
    }

    /// How many bytes the summary takes in memory, for budgets: of allocations what was asked for.
    pub fn weight_bytes(&self) -> usize {
        let counters = |map: &Texts<'a, u64>| map.heap_bytes(|key, _| heap(key));
        let trait_bytes = |key: &Cow<'a, str>, state: &TraitState<'a>| {
            let value = if let Cow::Owned(value) = &state.value { value.capacity() } else { 0 };
            heap(key) + heap(&state.source) + heap(&state.message_id) + value
        };
        size_of::<Self>()
            + heap(&self.namespace)
            + heap(&self.value)
            + counters(&self.sources)
            + counters(&self.event_counts)
            + self.type_counts.heap_bytes(|_, _| 0)
            + self.revenue.heap_bytes(|key, amount| heap(key) + amount.heap_bytes())
            + self.traits.heap_bytes(trait_bytes)
    }
}

fn owned<V, V2>(map: Texts<'_, V>, mut value: impl FnMut(V) -> V2) -> Texts<'static, V2> {
    map.map(|(key, held)| (Cow::Owned(key.into_owned()), value(held)))
}

#[expect(clippy::ptr_arg, reason = "whether it owns its text is the question")]
fn heap(text: &Cow<'_, str>) -> usize {
    if let Cow::Owned(text) = text { text.capacity() } else { 0 }
}

/// Stays at the largest number rather than starting anew; 2^64 events don't happen.
fn add(counter: &mut u64, n: u64) {
    *counter = counter.saturating_add(n);
}

fn newest<'b, 'a, K: Keep<'b, 'a>>(known: &mut TraitState<'a>, said: &TraitState<'b>) {
    let before = (known.timestamp, &*known.source, &*known.message_id, &*known.value);
    if before < (said.timestamp, &*said.source, &*said.message_id, &*said.value) {
        *known = K::state(said);
    }
}

impl fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FacetSummary")
            .field("namespace", &self.namespace)
            .field("events", &self.events)
            .field("traits", &self.traits.len())
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TraitState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraitState({} bytes at {} from {})", self.value.len(), self.timestamp, self.source)
    }
}
