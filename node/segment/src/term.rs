//! Terms: what is kept of a facet so that definitions can be answered.
//!
//! A term is a question that has a *state* for each facet: how often something happened, the newest value of a trait,
//! the events of a window. States are commutative and merge (see [`crate::state`]), and definitions that ask the same
//! share one. A term is named by a hash of its description, so a state outlives the definitions of one version: what a
//! new version asks anew has another name, and must be gathered from the events once.
//!
//! Questions that differ only in how far back they look share the state of the one that looks back the furthest
//! (`Widest`): what is kept are the newest events up to a bound, so those of a shorter window are among them, as many as
//! it would keep itself.

use std::{collections::BTreeMap, fmt::Write};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    scalar::{Path, Type},
    tree::{Aggregate, Events, Fact, Function, Sequence, quoted},
};

/// How many events of a window, or distinct values, a term keeps at most.
pub const ENTRIES_MAX: u32 = 10_000;

/// The name of a term in what is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TermId(pub u64);

/// What is kept of a facet.
#[derive(Clone, PartialEq, Debug)]
pub enum Term {
    /// The newest that was said of a trait.
    Trait(String),
    /// When the first and the last event were.
    Seen,
    /// The sum of `revenue` in a currency.
    Revenue(String),
    /// The newest that was said about consent for a purpose.
    Consent(String),
    /// What all events that fit come to.
    Fold {
        /// Which events.
        events: Events,
        /// What they come to.
        fold: Fold,
    },
    /// The timestamps of events that fit, the newest so many.
    Times {
        /// Which events.
        events: Events,
        /// How long they matter, microseconds; `None`: for ever.
        window: Option<i64>,
        /// How many are answered for; one more is kept, to tell when there are more.
        bound: u32,
    },
    /// The values of events that fit, the newest so many by (timestamp, event key).
    Entries {
        /// Which events.
        events: Events,
        /// Of which property.
        of: Path,
        /// Read as what.
        of_type: Type,
        /// How long they matter, microseconds.
        window: i64,
        /// As in [`Term::Times`].
        bound: u32,
    },
}

/// What events come to, over all time.
#[derive(Clone, PartialEq, Debug)]
pub enum Fold {
    /// How many.
    Count,
    /// The sum of a property, and of how many.
    Sum(Path),
    /// The least and the largest value.
    Extremes(Path, Type),
    /// The values of the oldest and the newest event.
    Ends(Path, Type),
    /// Each value and how often it came, up to a bound.
    Values(Path, Type, u32),
    /// The values whose first events are the oldest, up to a limit.
    FirstValues(Path, Type, u32),
}

impl Fold {
    /// The property that is read, and as what.
    pub(crate) fn of(&self) -> Option<(&Path, Type)> {
        match self {
            Self::Count => None,
            Self::Sum(of) => Some((of, Type::Number)),
            Self::Extremes(of, ty)
            | Self::Ends(of, ty)
            | Self::Values(of, ty, _)
            | Self::FirstValues(of, ty, _) => Some((of, *ty)),
        }
    }
}

/// The longest window of each question that is asked with several.
#[derive(Debug, Default)]
pub(crate) struct Widest(BTreeMap<String, i64>);

impl Widest {
    /// Takes note of a term.
    pub(crate) fn note(&mut self, term: &Term) {
        if let Some((question, window)) = term.without_window() {
            let widest = self.0.entry(question).or_insert(window);
            *widest = window.max(*widest);
        }
    }

    /// The term that answers one, and all that look back less far.
    pub(crate) fn of(&self, term: Term) -> Term {
        let widest = term.without_window().and_then(|(question, _)| self.0.get(&question).copied());
        match (term, widest) {
            (Term::Times { events, bound, .. }, Some(widest)) => {
                Term::Times { events, window: (widest < i64::MAX).then_some(widest), bound }
            }
            (Term::Entries { events, of, of_type, bound, .. }, Some(window)) => {
                Term::Entries { events, of, of_type, window, bound }
            }
            (term, _) => term,
        }
    }
}

impl Term {
    /// What it asks, whatever its window, and the window; `i64::MAX`: for ever. `None`: it has none.
    fn without_window(&self) -> Option<(String, i64)> {
        let mut question = self.clone();
        let window = match &mut question {
            Self::Times { window, .. } => window.replace(0).unwrap_or(i64::MAX),
            Self::Entries { window, .. } => std::mem::take(window),
            _ => return None,
        };
        Some((question.description(), window))
    }

    /// The terms that answer a reading: one, or one for each step of a sequence; none for a property of an event.
    pub fn of(fact: &Fact) -> Vec<Self> {
        match fact {
            Fact::Trait { name, .. } => vec![Self::Trait(name.clone())],
            Fact::Property(_) => Vec::new(),
            Fact::FirstSeen | Fact::LastSeen => vec![Self::Seen],
            Fact::Revenue(currency) => vec![Self::Revenue(currency.clone())],
            Fact::Consent(purpose) => vec![Self::Consent(purpose.clone())],
            Fact::Aggregate(aggregate) => vec![Self::of_aggregate(aggregate)],
            Fact::Sequence(Sequence { steps, window, bound, .. }) => {
                let times =
                    |events: &Events| Self::Times { events: events.clone(), window: *window, bound: *bound };
                steps.iter().map(times).collect()
            }
        }
    }

    fn of_aggregate(aggregate: &Aggregate) -> Self {
        let Aggregate { function, events, of, of_type, window, bound } = aggregate;
        let (events, of, ty, bound) = (events.clone(), of.clone().unwrap_or_default(), *of_type, *bound);
        match (function, *window) {
            (Function::Count, Some(window)) => Self::Times { events, window: Some(window), bound },
            // A list has a limit of its own, and is made of all events of the window.
            (Function::DistinctList, Some(window)) => {
                Self::Entries { events, of, of_type: ty, window, bound: ENTRIES_MAX }
            }
            (_, Some(window)) => Self::Entries { events, of, of_type: ty, window, bound },
            (Function::Count, None) => Self::Fold { events, fold: Fold::Count },
            (Function::Sum | Function::Average, None) => Self::Fold { events, fold: Fold::Sum(of) },
            (Function::Min | Function::Max, None) => Self::Fold { events, fold: Fold::Extremes(of, ty) },
            (Function::First | Function::Last, None) => Self::Fold { events, fold: Fold::Ends(of, ty) },
            (Function::MostFrequent | Function::DistinctCount, None) => {
                Self::Fold { events, fold: Fold::Values(of, ty, bound) }
            }
            (Function::DistinctList, None) => Self::Fold { events, fold: Fold::FirstValues(of, ty, bound) },
        }
    }

    /// Which events touch it; `None`: not those of a kind and name, but what they say.
    pub fn events(&self) -> Option<&Events> {
        match self {
            Self::Trait(_) | Self::Seen | Self::Revenue(_) | Self::Consent(_) => None,
            Self::Fold { events, .. } | Self::Times { events, .. } | Self::Entries { events, .. } => {
                Some(events)
            }
        }
    }

    /// The property that is kept of events, and as what it is read.
    pub(crate) fn of_property(&self) -> Option<(&Path, Type)> {
        match self {
            Self::Fold { fold, .. } => fold.of(),
            Self::Entries { of, of_type, .. } => Some((of, *of_type)),
            _ => None,
        }
    }

    /// How long an event matters, microseconds; `None`: for ever.
    pub fn window(&self) -> Option<i64> {
        match self {
            Self::Times { window, .. } => *window,
            Self::Entries { window, .. } => Some(*window),
            _ => None,
        }
    }

    /// Its name.
    pub fn id(&self) -> TermId {
        TermId(xxh3_64(self.description().as_bytes()))
    }

    /// A text that is the same for the same term, and different for others. States are found by it: what is written
    /// must not change.
    pub fn description(&self) -> String {
        let mut out = String::new();
        let window = |window: &Option<i64>| window.map_or("all".to_owned(), |micros| micros.to_string());
        let of = |path: &Path, ty: Type, out: &mut String| {
            let _ = write!(out, " {}", ty.name());
            quoted(path.keys(), out);
        };
        match self {
            Self::Trait(name) => {
                out.push_str("trait");
                quoted([name], &mut out);
            }
            Self::Seen => out.push_str("seen"),
            Self::Revenue(currency) => {
                out.push_str("revenue");
                quoted([currency], &mut out);
            }
            Self::Consent(purpose) => {
                out.push_str("consent");
                quoted([purpose], &mut out);
            }
            Self::Fold { events, fold } => {
                out.push_str(match fold {
                    Fold::Count => "count ",
                    Fold::Sum(_) => "sum ",
                    Fold::Extremes(..) => "extremes ",
                    Fold::Ends(..) => "ends ",
                    Fold::Values(..) => "values ",
                    Fold::FirstValues(..) => "first-values ",
                });
                events.describe(&mut out);
                if let Some((path, ty)) = fold.of() {
                    of(path, ty, &mut out);
                }
                if let Fold::Values(.., bound) | Fold::FirstValues(.., bound) = fold {
                    let _ = write!(out, " {bound}");
                }
            }
            Self::Times { events, window: kept, bound } => {
                let _ = write!(out, "times {} {bound} ", window(kept));
                events.describe(&mut out);
            }
            Self::Entries { events, of: path, of_type, window: kept, bound } => {
                let _ = write!(out, "entries {kept} {bound} ");
                events.describe(&mut out);
                of(path, *of_type, &mut out);
            }
        }
        out
    }
}
