//! One run: clients that send, retract and read; then what it has come to.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_domain::identity::{Retraction, RowKey, Scope};
use isthmus_domain::{FacetId, Identifier, IdentityKey};
use isthmus_identity::{keys, source_and_kind, stored::StoredRow};

use crate::workload::{Chance, Event, Workload};
use crate::world::World;

mod verdict;

const KEY: IdentityKey = IdentityKey::new([5; 32]);

/// A command that a client has sent.
struct Sent {
    what: What,
    at: usize,
    /// Where it has to go yet.
    to: Vec<To>,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Event(usize),
    Retraction(usize),
    Rules(u64),
}

#[derive(Clone, Copy)]
enum To {
    Facet(FacetId),
    Shard(usize),
}

/// A read under way.
struct Read {
    of: FacetId,
    began: usize,
    /// An epoch that the record has to be past.
    past: Option<u64>,
    /// The home to ask, with the epoch that its list has to be of.
    home: Option<(FacetId, u64)>,
}

pub struct Run {
    chance: Chance,
    world: World,
    workload: Workload,
    events: Vec<Event>,
    retractions: Vec<Retraction>,
    /// When each was sent and acknowledged.
    events_at: Vec<[Option<usize>; 2]>,
    retractions_at: Vec<[Option<usize>; 2]>,
    open: Vec<Sent>,
    now: usize,
    names: BTreeMap<FacetId, Identifier>,
    slow: BTreeMap<(usize, usize), bool>,
    pub reads: usize,
}

impl Run {
    pub fn new(seed: u64, workload: Workload) -> Self {
        let mut chance = Chance(seed);
        let events = workload.events(&mut chance);
        let retractions = workload.retractions(&events, &mut chance);
        let facts = events.iter().flat_map(|event| &event.facts);
        let ids = facts.flat_map(|fact| [fact.a.clone(), fact.b.clone()]);
        Self {
            world: World::new(workload.shards, &workload.rules(0)),
            names: ids.map(|id| (FacetId::of(&KEY, &id), id)).collect(),
            events_at: vec![[None; 2]; events.len()],
            retractions_at: vec![[None; 2]; retractions.len()],
            chance,
            workload,
            events,
            retractions,
            open: Vec::new(),
            now: 0,
            slow: BTreeMap::new(),
            reads: 0,
        }
    }

    pub fn go(&mut self) -> Result<(), String> {
        let mut todo: Vec<What> = (0..self.events.len()).map(What::Event).collect();
        todo.extend((0..self.events.len() / 4).map(|_| What::Event(self.chance.below(self.events.len()))));
        todo.extend((0..self.retractions.len()).map(What::Retraction));
        self.chance.shuffle(&mut todo);
        let mut versions: Vec<u64> = (1..=self.workload.rule_changes as u64).rev().collect();
        let (mut reads, mut reads_left) = (Vec::new(), 40);
        for step in 0.. {
            if step > 200_000 {
                return Err(format!("no end; waiting: {}, reads: {}", self.open.len(), reads.len()));
            }
            match self.chance.below(100) {
                0..15 if self.open.len() < self.workload.window && !todo.is_empty() => {
                    if let Some(what) = todo.pop() {
                        self.send(what);
                    }
                }
                15..17 if self.open.is_empty() && self.chance.one_in(4) => {
                    if let Some(version) = versions.pop() {
                        self.send(What::Rules(version));
                    }
                }
                17..25 if reads_left > 0 && !self.names.is_empty() => {
                    reads_left -= 1;
                    let facets: Vec<FacetId> = self.names.keys().copied().collect();
                    let of = *self.chance.of(&facets);
                    reads.push(Read { of, began: self.now, past: None, home: None });
                }
                25..45 if !reads.is_empty() => {
                    let at = self.chance.below(reads.len());
                    if self.read(&mut reads[at])? {
                        reads.swap_remove(at);
                    }
                }
                45..47 if self.workload.moves => self.relocate(),
                47..49 if self.workload.forgets => {
                    self.world.shards.iter_mut().for_each(|shard| shard.roots.clear());
                }
                47..49 => {}
                49..55 => self.hand_on(),
                55..60 => self.search(),
                _ => {
                    self.deliver();
                }
            }
            self.now += 1;
            self.acknowledge();
            let idle = self.world.streams.values().all(std::collections::VecDeque::is_empty);
            if todo.is_empty() && self.open.is_empty() && idle && versions.is_empty() && !self.searching() {
                break;
            }
        }
        for mut read in reads {
            if !(0..4).any(|_| self.read(&mut read).is_ok_and(|done| done)) {
                return Err(format!("a read of {} is stuck", self.names[&read.of]));
            }
        }
        self.check()
    }

    /// All rows of all shards.
    pub fn rows(&self) -> Vec<BTreeMap<Vec<u8>, bytes::Bytes>> {
        self.world.shards.iter().map(|shard| shard.rows.clone()).collect()
    }

    fn facet(id: &Identifier) -> FacetId {
        FacetId::of(&KEY, id)
    }

    fn send(&mut self, what: What) {
        let to = match what {
            What::Event(number) => {
                self.events_at[number][0].get_or_insert(self.now);
                self.events[number]
                    .facts
                    .first()
                    .map(|fact| To::Facet(Self::facet(&fact.a)))
                    .into_iter()
                    .collect()
            }
            What::Retraction(number) => {
                self.retractions_at[number][0].get_or_insert(self.now);
                match &self.retractions[number].scope {
                    Scope::Fact { a, .. } => vec![To::Facet(Self::facet(a))],
                    Scope::Pair(x, y) => vec![To::Facet(Self::facet(x)), To::Facet(Self::facet(y))],
                    Scope::Identifier(x) => vec![To::Facet(Self::facet(x))],
                    Scope::Source(_) => (0..self.world.shards.len()).map(To::Shard).collect(),
                }
            }
            What::Rules(_) => (0..self.world.shards.len()).map(To::Shard).collect(),
        };
        self.open.push(Sent { what, at: self.now, to });
        if matches!(what, What::Event(_)) {
            self.hand_on();
        }
    }

    /// Lets a command arrive where it has not been yet.
    fn hand_on(&mut self) {
        let waiting: Vec<usize> = (0..self.open.len()).filter(|n| !self.open[*n].to.is_empty()).collect();
        if waiting.is_empty() {
            return;
        }
        let sent = &mut self.open[*self.chance.of(&waiting)];
        let (what, at) = (sent.what, sent.to.pop());
        match (what, at) {
            (What::Event(number), Some(To::Facet(own))) => {
                let facts = self.events[number].facts.clone();
                let links: Vec<_> = facts.into_iter().map(|fact| (Self::facet(&fact.b), fact)).collect();
                let shard = self.world.shard_of(own);
                self.world.at(shard, |resolver| resolver.links(own, links));
            }
            (What::Retraction(number), Some(To::Facet(own))) => {
                let retraction = self.retractions[number].clone();
                let shard = self.world.shard_of(own);
                self.world.at(shard, |resolver| resolver.retract(own, &retraction));
            }
            (What::Retraction(number), Some(To::Shard(shard))) => {
                self.world.shards[shard].sources.add(self.retractions[number].clone());
                self.review(shard);
            }
            (What::Rules(version), Some(To::Shard(shard))) => {
                self.world.shards[shard].rules = self.workload.rules(version);
                self.review(shard);
            }
            _ => {}
        }
    }

    fn review(&mut self, shard: usize) {
        let keys = self.world.shards[shard].rows.keys().filter_map(|key| keys::facet(key));
        for facet in keys.collect::<BTreeSet<_>>() {
            self.world.at(shard, |resolver| resolver.review(facet));
        }
    }

    fn searching(&mut self) -> bool {
        let facets: Vec<FacetId> = self.names.keys().copied().collect();
        facets.into_iter().any(|facet| self.world.record(facet).search > 0)
    }

    /// Looks for facts in the place of those that were withdrawn.
    fn search(&mut self) {
        let facets: Vec<FacetId> = self.names.keys().copied().collect();
        let wanted: Vec<FacetId> =
            facets.into_iter().filter(|facet| self.world.record(*facet).search > 0).collect();
        if wanted.is_empty() {
            return;
        }
        let own = *self.chance.of(&wanted);
        let search = self.world.record(own).search;
        let taken = (0..self.events.len()).filter(|n| {
            let handed = !self.open.iter().any(|sent| sent.what == What::Event(*n) && !sent.to.is_empty());
            self.events_at[*n][0].is_some() && handed
        });
        let facts = taken.flat_map(|n| &self.events[n].facts).filter(|fact| Self::facet(&fact.a) == own);
        let facts: Vec<_> = facts.map(|fact| (Self::facet(&fact.b), fact.clone())).collect();
        let shard = self.world.shard_of(own);
        self.world.at(shard, |resolver| resolver.found(own, search, facts));
    }

    fn deliver(&mut self) {
        let full: Vec<(usize, usize)> =
            self.world.streams.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key).collect();
        if full.is_empty() {
            return;
        }
        let stream = *self.chance.of(&full);
        if self.workload.slow {
            if self.chance.one_in(50) {
                self.slow.clear();
            }
            let slow = self.chance.one_in(2);
            if *self.slow.entry(stream).or_insert(slow) && !self.chance.one_in(60) {
                return;
            }
        }
        self.world.deliver(stream);
    }

    fn relocate(&mut self) {
        let rolling = self.open.iter().any(|sent| sent.to.iter().any(|to| matches!(to, To::Shard(_))));
        let facets: Vec<FacetId> = self.world.owner.keys().copied().collect();
        if !rolling && !facets.is_empty() {
            let facet = *self.chance.of(&facets);
            let to = self.chance.below(self.world.shards.len());
            self.world.relocate(facet, to);
        }
    }

    fn acknowledge(&mut self) {
        let open = std::mem::take(&mut self.open);
        for sent in open {
            if sent.to.is_empty() && self.is_done(sent.what) {
                match sent.what {
                    What::Event(number) => _ = self.events_at[number][1].get_or_insert(self.now),
                    What::Retraction(number) => _ = self.retractions_at[number][1].get_or_insert(self.now),
                    What::Rules(_) => {}
                }
            } else {
                self.open.push(sent);
            }
        }
        debug_assert!(self.open.iter().all(|sent| sent.at <= self.now));
    }

    fn row(&mut self, key: &RowKey) -> StoredRow {
        let shard = self.world.shard_of(key.a);
        let row = self.world.shards[shard].rows.get(&keys::link_row(key));
        row.map(|row| StoredRow::read(row).unwrap()).unwrap_or_default()
    }

    fn is_done(&mut self, what: What) -> bool {
        match what {
            What::Event(number) => {
                let facts = self.events[number].facts.clone();
                facts.iter().all(|fact| {
                    let (a, b) = (Self::facet(&fact.a), Self::facet(&fact.b));
                    let record = self.world.record(a);
                    let source_and_kind = source_and_kind(&fact.source, fact.kind);
                    let row = self.row(&RowKey { a, b, source_and_kind });
                    row.is_settled() && record.flag_settled >= record.flag_version
                })
            }
            What::Retraction(number) => {
                let retraction = self.retractions[number].clone();
                let at: Vec<FacetId> = match &retraction.scope {
                    Scope::Fact { a, .. } => vec![Self::facet(a)],
                    Scope::Pair(x, y) => vec![Self::facet(x), Self::facet(y)],
                    Scope::Identifier(x) => vec![Self::facet(x)],
                    Scope::Source(_) => return self.is_calm(),
                };
                at.into_iter().all(|facet| {
                    let shard = self.world.shard_of(facet);
                    self.world.at(shard, |resolver| resolver.is_retracted(facet, &retraction.id))
                })
            }
            What::Rules(_) => self.is_calm(),
        }
    }

    /// Whether every row and flag is in force.
    fn is_calm(&mut self) -> bool {
        let facets: Vec<FacetId> = self.names.keys().copied().collect();
        facets.into_iter().all(|facet| {
            let record = self.world.record(facet);
            let shard = self.world.shard_of(facet);
            let rows = &self.world.shards[shard].rows;
            let prefix = keys::link_rows(&facet, None);
            let of_facet = rows.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            let settled = of_facet.map(|(_, row)| StoredRow::read(row).unwrap()).all(|row| row.is_settled());
            settled && record.search == 0 && record.flag_settled >= record.flag_version
        })
    }
}
