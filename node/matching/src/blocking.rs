//! Which pairs are looked at: those that have a [`BlockKey`] in common.
//!
//! Every rule comes to keys of one form, 64 bits that can be hashed to a shard, sorted neighbourhoods included.
//! Those usually slide a window over all records in sorted order, which no shard has and which every new record
//! shifts. Here the order is cut into half-windows at [`Fences`] that are learned once; a record's neighbourhood is
//! its half-window joined with the one below, and joined with the one above: two keys. Any two records in the same
//! half-window, or in two that touch, have a key in common. So whoever was within half a window of another when the
//! fences were learned is looked at, others up to a window apart are where a key joins them, and whether a pair is
//! looked at never depends on a third record.
//!
//! A pair with several keys in common is looked at once, at the smallest of them ([`first_common`]): where blocks
//! are spread over shards, no shard has to ask another whether a pair is done.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::config::Take;
use crate::kind::Measure;
use crate::plan::{Plan, PlanRule};
use crate::record::{Prepared, Value};
use crate::text;

/// A key under which records are looked at together. Spread evenly over 64 bits; made of personal data by a hash that
/// is not secret, so it is for the inside of a cluster and no log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockKey(pub u64);

impl BlockKey {
    /// The key's place among 2^`bits` parts of the hash space, by its top bits, as slots are.
    pub const fn slot(self, bits: u32) -> u64 {
        match bits {
            1..=64 => self.0 >> (64 - bits),
            _ => 0,
        }
    }
}

impl std::fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockKey({:016x})", self.0)
    }
}

/// Where a sorted rule's order is cut, ascending. One list a rule, empty for rules that aren't sorted.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fences(pub(crate) Vec<Vec<SortKey>>);

/// The first 16 bytes of what is sorted by, as two numbers in the same order.
pub(crate) type SortKey = (u64, u64);

/// No rule has more fences than this: in larger sets the half-windows grow.
const FENCES_MAX: usize = 65_536;

impl Fences {
    /// Cuts each sorted rule's order every half a window, of a set of which the records are one in so many.
    pub(crate) fn learn(plan: &Plan, records: &[&Prepared], one_in: NonZeroU32) -> Self {
        let half = (plan.config.window / 2 / one_in).max(1) as usize;
        let of = |rule: &PlanRule| {
            if !rule.sorted {
                return Vec::new();
            }
            let mut keys: Vec<SortKey> =
                records.iter().filter_map(|record| sort_key(plan, rule, record)).collect();
            keys.sort_unstable();
            let step = half.max(keys.len().div_ceil(FENCES_MAX));
            let mut fences: Vec<SortKey> = keys.into_iter().step_by(step).skip(1).collect();
            fences.dedup();
            fences
        };
        Self(plan.rules.iter().map(of).collect())
    }
}

/// All keys of a record, ascending, each once.
pub(crate) fn keys(plan: &Plan, fences: &Fences, record: &Prepared) -> Vec<BlockKey> {
    let mut keys = Vec::with_capacity(plan.rules.len() + 4);
    for (number, rule) in plan.rules.iter().enumerate() {
        // Keys of different rules, and of different seeds, have nothing in common.
        let seed = plan.config.seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if !rule.sorted {
            if let Some(text) = equal_key(plan, rule, record) {
                keys.push(BlockKey(xxh3_64_with_seed(text.as_bytes(), seed)));
            }
        } else if let (Some(key), Some(fences)) = (sort_key(plan, rule, record), fences.0.get(number)) {
            let half = fences.partition_point(|&fence| fence <= key) as u64;
            // Windows of even number overlap those of odd number by one half.
            for window in [2 * (half / 2), 2 * (half.div_ceil(2)) + 1] {
                keys.push(BlockKey(xxh3_64_with_seed(&window.to_le_bytes(), seed)));
            }
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The smallest key that two ascending lists have in common.
pub(crate) fn first_common(a: &[BlockKey], b: &[BlockKey]) -> Option<BlockKey> {
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Equal => return Some(*x),
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
        }
    }
    None
}

fn equal_key(plan: &Plan, rule: &PlanRule, record: &Prepared) -> Option<String> {
    let mut parts = rule
        .parts
        .iter()
        .map(|&(at, take)| record.values.get(at)?.as_ref().map(|value| taken(plan, at, take, value)))
        .collect::<Option<Vec<String>>>()?;
    if rule.unordered {
        parts.sort_unstable();
    }
    // Folded text holds no blank.
    Some(parts.join(" "))
}

/// The first 16 bytes, shared out evenly between the parts.
fn sort_key(plan: &Plan, rule: &PlanRule, record: &Prepared) -> Option<SortKey> {
    let mut key = [0_u8; 16];
    let share = key.len() / rule.parts.len().max(1);
    for (&(at, take), room) in rule.parts.iter().zip(key.chunks_mut(share)) {
        let text = taken(plan, at, take, record.values.get(at)?.as_ref()?);
        for (to, from) in room.iter_mut().zip(text.bytes()) {
            *to = from;
        }
    }
    let key = u128::from_be_bytes(key);
    Some(((key >> 64) as u64, key as u64))
}

fn taken(plan: &Plan, at: usize, take: Take, value: &Value) -> String {
    match take {
        Take::Value => value.text.to_string(),
        Take::Sound if plan.traits[at].kind.measure() != Measure::Date => text::soundex(&value.text),
        Take::Sound | Take::Start => value.text.chars().take(4).collect(),
        Take::Reversed => value.text.chars().rev().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Kind, Part, RecordId, Rule, TraitConfig};

    fn plan(sorted: bool, unordered: bool) -> Plan {
        let part = |name: &str| Part { name: name.into(), take: Take::Value };
        let traits = vec![TraitConfig::new("one", Kind::Name), TraitConfig::new("two", Kind::Name)];
        let parts = if sorted { vec![part("one")] } else { vec![part("one"), part("two")] };
        let blocking = vec![Rule { parts, sorted, unordered }];
        Config { blocking, window: 4, ..Config::of(traits) }.plan().unwrap()
    }

    fn record(plan: &Plan, one: &str, two: &str) -> Prepared {
        Prepared::new(plan, RecordId(0), [("one", one), ("two", two)])
    }

    #[test]
    fn an_unordered_rule_sees_through_a_swap_and_an_ordered_one_does_not() {
        for unordered in [true, false] {
            let plan = plan(false, unordered);
            let of = |one, two| keys(&plan, &Fences::default(), &record(&plan, one, two));
            assert_eq!(of("Ann", "Lee") == of("lee", "ANN"), unordered);
            assert_ne!(of("Ann", "Lee"), of("An", "nLee"));
            assert!(of("Ann", "").is_empty());
        }
    }

    #[test]
    fn records_within_half_a_window_share_a_key_and_those_beyond_a_window_do_not() {
        let plan = plan(true, false);
        let records: Vec<Prepared> = (0..100).map(|n| record(&plan, &format!("n{n:03}"), "")).collect();
        let fences = Fences::learn(&plan, &records.iter().collect::<Vec<_>>(), NonZeroU32::MIN);
        let keys: Vec<Vec<BlockKey>> = records.iter().map(|record| keys(&plan, &fences, record)).collect();
        for i in 0..100_usize {
            for j in i + 1..100 {
                let common = first_common(&keys[i], &keys[j]).is_some();
                assert!(common || j - i > 2, "{i} and {j} are near");
                assert!(!common || j - i < 4, "{i} and {j} are far apart");
            }
        }
    }

    #[test]
    fn a_key_has_a_slot() {
        assert_eq!(BlockKey(u64::MAX).slot(14), 16_383);
        assert_eq!(BlockKey(1 << 50).slot(14), 1);
        assert_eq!(BlockKey(u64::MAX).slot(0), 0);
    }
}
