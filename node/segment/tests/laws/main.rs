//! Live answers are those of a full evaluation: at every step, at any time, for whatever is defined.
//!
//! A case is one number. From it come definitions, events (late, of one time, with values of wrong types), their order
//! and their facets, the time that passes, and which facets make up the profile. What fails prints the number.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod chance;
mod reference;

use isthmus_domain::{EventRecord, RecordView, record::TraitChange};
use isthmus_segment::{FacetState, Held, Known, Plan, Standing, Touched};
use proptest::prelude::*;

use chance::{Chance, EPOCH, SECOND};
use reference::{Sent, World};

/// An event as it is stored.
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

fn known() -> Known {
    Known { traits: None, currency: "USD".to_owned() }
}

fn plan_of(chance: &mut Chance) -> Plan {
    let document = chance.document();
    Plan::compile(&document, &known()).unwrap_or_else(|faults| {
        let texts: Vec<_> = document.segments.iter().map(|s| s.expression.as_str()).collect();
        panic!("{}\n{}", faults[0], texts.join("\n"))
    })
}

/// A profile of some of four facets, and all that is known of it live.
struct Live {
    plan: Plan,
    states: [FacetState; 4],
    /// Which facets are the profile's.
    members: [bool; 4],
    standing: Standing,
    now: i64,
    /// What the reference knows: the facet and the event.
    sent: Vec<(usize, Sent)>,
}

impl Live {
    fn events(&self) -> Vec<&Sent> {
        self.sent.iter().filter(|(facet, _)| self.members[*facet]).map(|(_, sent)| sent).collect()
    }

    fn facets(&self) -> Vec<&FacetState> {
        self.states.iter().zip(self.members).filter(|(_, member)| *member).map(|(state, _)| state).collect()
    }

    fn reference(&self, definition: usize, now: i64) -> Held<'static> {
        World { plan: &self.plan, events: &self.events(), now }.definition(definition)
    }

    fn take(&mut self, facet: usize, sent: Sent, chance: &mut Chance) {
        let bytes = record(&sent);
        let view = RecordView::read(&bytes).unwrap();
        let mut touched = Touched::default();
        if chance.one_in(2) {
            self.plan.absorb(&view, &mut self.states[facet], &mut touched);
        } else {
            let delta = self.plan.delta(&view);
            touched = self.plan.touched_by(&delta);
            self.states[facet].merge(&delta).unwrap();
        }
        self.sent.push((facet, sent));
        if self.members[facet] {
            self.look(touched);
        }
    }

    /// Evaluates what was touched and no more.
    fn look(&mut self, which: Touched) {
        let answers = self.plan.evaluate(&self.facets(), self.now, &which);
        self.standing.update(&self.plan, &answers);
    }

    /// Lets time pass from wake to wake.
    fn pass(&mut self, to: i64) {
        while let Some(next) = self.standing.next().filter(|next| *next <= to) {
            assert!(next > self.now, "a wake that has passed");
            self.now = next - 1;
            self.check();
            self.now = next;
            let mut due = Touched::default();
            self.standing.due(next, &mut due);
            self.look(due);
            self.check();
        }
        self.now = to;
    }

    fn check(&self) {
        for (index, definition) in self.plan.definitions().iter().enumerate() {
            if definition.is_segment {
                let expected = self.reference(index, self.now).membership();
                assert_eq!(self.standing.membership(index), expected, "segment {}", definition.name);
            }
        }
    }

    /// All answers, now and until they change.
    fn check_all(&self, chance: &mut Chance) {
        self.check();
        for answer in self.plan.evaluate(&self.facets(), self.now, &self.plan.all()) {
            let name = &self.plan.definitions()[answer.definition].name;
            let expected = self.reference(answer.definition, self.now);
            assert_eq!(shown(&answer.held), shown(&expected), "{name}");
            let last = if answer.until == i64::MAX { self.now + 300 * SECOND } else { answer.until - 1 };
            assert!(last >= self.now, "{name}: an answer that holds for no time");
            let between = self.now + chance.below((last - self.now) as u64 + 1) as i64;
            for later in [between, last] {
                assert_eq!(
                    shown(&expected),
                    shown(&self.reference(answer.definition, later)),
                    "{name} until {last}"
                );
            }
        }
    }

    fn step(&mut self, number: u64, chance: &mut Chance) {
        match chance.below(10) {
            0..6 => {
                let sent = chance.sent(number);
                self.take(chance.below(4) as usize, sent, chance);
            }
            6 | 7 => {
                let to = self.now + chance.below(30) as i64 * SECOND + chance.below(2) as i64;
                self.pass(to);
            }
            8 => {
                let facet = chance.below(4) as usize;
                self.plan.expire(&mut self.states[facet], self.now);
                let bytes = self.states[facet].to_bytes();
                self.states[facet] = FacetState::from_bytes(&bytes).unwrap();
                assert_eq!(self.states[facet].to_bytes(), bytes);
                let bytes = self.standing.to_bytes(&self.plan);
                self.standing = Standing::from_bytes(&bytes, &self.plan).unwrap();
            }
            // A merge or an unmerge.
            _ => {
                let facet = chance.below(4) as usize;
                self.members[facet] = !self.members[facet];
                self.look(self.plan.touched_by(&self.states[facet]));
            }
        }
    }
}

/// What an answer holds; `Debug` wouldn't say.
fn shown(held: &Held<'_>) -> String {
    let json = |scalar: &isthmus_segment::Scalar<'_>| {
        let mut out = Vec::new();
        scalar.write_json(&mut out);
        String::from_utf8(out).unwrap()
    };
    match held {
        Held::Is(scalar) => json(scalar),
        Held::List(items) => format!("{:?}", items.iter().map(json).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn live_answers_are_those_of_a_full_evaluation(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let plan = plan_of(&mut chance);
        let mut live = Live {
            plan,
            states: Default::default(),
            members: [true, true, false, false],
            standing: Standing::default(),
            now: EPOCH,
            sent: Vec::new(),
        };
        live.look(live.plan.all());
        live.check_all(&mut chance);
        for number in 0..14 {
            live.step(number, &mut chance);
            live.check();
            if chance.one_in(3) {
                live.check_all(&mut chance);
            }
        }
        live.pass(live.now + 200 * SECOND);
        live.check_all(&mut chance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn states_are_the_same_bytes_whatever_the_order_and_the_batches(seed in any::<u64>()) {
        let mut chance = Chance(seed);
        let plan = plan_of(&mut chance);
        let mut records: Vec<Vec<u8>> = (0..2 + chance.below(20)).map(|n| record(&chance.sent(n))).collect();
        let mut expected = FacetState::default();
        for bytes in &records {
            plan.absorb(&RecordView::read(bytes).unwrap(), &mut expected, &mut Touched::default());
        }
        for _ in 0..3 {
            for at in (1..records.len()).rev() {
                records.swap(at, chance.below(at as u64 + 1) as usize);
            }
            // Batches in a row of their own, then merged from either end.
            let mut batches: Vec<FacetState> = Vec::new();
            for bytes in &records {
                let view = RecordView::read(bytes).unwrap();
                match batches.last_mut() {
                    Some(batch) if !chance.one_in(3) => plan.absorb(&view, batch, &mut Touched::default()),
                    _ => batches.push(plan.delta(&view)),
                }
            }
            let mut merged = FacetState::default();
            while !batches.is_empty() {
                let at = if chance.one_in(2) { 0 } else { batches.len() - 1 };
                let mut batch = batches.remove(at);
                // Into the larger one or the other way round.
                if chance.one_in(2) {
                    std::mem::swap(&mut batch, &mut merged);
                }
                merged.merge(&batch).unwrap();
            }
            prop_assert_eq!(merged.to_bytes(), expected.to_bytes());
            prop_assert_eq!(&FacetState::from_bytes(&merged.to_bytes()).unwrap(), &expected);
        }
    }
}
