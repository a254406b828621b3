//! What the states of a profile's facets say.
//!
//! Facets are not merged to be read: what can be added up is added up while reading, and a profile of one facet, which
//! most are, is read in place.

use std::{borrow::Cow, cmp::Ordering};

use isthmus_domain::Amount;

use super::{Evaluated, Held, Source, Timed, by_count};
use crate::{
    plan::Plan,
    scalar::{self, Scalar, Type, scalar_at, texts_at},
    state::{Entry, FacetState, Said, State, add_first, add_value, give_up},
    tree::{Aggregate, Comparison, Fact, Function, Read, Sequence},
};

/// A profile at a time.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) facets: &'a [&'a FacetState],
    pub(super) now: i64,
    /// Answers of what comes before, in order.
    pub(super) answers: &'a [Evaluated],
}

impl<'a> Facts<'a> {
    /// The states of a term.
    fn states(&self, term: usize) -> impl Iterator<Item = &'a State> {
        let id = self.plan.term(term).map(|planned| planned.id);
        self.facets.iter().filter_map(move |facet| facet.get(id?))
    }

    fn said(&self, term: usize) -> Option<&'a Said> {
        let said = self.states(term).filter_map(|state| match state {
            State::Said(said) => Some(said),
            _ => None,
        });
        said.max().filter(|said| !said.value.is_empty())
    }

    fn seen(&self, term: usize) -> Option<(i64, i64)> {
        let seen = self.states(term).filter_map(|state| match state {
            State::Seen { first, last } => Some((*first, *last)),
            _ => None,
        });
        seen.reduce(|(first, last), (f, l)| (first.min(f), last.max(l)))
    }

    /// Timestamps of a window, rising.
    fn times(&self, term: usize, window: Option<i64>) -> Cow<'a, [i64]> {
        let from = window.map_or(i64::MIN, |window| self.now.saturating_sub(window));
        let inside = |state: &'a State| match state {
            State::Times { times, .. } if window.is_none() => Some(&times[..]),
            State::Times { times, .. } => Some(&times[times.partition_point(|time| *time <= from)..]),
            _ => None,
        };
        let mut parts = self.states(term).filter_map(inside).filter(|times| !times.is_empty());
        let first = parts.next().unwrap_or_default();
        let Some(second) = parts.next() else { return Cow::Borrowed(first) };
        let mut all = [first, second].concat();
        parts.for_each(|times| all.extend_from_slice(times));
        all.sort_unstable();
        Cow::Owned(all)
    }

    /// The entries of a window, rising, by facet.
    fn entries(&self, term: usize, window: i64) -> Vec<&'a [Entry]> {
        let from = self.now.saturating_sub(window);
        let inside = |state: &'a State| match state {
            State::Entries { entries, .. } => {
                Some(&entries[entries.partition_point(|entry| entry.timestamp <= from)..])
            }
            _ => None,
        };
        self.states(term).filter_map(inside).filter(|entries| !entries.is_empty()).collect()
    }

    fn aggregate(&self, aggregate: &Aggregate, term: usize) -> Timed<'a> {
        match aggregate.window {
            None => Timed::fixed(self.folded(aggregate, term)),
            Some(window) if aggregate.function == Function::Count => {
                let times = self.times(term, Some(window));
                let until = times.first().map_or(i64::MAX, |time| time.saturating_add(window));
                if times.len() > aggregate.bound as usize {
                    return Timed::until(Held::Overflow, until);
                }
                Timed::until(number(scalar::count(times.len() as u64)), until)
            }
            Some(window) => self.windowed(aggregate, term, window),
        }
    }

    fn windowed(&self, aggregate: &Aggregate, term: usize, window: i64) -> Timed<'a> {
        let parts = self.entries(term, window);
        let all = || parts.iter().flat_map(|entries| entries.iter());
        let oldest = parts.iter().filter_map(|entries| entries.first()).min();
        let newest = parts.iter().filter_map(|entries| entries.last()).max();
        let gone = |entry: Option<&Entry>| entry.map_or(i64::MAX, |e| e.timestamp.saturating_add(window));
        let until = gone(oldest);
        // What is kept of a list's events has a bound of its own; the list's is its length.
        let list = aggregate.function == Function::DistinctList;
        let bound = if list { crate::term::ENTRIES_MAX } else { aggregate.bound };
        let many: usize = parts.iter().map(|entries| entries.len()).sum();
        if many > bound as usize {
            return Timed::until(Held::Overflow, until);
        }
        let held = match aggregate.function {
            Function::Count | Function::Sum | Function::Average => {
                let mut sum = Amount::zero();
                for entry in all() {
                    if let Scalar::Number(n) = &entry.value {
                        sum += n;
                    }
                }
                summed(aggregate.function, sum, many as u64)
            }
            Function::Min => one(all().map(|entry| &entry.value).min()),
            Function::Max => one(all().map(|entry| &entry.value).max()),
            Function::First => one(oldest.map(|entry| &entry.value)),
            // Older ones may leave meanwhile.
            Function::Last => return Timed::until(one(newest.map(|entry| &entry.value)), gone(newest)),
            Function::MostFrequent | Function::DistinctCount => {
                let mut values: Vec<&Scalar<'_>> = all().map(|entry| &entry.value).collect();
                values.sort_unstable();
                let runs = values.chunk_by(|a, b| a == b);
                let counts = runs.filter_map(|run| Some((run.first()?.share(), run.len() as u64)));
                counted(aggregate.function, counts)
            }
            Function::DistinctList => {
                let mut firsts = Vec::new();
                all().for_each(|entry| _ = add_first(&mut firsts, entry, aggregate.bound));
                listed(firsts)
            }
        };
        Timed::until(held, until)
    }

    /// What all events come to.
    fn folded(&self, aggregate: &Aggregate, term: usize) -> Held<'a> {
        let states = || self.states(term);
        match aggregate.function {
            Function::Count => {
                let counts = states().map(|state| if let State::Count(n) = state { *n } else { 0 });
                number(scalar::count(counts.fold(0, u64::saturating_add)))
            }
            Function::Sum | Function::Average => {
                let (mut sum, mut values) = (Amount::zero(), 0_u64);
                for state in states() {
                    if let State::Sum { sum: part, values: n } = state {
                        sum += part;
                        values = values.saturating_add(*n);
                    }
                }
                summed(aggregate.function, sum, values)
            }
            Function::Min | Function::Max => {
                let values = states().filter_map(|state| match state {
                    State::Extremes { min, max } => Some((min, max)),
                    _ => None,
                });
                let ends = values.reduce(|(min, max), (low, high)| (min.min(low), max.max(high)));
                one(ends.map(|(min, max)| if aggregate.function == Function::Min { min } else { max }))
            }
            Function::First | Function::Last => {
                let values = states().filter_map(|state| match state {
                    State::Ends(ends) => Some((&ends.first, &ends.last)),
                    _ => None,
                });
                let ends = values.reduce(|(first, last), (f, l)| (first.min(f), last.max(l)));
                let first = aggregate.function == Function::First;
                one(ends.map(|(oldest, newest)| if first { &oldest.value } else { &newest.value }))
            }
            Function::MostFrequent | Function::DistinctCount => self.values(aggregate, term),
            Function::DistinctList => {
                let mut firsts = Vec::new();
                for state in states() {
                    if let State::FirstValues { limit, entries } = state {
                        entries.iter().for_each(|entry| _ = add_first(&mut firsts, entry, *limit));
                    }
                }
                listed(firsts)
            }
        }
    }

    fn values(&self, aggregate: &Aggregate, term: usize) -> Held<'a> {
        let mut parts = Vec::new();
        for state in self.states(term) {
            match state {
                State::Values { counts: Some(counts), .. } => parts.push(counts),
                State::Values { counts: None, .. } => return Held::Overflow,
                _ => {}
            }
        }
        match &parts[..] {
            [] => counted(aggregate.function, std::iter::empty()),
            [counts] => counted(aggregate.function, counts.iter().map(|(value, n)| (value.share(), *n))),
            [first, others @ ..] => {
                let mut all = Some((*first).clone());
                for counts in others {
                    for (value, n) in *counts {
                        all.iter_mut().for_each(|all| add_value(all, value, *n));
                        give_up(&mut all, aggregate.bound);
                    }
                }
                match all {
                    Some(all) => counted(aggregate.function, all.into_iter()),
                    None => Held::Overflow,
                }
            }
        }
    }

    fn sequence(&self, sequence: &Sequence, terms: &[usize]) -> Timed<'a> {
        let Sequence { window, within, .. } = *sequence;
        let steps: Vec<Cow<'_, [i64]>> = terms.iter().map(|term| self.times(*term, window)).collect();
        let gone = |time: i64| window.map_or(i64::MAX, |window| time.saturating_add(window));
        if steps.iter().any(|times| times.len() > sequence.bound as usize) {
            let oldest = steps.iter().filter_map(|times| times.first()).min();
            return Timed::until(Held::Overflow, oldest.map_or(i64::MAX, |oldest| gone(*oldest)));
        }
        let Some((starts, later)) = steps.split_first() else { return Timed::fixed(Held::Null) };
        let truth = |truth, until| Timed::until(Held::Is(Scalar::Boolean(truth)), until);
        // Of each step the first event after the one before is the best choice for what follows.
        let follows = |start: i64| {
            let end = start.saturating_add(within);
            later
                .iter()
                .try_fold(start, |at, times| times.get(times.partition_point(|time| *time <= at)).copied())
                .is_some_and(|last| last <= end)
        };
        if !sequence.without_last {
            // The newest start that is followed stays longest.
            let start = starts.iter().rev().find(|start| follows(**start));
            return start.map_or(truth(false, i64::MAX), |start| truth(true, gone(*start)));
        }
        // Of those that nothing follows: the newest of which the time is over, and else the first that it will be of.
        let over = starts.partition_point(|start| start.saturating_add(within) <= self.now);
        let (past, coming) = starts.split_at(over);
        if let Some(start) = past.iter().rev().find(|start| !follows(**start)) {
            return truth(true, gone(*start));
        }
        let next = coming.iter().find(|start| !follows(**start));
        truth(false, next.map_or(i64::MAX, |start| start.saturating_add(within)))
    }
}

impl Source for Facts<'_> {
    fn now(&self) -> i64 {
        self.now
    }

    fn read<'s>(&'s self, read: &'s Read, ty: Type) -> Timed<'s> {
        let Some(term) = read.terms.first().copied() else { return Timed::fixed(Held::Null) };
        let held = match &read.fact {
            Fact::Trait { keys, .. } => match self.said(term) {
                None => Held::Null,
                Some(said) if ty == Type::List => texts_at(&said.value, keys).map_or(Held::Null, Held::List),
                Some(said) => scalar_at(&said.value, keys, ty).map_or(Held::Null, Held::Is),
            },
            Fact::Property(_) => Held::Null,
            Fact::FirstSeen => self.seen(term).map_or(Held::Null, |(first, _)| Held::Is(Scalar::Time(first))),
            Fact::LastSeen => self.seen(term).map_or(Held::Null, |(_, last)| Held::Is(Scalar::Time(last))),
            Fact::Revenue(_) => {
                let mut sum = Amount::zero();
                for state in self.states(term) {
                    if let State::Revenue(part) = state {
                        sum += part;
                    }
                }
                number(sum)
            }
            Fact::Consent(_) => match self.said(term) {
                Some(said) => scalar_at(&said.value, &[], Type::Boolean).map_or(Held::Null, Held::Is),
                None => Held::Null,
            },
            Fact::Aggregate(aggregate) => return self.aggregate(aggregate, term),
            Fact::Sequence(sequence) => return self.sequence(sequence, &read.terms),
        };
        Timed::fixed(held)
    }

    fn segment(&self, index: usize) -> Timed<'static> {
        match self.answers.binary_search_by_key(&index, |answer| answer.definition) {
            Ok(at) => Timed::until(self.answers[at].held.clone(), self.answers[at].until),
            // The plan has put it in front.
            Err(_) => Timed::fixed(Held::Null),
        }
    }

    fn compare_count(&self, read: &Read, op: Comparison, number: &Amount) -> Option<Timed<'static>> {
        let Fact::Aggregate(aggregate @ Aggregate { function: Function::Count, window: Some(window), .. }) =
            &read.fact
        else {
            return None;
        };
        let times = self.times(read.terms.first().copied()?, Some(*window));
        // When so few are left: when the one before has left.
        let falls_to = |left: usize| times[times.len() - 1 - left].saturating_add(*window);
        let (many, bound) = (times.len(), aggregate.bound as usize);
        if many > bound {
            return Some(Timed::until(Held::Overflow, falls_to(bound)));
        }
        // The number as whole ones and whether something is left: counts are compared without making numbers of them.
        let (whole, rest) = number.floor()?;
        let holds = |n: usize| {
            let order = i64::try_from(n).unwrap_or(i64::MAX).cmp(&whole);
            op.holds(if rest { order.then(Ordering::Less) } else { order })
        };
        let truth = holds(many);
        // As the count falls, the answer can change where it comes to the number, or below it, or by one alone.
        let number = usize::try_from(whole).ok();
        let turns = [many.checked_sub(1), number, number.and_then(|number| number.checked_sub(1))];
        let next = turns.into_iter().flatten().find(|left| *left < many && holds(*left) != truth);
        Some(Timed::until(Held::Is(Scalar::Boolean(truth)), next.map_or(i64::MAX, falls_to)))
    }
}

fn number<'a>(n: Amount) -> Held<'a> {
    Held::Is(Scalar::Number(n))
}

fn one<'a>(value: Option<&'a Scalar<'static>>) -> Held<'a> {
    value.map_or(Held::Null, |value| Held::Is(value.share()))
}

fn summed<'a>(function: Function, sum: Amount, values: u64) -> Held<'a> {
    match (function, values) {
        (Function::Count, _) => number(scalar::count(values)),
        (_, 0) => Held::Null,
        (Function::Average, _) => scalar::quotient(&sum, &scalar::count(values)).map_or(Held::Null, number),
        _ => number(sum),
    }
}

/// The most frequent of values that come by rising value, or how many there are.
fn counted<'a>(function: Function, counts: impl Iterator<Item = (Scalar<'a>, u64)>) -> Held<'a> {
    match function {
        Function::MostFrequent => counts.min_by(by_count).map_or(Held::Null, |(value, _)| Held::Is(value)),
        _ => number(scalar::count(counts.count() as u64)),
    }
}

fn listed<'a>(firsts: Vec<Entry>) -> Held<'a> {
    Held::List(firsts.into_iter().map(|entry| entry.value).collect())
}
