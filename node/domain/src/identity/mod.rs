//! Identity resolution: which identifiers are one customer, worked out from link facts alone.
//!
//! **What it promises.** The profiles are a function of the *set* of accepted facts and retractions and of the rules:
//! any order, repetition or batching of the same ones gives the same components, homes, names and reasons, to the
//! byte. Nothing is lost by a merge, so a retraction gives exactly what would have been without the facts it takes
//! back. `tests/identity` holds that against a model that is slow and obviously right.
//!
//! **How.** Facts have a total order ([`LinkFact`](crate::LinkFact)): time, source, message id, place in the star. The
//! fold goes through them in that order and *follows* a fact (its two components become one) or *refuses* it, with a
//! [`Refusal`] that says why; refused facts are kept, and counted when the rules change. Going in a fixed order is
//! what makes limits well defined: of two facts that can't both be followed, the older wins, whichever came first.
//!
//! Three questions are answered before the fold, each from less than all facts, so that slots can answer them:
//!
//! 1. *Which facts count?* Of a pair, source and kind only the oldest that no [`Retraction`] suppresses: a component
//!    only grows, so what was refused once is refused again, and what was followed once is only confirmed by a
//!    younger one. [`oldest_left`] decides it where the primary's facts lie.
//! 2. *Which identifiers are shared?* A kiosk's cookie or a family's phone stands beside many customers. [`Sharing`]
//!    counts the distinct counterparts at the identifier's own slot.
//! 3. *May the fact be followed at all?* [`IdentityRules::refuses`] looks at blocked values and at the source's trust.
//!
//! [`Fold`] is what a bundle's root owns: rows and flags come in, in any order, [`Fold::step`] folds so and so many,
//! changed components come out, and what is to be stored comes out in small pieces. A late
//! fact or a retraction refolds what it concerns, and not the bundle. [`Ledger`] puts all of it together in one place:
//! facts and retractions in, profiles with names out.
//!
//! **What it leaves out.** Messages, epochs, acknowledgements, and which root owns a bundle: the shard's business.
//! Candidates that share no identifier: facts like others, from a source of their own. Taking a retraction back.
//!
//! Sources: Tarjan, "Efficiency of a Good But Not Linear Set Union Algorithm" (JACM 22, 1975) for the components. The
//! order of facts, limits and shared identifiers are this project's own.

mod component;
mod explain;
mod fold;
mod ledger;
mod members;
mod partition;
mod pattern;
mod pieces;
mod region;
mod retraction;
mod rules;
mod rules_parts;
mod rules_wire;
mod sharing;
mod verdict;

pub use component::{Component, Member};
pub use explain::{ChangedFact, Explanation, Judged, Preview, WhatIf};
pub use fold::{Fold, LATE_MAX, News, Progress};
pub use ledger::{Ledger, NamedProfile};
pub use pattern::Pattern;
pub use pieces::{RowKey, Write, fold_row};
pub use retraction::{Retraction, Retractions, Scope, Until, oldest_left};
pub use rules::{IdentityRules, RulesError, SourceTrust};
pub use sharing::Sharing;
pub use verdict::{Refusal, Verdict};
