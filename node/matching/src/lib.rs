//! Who is the same person though no identifier says so: a probabilistic matcher that learns from the data alone.
//!
//! Everything here is pure: records (named traits) go in, scored pairs come out. No function reads a clock, draws
//! randomness, does I/O or depends on the order in which records are given; threads share work, never the result.
//!
//! The model is Fellegi and Sunter's (1969). Two records are compared trait by trait; each comparison ends in one
//! of five [`Level`]s (or in none, when either side is empty); each level speaks for or against a match by
//! `ln(m / u)`, where `m` is how often matching pairs come to that level and `u` how often other pairs do. The sum,
//! with the odds that any two records match, is the log odds of a match, so a [`Scored::probability`] *is* a
//! probability, and 0.9 means the same in any data set. Nobody labels anything:
//!
//! 1. [`Prepared::new`] folds case, accents and punctuation away (`text`), once a record;
//! 2. [`blocking`](Rule) keys decide which pairs are looked at at all: equal values, sounds, combinations, and
//!    sorted neighbourhoods, each turned into a [`BlockKey`] that can be hashed to a shard;
//! 3. [`learn`] estimates `u` from random pairs of records (pairs that share a block agree too often, and would
//!    make every agreement look cheap), and `m` and the share of matches by expectation maximisation over the pairs
//!    of all blockings, starting from and held by the defaults of each [`Kind`] of trait;
//! 4. agreement on a common value counts for less than on a rare one (term frequencies);
//! 5. [`Index`] finds and scores the partners of one new record, or of all.
//!
//! A [`Model`] is a function of the *set* of records it was learned from and of the [`Config`]; whether a pair is
//! looked at and how it scores is a function of the model and of the two records. So records that are fed one by
//! one come to the same pairs as a full pass under the same model, in any order, on any number of shards. The one
//! bound on that: a block that has outgrown [`Index::members_max`] takes no more members, and [`Index::is_stale`]
//! then says that it is time to learn again.
//!
//! What this crate leaves out: where records come from and where pairs go; standardising (a phone number that was
//! made E.164 before compares better than one that was not); learning from people's decisions on the review list;
//! one-to-one constraints ("this source holds nobody twice"); dependence between traits beyond [`TraitConfig::given`].
//!
//! Sources: Fellegi, Sunter, "A Theory for Record Linkage" (1969); Winkler, "Using the EM Algorithm for Weight
//! Computation in the Fellegi-Sunter Model" (2000); Linacre et al., "Splink" (2022); Hernández, Stolfo, "The
//! Merge/Purge Problem" (1995) for sorted neighbourhoods.

mod blocking;
mod blocks;
mod closure;
mod compare;
mod config;
mod edits;
mod index;
mod kind;
mod learn;
mod model;
mod pairs;
mod plan;
mod record;
mod text;

pub use blocking::BlockKey;
pub use blocks::{Blocks, Change, Found};
pub use closure::{Accuracy, Clusters, accuracy, clusters};
pub use compare::{Level, Pattern};
pub use config::{Config, ConfigError, Part, Rule, Take, TraitConfig};
pub use index::Index;
pub use kind::Kind;
pub use learn::{LearnError, learn, learn_from_sample};
pub use model::{Model, Placed, Scored, TraitWeight};
pub use plan::Plan;
pub use record::{Prepared, RecordId};
