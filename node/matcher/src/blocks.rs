//! The blocks that a shard holds: in memory, where its leader is.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_domain::Slot;
use isthmus_matching::{BlockKey, Blocks, Found, Level, Placed, RecordId, Scored};
use isthmus_proto::internal::v1::{
    CompareCall, CompareReply, ComparedRecord, PairIdentifier, PairKey, PairRow, PairWeight,
};
use parking_lot::Mutex;

use crate::model::InForce;

/// How many bits of a block's key are its slot.
const SLOT_BITS: u32 = 14;

/// Where a block lies.
pub fn slot_of(key: BlockKey) -> Option<Slot> {
    Slot::new(u16::try_from(key.slot(SLOT_BITS)).ok()?)
}

struct Index {
    model: Arc<InForce>,
    incarnation: u64,
    blocks: Blocks<Known>,
}

/// Pairs of one record that one holder tells, at most: an answer has to fit a message.
const PAIRS_MAX: usize = 250;
/// Records that are compared in one go.
const RECORDS: usize = 32;

/// What is known of a record besides its traits.
#[derive(Debug)]
struct Known {
    identifiers: Vec<PairIdentifier>,
    /// When it was brought: the owner's term, and the owner's number in it.
    order: (u64, u64),
}

/// The blocks of a shard.
#[derive(Default)]
pub struct Held {
    /// Locked for as long as comparing takes, so never where tasks run.
    index: Mutex<Option<Index>>,
    /// What the index was like after the last comparison.
    status: Mutex<Status>,
}

/// What the blocks are like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Names them: other blocks, other number. A number that no other model's or leadership's blocks of the shard have.
    pub incarnation: u64,
    /// Records in them.
    pub records: usize,
    /// Whether one is full.
    pub filled_up: bool,
}

impl Held {
    /// Compares records and keeps them, some at a time. `holds` says which slots are the shard's; `term` is that of its
    /// leadership: of another one, or under another model, the blocks begin anew. Takes processor time.
    pub fn compare(
        &self,
        model: &Arc<InForce>,
        term: u64,
        holds: impl Fn(Slot) -> bool,
        call: CompareCall,
    ) -> CompareReply {
        let mut reply = CompareReply {
            model_version: model.version,
            incarnation: incarnation(model, term),
            ..CompareReply::default()
        };
        if call.model_version != model.version {
            return reply;
        }
        let mut records = call.records.into_iter().peekable();
        while records.peek().is_some() {
            self.some(model, term, &holds, records.by_ref().take(RECORDS), &mut reply);
        }
        reply
    }

    fn some(
        &self,
        model: &Arc<InForce>,
        term: u64,
        holds: impl Fn(Slot) -> bool,
        records: impl Iterator<Item = ComparedRecord>,
        reply: &mut CompareReply,
    ) {
        let mut held = self.index.lock();
        let index = index(&mut held, model, term);
        let review_at = model.model.plan().config().review_at;
        let holds = |key: BlockKey| slot_of(key).is_some_and(&holds);
        for ComparedRecord { id, placed, identifiers, term, number } in records {
            let Ok(own) = <[u8; 16]>::try_from(id.as_ref()) else { continue };
            let own = RecordId(u128::from_be_bytes(own));
            let placed = model.model.read_placed(&placed).filter(|placed| placed.id() == own);
            // Somebody who led before may bring late what was read early.
            let order = (term, number);
            if index.blocks.get(own).is_some_and(|known| known.order > order) {
                continue;
            }
            let known = Known { identifiers, order };
            let gone = match placed {
                Some(placed) => put(index, model, placed, known, holds, review_at, &mut reply.found),
                None => index.blocks.remove(own, review_at),
            };
            reply.gone.extend(gone.into_iter().map(|other| key(own, other)));
        }
        *self.status.lock() = Status {
            incarnation: index.incarnation,
            records: index.blocks.len(),
            filled_up: index.blocks.is_filled_up(),
        };
    }

    /// What the blocks are like under this model and leadership.
    pub fn status(&self, model: &InForce, term: u64) -> Status {
        let incarnation = incarnation(model, term);
        let known = *self.status.lock();
        match known.incarnation == incarnation {
            true => known,
            false => Status { incarnation, ..Status::default() },
        }
    }

    /// Lets the blocks go, as a replica does that doesn't lead. Takes processor time.
    pub fn clear(&self) {
        *self.index.lock() = None;
    }
}

fn incarnation(model: &InForce, term: u64) -> u64 {
    term << 24 | model.version & 0x00ff_ffff
}

fn index<'a>(held: &'a mut Option<Index>, model: &Arc<InForce>, term: u64) -> &'a mut Index {
    let incarnation = incarnation(model, term);
    if held.as_ref().is_none_or(|index| index.incarnation != incarnation) {
        *held = None;
    }
    held.get_or_insert_with(|| Index {
        model: model.clone(),
        incarnation,
        blocks: Blocks::new(model.model.clone()),
    })
}

fn put(
    index: &mut Index,
    model: &Arc<InForce>,
    placed: Placed,
    known: Known,
    holds: impl Fn(BlockKey) -> bool,
    review_at: f64,
    rows: &mut Vec<PairRow>,
) -> Vec<RecordId> {
    debug_assert_eq!(index.model.version, model.version);
    let own = placed.id();
    let identifiers = known.identifiers.clone();
    let mut change = index.blocks.put(placed, known, holds, review_at);
    // Whoever is like so many is like nobody: the surest are told.
    if change.found.len() > PAIRS_MAX {
        change.found.sort_by(|a, b| b.pair.bits.total_cmp(&a.pair.bits));
        change.found.truncate(PAIRS_MAX);
    }
    rows.extend(change.found.into_iter().map(|found| row(own, &identifiers, found, model.version)));
    change.gone
}

fn key(x: RecordId, y: RecordId) -> PairKey {
    let bytes = |id: RecordId| Bytes::copy_from_slice(&id.0.to_be_bytes());
    PairKey { a: bytes(x.min(y)), b: bytes(x.max(y)) }
}

fn row(
    own: RecordId,
    identifiers: &[PairIdentifier],
    found: Found<'_, Known>,
    model_version: u64,
) -> PairRow {
    let Scored { a, b, probability, bits } = found.pair;
    let (a_identifiers, b_identifiers) = match own == a {
        true => (identifiers.to_vec(), found.with.identifiers.clone()),
        false => (found.with.identifiers.clone(), identifiers.to_vec()),
    };
    let weights = found.weights.into_iter().map(|weight| PairWeight {
        level: weight.level.map(level).unwrap_or_default().to_owned(),
        name: weight.name,
        bits: weight.bits,
    });
    PairRow {
        key: Some(key(a, b)),
        a_identifiers,
        b_identifiers,
        probability,
        bits,
        weights: weights.collect(),
        model_version,
        ..PairRow::default()
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Exact => "exact",
        Level::Close => "close",
        Level::Similar => "similar",
        Level::Swapped => "swapped",
        Level::Different => "different",
    }
}
