//! What was learned, and how it scores a pair.
//!
//! The log odds that two records match are the log odds that any two do, and for each trait `ln(m / u)` of the level
//! that the pair comes to. Two refinements:
//!
//! - *Term frequencies.* `u` of an exact agreement is an average over all values. For the value at hand it is how
//!   often that value occurs: agreeing on a rare surname says more than on a common one. The two records themselves
//!   are not counted, or no value could ever look rarer than two in all; and one record's worth of the average is
//!   added, so that a value never seen otherwise is as rare as the trait's values are numerous, not infinitely.
//! - *Given traits.* Where a trait mostly follows from another (the suburb from the postcode), there are two tables:
//!   one for pairs that agree exactly on the other trait, one for the rest. Agreeing on what had to agree then adds
//!   next to nothing. Term frequencies don't apply in the first: the value's frequency was paid for already.
//!
//! And one rule: a better level never says less than a worse one. Levels that hardly any pair came to (two edits
//! in a state's name) have numbers that are mostly expectation, and could otherwise outweigh an exact agreement.
//!
//! A model is plain data: it serialises, and comes back only whole and in range. Its numbers are single-precision,
//! so that a reader of JSON which is off by one in the last of 17 digits still gets them back to the bit. It holds
//! the beginnings of values (where sorted rules are cut), so it is personal data; `Debug` shows none of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::blocking::{self, BlockKey, Fences};
use crate::compare::{LEVELS, Level, Pattern};
use crate::config::{Config, ConfigError};
use crate::plan::Plan;
use crate::record::{Prepared, RecordId};

/// What was learned from a set of records. Made by [`learn`](crate::learn).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Model {
    plan: Plan,
    learned: Learned,
    /// By trait, given state and level: `ln(m / u)`.
    weights: Box<[[[f64; LEVELS]; 2]]>,
}

/// The numbers of a model.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Learned {
    /// How many records it was learned from.
    pub(crate) records: u64,
    /// The log odds that two records, drawn at random, match.
    pub(crate) prior: f32,
    pub(crate) traits: Vec<Table>,
    pub(crate) fences: Fences,
    /// Keys that too many records have, ascending: not used.
    pub(crate) stopped: Vec<BlockKey>,
}

/// One trait's numbers. The first of two is for pairs that don't agree exactly on the given trait (or there is none).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) m: [[f32; LEVELS]; 2],
    pub(crate) u: [[f32; LEVELS]; 2],
    /// `u` of an exact agreement, whatever the given trait.
    pub(crate) u_exact: f32,
    /// How many records have a value.
    pub(crate) filled: u64,
    /// Hashes of the values that more than two records have, ascending, and how many have them.
    pub(crate) common: Vec<(u64, u32)>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    config: Config,
    learned: Learned,
}

#[derive(Debug, Error)]
enum StoredError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the model's numbers don't fit its configuration")]
    Shape,
}

/// A record under a model: its values, how rare they are, and its blocking keys.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    pub(crate) record: Prepared,
    /// By trait: what an exact agreement on this value weighs more than on the average value.
    rarity: Box<[f64]>,
    pub(crate) keys: Vec<BlockKey>,
}

/// Two records and how sure it is that they are one person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The smaller id.
    pub a: RecordId,
    /// The larger id.
    pub b: RecordId,
    /// The probability that they match, 0 to 1.
    pub probability: f64,
    /// The same as log odds, base 2: finer at both ends.
    pub bits: f64,
}

/// What one trait said about a pair, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct TraitWeight {
    /// The trait.
    pub name: String,
    /// What the comparison came to; none when a side was empty.
    pub level: Option<Level>,
    /// How much that speaks for a match (against, when negative), in bits.
    pub bits: f64,
}

impl Model {
    pub(crate) fn new(plan: Plan, learned: Learned) -> Self {
        let weights = learned.traits.iter().map(Table::weights).collect();
        Self { plan, learned, weights }
    }

    /// What is compared, and how.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many records the model was learned from.
    pub const fn records(&self) -> u64 {
        self.learned.records
    }

    /// The share of all pairs of records that match, as learned.
    pub fn match_share(&self) -> f64 {
        probability(f64::from(self.learned.prior))
    }

    /// How often matching pairs (`m`) and others (`u`) come to a level of a trait; `None` for a trait that isn't
    /// compared. For pairs that don't agree exactly on the given trait, if there is one.
    pub fn m_and_u(&self, name: &str, level: Level) -> Option<(f64, f64)> {
        let at = self.plan.traits.iter().position(|t| t.name == name)?;
        let table = self.learned.traits.get(at)?;
        Some((f64::from(table.m[0][level as usize]), f64::from(table.u[0][level as usize])))
    }

    /// Puts a record in its place under this model. It must have been prepared under the same configuration.
    pub fn place(&self, record: Prepared) -> Placed {
        let mut keys = blocking::keys(&self.plan, &self.learned.fences, &record);
        keys.retain(|key| self.learned.stopped.binary_search(key).is_err());
        let rarity = self.plan.traits.iter().zip(&self.learned.traits).zip(&record.values);
        let rarity = rarity.map(|((compared, table), value)| match value {
            Some(value) if compared.term_frequencies => table.rarity(value.hash),
            _ => 0.0,
        });
        Placed { rarity: rarity.collect(), keys, record }
    }

    /// Reads [`Placed::to_bytes`] of a record that was placed under this very model; `None` when it can't be one.
    pub fn read_placed(&self, bytes: &[u8]) -> Option<Placed> {
        let placed: Placed = postcard::from_bytes(bytes).ok()?;
        let traits = self.plan.traits.len();
        let fits = placed.record.values.len() == traits && placed.rarity.len() == traits;
        (fits && placed.keys.is_sorted()).then_some(placed)
    }

    /// Scores a pair, whether or not blocking would have brought it together.
    pub fn score(&self, a: &Placed, b: &Placed) -> Scored {
        let pattern = Pattern::of(&self.plan, &a.record, &b.record);
        let said = (0..self.weights.len()).map(|at| self.weight(pattern, at, a));
        let odds = f64::from(self.learned.prior) + said.sum::<f64>();
        let (one, two) = (a.record.id.min(b.record.id), a.record.id.max(b.record.id));
        Scored { a: one, b: two, probability: probability(odds), bits: odds / std::f64::consts::LN_2 }
    }

    /// What each trait says about a pair, in the order of the configuration.
    pub fn explain(&self, a: &Placed, b: &Placed) -> Vec<TraitWeight> {
        let pattern = Pattern::of(&self.plan, &a.record, &b.record);
        let explained = self.plan.traits.iter().enumerate().map(|(at, compared)| TraitWeight {
            name: compared.name.clone(),
            level: pattern.level(at),
            bits: self.weight(pattern, at, a) / std::f64::consts::LN_2,
        });
        explained.collect()
    }

    /// What a trait says, as log odds. On an exact agreement the two values are the same, and so is their rarity.
    fn weight(&self, pattern: Pattern, at: usize, record: &Placed) -> f64 {
        let Some(level) = pattern.level(at) else { return 0.0 };
        let given = given_state(&self.plan, pattern, at);
        let weight = self.weights[at][given][level as usize];
        if level == Level::Exact && given == 0 {
            weight + record.rarity.get(at).copied().unwrap_or(0.0)
        } else {
            weight
        }
    }
}

/// 1 when the pair agrees exactly on the trait that trait number `at` mostly follows from, else 0.
pub(crate) fn given_state(plan: &Plan, pattern: Pattern, at: usize) -> usize {
    let given = plan.traits.get(at).and_then(|compared| compared.given);
    usize::from(given.is_some_and(|given| pattern.level(given) == Some(Level::Exact)))
}

fn probability(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

impl Table {
    /// How much more an agreement on the value of this hash says than on the average value, as log odds.
    fn rarity(&self, hash: u64) -> f64 {
        let among = self.common.binary_search_by_key(&hash, |&(hash, _)| hash);
        let count = among.map_or(0, |at| self.common[at].1.saturating_sub(2));
        let others = self.filled.saturating_sub(2) as f64;
        let average = f64::from(self.u_exact);
        (average * (others + 1.0 / average) / (f64::from(count) + 1.0)).ln()
    }

    /// `ln(m / u)` by given state and level, and never more for a worse level. A swap is no degree of the others.
    fn weights(&self) -> [[f64; LEVELS]; 2] {
        [0, 1].map(|given| {
            let mut weights: [f64; LEVELS] = std::array::from_fn(|level| {
                (f64::from(self.m[given][level]) / f64::from(self.u[given][level])).ln()
            });
            let mut most = f64::INFINITY;
            for level in [Level::Exact, Level::Close, Level::Similar, Level::Different] {
                most = most.min(weights[level as usize]);
                weights[level as usize] = most;
            }
            weights
        })
    }

    fn in_range(&self) -> bool {
        let share = |x: &f32| *x > 0.0 && *x <= 1.0;
        let tables = self.m.iter().chain(&self.u).flatten();
        tables.chain([&self.u_exact]).all(share) && self.common.is_sorted_by(|a, b| a.0 < b.0)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traits: Vec<&str> = self.plan.traits.iter().map(|t| t.name.as_str()).collect();
        f.debug_struct("Model")
            .field("records", &self.records())
            .field("traits", &traits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed")
            .field("record", &self.record)
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl Placed {
    /// The record's name.
    pub const fn id(&self) -> RecordId {
        self.record.id
    }

    /// The record as bytes, for another node of the cluster. [`Model::read_placed`] takes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// The keys of the blocks that it belongs to, ascending.
    pub fn keys(&self) -> &[BlockKey] {
        &self.keys
    }

    /// The one block that this pair is looked at in: the smallest key in common. `None`: nowhere. A shard that holds
    /// a block scores exactly the pairs for which this is the block's key.
    pub fn meeting(&self, other: &Self) -> Option<BlockKey> {
        blocking::first_common(&self.keys, &other.keys)
    }
}

impl TryFrom<Stored> for Model {
    type Error = StoredError;

    fn try_from(stored: Stored) -> Result<Self, StoredError> {
        let plan = stored.config.plan()?;
        let Learned { prior, traits, fences, stopped, .. } = &stored.learned;
        let fits = prior.is_finite()
            && traits.len() == plan.traits.len()
            && traits.iter().all(Table::in_range)
            && fences.0.len() == plan.rules.len()
            && fences.0.iter().all(|fences| fences.is_sorted())
            && stopped.is_sorted();
        if fits { Ok(Self::new(plan, stored.learned)) } else { Err(StoredError::Shape) }
    }
}

impl From<Model> for Stored {
    fn from(model: Model) -> Self {
        Self { config: model.plan.config().clone(), learned: model.learned }
    }
}
