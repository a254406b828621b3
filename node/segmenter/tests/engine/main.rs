//! What is live is what a full evaluation finds, and what the log is told is told once: whatever happens, whoever leads.
//!
//! A case is one number. From it come definitions, events (late, of one time, doubled identifiers), homes that change, the
//! time that passes, when the log is told, and when leaders come and go. What fails prints the number.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../../segment/tests/laws/chance.rs"]
mod chance;
#[path = "../../../segment/tests/laws/reference.rs"]
mod reference;
mod successor;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use isthmus_domain::{EventRecord, FacetId, RecordView, SlotRange, SlotRanges, Stamp, record::TraitChange};
use isthmus_proto::internal::v1::SegmentsCommand;
use isthmus_segment::{Known, Membership, Plan};
use isthmus_segmenter::{Cause, Engine};
use isthmus_shard::{
    feed::Place,
    segments::{Key, Row, Through},
};
use proptest::prelude::*;

use chance::{Chance, EPOCH, SECOND};
use reference::{Sent, World};

const VERSION: u64 = 1;
const FACETS: u64 = 4;

fn facet(number: u64) -> FacetId {
    FacetId::from_bytes([number as u8 * 60 + 1; 16])
}

fn record(sent: &Sent) -> Vec<u8> {
    let change = |(name, value): &(String, String)| TraitChange {
        name: name.clone(),
        value: value.clone().into_bytes().into(),
    };
    let record = EventRecord {
        facet: vec![1; 16].into(),
        namespace: "user_id".to_owned(),
        value: "1".to_owned(),
        message_id: sent.message_id.clone(),
        source: sent.source.clone(),
        kind: sent.kind.into(),
        name: sent.name.clone(),
        timestamp: sent.timestamp,
        body_hash: vec![2; 16].into(),
        dedup_key: sent.key.to_vec().into(),
        revenue: sent.revenue.clone(),
        currency: sent.currency.clone(),
        traits: sent.traits.iter().map(change).collect(),
        properties: sent.properties.clone().into_bytes().into(),
        context: sent.context.clone().into_bytes().into(),
        ..EventRecord::default()
    };
    record.to_bytes().to_vec()
}

/// What a command of the shard did that segments follow.
enum Op {
    Event(FacetId, Box<Sent>),
    Moves(FacetId, FacetId),
    /// Something else, such as a command of segments.
    Other,
}

/// A change of a segment as the feed has it: key, before, now, cause.
type Told = (Key, u8, u8, Cause);

/// A shard's log and what apply made of it.
#[derive(Default)]
struct Shard {
    ops: Vec<(Stamp, Op)>,
    through: Through,
    stored: HashMap<Key, Row>,
    told: Vec<Told>,
}

impl Shard {
    fn stamp(&self) -> Stamp {
        self.ops.last().map_or(Stamp(EPOCH as u64), |(stamp, _)| *stamp)
    }

    fn push(&mut self, after: u64, op: Op) -> Stamp {
        let stamp = Stamp(self.stamp().0 + 1 + after);
        self.ops.push((stamp, op));
        stamp
    }

    /// What `Segments` does in apply.
    fn apply(&mut self, command: &SegmentsCommand) -> Option<Stamp> {
        let last = self.stamp();
        let stamp = self.push(0, Op::Other);
        if self.through.stamp.0 != command.from_stamp {
            return None;
        }
        assert!(command.through_stamp > command.from_stamp && command.through_stamp <= last.0);
        for it in &command.transitions {
            let key = Key { home: FacetId::from_slice(&it.home).unwrap(), segment: it.segment };
            let known = self.stored.get(&key).copied().unwrap_or_default();
            assert_eq!(u32::from(known.membership), it.from, "the log knows something else");
            if known.membership > 0 && known.since != stamp {
                assert_eq!(known.since.0, it.from_since);
            }
            self.stored.insert(key, Row { membership: it.to as u8, since: stamp });
            if it.told {
                let place = Place { stamp: Stamp(it.cause_stamp), number: it.cause_number };
                self.told.push((key, it.from as u8, it.to as u8, (place, it.cause_slot as u16)));
            }
        }
        self.through = Through { stamp: Stamp(command.through_stamp), version: command.document_version };
        Some(stamp)
    }

    fn homes(&self, at: Stamp) -> BTreeMap<FacetId, FacetId> {
        let mut homes = BTreeMap::new();
        for (_, op) in self.ops.iter().filter(|(stamp, _)| *stamp <= at) {
            if let Op::Moves(facet, home) = op {
                homes.insert(*facet, *home);
            }
        }
        homes
    }

    /// Events by home.
    fn profiles(&self, at: Stamp) -> BTreeMap<FacetId, Vec<&Sent>> {
        let homes = self.homes(at);
        let mut profiles: BTreeMap<FacetId, Vec<&Sent>> = BTreeMap::new();
        for (_, op) in self.ops.iter().filter(|(stamp, _)| *stamp <= at) {
            if let Op::Event(facet, sent) = op {
                let home = homes.get(facet).copied().unwrap_or(*facet);
                profiles.entry(home).or_default().push(&**sent);
            }
        }
        profiles
    }

    /// As `gather` does.
    fn gather(&self, plan: &Arc<Plan>) -> Engine {
        let at = if self.through.version > 0 { self.through.stamp } else { self.stamp() };
        let mut engine = Engine::new(plan.clone(), VERSION, at);
        for (stamp, op) in &self.ops {
            if let (true, Op::Event(facet, sent)) = (*stamp <= at, op) {
                engine.load(*facet, &RecordView::read(&record(sent)).unwrap());
            }
        }
        engine.load_homes(self.homes(at));
        engine.begin();
        engine.reconcile(self.through, self.stored.clone());
        engine
    }

    /// Lets an engine follow, one command of the log at a time, at most so many.
    fn follow(&self, engine: &mut Engine, commands_max: usize) {
        let from = engine.at();
        for (stamp, op) in self.ops.iter().filter(|(stamp, _)| *stamp > from).take(commands_max) {
            let cause = |facet: &FacetId| (Place { stamp: *stamp, number: 0 }, facet.slot().number());
            match op {
                Op::Event(facet, sent) => {
                    engine.event(*facet, &RecordView::read(&record(sent)).unwrap(), cause(facet));
                }
                Op::Moves(facet, home) => engine.moves(*facet, *home, cause(facet)),
                Op::Other => {}
            }
            while !engine.reach(*stamp, 1) {}
        }
    }

    /// Everybody is in the segments that the plain reference says.
    fn check(&self, engine: &Engine) {
        let (at, plan) = (engine.at(), engine.plan().clone());
        let profiles = self.profiles(at);
        let listed: BTreeSet<FacetId> = engine.profiles_after(None).map(|(home, _)| home).collect();
        assert_eq!(listed, profiles.keys().copied().collect());
        assert_eq!(engine.all().len(), listed.len() as u64);
        for (index, definition) in plan.definitions().iter().enumerate() {
            if !definition.is_segment {
                continue;
            }
            let (mut inside, mut overflows) = (BTreeSet::new(), BTreeSet::new());
            for (home, events) in &profiles {
                let world = World { plan: &plan, events, now: at.as_micros() };
                match world.definition(index).membership() {
                    Membership::In => _ = inside.insert(*home),
                    Membership::Overflow => _ = overflows.insert(*home),
                    Membership::Out => {}
                }
            }
            let of = |set: Option<&roaring::RoaringBitmap>| -> BTreeSet<FacetId> {
                set.unwrap().iter().map(|number| engine.home_of_number(number).unwrap()).collect()
            };
            assert_eq!(of(engine.set(&definition.name)), inside, "segment {}", definition.name);
            assert_eq!(of(engine.overflowing(&definition.name)), overflows, "segment {}", definition.name);
        }
    }
}

/// A leader that never fails and tells the log at once: what the feed has to say.
struct Model {
    shard: Shard,
    engine: Engine,
}

fn tell(shard: &mut Shard, engine: &mut Engine) -> bool {
    let Some(proposed) = engine.has_news(10).then(|| engine.propose()).flatten() else { return false };
    let stamp = shard.apply(&proposed.command).unwrap();
    engine.taken(&proposed, stamp);
    true
}

fn plan_of(chance: &mut Chance) -> Arc<Plan> {
    let known = Known { traits: None, currency: "USD".to_owned() };
    Arc::new(Plan::compile(&chance.document(), &known).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn who_is_live_is_who_a_full_evaluation_finds_and_each_change_is_told_once(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let plan = plan_of(&mut chance);
        let mut shard = Shard::default();
        let mut leader = shard.gather(&plan);
        let mut model = Model { shard: Shard::default(), engine: Shard::default().gather(&plan) };
        tell(&mut shard, &mut leader);
        tell(&mut model.shard, &mut model.engine);
        for number in 0..24 {
            // Both logs have what happens at the same stamps; what segments put there has stamps of its own.
            let after = chance.below(20) * (SECOND as u64 / 2);
            let stamp = shard.stamp().max(model.shard.stamp()).0 + after;
            let (facet, home) = (facet(chance.below(FACETS)), facet(chance.below(FACETS)));
            let moves = chance.one_in(6);
            let sent = chance.sent(number);
            for shard in [&mut shard, &mut model.shard] {
                let op = if moves { Op::Moves(facet, home) } else { Op::Event(facet, Box::new(sent.clone())) };
                let after = stamp - shard.stamp().0;
                shard.push(after, op);
            }
            model.shard.follow(&mut model.engine, usize::MAX);
            tell(&mut model.shard, &mut model.engine);
            match chance.below(8) {
                // It falls behind.
                0 => {}
                1 => shard.follow(&mut leader, 1),
                // It dies, with what it has found and not told.
                2 => {
                    shard.follow(&mut leader, usize::MAX);
                    leader = shard.gather(&plan);
                    shard.check(&leader);
                }
                // What it told is in the log, and it never heard of it; what it tells then is none any more.
                3 => {
                    shard.follow(&mut leader, usize::MAX);
                    if let Some(proposed) = leader.propose() {
                        shard.apply(&proposed.command).unwrap();
                        prop_assert_eq!(shard.apply(&proposed.command), None);
                    }
                    leader = shard.gather(&plan);
                }
                _ => {
                    shard.follow(&mut leader, usize::MAX);
                    shard.check(&leader);
                    tell(&mut shard, &mut leader);
                }
            }
        }
        shard.follow(&mut leader, usize::MAX);
        while tell(&mut shard, &mut leader) {
            shard.follow(&mut leader, usize::MAX);
        }
        shard.check(&leader);
        // What the log keeps is who is live.
        for (key, row) in &shard.stored {
            let definition = plan.definitions().iter().find(|it| it.id.0 == key.segment).unwrap();
            let number = leader.profiles_after(None).find(|(home, _)| *home == key.home).map(|(_, n)| n);
            let of = |set: Option<&roaring::RoaringBitmap>| number.is_some_and(|n| set.unwrap().contains(n));
            let now = match (of(leader.set(&definition.name)), of(leader.overflowing(&definition.name))) {
                (true, _) => 1,
                (_, true) => 2,
                _ => 0,
            };
            prop_assert_eq!(row.membership, now);
        }
        // All that events and merges brought about was told, once and in order, as the leader that never fails tells it.
        let caused = |told: &[Told]| -> Vec<Told> {
            told.iter().filter(|(.., (place, _))| place.stamp > Stamp::ZERO).copied().collect()
        };
        prop_assert_eq!(caused(&shard.told), caused(&model.shard.told));
    }
}

/// A message from one shard to another: who tells, home and facet, stamp, state.
type Message = (usize, (FacetId, FacetId), Stamp, Option<isthmus_segment::FacetState>);

/// Two shards that each put together the profiles of their slots.
struct Two {
    document: isthmus_segment::Document,
    plan: Arc<Plan>,
    engines: [Engine; 2],
    /// What each has told, by home and facet.
    told: [BTreeSet<(FacetId, FacetId)>; 2],
    /// How often each has begun.
    begun: [u64; 2],
    under_way: Vec<Message>,
}

fn half(index: usize) -> SlotRanges {
    let range = if index == 0 { SlotRange::new(0, 6_000) } else { SlotRange::new(6_000, 16_384) };
    [range.unwrap()].into_iter().collect()
}

fn shard_of(facet: &FacetId) -> usize {
    usize::from(facet.slot().number() >= 6_000)
}

impl Two {
    /// What an engine has for the other, and what it once had.
    fn tell(&mut self, index: usize) {
        let engine = &self.engines[index];
        let mut keys: BTreeSet<_> = engine.abroad().filter(|(_, facet)| shard_of(facet) == index).collect();
        keys.append(&mut self.told[index]);
        for (home, facet) in &keys {
            let state = engine.state_at(facet, home).cloned();
            self.under_way.push((index, (*home, *facet), engine.at(), state));
        }
        self.told[index] = keys;
    }

    fn deliver(&mut self, at: usize, again: bool) {
        let (from, (home, facet), stamp, state) = self.under_way[at].clone();
        let told = (from as u64, self.begun[from]);
        self.engines[1 - from].told(told, (facet, home), stamp, state, Cause::default());
        if !again {
            self.under_way.remove(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn who_lies_in_several_shards_is_judged_by_all_of_it_in_whatever_order_it_comes(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let document = chance.document();
        let known = Known { traits: None, currency: "USD".to_owned() };
        let plan = Arc::new(Plan::compile(&document, &known).unwrap());
        let engine = |index| {
            let mut engine = Engine::new(plan.clone(), VERSION, Stamp(EPOCH as u64));
            engine.own(half(index));
            engine.begin();
            engine
        };
        let mut two = Two {
            document,
            plan: plan.clone(),
            engines: [engine(0), engine(1)],
            told: Default::default(),
            begun: [1, 1],
            under_way: Vec::new(),
        };
        let mut shard = Shard::default();
        for number in 0..24 {
            let (facet, home) = (facet(chance.below(FACETS)), facet(chance.below(FACETS)));
            let op = match chance.one_in(4) {
                true => Op::Moves(facet, home),
                false => Op::Event(facet, Box::new(chance.sent(number))),
            };
            let stamp = shard.push(chance.below(20) * (SECOND as u64 / 2), op);
            let engine = &mut two.engines[shard_of(&facet)];
            let cause = (Place { stamp, number: 0 }, facet.slot().number());
            match &shard.ops.last().unwrap().1 {
                Op::Event(_, sent) => engine.event(facet, &RecordView::read(&record(sent)).unwrap(), cause),
                _ => engine.moves(facet, home, cause),
            }
            while !engine.reach(stamp, 1) {}
            if chance.one_in(2) {
                two.tell(shard_of(&facet));
            }
            if chance.one_in(8) {
                two.succeed(&mut chance, &shard);
            }
            for _ in 0..chance.below(4) {
                if !two.under_way.is_empty() {
                    let at = chance.below(two.under_way.len() as u64) as usize;
                    let again = chance.one_in(4);
                    two.deliver(at, again);
                }
            }
        }
        // All is told, and what is still under way comes later than that.
        let last = Stamp(shard.stamp().0 + 1);
        for index in 0..2 {
            while !two.engines[index].reach(last, 1) {}
            two.tell(index);
        }
        while !two.under_way.is_empty() {
            let at = chance.below(two.under_way.len() as u64) as usize;
            two.deliver(at, false);
        }
        let profiles = shard.profiles(last);
        for (index, engine) in two.engines.iter().enumerate() {
            let own: BTreeMap<_, _> = profiles.iter().filter(|(home, _)| shard_of(home) == index).collect();
            let listed: BTreeSet<FacetId> = engine.profiles_after(None).map(|(home, _)| home).collect();
            prop_assert_eq!(&listed, &own.keys().map(|home| **home).collect());
            for (at, definition) in two.plan.definitions().iter().enumerate().filter(|(_, it)| it.is_segment) {
                let world = |events| World { plan: &two.plan, events, now: last.as_micros() };
                let inside = own.iter().filter(|(_, events)| {
                    world(events).definition(at).membership() == Membership::In
                });
                let set = engine.set(&definition.name).unwrap();
                let found: BTreeSet<FacetId> = set.iter().map(|n| engine.home_of_number(n).unwrap()).collect();
                prop_assert_eq!(found, inside.map(|(home, _)| **home).collect(), "segment {}", definition.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn where_the_feed_does_not_reach_back_what_has_changed_by_then_is_told_all_the_same(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let plans = [plan_of(&mut chance), plan_of(&mut chance)];
        let mut shard = Shard::default();
        for number in 0..24 {
            let (facet, home) = (facet(chance.below(FACETS)), facet(chance.below(FACETS)));
            let op = match chance.one_in(6) {
                true => Op::Moves(facet, home),
                false => Op::Event(facet, Box::new(chance.sent(number))),
            };
            shard.push(chance.below(20) * (SECOND as u64 / 2), op);
            if chance.one_in(4) {
                // Of now, and of other definitions by and by.
                let known = shard.through;
                shard.through.version = 0;
                let plan = &plans[usize::from(number > 16)];
                let mut leader = shard.gather(plan);
                shard.through = known;
                leader.reconcile(known, shard.stored.clone());
                shard.check(&leader);
                while tell(&mut shard, &mut leader) {
                    shard.follow(&mut leader, usize::MAX);
                }
                // What the log keeps is who is live, and nothing of definitions that are gone.
                let mut live = BTreeSet::new();
                for definition in plan.definitions().iter().filter(|it| it.is_segment) {
                    for (set, membership) in
                        [(leader.set(&definition.name), 1), (leader.overflowing(&definition.name), 2)]
                    {
                        let homes = set.unwrap().iter().map(|n| leader.home_of_number(n).unwrap());
                        live.extend(homes.map(|home| (Key { home, segment: definition.id.0 }, membership)));
                    }
                }
                let kept = shard.stored.iter().filter(|(_, row)| row.membership > 0);
                prop_assert_eq!(kept.map(|(key, row)| (*key, row.membership)).collect::<BTreeSet<_>>(), live);
            }
        }
    }
}
