//! An engine that was made of one with other definitions is one that was made from the events.

use super::*;

/// A document that has some of another's definitions, and others beside.
fn like(chance: &mut Chance, document: &isthmus_segment::Document) -> isthmus_segment::Document {
    let mut next = chance.document();
    for segment in &document.segments {
        match next.segments.iter_mut().find(|it| it.name == segment.name) {
            Some(known) if chance.one_in(2) => *known = segment.clone(),
            // Of another version: to what is stored it is another segment.
            Some(known) if chance.one_in(2) => known.version += 1,
            Some(_) => {}
            None => next.segments.push(segment.clone()),
        }
    }
    if chance.one_in(2) {
        next.computed_traits.clone_from(&document.computed_traits);
    }
    next
}

impl Two {
    /// Both go over to other definitions, and tell each other all they know anew; what is under way is of the ones before.
    pub fn succeed(&mut self, chance: &mut Chance, shard: &Shard) {
        let next = like(chance, &self.document);
        let known = Known { traits: None, currency: "USD".to_owned() };
        let Ok(plan) = Plan::compile(&next, &known) else { return };
        let plan = Arc::new(plan);
        let mut made = Vec::new();
        for (index, engine) in self.engines.iter().enumerate() {
            let Some((mut engine, missing)) = engine.successor(&plan, VERSION) else { return };
            if let Some(plan) = &missing.plan {
                let at = engine.at();
                for (_, op) in shard.ops.iter().filter(|(stamp, _)| *stamp <= at) {
                    if let Op::Event(facet, sent) = op
                        && shard_of(facet) == index
                    {
                        engine.load_missing(plan, *facet, &RecordView::read(&record(sent)).unwrap());
                    }
                }
            }
            engine.begin_missing(&missing);
            made.push(engine);
        }
        let [Some(second), Some(first)] = [made.pop(), made.pop()] else { return };
        (self.engines, self.plan, self.document) = ([first, second], plan, next);
        self.under_way.clear();
        for index in 0..2 {
            // What was told once and is nobody's any more is not told again: who knows it forgets it.
            self.told[index].clear();
            self.tell(index);
            while !self.under_way.is_empty() {
                self.deliver(0, false);
            }
            self.engines[1 - index].forget_told((index as u64, self.begun[index]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn what_is_made_of_an_engine_at_work_is_what_a_full_evaluation_finds(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let known = Known { traits: None, currency: "USD".to_owned() };
        let first = chance.document();
        let plan = Arc::new(Plan::compile(&first, &known).unwrap());
        let mut shard = Shard::default();
        let mut leader = shard.gather(&plan);
        tell(&mut shard, &mut leader);
        let mut document = first;
        for number in 0..32 {
            let (facet, home) = (facet(chance.below(FACETS)), facet(chance.below(FACETS)));
            let op = match chance.one_in(6) {
                true => Op::Moves(facet, home),
                false => Op::Event(facet, Box::new(chance.sent(number))),
            };
            shard.push(chance.below(20) * (SECOND as u64 / 2), op);
            shard.follow(&mut leader, usize::MAX);
            if chance.one_in(2) {
                tell(&mut shard, &mut leader);
            }
            if !chance.one_in(6) {
                continue;
            }
            let next = like(&mut chance, &document);
            let Ok(plan) = Plan::compile(&next, &known) else { continue };
            let plan = Arc::new(plan);
            let Some((mut made, missing)) = leader.successor(&plan, VERSION) else { continue };
            if let Some(plan) = &missing.plan {
                let at = made.at();
                for (_, op) in shard.ops.iter().filter(|(stamp, _)| *stamp <= at) {
                    if let Op::Event(facet, sent) = op {
                        made.load_missing(plan, *facet, &RecordView::read(&record(sent)).unwrap());
                    }
                }
            }
            made.begin_missing(&missing);
            // What is due by then comes with what happens next.
            while !made.reach(made.at(), 1) {}
            shard.check(&made);
            // Both go on for a while, and one takes the other's place where both are.
            for late in 0..chance.below(3) {
                shard.push(late, Op::Event(facet, Box::new(chance.sent(100 + number * 4 + late))));
            }
            shard.follow(&mut leader, usize::MAX);
            shard.follow(&mut made, usize::MAX);
            shard.check(&made);
            made.succeed(leader);
            (leader, document) = (made, next);
            while tell(&mut shard, &mut leader) {
                shard.follow(&mut leader, usize::MAX);
            }
            shard.check(&leader);
            // What the log keeps is who is live, and nothing of definitions that are gone.
            let mut live = BTreeSet::new();
            for definition in leader.plan().definitions().iter().filter(|it| it.is_segment) {
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
