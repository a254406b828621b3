//! Computed traits and segments: a language over what is known of customers, and its exact answers as events arrive.
//!
//! # What it promises
//!
//! - An answer is the one that a full evaluation over all events of a profile would give at the same time: whatever the
//!   order, the batches, the lateness of events, whichever facets they lie in, however profiles merge and part, and
//!   however often nobody looked. `tests/laws` holds that against a reference that knows lists of events alone.
//! - What passes a bound says `overflow`, never a wrong number, and whether it does depends on the events and the time
//!   alone.
//! - Each answer says until when it holds if nothing happens.
//! - A definition that can't be taken is refused with its place and a word on what to do; no text makes the parser
//!   panic, take the stack, or take long.
//!
//! # How
//!
//! 1. [`Document`] holds [definitions](definition); [`Plan::compile`] reads their texts ([`parse`]) into typed trees
//!    ([`tree`]), checks them against each other, and finds what has to be known of a facet: [terms](term).
//! 2. [`Plan::absorb`] takes an event into the [`FacetState`] of its facet, touching only what the event can touch, and
//!    tells which definitions that concerns ([`Touched`]).
//! 3. [`Plan::evaluate`] answers these from the states of the facets of a profile.
//! 4. [`Standing`] is what is kept with a profile: which segments it is in, and when to look again.
//! 5. [`Plan::expire`] forgets what has left its window, when it is told the time.
//!
//! [`sql::members`] writes the same tree as a query over all events, and [`algebra`] counts sets of segments.
//!
//! Everything is pure: no clock, no chance, no I/O, no order that depends on a hash table.
//!
//! # What it leaves out
//!
//! Where states, standings and bitmaps are kept, who tells the time, and the feed. Windows by the calendar.

pub mod algebra;
mod contribute;
pub mod definition;
mod duration;
mod evaluate;
mod fault;
mod like;
pub mod parse;
mod plan;
pub mod scalar;
pub mod sql;
mod standing;
pub mod state;
pub mod term;
pub mod tree;

pub use algebra::{Algebra, Sets};
pub use definition::Document;
pub use duration::WINDOW_DAYS_MAX;
pub use evaluate::{Evaluated, Held, Judged, Membership};
pub use fault::{Fault, Place};
pub use like::Pattern;
pub use plan::{
    DEFINITIONS_MAX, Definition, DefinitionId, Known, LEVELS_MAX, Plan, Reads, TERMS_MAX, Touched,
};
pub use scalar::{Scalar, Type};
pub use standing::{Standing, Transition};
pub use state::FacetState;
