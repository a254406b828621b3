//! One part of an index that is spread by block key: the blocks that a shard holds.
//!
//! Whoever owns a record places it under the model and sends it to wherever its keys' blocks lie. Each part compares it
//! with the members of its own blocks, and scores those pairs whose block ([`Placed::meeting`]) it holds: so no pair is
//! scored twice, and no part asks another. When a record changes, the part also tells which pairs it no longer makes.
//!
//! Invariants: a record is listed in exactly those blocks of [`Placed::keys`] that this part holds and that had room
//! when it came; no block has more than [`members_max`](Blocks::members_max) members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::blocking::BlockKey;
use crate::model::{Model, Placed, Scored, TraitWeight};
use crate::record::RecordId;

/// Records in some of the blocks, each with something of its owner's (`T`).
#[derive(Debug)]
pub struct Blocks<T> {
    model: Arc<Model>,
    records: BTreeMap<RecordId, Member<T>>,
    blocks: BTreeMap<BlockKey, Vec<RecordId>>,
    filled_up: bool,
}

#[derive(Debug)]
struct Member<T> {
    placed: Placed,
    /// The blocks here that list it.
    listed: Vec<BlockKey>,
    with: T,
}

/// A pair that a new record makes.
#[derive(Debug)]
pub struct Found<'a, T> {
    /// The pair.
    pub pair: Scored,
    /// What the other record came with.
    pub with: &'a T,
    /// What each compared trait said.
    pub weights: Vec<TraitWeight>,
}

/// What putting a record comes to.
#[derive(Debug)]
pub struct Change<'a, T> {
    /// Its pairs, by the other record's id.
    pub found: Vec<Found<'a, T>>,
    /// Records that it made a pair with before and does no longer, rising.
    pub gone: Vec<RecordId>,
}

impl<T> Blocks<T> {
    /// No records, under this model.
    pub const fn new(model: Arc<Model>) -> Self {
        Self { model, records: BTreeMap::new(), blocks: BTreeMap::new(), filled_up: false }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// No block holds more: four times what a block held at most when the model was learned.
    pub fn members_max(&self) -> usize {
        4 * self.model.plan().config().block_members_max as usize
    }

    /// Whether a block has filled up, so that a pair may have been passed over: it is time to learn again.
    pub const fn is_filled_up(&self) -> bool {
        self.filled_up
    }

    /// What a record came with.
    pub fn get(&self, id: RecordId) -> Option<&T> {
        self.records.get(&id).map(|member| &member.with)
    }

    /// All records, rising, each with what it came with.
    pub fn iter(&self) -> impl Iterator<Item = (RecordId, &T)> {
        self.records.iter().map(|(id, member)| (*id, &member.with))
    }

    /// Puts a record into those of its blocks that are held here, in the place of one of the same id, and gives its
    /// pairs from a probability on.
    pub fn put(
        &mut self,
        placed: Placed,
        with: T,
        holds: impl Fn(BlockKey) -> bool,
        probability_min: f64,
    ) -> Change<'_, T> {
        let id = placed.id();
        let before: BTreeSet<RecordId> =
            self.take_out(id, probability_min).into_iter().map(|(other, _)| other).collect();
        let most = self.members_max();
        let mut listed = Vec::new();
        for key in placed.keys.iter().copied().filter(|key| holds(*key)) {
            let members = self.blocks.entry(key).or_default();
            if members.len() < most {
                members.push(id);
                listed.push(key);
            } else {
                self.filled_up = true;
            }
        }
        let now = partners(&self.model, &self.records, &self.blocks, &placed, &listed, probability_min);
        let pairs: BTreeMap<RecordId, Scored> = now.into_iter().collect();
        let gone = before.into_iter().filter(|other| !pairs.contains_key(other)).collect();
        self.records.insert(id, Member { placed, listed, with });
        let new = self.records.get(&id);
        let found = pairs.into_iter().filter_map(|(other, pair)| {
            let (new, other) = (new?, self.records.get(&other)?);
            let weights = self.model.explain(&new.placed, &other.placed);
            Some(Found { pair, with: &other.with, weights })
        });
        Change { found: found.collect(), gone }
    }

    /// Takes a record out; the records that it made pairs with, rising.
    pub fn remove(&mut self, id: RecordId, probability_min: f64) -> Vec<RecordId> {
        let gone: BTreeSet<RecordId> =
            self.take_out(id, probability_min).into_iter().map(|(other, _)| other).collect();
        gone.into_iter().collect()
    }

    fn take_out(&mut self, id: RecordId, probability_min: f64) -> Vec<(RecordId, Scored)> {
        let Some(Member { placed, listed, .. }) = self.records.remove(&id) else { return Vec::new() };
        for key in &listed {
            if let Some(members) = self.blocks.get_mut(key) {
                members.retain(|member| *member != id);
                if members.is_empty() {
                    self.blocks.remove(key);
                }
            }
        }
        partners(&self.model, &self.records, &self.blocks, &placed, &listed, probability_min)
    }
}

/// The pairs that a record, which is not in `records` itself, makes in the blocks that list it.
fn partners<T>(
    model: &Model,
    records: &BTreeMap<RecordId, Member<T>>,
    blocks: &BTreeMap<BlockKey, Vec<RecordId>>,
    placed: &Placed,
    listed: &[BlockKey],
    probability_min: f64,
) -> Vec<(RecordId, Scored)> {
    let mut found = Vec::new();
    for key in listed {
        for other in blocks.get(key).into_iter().flatten() {
            if let Some(member) = records.get(other)
                && placed.meeting(&member.placed) == Some(*key)
            {
                let pair = model.score(placed, &member.placed);
                if pair.probability >= probability_min {
                    found.push((*other, pair));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::{Config, Index, Kind, Prepared, TraitConfig, learn};

    fn plan() -> crate::Plan {
        Config::of(vec![TraitConfig::new("name", Kind::Name), TraitConfig::new("code", Kind::Code)])
            .plan()
            .unwrap()
    }

    fn record(plan: &crate::Plan, id: u128, name: &str, code: u32) -> Prepared {
        Prepared::new(plan, RecordId(id), [("name", name), ("code", format!("c{code:04}").as_str())])
    }

    proptest! {
        /// However the blocks are spread, and whatever a record said before: the parts together find what one index
        /// finds, each pair once.
        #[test]
        fn parts_find_what_the_whole_finds(
            people in prop::collection::vec(("[a-c]{1,3}", 0_u32..6), 2..20),
            again in prop::collection::vec((0_usize..20, "[a-c]{1,3}", 0_u32..6), 0..10),
            parts in 1_u64..5,
        ) {
            let plan = plan();
            let all: Vec<Prepared> =
                (0..).zip(&people).map(|(id, (name, code))| record(&plan, id, name, *code)).collect();
            let model = Arc::new(learn(&plan, &all, NonZeroUsize::MIN).unwrap());
            let mut index = Index::of((*model).clone(), all.clone());
            let mut spread: Vec<Blocks<()>> = (0..parts).map(|_| Blocks::new(model.clone())).collect();
            let mut pairs: BTreeMap<(RecordId, RecordId), u64> = BTreeMap::new();
            let put = |spread: &mut Vec<Blocks<()>>, pairs: &mut BTreeMap<_, _>, record: Prepared| {
                let id = record.id();
                let mut now = Vec::new();
                for (nth, part) in (0..).zip(spread.iter_mut()) {
                    let change = part.put(model.place(record.clone()), (), |key| key.0 % parts == nth, 0.01);
                    for other in change.gone {
                        pairs.remove(&(id.min(other), id.max(other)));
                    }
                    now.extend(change.found.into_iter().map(|found| found.pair));
                }
                // A pair whose block lies in another part now is gone from the one and found by the other.
                pairs.extend(now.into_iter().map(|pair| ((pair.a, pair.b), pair.bits.to_bits())));
            };
            for record in all {
                put(&mut spread, &mut pairs, record);
            }
            for (at, name, code) in again {
                let record = record(&plan, (at % people.len()) as u128, &name, code);
                index.insert(record.clone(), 1.0);
                put(&mut spread, &mut pairs, record);
            }
            let whole = index.pairs(0.01, NonZeroUsize::MIN);
            let whole: BTreeMap<_, _> =
                whole.into_iter().map(|pair| ((pair.a, pair.b), pair.bits.to_bits())).collect();
            prop_assert_eq!(pairs, whole);
        }
    }

    #[test]
    fn a_record_that_leaves_takes_its_pairs_along() {
        let plan = plan();
        let all: Vec<Prepared> = (0..2).map(|id| record(&plan, id, "ann", 7)).collect();
        let model = Arc::new(learn(&plan, &all, NonZeroUsize::MIN).unwrap());
        let mut blocks = Blocks::new(model.clone());
        for record in all {
            blocks.put(model.place(record), (), |_| true, 0.0);
        }
        assert_eq!(blocks.remove(RecordId(0), 0.0), [RecordId(1)]);
        assert!(blocks.remove(RecordId(0), 0.0).is_empty() && blocks.len() == 1);
    }
}
