//! From an event to the terms that it changes.
//!
//! Terms are found by the event's type and name and by the names of its traits, so an event costs what it touches and
//! not what is defined. Properties are looked at once, and only where a term asks for them.

use isthmus_domain::RecordView;
use memchr::memmem;

use crate::{
    evaluate::{self, Held, Source, Timed},
    plan::{Plan, Planned, Touched},
    scalar::{Members, Scalar, Type},
    state::{Ends, Entry, FacetState, Said, State, add_first, add_value, give_up, insert_newest},
    term::{Fold, Term},
    tree::{Fact, Read},
};

/// The key that consent stands under in `context`, as Segment's SDKs send it.
const CONSENT: &[u8] = b"\"categoryPreferences\"";

impl Plan {
    /// Takes up an event of the facet that has not been taken up yet, and adds the definitions whose answers may have
    /// changed to `touched`.
    pub fn absorb(&self, event: &RecordView<'_>, state: &mut FacetState, touched: &mut Touched) {
        let mut absorb = Absorb { plan: self, event, state, touched };
        absorb.seen();
        absorb.revenue();
        absorb.said();
        absorb.events();
    }

    /// What one event comes to, to be merged into its facet's state.
    pub fn delta(&self, event: &RecordView<'_>) -> FacetState {
        let mut state = FacetState::default();
        self.absorb(event, &mut state, &mut Touched::default());
        state
    }

    /// Forgets the events that have left their windows for good: no answer at `now` or later changes. Says whether
    /// anything was forgotten.
    ///
    /// Whoever is told the time must be told by a command, so that all replicas forget the same.
    pub fn expire(&self, state: &mut FacetState, now: i64) -> bool {
        let mut forgotten = false;
        state.retain_mut(|id, state| {
            let window = self.term_of(id).and_then(|planned| planned.term.window());
            let Some(window) = window else { return true };
            let from = now.saturating_sub(window);
            let (gone, left) = match state {
                State::Times { times, .. } => {
                    let gone = times.partition_point(|time| *time <= from);
                    times.drain(..gone);
                    (gone, times.len())
                }
                State::Entries { entries, .. } => {
                    let gone = entries.partition_point(|entry| entry.timestamp <= from);
                    entries.drain(..gone);
                    (gone, entries.len())
                }
                _ => return true,
            };
            forgotten |= gone > 0;
            left > 0
        });
        forgotten
    }

    /// The definitions that rest on any of the terms of a state: those to be evaluated when the state has come to a
    /// profile, or has left it.
    pub fn touched_by(&self, state: &FacetState) -> Touched {
        let mut touched = Touched::default();
        let planned = state.iter().filter_map(|(id, _)| self.term_of(id));
        planned.flat_map(|planned| &planned.touches).for_each(|definition| touched.insert(*definition));
        touched
    }
}

struct Absorb<'a, 'e> {
    plan: &'a Plan,
    event: &'a RecordView<'e>,
    state: &'a mut FacetState,
    touched: &'a mut Touched,
}

impl Absorb<'_, '_> {
    fn put(&mut self, index: usize, known: impl FnOnce(&mut State) -> bool, new: impl FnOnce() -> State) {
        let Some(planned) = self.plan.term(index) else { return };
        if self.state.upsert(planned.id, known, new) {
            planned.touches.iter().for_each(|definition| self.touched.insert(*definition));
        }
    }

    fn seen(&mut self) {
        let Some(index) = self.plan.seen else { return };
        let timestamp = self.event.timestamp;
        let known = |state: &mut State| match state {
            State::Seen { first, last } if timestamp < *first || timestamp > *last => {
                (*first, *last) = ((*first).min(timestamp), (*last).max(timestamp));
                true
            }
            _ => false,
        };
        self.put(index, known, || State::Seen { first: timestamp, last: timestamp });
    }

    fn revenue(&mut self) {
        let Some(amount) = &self.event.revenue else { return };
        let Some(index) = self.plan.revenue.get(self.event.currency) else { return };
        let known = |state: &mut State| match state {
            State::Revenue(sum) => {
                *sum += amount;
                !amount.is_zero()
            }
            _ => false,
        };
        self.put(*index, known, || State::Revenue(amount.clone()));
    }

    /// What the event says of traits and of consent.
    fn said(&mut self) {
        if !self.plan.traits.is_empty() {
            for (name, value) in self.event.traits() {
                if let Some(index) = self.plan.traits.get(name) {
                    self.say(*index, value);
                }
            }
        }
        if !self.plan.consent.is_empty() && memmem::find(self.event.context, CONSENT).is_some() {
            let mut context = Members::of(self.event.context);
            context.find();
            for (path, index) in &self.plan.consent {
                if let Some(Scalar::Boolean(given)) = context.get(path, Type::Boolean) {
                    self.say(*index, if given { b"true" } else { b"false" });
                }
            }
        }
    }

    fn say(&mut self, index: usize, value: &[u8]) {
        let event = self.event;
        let newer = |known: &Said| {
            let before = (known.timestamp, &*known.source, &*known.message_id, &*known.value);
            before < (event.timestamp, event.source, event.message_id, value)
        };
        let said = || Said {
            timestamp: event.timestamp,
            source: event.source.to_owned(),
            message_id: event.message_id.to_owned(),
            value: value.to_owned(),
        };
        let known = |state: &mut State| match state {
            // Though it be the same value: another facet may have said another one in between.
            State::Said(known) if newer(known) => {
                *known = said();
                true
            }
            _ => false,
        };
        self.put(index, known, || State::Said(said()));
    }

    fn events(&mut self) {
        let plan = self.plan;
        let Some(by_name) = plan.events.get(&self.event.kind) else { return };
        let named = by_name.named.get(self.event.name).into_iter().flatten();
        let mut properties = Members::of(self.event.properties);
        for index in named.chain(&by_name.any) {
            let Some(planned) = plan.term(*index) else { continue };
            if planned.reads_properties {
                properties.find();
            }
            if fits(planned, &properties) {
                self.count(*index, &planned.term, &properties);
            }
        }
    }

    /// Takes up an event that fits.
    fn count(&mut self, index: usize, term: &Term, properties: &Members<'_>) {
        let value = match term.of_property() {
            None => None,
            Some((path, ty)) => match properties.get(path, ty) {
                Some(value) => Some(value),
                // NULL doesn't count.
                None => return,
            },
        };
        let timestamp = self.event.timestamp;
        let entry =
            |value: Scalar<'_>| Entry { timestamp, key: self.event.dedup_key, value: value.into_owned() };
        match (term, value) {
            (Term::Times { bound, .. }, None) => {
                let known = |state: &mut State| match state {
                    State::Times { times, bound } => insert_newest(times, timestamp, *bound),
                    _ => false,
                };
                self.put(index, known, || State::Times { bound: *bound, times: vec![timestamp] });
            }
            (Term::Entries { bound, .. }, Some(value)) => {
                let entry = entry(value);
                let known = |state: &mut State| match state {
                    State::Entries { entries, bound } => insert_newest(entries, entry.clone(), *bound),
                    _ => false,
                };
                let new = || State::Entries { bound: *bound, entries: vec![entry.clone()] };
                self.put(index, known, new);
            }
            (Term::Fold { fold: Fold::Count, .. }, None) => {
                let known = |state: &mut State| match state {
                    State::Count(n) => {
                        *n = n.saturating_add(1);
                        true
                    }
                    _ => false,
                };
                self.put(index, known, || State::Count(1));
            }
            (Term::Fold { fold, .. }, Some(value)) => self.fold(index, fold, &entry(value)),
            _ => {}
        }
    }

    fn fold(&mut self, index: usize, fold: &Fold, entry: &Entry) {
        let known = |state: &mut State| match (state, &entry.value) {
            (State::Sum { sum, values }, Scalar::Number(n)) => {
                *sum += n;
                *values = values.saturating_add(1);
                true
            }
            (State::Extremes { min, max }, value) => {
                let changed = value < min || value > max;
                if value < min {
                    min.clone_from(value);
                }
                if value > max {
                    max.clone_from(value);
                }
                changed
            }
            (State::Ends(ends), _) => {
                let changed = *entry < ends.first || *entry > ends.last;
                if *entry < ends.first {
                    ends.first.clone_from(entry);
                }
                if *entry > ends.last {
                    ends.last.clone_from(entry);
                }
                changed
            }
            (State::Values { bound, counts }, value) => match counts {
                Some(known) => {
                    add_value(known, value, 1);
                    give_up(counts, *bound);
                    true
                }
                None => false,
            },
            (State::FirstValues { limit, entries }, _) => add_first(entries, entry, *limit),
            _ => false,
        };
        let new = || match (fold, &entry.value) {
            (Fold::Sum(_), Scalar::Number(n)) => State::Sum { sum: n.clone(), values: 1 },
            (Fold::Ends(..), _) => State::Ends(Box::new(Ends { first: entry.clone(), last: entry.clone() })),
            (Fold::Values(_, _, bound), value) => {
                State::Values { bound: *bound, counts: Some(vec![(value.clone(), 1)]) }
            }
            (Fold::FirstValues(_, _, limit), _) => {
                State::FirstValues { limit: *limit, entries: vec![entry.clone()] }
            }
            (_, value) => State::Extremes { min: value.clone(), max: value.clone() },
        };
        self.put(index, known, new);
    }
}

/// Whether the filter of a term holds. NULL is no.
fn fits(planned: &Planned, properties: &Members<'_>) -> bool {
    let Some(filter) = planned.term.events().and_then(|events| events.filter.as_deref()) else { return true };
    matches!(evaluate::node(filter, &Event { properties }).held, Held::Is(Scalar::Boolean(true)))
}

/// What a filter knows.
struct Event<'a, 'e> {
    properties: &'a Members<'e>,
}

impl Source for Event<'_, '_> {
    fn now(&self) -> i64 {
        0
    }

    fn read<'s>(&'s self, read: &'s Read, ty: Type) -> Timed<'s> {
        match &read.fact {
            Fact::Property(path) => Timed::fixed(self.properties.get(path, ty).map_or(Held::Null, Held::Is)),
            _ => Timed::fixed(Held::Null),
        }
    }

    fn segment(&self, _: usize) -> Timed<'static> {
        Timed::fixed(Held::Null)
    }
}
