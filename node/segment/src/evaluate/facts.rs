//! What the states of a profile's facets say.
//!
//! Facets are not merged to be read: what can be added up is added up while reading, and a profile of one facet, which
//! most are, is read in place.

use std::{borrow::Cow, cell::RefCell, cmp::Ordering};

use isthmus_domain::{Amount, amount::Sum};

use super::{
    Held, Judged, Source, Timed, by_count,
    leaf::{Answer, Number, Truth},
};
use crate::{
    plan::Plan,
    scalar::{self, Scalar, Type, scalar_at, texts_at},
    state::{Entry, FacetState, Said, State, add_first, add_value, give_up},
    tree::{Aggregate, Comparison, Fact, Function, Read, Sequence},
};

/// Sums that are remembered at a time.
const SUMS_MAX: usize = 16;

/// The sums of windows that were made for definitions before: the term, how many entries, and the sum. At one time, of two
/// windows of a term one lies in the other: with as many entries in them, they are the same.
pub(super) type Sums = RefCell<Vec<(usize, usize, Amount)>>;

/// A profile at a time.
pub(super) struct Facts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) facets: &'a [&'a FacetState],
    pub(super) now: i64,
    /// Answers of what comes before, in order.
    pub(super) answers: &'a [Judged],
    /// For all definitions of one evaluation.
    pub(super) sums: &'a Sums,
}

/// What of something that rises lies behind a time. All of it and nothing are looked at first, as most windows hold either.
fn behind<T>(rising: &[T], from: i64, time: impl Fn(&T) -> i64) -> &[T] {
    match rising {
        [first, ..] if time(first) > from => rising,
        [.., last] if time(last) > from => &rising[rising.partition_point(|one| time(one) <= from)..],
        _ => &[],
    }
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

    pub(super) fn seen(&self, term: usize) -> Option<(i64, i64)> {
        let seen = self.states(term).filter_map(|state| match state {
            State::Seen { first, last } => Some((*first, *last)),
            _ => None,
        });
        seen.reduce(|(first, last), (f, l)| (first.min(f), last.max(l)))
    }

    /// Timestamps of a window, rising, by facet: of those that have any.
    fn time_parts(&self, term: usize, window: Option<i64>) -> impl Iterator<Item = &'a [i64]> {
        let from = window.map(|window| self.now.saturating_sub(window));
        let inside = move |state: &'a State| match (state, from) {
            (State::Times { times, .. }, None) => Some(&times[..]),
            (State::Times { times, .. }, Some(from)) => Some(behind(times, from, |time| *time)),
            _ => None,
        };
        self.states(term).filter_map(inside).filter(|times| !times.is_empty())
    }

    /// Timestamps of a window, rising.
    fn times(&self, term: usize, window: Option<i64>) -> Cow<'a, [i64]> {
        let mut parts = self.time_parts(term, window);
        let first = parts.next().unwrap_or_default();
        let Some(second) = parts.next() else { return Cow::Borrowed(first) };
        let mut all = [first, second].concat();
        parts.for_each(|times| all.extend_from_slice(times));
        all.sort_unstable();
        Cow::Owned(all)
    }

    /// The entries of a window, rising, by facet.
    fn entries(&self, term: usize, window: i64) -> impl Iterator<Item = &'a [Entry]> {
        let from = self.now.saturating_sub(window);
        let inside = move |state: &'a State| match state {
            State::Entries { entries, .. } => Some(behind(entries, from, |entry| entry.timestamp)),
            _ => None,
        };
        self.states(term).filter_map(inside).filter(|entries| !entries.is_empty())
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
            Some(window) if matches!(aggregate.function, Function::Sum | Function::Average) => {
                self.window_sum(aggregate.function, aggregate.bound, term, window)
            }
            Some(window) => self.windowed(aggregate, term, window),
        }
    }

    /// The sum or the mean of a window.
    fn window_sum<'h>(&self, function: Function, bound: u32, term: usize, window: i64) -> Timed<'h> {
        let (many, until) = self.window_size(term, window);
        if many > bound as usize {
            return Timed::until(Held::Overflow, until);
        }
        let sum = self.with_sum(term, window, many, Amount::clone);
        Timed::until(summed(function, sum, many as u64), until)
    }

    /// A comparison of the sum of a window.
    pub(super) fn compare_sum(
        &self,
        term: usize,
        (window, bound): (i64, u32),
        holds: impl FnOnce(&Amount) -> bool,
    ) -> Answer {
        let (many, until) = self.window_size(term, window);
        match many {
            // NULL of none.
            0 => Answer { truth: Truth::Unknown, until },
            many if many > bound as usize => Answer::overflow(until),
            many => Answer::of(self.with_sum(term, window, many, holds), until),
        }
    }

    /// How many entries a window has, and when the first of them leaves it.
    fn window_size(&self, term: usize, window: i64) -> (usize, i64) {
        let (mut many, mut until) = (0, i64::MAX);
        for part in self.entries(term, window) {
            many += part.len();
            let oldest = part.first().map_or(i64::MAX, |entry| entry.timestamp.saturating_add(window));
            until = until.min(oldest);
        }
        (many, until)
    }

    /// Hands on the sum of a window, which has so many entries.
    fn with_sum<T>(&self, term: usize, window: i64, many: usize, f: impl FnOnce(&Amount) -> T) -> T {
        let mut sums = self.sums.borrow_mut();
        if let Some((.., sum)) = sums.iter().find(|(of, entries, _)| (*of, *entries) == (term, many)) {
            return f(sum);
        }
        let mut sum = Sum::default();
        for entry in self.entries(term, window).flatten() {
            if let Scalar::Number(n) = &entry.value {
                sum.add(n);
            }
        }
        let sum = sum.amount();
        let done = f(&sum);
        if sums.len() < SUMS_MAX {
            sums.push((term, many, sum));
        }
        done
    }

    fn windowed(&self, aggregate: &Aggregate, term: usize, window: i64) -> Timed<'a> {
        let parts: Vec<&[Entry]> = self.entries(term, window).collect();
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
            // Told without entries, and above.
            Function::Count | Function::Sum | Function::Average => Held::Null,
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

    /// How many events there are in all.
    fn count(&self, term: usize) -> u64 {
        let counts = self.states(term).map(|state| if let State::Count(n) = state { *n } else { 0 });
        counts.fold(0, u64::saturating_add)
    }

    /// What all events come to.
    fn folded(&self, aggregate: &Aggregate, term: usize) -> Held<'a> {
        let states = || self.states(term);
        match aggregate.function {
            Function::Count => number(scalar::count(self.count(term))),
            Function::Sum | Function::Average => {
                let (mut sum, mut values) = (Sum::default(), 0_u64);
                for state in states() {
                    if let State::Sum { sum: part, values: n } = state {
                        sum.add(part);
                        values = values.saturating_add(*n);
                    }
                }
                summed(aggregate.function, sum.amount(), values)
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

    /// That a sequence has not come about, and won't by time alone, if one of the steps in `asked` has not happened: which
    /// is so of most profiles. `None`: they have, or a bound was passed.
    pub(super) fn has_not_begun(
        &self,
        asked: &[usize],
        terms: &[usize],
        window: Option<i64>,
        bound: u32,
    ) -> Option<Answer> {
        let many = |term: &usize| self.time_parts(*term, window).map(<[i64]>::len).sum::<usize>();
        (asked.iter().any(|term| many(term) == 0) && terms.iter().all(|term| many(term) <= bound as usize))
            .then(|| Answer::of(false, i64::MAX))
    }

    /// A comparison of the count of all events with a number.
    pub(super) fn compare_all(&self, term: usize, op: Comparison, (whole, rest): Number) -> Option<Answer> {
        let order = i64::try_from(self.count(term)).ok()?.cmp(&whole);
        let order = if rest { order.then(Ordering::Less) } else { order };
        Some(Answer::of(op.holds(order), i64::MAX))
    }

    /// A comparison of the count of a window with a number, which may hold longer than the count does.
    pub(super) fn compare_window(
        &self,
        term: usize,
        (window, bound): (i64, u32),
        op: Comparison,
        (whole, rest): Number,
    ) -> Answer {
        let times = self.times(term, Some(window));
        // When so few are left: when the one before has left.
        let falls_to = |left: usize| times[times.len() - 1 - left].saturating_add(window);
        let (many, bound) = (times.len(), bound as usize);
        if many > bound {
            return Answer::overflow(falls_to(bound));
        }
        // Counts are compared without making numbers of them.
        let holds = |n: usize| {
            let order = i64::try_from(n).unwrap_or(i64::MAX).cmp(&whole);
            op.holds(if rest { order.then(Ordering::Less) } else { order })
        };
        let truth = holds(many);
        // As the count falls, the answer can change where it comes to the number, or below it, or by one alone.
        let number = usize::try_from(whole).ok();
        let turns = [many.checked_sub(1), number, number.and_then(|number| number.checked_sub(1))];
        let next = turns.into_iter().flatten().find(|left| *left < many && holds(*left) != truth);
        Answer::of(truth, next.map_or(i64::MAX, falls_to))
    }

    fn sequence(&self, sequence: &Sequence, terms: &[usize]) -> Timed<'a> {
        let Sequence { window, within, .. } = *sequence;
        let asked = if sequence.without_last { &terms[..terms.len().min(1)] } else { terms };
        if let Some(answer) = self.has_not_begun(asked, terms, window, sequence.bound) {
            return answer.timed();
        }
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
                let mut sum = Sum::default();
                for state in self.states(term) {
                    if let State::Revenue(part) = state {
                        sum.add(part);
                    }
                }
                number(sum.amount())
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
            Ok(at) => self.answers[at].answer.timed(),
            // The plan has put it in front.
            Err(_) => Timed::fixed(Held::Null),
        }
    }

    fn compare_count(&self, read: &Read, op: Comparison, number: &Amount) -> Option<Timed<'static>> {
        let Fact::Aggregate(aggregate @ Aggregate { function: Function::Count, window, .. }) = &read.fact
        else {
            return None;
        };
        let term = read.terms.first().copied()?;
        // What a number has too many digits for is left to be compared as numbers are.
        let number = number.floor()?;
        let answer = match window {
            None => self.compare_all(term, op, number)?,
            Some(window) => self.compare_window(term, (*window, aggregate.bound), op, number),
        };
        Some(answer.timed())
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
