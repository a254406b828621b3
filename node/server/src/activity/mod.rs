//! What came in lately, by source: for the console.
//!
//! **What it promises.** Each event whose fate the way in has told is counted once, in the node that it came through, in
//! the step of [`STEP_SECONDS`] in which it was told. [`STEPS`] steps are kept. It is bounded: [`SOURCES_MAX`] sources
//! have a place of their own, the rest share one. Counting takes a lock once a batch.
//!
//! **How.** [`Tally`] counts a batch by itself, [`Activity`] adds it up. [`gather`] asks all nodes, each of which answers
//! by [`service`].
//!
//! **What it leaves out.** It is lost at a restart; what is to be kept, `/metrics` tells a scraper.

pub mod gather;
pub mod service;

use std::collections::{BTreeMap, VecDeque};

use isthmus_proto::{
    internal::v1::{ActivityResponse, SourceActivity},
    v1::ItemOutcome,
};
use parking_lot::Mutex;

/// Seconds of a step.
pub const STEP_SECONDS: u32 = 5;
/// Steps that are kept: a quarter of an hour.
pub const STEPS: usize = 180;
/// Steps whose ages are told: a minute.
const AGE_STEPS: i64 = 12;
/// Sources with a place of their own.
const SOURCES_MAX: usize = 256;
/// Ages are counted below 1 ms, 2 ms, 4 ms and so on up to 139 years, since histories are taken in, too; behind that is
/// the rest.
const AGES: usize = 44;
/// Fates: accepted, duplicate, quarantined, rejected, unknown.
const FATES: usize = 5;

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    fates: [u64; FATES],
    ages: [u64; AGES],
    newest_event: Option<i64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { fates: [0; FATES], ages: [0; AGES], newest_event: None }
    }
}

impl Tally {
    /// Counts an event that was told what became of it at `now`; `happened` is its own time. Both are microseconds
    /// since 1970.
    pub fn add(&mut self, outcome: ItemOutcome, happened: Option<i64>, now: i64) {
        let fate = match outcome {
            ItemOutcome::Accepted => 0,
            ItemOutcome::Duplicate => 1,
            ItemOutcome::Quarantined => 2,
            ItemOutcome::Rejected => 3,
            ItemOutcome::OutcomeUnknown | ItemOutcome::Unspecified => 4,
        };
        if let Some(count) = self.fates.get_mut(fate) {
            *count += 1;
        }
        if let Some(happened) = happened.filter(|_| outcome == ItemOutcome::Accepted) {
            if let Some(count) = self.ages.get_mut(age_place(now.saturating_sub(happened))) {
                *count += 1;
            }
            self.newest_event = self.newest_event.max(Some(happened));
        }
    }
}

/// The place of an age in microseconds among [`AGES`]; one from the future has none.
fn age_place(age: i64) -> usize {
    let milliseconds = u64::try_from(age / 1_000).unwrap_or(0);
    let place = (u64::BITS - milliseconds.leading_zeros()) as usize;
    place.min(AGES - 1)
}

/// The age, in milliseconds, that so many of 100 events were below, of the counts of [`SourceActivity::ages`]; `None`
/// where there is none.
pub fn age_below(ages: &[u64], percent: u64) -> Option<u64> {
    let all: u64 = ages.iter().sum();
    let wanted = (all * percent).div_ceil(100);
    let mut passed = 0;
    let place = ages.iter().position(|count| {
        passed += count;
        passed >= wanted
    });
    place.filter(|_| all > 0).map(|place| 1 << place)
}

/// What came from a source in one step.
#[derive(Clone, Debug)]
struct Step {
    number: i64,
    fates: [u64; FATES],
    ages: [u64; AGES],
}

/// What came from a source. Steps in which nothing came are left out.
#[derive(Debug, Default)]
struct Series {
    steps: VecDeque<Step>,
    last_at: i64,
    newest_event: Option<i64>,
}

impl Series {
    fn add(&mut self, tally: &Tally, now: i64) {
        let number = step_of(now);
        self.forget(number);
        // A clock that was set back adds to the newest step.
        if self.steps.back().is_none_or(|last| last.number < number) {
            self.steps.push_back(Step { number, fates: [0; FATES], ages: [0; AGES] });
        }
        if let Some(step) = self.steps.back_mut() {
            step.fates.iter_mut().zip(tally.fates).for_each(|(sum, more)| *sum += more);
            step.ages.iter_mut().zip(tally.ages).for_each(|(sum, more)| *sum += more);
        }
        self.last_at = self.last_at.max(now);
        self.newest_event = self.newest_event.max(tally.newest_event);
    }

    fn forget(&mut self, now: i64) {
        while self.steps.front().is_some_and(|first| first.number <= now - STEPS as i64) {
            self.steps.pop_front();
        }
    }

    fn told(&self, source: &str, now: i64) -> SourceActivity {
        let first = now - STEPS as i64 + 1;
        let mut fates: [Vec<u64>; FATES] = std::array::from_fn(|_| vec![0; STEPS]);
        let mut ages = vec![0; AGES];
        for step in &self.steps {
            let place = usize::try_from(step.number - first).ok().filter(|place| *place < STEPS);
            let Some(place) = place else { continue };
            for (of_fate, count) in fates.iter_mut().zip(step.fates) {
                if let Some(sum) = of_fate.get_mut(place) {
                    *sum = count;
                }
            }
            if step.number > now - AGE_STEPS {
                ages.iter_mut().zip(step.ages).for_each(|(sum, more)| *sum += more);
            }
        }
        let [accepted, duplicate, quarantined, rejected, unknown] = fates;
        SourceActivity {
            source: source.to_owned(),
            accepted,
            duplicate,
            quarantined,
            rejected,
            unknown,
            ages,
            last_at: self.last_at,
            newest_event: self.newest_event,
        }
    }
}

/// The number of the step of a moment in microseconds since 1970.
fn step_of(now: i64) -> i64 {
    now.div_euclid(i64::from(STEP_SECONDS) * 1_000_000)
}

/// The number of the first step that is told at `now`, microseconds since 1970.
fn first_step(now: i64) -> i64 {
    step_of(now) - STEPS as i64 + 1
}

/// What came in through this node.
#[derive(Debug, Default)]
pub struct Activity {
    sources: Mutex<BTreeMap<String, Series>>,
}

impl Activity {
    /// Adds a batch of a source whose fate was told at `now`, microseconds since 1970.
    pub fn add(&self, source: &str, tally: &Tally, now: i64) {
        let mut sources = self.sources.lock();
        if let Some(series) = sources.get_mut(source) {
            return series.add(tally, now);
        }
        if sources.len() >= SOURCES_MAX {
            let step = step_of(now);
            sources.retain(|_, series| {
                series.forget(step);
                !series.steps.is_empty()
            });
        }
        let name = if sources.len() < SOURCES_MAX { source } else { "" };
        sources.entry(name.to_owned()).or_default().add(tally, now);
    }

    /// What came in until `now`, microseconds since 1970.
    pub fn told(&self, now: i64) -> ActivityResponse {
        let step = step_of(now);
        let sources = self.sources.lock();
        ActivityResponse {
            first_step: first_step(now),
            step_seconds: STEP_SECONDS,
            sources: sources.iter().map(|(name, series)| series.told(name, step)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_225_600_000_000;
    const SECOND: i64 = 1_000_000;

    fn tally(accepted: u64, age_micros: i64, now: i64) -> Tally {
        let mut tally = Tally::default();
        (0..accepted).for_each(|_| tally.add(ItemOutcome::Accepted, Some(now - age_micros), now));
        tally
    }

    #[test]
    fn each_fate_is_counted_in_its_step() {
        let activity = Activity::default();
        let mut first = tally(2, SECOND, NOW);
        for outcome in [
            ItemOutcome::Duplicate,
            ItemOutcome::Quarantined,
            ItemOutcome::Rejected,
            ItemOutcome::OutcomeUnknown,
        ] {
            first.add(outcome, None, NOW);
        }
        activity.add("web", &first, NOW);
        activity.add("web", &tally(3, SECOND, NOW + 5 * SECOND), NOW + 5 * SECOND);
        let told = activity.told(NOW + 6 * SECOND);
        let web = &told.sources[0];
        assert_eq!((web.accepted.len(), &web.accepted[STEPS - 2..]), (STEPS, &[2, 3][..]));
        for of in [&web.duplicate, &web.quarantined, &web.rejected, &web.unknown] {
            assert_eq!((of[STEPS - 2], of.iter().sum::<u64>()), (1, 1));
        }
        assert_eq!(web.last_at, NOW + 5 * SECOND);
        assert_eq!(web.newest_event, Some(NOW + 4 * SECOND));
        assert_eq!(told.first_step + STEPS as i64 - 1, step_of(NOW + 6 * SECOND));
    }

    #[test]
    fn what_is_older_than_a_quarter_of_an_hour_is_gone() {
        let activity = Activity::default();
        activity.add("web", &tally(1, 0, NOW), NOW);
        let later = NOW + STEPS as i64 * i64::from(STEP_SECONDS) * SECOND;
        assert_eq!(activity.told(later - SECOND).sources[0].accepted.iter().sum::<u64>(), 1);
        assert_eq!(activity.told(later).sources[0].accepted.iter().sum::<u64>(), 0);
        activity.add("web", &tally(1, 0, later), later);
        assert_eq!(activity.sources.lock()["web"].steps.len(), 1);
    }

    #[test]
    fn sources_beyond_the_bound_share_a_place_until_others_have_been_silent() {
        let activity = Activity::default();
        for n in 0..SOURCES_MAX + 5 {
            activity.add(&format!("s{n}"), &tally(1, 0, NOW), NOW);
        }
        let told = activity.told(NOW);
        assert_eq!(told.sources.len(), SOURCES_MAX + 1);
        let others = told.sources.iter().find(|source| source.source.is_empty()).unwrap();
        assert_eq!(others.accepted.iter().sum::<u64>(), 5);
        let later = NOW + 3_600 * SECOND;
        activity.add("new", &tally(1, 0, later), later);
        assert_eq!(activity.told(later).sources.len(), 1);
    }

    #[test]
    fn ages_are_told_within_a_power_of_two() {
        let mut ages = vec![0; AGES];
        for (age_ms, times) in [(0, 50), (3, 45), (900, 5)] {
            ages[age_place(age_ms * 1_000)] += times;
        }
        assert_eq!([50, 95, 99].map(|percent| age_below(&ages, percent)), [Some(1), Some(4), Some(1_024)]);
        assert_eq!(age_below(&[0, 0], 50), None);
        assert_eq!([age_place(-5), age_place(i64::MAX)], [0, AGES - 1]);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_nothing() {
        let activity = Activity::default();
        activity.add("web", &tally(1, 0, NOW), NOW);
        activity.add("web", &tally(1, 0, NOW), NOW - 60 * SECOND);
        assert_eq!(activity.told(NOW).sources[0].accepted.iter().sum::<u64>(), 2);
    }
}
