//! What is compared, and how: the part of the matcher that people set.
//!
//! A configuration names the traits and their kinds; all else has a default that follows from the kinds. It is
//! checked once, when it becomes a [`Plan`], and a record is only ever prepared under a plan: so nothing past that
//! point meets a name that isn't there or a bound that is out of range. Unknown keys are refused.
//!
//! ```toml
//! link_at = 0.9
//!
//! [[traits]]
//! name = "firstName"
//! kind = "name"
//!
//! [[traits]]
//! name = "lastName"
//! kind = "name"
//!
//! [[traits]]
//! name = "birthday"
//! kind = "date"
//!
//! [[blocking]]
//! parts = [{ trait = "lastName", take = "sound" }, { trait = "birthday", take = "start" }]
//! ```

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::kind::Kind;
use crate::plan::Plan;

/// More traits than this are not compared.
pub(crate) const TRAITS_MAX: usize = 24;
/// More blocking rules than this are not taken.
pub(crate) const RULES_MAX: usize = 48;
/// More parts than this in one blocking rule are not taken.
pub(crate) const PARTS_MAX: usize = 4;

/// What the matcher compares and how; see the [crate]'s documentation for what it does with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The traits that are compared, 1 to 24.
    pub traits: Vec<TraitConfig>,
    /// Which pairs are looked at: those that share a key under any of these rules. Empty: by the kinds of the traits.
    pub blocking: Vec<Rule>,
    /// Whether pairs link by themselves from `link_at` on; else a person decides about these, too.
    pub links: bool,
    /// A pair is taken for one person from this probability.
    pub link_at: f64,
    /// A pair is shown to a person from this probability, up to `link_at`. At least 0.01.
    pub review_at: f64,
    /// A key that more records than this share says too little to be worth its pairs; it is left out. 2 to 10,000.
    pub block_members_max: u32,
    /// How far apart two records may be in a sorted neighbourhood to be looked at for certain: half of this. 2 to 1,000.
    pub window: u32,
    /// How many random pairs of records `u` is learned from.
    pub random_pairs: u32,
    /// How many pairs that share a block `m` is learned from, at most; above that, about so many are drawn.
    pub training_pairs_max: u32,
    /// How many records a model is learned from, at most; of more, about so many are drawn. 2 to 10,000,000.
    pub learn_from_max: u32,
    /// Pairs expected to match, per record: a guess that weighs as much as a tenth of the records do.
    pub duplicates_expected: f64,
    /// What the draws of pairs start from. The same seed and records give the same model.
    pub seed: u64,
}

/// One trait that is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraitConfig {
    /// The trait's name, as in the records.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// The similarity (0 to 1) from which two values are close. Names, addresses, places, free text; else unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_at: Option<f64>,
    /// The similarity from which two values are similar; below `close_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similar_at: Option<f64>,
    /// The trait that this one gets mixed up with. By default two traits of kind name, when there are exactly two,
    /// and two of kind address. The empty string: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swaps_with: Option<String>,
    /// The trait that this one mostly follows from: agreement is learned separately for pairs that agree on that one.
    /// By default the place given the postcode, and a category (a state) given the place or the postcode. The empty
    /// string: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// Whether agreement on a common value counts for less than on a rare one.
    #[serde(default = "yes")]
    pub term_frequencies: bool,
}

/// A blocking rule: two records that have the same key under it are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the key is made of, 1 to 4. A record without a value for any of them has no key.
    pub parts: Vec<Part>,
    /// Whether records also share a key when their parts are near each other in sorted order, not only equal.
    #[serde(default)]
    pub sorted: bool,
    /// Whether the order of the parts doesn't matter: (Lee, Ann) is (Ann, Lee). Not with `sorted`.
    #[serde(default)]
    pub unordered: bool,
}

/// One part of a blocking key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The trait.
    #[serde(rename = "trait")]
    pub name: String,
    /// What is taken of its value.
    #[serde(default)]
    pub take: Take,
}

/// What a blocking key takes of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// All of it.
    #[default]
    Value,
    /// How it sounds: Soundex; the first four characters when it doesn't start with a Latin letter.
    Sound,
    /// The first four characters; of a date the year.
    Start,
    /// All of it, from the end to the start: brings together in sorted order what only the start sets apart.
    Reversed,
}

/// Why a configuration is refused. `name` is a trait's, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No trait, or more than 24.
    #[error("{0} traits are given; 1 to 24 can be compared")]
    Traits(usize),
    /// A trait without a name.
    #[error("a trait's name is empty")]
    Nameless,
    /// The same trait twice.
    #[error("trait {name:?} is given twice")]
    Twice {
        /// The trait.
        name: String,
    },
    /// A reference to a trait that is not compared.
    #[error("{field} names {name:?}, which is not among the traits")]
    Unknown {
        /// Where.
        field: &'static str,
        /// What it says.
        name: String,
    },
    /// A trait that swaps with, or is given, itself; partners that name different partners; a circle of `given`.
    #[error("trait {name:?}: {why}")]
    Partner {
        /// The trait.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A number out of its range.
    #[error("{field} must be {range}")]
    Range {
        /// The number.
        field: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// A blocking rule that cannot be.
    #[error("blocking rule {rule}: {why}")]
    Rule {
        /// Which, from 1.
        rule: usize,
        /// What is wrong.
        why: &'static str,
    },
}

const fn yes() -> bool {
    true
}

impl Default for Config {
    /// The traits that analytics SDKs name, each by its kind.
    fn default() -> Self {
        let names = [
            "firstName",
            "lastName",
            "birthday",
            "phone",
            "address.street",
            "address.city",
            "address.postalCode",
            "address.state",
            "company",
        ];
        Self {
            traits: names.iter().filter_map(|name| TraitConfig::guess(name)).collect(),
            blocking: Vec::new(),
            links: false,
            link_at: 0.9,
            review_at: 0.5,
            block_members_max: 100,
            window: 12,
            random_pairs: 500_000,
            training_pairs_max: 2_000_000,
            learn_from_max: 200_000,
            duplicates_expected: 0.1,
            seed: 1969,
        }
    }
}

impl Config {
    /// The defaults, for these traits.
    pub fn of(traits: Vec<TraitConfig>) -> Self {
        Self { traits, ..Self::default() }
    }

    /// The configuration, checked and with its defaults filled in.
    pub fn plan(&self) -> Result<Plan, ConfigError> {
        Plan::new(self)
    }
}

impl TraitConfig {
    /// A trait with the defaults of its kind.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            close_at: None,
            similar_at: None,
            swaps_with: None,
            given: None,
            term_frequencies: true,
        }
    }

    /// A trait of the kind that its name suggests; see [`Kind::guess`].
    pub fn guess(name: &str) -> Option<Self> {
        Kind::guess(name).map(|kind| Self::new(name, kind))
    }
}
