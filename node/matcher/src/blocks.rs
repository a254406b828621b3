//! The blocks that a shard holds: in memory, where its leader is.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use isthmus_domain::Slot;
use isthmus_matching::{BlockKey, Blocks, Found, Level, Placed, RecordId, Scored};
use isthmus_proto::internal::v1::{
    CompareCall, CompareReply, ComparedRecord, GonePair, PairIdentifier, PairKey, PairRow, PairWeight, SeenAt,
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
    /// By owner: pairs that are none any more and that it is not known to have dropped, the record of its own first,
    /// with the term and the number of what it brought when that came to be.
    untold: BTreeMap<u64, BTreeMap<(RecordId, RecordId), Untold>>,
    /// Rises with everything that is seen of pairs.
    seen: u64,
}

/// What is to be told of a pair that is none any more.
#[derive(Clone, Copy, Debug)]
struct Untold {
    /// The owner's term and the number of what it brought when that came to be.
    since: (u64, u64),
    /// When it was seen.
    number: u64,
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
    /// The shard that owns it.
    owner: u64,
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
        let CompareCall { records, owner, term: owner_term, kept, complete, .. } = call;
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let some = records.by_ref().take(RECORDS);
            self.some(model, term, &holds, (owner, owner_term, kept), some, &mut reply);
        }
        if complete > 0 {
            let mut held = self.index.lock();
            let index = index(&mut held, model, term);
            index.remove_older(owner, (owner_term, complete), (owner_term, kept), &mut reply.gone);
            self.note(index);
        }
        reply
    }

    fn some(
        &self,
        model: &Arc<InForce>,
        term: u64,
        holds: impl Fn(Slot) -> bool,
        (owner, owner_term, kept): (u64, u64, u64),
        records: impl Iterator<Item = ComparedRecord>,
        reply: &mut CompareReply,
    ) {
        let mut held = self.index.lock();
        let index = index(&mut held, model, term);
        if let Some(untold) = index.untold.get_mut(&owner) {
            untold.retain(|_, untold| !is_kept(untold.since, (owner_term, kept)));
        }
        let holds = |key: BlockKey| slot_of(key).is_some_and(&holds);
        for ComparedRecord { id, placed, identifiers, term, number } in records {
            let Ok(own) = <[u8; 16]>::try_from(id.as_ref()) else { continue };
            let own = RecordId(u128::from_be_bytes(own));
            let placed = model.model.read_placed(&placed).filter(|placed| placed.id() == own);
            // Somebody who led before may bring late what was read early.
            let order = (term, number);
            if index.blocks.get(own).is_some_and(|known| known.owner == owner && known.order > order) {
                continue;
            }
            let known = Known { identifiers, order, owner };
            match placed {
                Some(placed) => index.put(placed, known, holds, &mut reply.found),
                None => index.remove(own, owner, order),
            }
            index.tell_gone(own, owner, order, &mut reply.gone);
        }
        self.note(index);
    }

    fn note(&self, index: &Index) {
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
        untold: BTreeMap::new(),
        seen: 0,
    })
}

impl Index {
    /// Puts a record and tells its pairs.
    fn put(
        &mut self,
        placed: Placed,
        known: Known,
        holds: impl Fn(BlockKey) -> bool,
        rows: &mut Vec<PairRow>,
    ) {
        self.seen += 1;
        let (own, owner, since) = (placed.id(), known.owner, known.order);
        let (identifiers, version) = (known.identifiers.clone(), self.model.version);
        let mut change = self.blocks.put(placed, known, holds, self.model.model.plan().config().review_at);
        for found in &change.found {
            let Scored { a, b, .. } = found.pair;
            for untold in self.untold.values_mut() {
                untold.remove(&(a, b));
                untold.remove(&(b, a));
            }
        }
        // Whoever is like so many is like nobody: the surest are told.
        if change.found.len() > PAIRS_MAX {
            change.found.sort_by(|a, b| b.pair.bits.total_cmp(&a.pair.bits));
            change.found.truncate(PAIRS_MAX);
        }
        let seen = (version, self.seen);
        rows.extend(change.found.into_iter().map(|found| row(own, &identifiers, found, seen)));
        let untold = Untold { since, number: self.seen };
        let gone = change.gone.into_iter().map(|other| ((own, other), untold));
        self.untold.entry(owner).or_default().extend(gone);
    }

    /// Takes a record out.
    fn remove(&mut self, own: RecordId, owner: u64, since: (u64, u64)) {
        self.seen += 1;
        let untold = Untold { since, number: self.seen };
        let gone = self.blocks.remove(own, self.model.model.plan().config().review_at);
        self.untold.entry(owner).or_default().extend(gone.into_iter().map(|other| ((own, other), untold)));
    }

    /// Takes out what an owner has not brought in this term, now that it has brought everything in it.
    fn remove_older(&mut self, owner: u64, order: (u64, u64), kept: (u64, u64), gone: &mut Vec<GonePair>) {
        let is_older = |known: &Known| known.owner == owner && known.order.0 < order.0;
        let older: Vec<RecordId> =
            self.blocks.iter().filter(|(_, known)| is_older(known)).map(|(id, _)| id).collect();
        for own in older {
            self.remove(own, owner, order);
        }
        // Also those of which it was told in vain: nobody brings them again.
        if let Some(untold) = self.untold.get_mut(&owner) {
            untold.retain(|_, untold| !is_kept(untold.since, kept));
        }
        let untold = self.untold.get_mut(&owner).into_iter().flatten();
        let of_nobody = untold.filter(|((own, _), _)| self.blocks.get(*own).is_none());
        gone.extend(of_nobody.map(|(pair, untold)| told(*pair, untold, order)));
    }

    /// Tells the pairs of a record that are none any more.
    fn tell_gone(&mut self, own: RecordId, owner: u64, order: (u64, u64), gone: &mut Vec<GonePair>) {
        let all = || (own, RecordId(0))..=(own, RecordId(u128::MAX));
        let untold = self.untold.get_mut(&owner).into_iter().flat_map(|untold| untold.range_mut(all()));
        gone.extend(untold.map(|(pair, untold)| told(*pair, untold, order)));
    }
}

/// Whether an owner has kept what it was told when it had brought so much, now that it has kept so much.
const fn is_kept(since: (u64, u64), kept: (u64, u64)) -> bool {
    since.0 == kept.0 && since.1 <= kept.1
}

/// A pair that is none any more as it is told. Who leads now can say only of its own term what it has kept.
fn told((own, other): (RecordId, RecordId), untold: &mut Untold, now: (u64, u64)) -> GonePair {
    if untold.since.0 < now.0 {
        untold.since = now;
    }
    GonePair { key: Some(key(own, other)), number: untold.number }
}

fn key(x: RecordId, y: RecordId) -> PairKey {
    let bytes = |id: RecordId| Bytes::copy_from_slice(&id.0.to_be_bytes());
    PairKey { a: bytes(x.min(y)), b: bytes(x.max(y)) }
}

fn row(
    own: RecordId,
    identifiers: &[PairIdentifier],
    found: Found<'_, Known>,
    (model_version, number): (u64, u64),
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
        // Whoever asked knows which holder this is.
        seen_at: Some(SeenAt { number, ..SeenAt::default() }),
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use isthmus_matching::{Config, Kind, Prepared, TraitConfig, learn};
    use isthmus_proto::internal::v1::MatchingDocument;

    use super::*;

    /// A shard's blocks, and the model by which records are placed.
    struct Setting {
        held: Held,
        model: Arc<InForce>,
    }

    fn prepared(plan: &isthmus_matching::Plan, id: u128, name: &str) -> Prepared {
        Prepared::new(plan, RecordId(id), [("name", name), ("code", name)])
    }

    fn setting() -> Setting {
        let traits = vec![TraitConfig::new("name", Kind::Name), TraitConfig::new("code", Kind::Code)];
        let plan = Config::of(traits).plan().unwrap();
        let people: Vec<Prepared> =
            (0..60).map(|id| prepared(&plan, id, &format!("name{:03}", id / 2))).collect();
        let model = Arc::new(learn(&plan, &people, NonZeroUsize::MIN).unwrap());
        let document = MatchingDocument::default();
        Setting { held: Held::default(), model: Arc::new(InForce { version: 1, document, model }) }
    }

    impl Setting {
        /// What the holder tells when an owner brings these, each as (id, name); one without a name is gone.
        fn bring(&self, call: CompareCall, records: &[(u128, &str)]) -> (usize, Vec<(u128, u128)>) {
            let record = |(number, (id, name)): (u64, &(u128, &str))| {
                let placed = match name.is_empty() {
                    true => Vec::new(),
                    false => self.model.model.place(prepared(self.model.model.plan(), *id, name)).to_bytes(),
                };
                let id = Bytes::copy_from_slice(&id.to_be_bytes());
                let placed = placed.into();
                ComparedRecord { id, placed, term: call.term, number, ..ComparedRecord::default() }
            };
            // Numbers as the test says: all of a call have those after `kept`.
            let records = (call.kept + 1..).zip(records).map(record).collect();
            let call = CompareCall { records, model_version: 1, ..call };
            let reply = self.held.compare(&self.model, 1, |_| true, call);
            let id = |bytes: &Bytes| u128::from_be_bytes(bytes.as_ref().try_into().unwrap());
            let gone = reply.gone.iter().filter_map(|gone| gone.key.as_ref());
            (reply.found.len(), gone.map(|key| (id(&key.a), id(&key.b))).collect())
        }
    }

    fn call(owner: u64, term: u64, kept: u64) -> CompareCall {
        CompareCall { owner, term, kept, ..CompareCall::default() }
    }

    #[test]
    fn that_a_pair_is_none_any_more_is_told_until_it_is_kept() {
        let setting = setting();
        assert_eq!(setting.bring(call(7, 1, 0), &[(1, "name001"), (2, "name001")]), (1, vec![]));
        assert_eq!(setting.bring(call(7, 1, 2), &[(1, "name020")]), (0, vec![(1, 2)]));
        assert_eq!(setting.bring(call(7, 1, 2), &[(1, "name020")]), (0, vec![(1, 2)]), "it was not kept");
        assert_eq!(setting.bring(call(7, 2, 0), &[(1, "name020")]), (0, vec![(1, 2)]), "another leader");
        assert_eq!(setting.bring(call(7, 2, 1), &[(1, "name020")]).1, [], "which has kept it");
    }

    #[test]
    fn a_pair_that_is_found_again_is_not_told_to_be_none() {
        let setting = setting();
        setting.bring(call(7, 1, 0), &[(1, "name001"), (2, "name001")]);
        assert_eq!(setting.bring(call(7, 1, 2), &[(1, "name020")]), (0, vec![(1, 2)]));
        assert_eq!(
            setting.bring(call(8, 1, 0), &[(2, "name020")]),
            (1, vec![]),
            "the other side has followed"
        );
        assert_eq!(setting.bring(call(7, 1, 2), &[(1, "name020")]), (1, vec![]));
    }

    #[test]
    fn what_only_an_earlier_leader_brought_goes_when_all_was_brought_anew() {
        let setting = setting();
        setting.bring(call(7, 1, 0), &[(1, "name001"), (2, "name001"), (3, "name002")]);
        setting.bring(call(8, 1, 0), &[(4, "name002")]);
        setting.bring(call(7, 2, 0), &[(1, "name001")]);
        let all = CompareCall { complete: 2, ..call(7, 2, 1) };
        let (found, gone) = setting.bring(all.clone(), &[]);
        assert_eq!((found, gone), (0, vec![(1, 2), (3, 4)]), "two and three were not brought again");
        assert_eq!(setting.held.status(&setting.model, 1).records, 2, "one, and what another shard owns");
        assert_eq!(setting.bring(all, &[]).1, [(1, 2), (3, 4)], "until that is kept");
        assert_eq!(setting.bring(CompareCall { complete: 4, ..call(7, 2, 3) }, &[]).1, []);
    }
}
