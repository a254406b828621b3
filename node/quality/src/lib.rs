//! Data quality at the way in: traits in one spelling, events that keep to their schema.
//!
//! # What it promises
//!
//! - [`TraitRules`] bring traits into one form: trimmed, lower-cased, e-mail addresses, phone numbers as E.164, dates,
//!   countries, currencies, numbers, words of a list, regular expressions. Standardising twice is standardising once. A
//!   value that a rule can't take stays as it was sent, and is flagged. What was sent always stays in the event.
//! - [`Schema`]: JSON Schema for what events say, with a policy for those that break it. A schema is checked before it
//!   is taken: it refers to nothing outside of itself, its patterns take linear time, and one event costs a bounded
//!   amount of work.
//! - [`compat::compare`]: whether a new version of a schema accepts all that the old one did. It errs on one side only:
//!   what it calls compatible is; what it can't prove it names, and where.
//! - [`Registry`] puts both to work on accepted events. A registry with no rule and no schema costs a look at an empty
//!   map.
//!
//! # How
//!
//! Everything here is pure: documents in, values out. Documents are JSON texts, read as strictly as events are (a key
//! twice is an error), and refused with a [`Fault`] that says where and what to do. They are compiled once for each
//! version.
//!
//! [`identity_rules`] is the same for identity rules: their document, and the rule set of the domain that it stands for.
//!
//! # What it leaves out
//!
//! Routing: identifiers are spelled by the domain's own normalisation, which no rule changes. Schemas of `context`.

pub mod compat;
mod fault;
pub mod identity_rules;
pub mod note;
mod reading;
mod registry;
mod rules;
pub mod schema;
mod standard;

pub use fault::Fault;
pub use reading::{Document, read_document};
pub use registry::{InForce, Registry, Verdict};
pub use rules::{RULES_BYTES_MAX, TraitRules};
pub use schema::{Compatibility, Policy, Schema, SchemaKey, Violation};
