//! The records that a new one is compared with, by block.
//!
//! Invariants:
//!
//! 1. A record is listed in exactly the blocks whose keys its [`Placed::keys`] are; these are the model's keys for it
//!    without those of blocks that were full when it came.
//! 2. No block has more than [`Index::members_max`] members.
//! 3. So a new record is compared with at most its number of keys times that many others, and what
//!    [`Index::insert`] finds, record by record, is what [`Index::pairs`] finds, in whatever order they came, unless a
//!    block has filled up ([`Index::is_stale`]).
//!
//! What it leaves out: the other shards. There each block of [`Placed::keys`] lives where its key hashes to, holds
//! [`Placed`] records, and scores those pairs that meet in it ([`Placed::meeting`]).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use crate::blocking::BlockKey;
use crate::model::{Model, Placed, Scored};
use crate::pairs::{Block, visit};
use crate::record::{Prepared, RecordId};

/// Records by block, under one model.
#[derive(Clone, Debug)]
pub struct Index {
    model: Model,
    /// Where a record was taken out, there is a hole.
    records: Vec<Option<Placed>>,
    holes: Vec<u32>,
    by_id: BTreeMap<RecordId, u32>,
    blocks: BTreeMap<BlockKey, Vec<u32>>,
    filled_up: bool,
}

impl Index {
    /// An index without records.
    pub const fn new(model: Model) -> Self {
        Self {
            model,
            records: Vec::new(),
            holes: Vec::new(),
            by_id: BTreeMap::new(),
            blocks: BTreeMap::new(),
            filled_up: false,
        }
    }

    /// An index of these records, without looking at pairs. Of two records with one id the later stays.
    pub fn of(model: Model, records: impl IntoIterator<Item = Prepared>) -> Self {
        let mut index = Self::new(model);
        for record in records {
            index.add(record);
        }
        index
    }

    /// The model that it scores by.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A record by its id.
    pub fn get(&self, id: RecordId) -> Option<&Placed> {
        self.records.get(*self.by_id.get(&id)? as usize)?.as_ref()
    }

    /// No block holds more: four times what a block held at most when the model was learned.
    pub const fn members_max(&self) -> usize {
        4 * self.model.plan().config().block_members_max as usize
    }

    /// Whether a new model is due: a block has filled up, or the records are half as many again as the model was
    /// learned from, or half of them are gone.
    pub fn is_stale(&self) -> bool {
        let (now, then) = (self.len() as u64, self.model.records());
        self.filled_up || 2 * now > 3 * then || 2 * now < then
    }

    /// Adds a record and gives its pairs from this probability on, in the order of the other ids. A record of the
    /// same id is replaced.
    pub fn insert(&mut self, record: Prepared, probability_min: f64) -> Vec<Scored> {
        let at = self.add(record);
        let Some(new) = self.records[at as usize].as_ref() else { return Vec::new() };
        let mut found = Vec::new();
        for key in &new.keys {
            for &other in self.blocks.get(key).into_iter().flatten().filter(|&&other| other != at) {
                if let Some(other) = &self.records[other as usize]
                    && new.meeting(other) == Some(*key)
                {
                    found.push(self.model.score(new, other));
                }
            }
        }
        found.retain(|pair| pair.probability >= probability_min);
        found.sort_unstable_by_key(|pair| (pair.a, pair.b));
        found
    }

    /// Takes a record out; whether there was one.
    pub fn remove(&mut self, id: RecordId) -> bool {
        let Some(at) = self.by_id.remove(&id) else { return false };
        let Some(record) = self.records[at as usize].take() else { return false };
        for key in record.keys {
            if let Some(members) = self.blocks.get_mut(&key) {
                members.retain(|&member| member != at);
                if members.is_empty() {
                    self.blocks.remove(&key);
                }
            }
        }
        self.holes.push(at);
        true
    }

    /// All pairs from this probability on, by ids, on so many threads. The number of threads makes no difference.
    pub fn pairs(&self, probability_min: f64, threads: NonZeroUsize) -> Vec<Scored> {
        let blocks: Vec<Block<'_>> =
            self.blocks.iter().map(|(&key, members)| (key, members.as_slice())).collect();
        let keys_of = |at: u32| self.records[at as usize].as_ref().map_or(&[][..], |record| &record.keys);
        let found = visit(threads, &blocks, keys_of, Vec::new, |found, a, b| {
            if let (Some(a), Some(b)) = (&self.records[a as usize], &self.records[b as usize]) {
                let pair = self.model.score(a, b);
                if pair.probability >= probability_min {
                    found.push(pair);
                }
            }
        });
        let mut found = found.concat();
        found.sort_unstable_by_key(|pair| (pair.a, pair.b));
        found
    }

    /// How many pairs [`Index::pairs`] looks at, at most: a pair that shares several blocks counts in each.
    pub fn pairs_in_blocks(&self) -> u64 {
        self.blocks.values().map(|members| crate::pairs::pairs_of(members.len())).sum()
    }

    fn add(&mut self, record: Prepared) -> u32 {
        let id = record.id();
        self.remove(id);
        let mut placed = self.model.place(record);
        let at = self.holes.pop().unwrap_or(self.records.len() as u32);
        let most = self.members_max();
        placed.keys.retain(|&key| {
            let members = self.blocks.entry(key).or_default();
            let room = members.len() < most;
            if room {
                members.push(at);
            } else {
                self.filled_up = true;
            }
            room
        });
        self.by_id.insert(id, at);
        if (at as usize) < self.records.len() {
            self.records[at as usize] = Some(placed);
        } else {
            self.records.push(Some(placed));
        }
        at
    }
}
