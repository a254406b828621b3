//! What customer data *is*: identifiers, events, facets, profiles, and the arithmetic that ties them to places.
//!
//! Everything here is pure. No function reads a clock, draws randomness, does I/O or depends on the order in which
//! a hash table happens to iterate; time and generated ids are passed in. So a gateway, a replica, a replay and a
//! test that are given the same bytes come to the same bytes, on any machine.
//!
//! The path of an event through this crate:
//!
//! 1. [`value::json::parse`] turns bytes into a typed [`Value`], or says where and why it cannot;
//! 2. [`event::accept`] standardises and checks it and makes an [`EventRecord`], the form that is replicated and
//!    stored, or refuses it with a stable [`event::Reason`] (the item then goes to [`quarantine`]);
//! 3. [`FacetSummary::absorb`] folds the record into the summary of its facet, which is all that was said under one
//!    [`Identifier`];
//! 4. [`Profile::fold`] folds the summaries of the facets that identity resolution puts together.
//!
//! Steps 3 and 4 are commutative: any order and batching of the same (already deduplicated) records gives the same
//! bytes. `tests/permutations.rs` holds that up.
//!
//! Which facets those are, [`identity`] works out from [`link`] facts, under rules that are configuration.
//!
//! Places: an identifier's keyed hash is its [`FacetId`], the hash's top 14 bits its [`Slot`], and a [`ShardMap`]
//! assigns slots to shards. Order in time is a [`Stamp`].
//!
//! What this crate leaves out: event schemas, and standardising that depends on a region (phone numbers to E.164, countries).
//!
//! Stored and replicated messages are derived with `prost`; their tags are written in the type's documentation and
//! never change their meaning. `Debug` of anything that holds personal data shows shapes and sizes, not content.

pub mod amount;
pub mod error;
pub mod event;
pub mod facet;
pub mod group;
pub mod hash;
pub mod identifier;
pub mod identity;
pub mod link;
pub mod profile;
pub mod quality;
pub mod quarantine;
pub mod record;
mod record_json;
pub mod record_view;
pub mod shard_map;
pub mod slot;
pub mod stamp;
pub mod value;
mod wire;

pub use amount::Amount;
pub use error::Error;
pub use event::{AcceptContext, Accepted, EventType, Limits, RawItem, Reason, Refused, SourceView, accept};
pub use facet::{FacetSummary, Summary, SummaryMap};
pub use hash::{FacetId, IdentityKey, hash128};
pub use identifier::{BlockedValues, Identifier, IdentifierError, Namespace};
pub use link::{LinkFact, LinkKind, LinkRow};
pub use profile::Profile;
pub use quarantine::{QuarantineEntry, Resolution, ResolutionKind};
pub use record::EventRecord;
pub use record_view::RecordView;
pub use shard_map::{NodeId, ReplicaId, ShardEntry, ShardId, ShardMap};
pub use slot::{Slot, SlotRange, SlotRanges};
pub use stamp::Stamp;
pub use value::{Map, Value};
