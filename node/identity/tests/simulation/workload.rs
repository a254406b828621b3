//! Events, retractions and rules that get in each other's way.

use std::sync::Arc;

use isthmus_domain::identity::{IdentityRules, Retraction, Scope, Until};
use isthmus_domain::{Identifier, LinkFact, LinkKind, Namespace};

/// A generator of numbers: small, seeded, the same everywhere (Steele, Lea, Flood: "SplitMix", 2014).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i + 1));
        }
    }
}

/// What a run is made of.
#[derive(Clone)]
pub struct Workload {
    pub events: usize,
    pub retractions: usize,
    pub rule_changes: usize,
    /// Commands that are not yet acknowledged, at most.
    pub window: usize,
    pub shards: usize,
    pub shared_above: u32,
    pub few: bool,
    pub limits: bool,
    pub moves: bool,
    pub slow: bool,
    /// Folds are forgotten now and then, and read again.
    pub forgets: bool,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            events: 40,
            retractions: 4,
            rule_changes: 0,
            window: 4,
            shards: 6,
            shared_above: 3,
            few: false,
            limits: true,
            moves: false,
            slow: false,
            forgets: true,
        }
    }
}

/// An event with links.
#[derive(Clone, Debug)]
pub struct Event {
    pub facts: Vec<LinkFact>,
}

impl Workload {
    pub fn rules(&self, version: u64) -> Arc<IdentityRules> {
        let mut rules = IdentityRules::default().with_version(version);
        rules = match self.limits {
            true => rules
                .with_limit(Namespace::EMAIL, 2 + (version % 3 == 2) as u32)
                .with_limit(Namespace::PHONE, 2)
                .with_limit(Namespace::ANONYMOUS_ID, 3)
                .with_shared_above(self.shared_above + (version % 2) as u32),
            false => rules
                .with_limit(Namespace::USER_ID, 99)
                .with_limit(Namespace::EMAIL, 99)
                .with_limit(Namespace::PHONE, 99),
        };
        if version % 2 == 1 {
            rules = rules.with_blocked_value(Some(Namespace::EMAIL), "e0@x.de");
        }
        Arc::new(rules)
    }

    pub fn events(&self, chance: &mut Chance) -> Vec<Event> {
        let sizes: [(&str, usize); 4] = match self.few {
            true => [("user_id", 3), ("email", 3), ("phone", 2), ("anonymous_id", 3)],
            false => [("user_id", 5), ("email", 5), ("phone", 3), ("anonymous_id", 8)],
        };
        let id = |namespace: &str, n: usize| {
            let value = match namespace {
                "email" => format!("e{n}@x.de"),
                "phone" => format!("+49170123456{n}"),
                _ => format!("{namespace}-{n}"),
            };
            Identifier::parse(&format!("{namespace}:{value}")).unwrap()
        };
        let any = |chance: &mut Chance| {
            let (namespace, n) = *chance.of(&sizes);
            id(namespace, chance.below(n))
        };
        let people: Vec<Vec<Identifier>> =
            (0..6).map(|_| (0..1 + chance.below(6)).map(|_| any(chance)).collect()).collect();
        let mut events = Vec::new();
        for number in 0..self.events {
            let mut ids: Vec<Identifier> = match chance.below(10) {
                0..6 => {
                    let person = chance.of(&people).clone();
                    (0..1 + chance.below(4)).map(|_| chance.of(&person).clone()).collect()
                }
                _ => (0..1 + chance.below(3)).map(|_| any(chance)).collect(),
            };
            if self.limits && chance.one_in(5) {
                ids.push(id("anonymous_id", 0));
            }
            ids.sort();
            ids.dedup();
            let mut kind = LinkKind::Plain;
            if chance.one_in(20) {
                (kind, ids) =
                    (LinkKind::Alias, vec![id("user_id", 0), id("user_id", 1), id("anonymous_id", 1)]);
            } else {
                let first = ids.iter().position(|id| *id.namespace() == Namespace::USER_ID);
                let mut at = 0;
                ids.retain(|id| {
                    at += 1;
                    *id.namespace() != Namespace::USER_ID || Some(at - 1) == first
                });
            }
            let source = ["s1", "s2", "s3"][chance.below(3)];
            chance.shuffle(&mut ids);
            if kind == LinkKind::Alias || source != "s3" {
                ids.sort_by_key(|id| (id.namespace() == &Namespace::ANONYMOUS_ID, id.clone()));
            }
            let timestamp = chance.below(self.events / 2) as i64;
            let a = ids[0].clone();
            let facts = ids[1..].iter().enumerate().map(|(position, b)| LinkFact {
                a: a.clone(),
                b: b.clone(),
                timestamp,
                source: source.to_owned(),
                message_id: format!("m{number}"),
                kind,
                position: position as u32,
            });
            events.push(Event { facts: facts.collect() });
        }
        events
    }

    pub fn retractions(&self, events: &[Event], chance: &mut Chance) -> Vec<Retraction> {
        let facts: Vec<&LinkFact> = events.iter().flat_map(|event| &event.facts).collect();
        if facts.is_empty() {
            return Vec::new();
        }
        let one = |number: usize| {
            let fact = (*chance.of(&facts)).clone();
            let until = match chance.one_in(2) {
                true => Until::Ever,
                false => Until::Time(chance.below(self.events / 2) as i64),
            };
            let scope = match chance.below(7) {
                0 | 1 => {
                    Scope::Fact { a: fact.a, b: fact.b, source: fact.source, message_id: fact.message_id }
                }
                2 | 3 => Scope::pair(fact.a, fact.b),
                4 | 5 => Scope::Identifier(if chance.one_in(2) { fact.a } else { fact.b }),
                _ => Scope::Source(fact.source),
            };
            Retraction {
                given_at: number as i64,
                id: format!("r{number}"),
                scope,
                until,
                by: "me".to_owned(),
                reason: String::new(),
            }
        };
        (0..self.retractions).map(one).collect()
    }
}
