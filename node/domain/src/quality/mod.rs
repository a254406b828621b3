//! Data quality: how complete, valid, unique, consistent and timely what sources say of traits is.
//!
//! The numbers come from `identify` events. A source's *customers* are those that it identified; a source's *value* of
//! a trait for a customer is the newest that it said and did not remove. A customer is the facet that the events are
//! filed under: values of one person under several primary identifiers count for each.
//!
//! | measure | of | share that |
//! | --- | --- | --- |
//! | completeness | the source's customers | have a value |
//! | validity | values of traits that something is known of | pass it ([`TraitRules`]) |
//! | uniqueness | values | are different: distinct over all |
//! | consistency | customers with a value from at least one other source too | agree, all of them |
//! | timeliness | values | were set after a given time |
//!
//! The *lag* of an event is the time from its timestamp to its receipt; its quantiles are over all events that set the
//! trait.
//!
//! **How.** [`Partial`] takes events in any order. What can only be judged when all events of a customer are known is
//! kept by customer ([`Partial::add`]) until [`Partial::close`] adds it up. Partials merge, and any split of the
//! events into partials ends in the same [`Report`]. Memory is bounded: by the customers that are open, and for the
//! sums by [`GROUPS_MAX`] groups with sketches of fixed size; beyond, the groups that come last by name are left out
//! and the report says so.
//!
//! Source of the measures: DAMA UK, "The six primary dimensions for data quality assessment" (2013).

mod customer;
mod distinct;
mod lag;
mod partial;
mod report;
mod rules;
mod sums;

pub use distinct::{DISTINCT_EXACT_MAX, Distinct};
pub use lag::{LAG_ERROR, LagSketch};
pub use partial::{Identified, Partial, Settings};
pub use report::{Overlap, Report, SourceQuality, TraitQuality};
pub use rules::{ReservedRules, TraitRules, Verdict};
pub use sums::GROUPS_MAX;

use crate::record::TraitChange;
use crate::value::{Value, json};

/// The changes of traits in the `properties` of a stored `identify` event, as they were when it was accepted.
///
/// # Errors
/// What can't be an object's JSON: the event is damaged.
pub fn changes_of(properties: &[u8]) -> Result<Vec<TraitChange>, crate::Error> {
    if properties.is_empty() {
        return Ok(Vec::new());
    }
    match json::parse(properties) {
        Ok(Value::Map(traits)) => Ok(crate::event::trait_changes(&traits)),
        _ => Err(crate::Error::Invalid { what: "identify event", why: "its traits are not an object" }),
    }
}
