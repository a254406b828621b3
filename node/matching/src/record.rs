//! A record, made ready to be compared many times.
//!
//! Whatever can be computed from one value alone is computed here, once: its folded text, a hash of it (most
//! comparisons are of unequal values, and end there or at the next), and a mask of the characters in it. The mask
//! bounds from below how many edits part two texts: each character that only one of them has takes an edit.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::kind::{Kind, Measure};
use crate::plan::Plan;
use crate::text;

/// A record's name; whatever the caller knows it by. Its order decides which of a pair comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(pub u128);

/// A record under a plan: its values folded, in the order of the plan's traits. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    pub(crate) id: RecordId,
    pub(crate) values: Box<[Option<Value>]>,
}

/// One folded value, never empty.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    /// The hash of `text`.
    pub(crate) hash: u64,
    /// Which characters occur: one bit for each of a-z and 0-9, the rest share 28.
    pub(crate) mask: u64,
    /// The length of `text` in characters.
    pub(crate) chars: u32,
    /// The folded words, without blanks between them.
    pub(crate) text: Box<str>,
    /// Hashes of the words, sorted; only where words are compared, and only when there is more than one.
    pub(crate) words: Box<[u32]>,
}

impl Prepared {
    /// Takes the traits that the plan names; others are ignored, values that hold no letter and no digit are missing.
    /// Of a trait that is given twice the first value counts.
    pub fn new<'a>(plan: &Plan, id: RecordId, traits: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut values: Box<[Option<Value>]> = plan.traits.iter().map(|_| None).collect();
        for (name, text) in traits {
            if let Some(at) = plan.traits.iter().position(|t| t.name == name)
                && values[at].is_none()
            {
                values[at] = Value::new(plan.traits[at].kind, text);
            }
        }
        Self { id, values }
    }

    /// The record's name.
    pub const fn id(&self) -> RecordId {
        self.id
    }

    /// How many of the plan's traits it has a value for.
    pub fn filled(&self) -> usize {
        self.values.iter().flatten().count()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("id", &self.id)
            .field("filled", &self.filled())
            .finish_non_exhaustive()
    }
}

impl Value {
    pub(crate) fn new(kind: Kind, text: &str) -> Option<Self> {
        let (text, words) = match kind.measure() {
            Measure::Date => (text::date(text), Vec::new()),
            Measure::Words => {
                let words = text::words(text);
                let mut hashes: Vec<u32> = Vec::new();
                if words.len() > 1 {
                    // Cut to 32 bits: a collision makes one word of one pair look equal.
                    hashes.extend(words.iter().map(|word| xxh3_64(word.as_bytes()) as u32));
                    hashes.sort_unstable();
                }
                (words.concat(), hashes)
            }
            Measure::Name | Measure::Edits | Measure::Phone => (text::words(text).concat(), Vec::new()),
        };
        (!text.is_empty()).then(|| Self {
            hash: xxh3_64(text.as_bytes()),
            mask: text.chars().fold(0, |mask, c| mask | 1 << bit(c)),
            chars: u32::try_from(text.chars().count()).unwrap_or(u32::MAX),
            text: text.into_boxed_str(),
            words: words.into_boxed_slice(),
        })
    }

    /// Whether the texts are equal.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }

    /// How many characters of `self` (at least) have no counterpart in `other`.
    pub(crate) const fn lacking(&self, other: &Self) -> u32 {
        (self.mask & !other.mask).count_ones()
    }
}

fn bit(c: char) -> u32 {
    match c {
        'a'..='z' => u32::from(c) - u32::from('a'),
        '0'..='9' => 26 + u32::from(c) - u32::from('0'),
        c => 36 + u32::from(c) % 28,
    }
}
