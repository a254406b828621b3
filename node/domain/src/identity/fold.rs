//! The fold over the facts of one bundle, as its root owns it.
//!
//! Rows and flags come in, in any order; [`Fold::step`] folds a bounded number of facts; when the fold is
//! [settled](Fold::is_settled), whoever may have moved comes out, and at any time the pieces to store.
//!
//! ```text
//! put, set_shared, set_rules ──▶ rows in the total order of their facts ──step(n)──▶ homes ──▶ take_moved
//!                                     │                                     ▲
//!                                     └─ older than the head, gone, or judged differently: its region again
//! ```
//!
//! A fact younger than all that were folded costs one look at two components. One that is older, or that goes away,
//! concerns few of the bundle's components: only those, and what their facts lead to, are folded again ([`region`]). So
//! a fact that comes late costs what its customer has, and not what a bundle has that mistakes may have made of
//! thousands of customers. Under other rules everything is folded again, as many facts a step as the caller allows; so
//! it is when a large part of all facts came late, as when two large bundles become one.
//!
//! Invariants:
//!
//! 1. Every row's fact is in `facts`, under its place in the total order, and at both of its ends; nothing else is.
//! 2. `head` is what folding gives for some set of facts that differs from those up to `last` only in facts of which an
//!    end is `dirty`, and in flags of such ends.
//! 3. A restored fold is as far as the stored one was: replicas that apply the same commands stay alike across
//!    restarts.
//!
//! What it gives is a function of rows, flags and rules alone.
//!
//! [`region`]: super::region

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::component::{Component, Member};
use super::members::{Members, Number};
use super::partition::{Partition, Touched};
use super::pieces::{Flag, Head, PieceKey, RowKey, StoredRow, Write};
use super::rules::IdentityRules;
use crate::error::Error;
use crate::hash::FacetId;
use crate::link::{LinkFact, LinkRow};

/// Up to so many late facts the regions of all of them are folded in one step.
pub const LATE_MAX: u64 = 1_000;
/// Beyond, too, unless they are more than this part of all facts: of two large bundles that became one nearly all are.
const LATE_SHARE: u64 = 4;

/// Whether something that came in changed anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// It was known, or is older than what is known.
    Known,
    /// It is new.
    New,
}

/// How far a fold is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Facts that are folded.
    pub folded: u64,
    /// All facts.
    pub facts: u64,
}

/// The two ends of a fact.
pub(super) type Ends = (Number, Number);

/// Facts, flags and rules of a bundle, and what they come to. See the module.
#[derive(Clone)]
pub struct Fold {
    pub(super) rules: Arc<IdentityRules>,
    pub(super) members: Members,
    pub(super) rows: BTreeMap<RowKey, StoredRow>,
    pub(super) facts: BTreeMap<Arc<LinkFact>, Ends>,
    /// The facts at each identifier.
    pub(super) at: Vec<BTreeMap<Arc<LinkFact>, Ends>>,
    pub(super) flags: BTreeMap<FacetId, Flag>,
    pub(super) head: Partition,
    /// Identifiers whose facts or flags are not those that the head was folded from.
    pub(super) dirty: BTreeSet<Number>,
    /// How often somebody became dirty since nobody was; a restored fold knows only that.
    late: u64,
    late_max: u64,
    last: Option<Arc<LinkFact>>,
    /// How many facts there are up to `last`.
    folded: u64,
    /// Identifiers whose component may have changed since someone took the changes.
    pub(super) touched: Touched,
    unwritten: BTreeSet<PieceKey>,
}

impl Fold {
    /// A fold of no facts.
    pub fn new(rules: Arc<IdentityRules>) -> Self {
        Self {
            rules,
            members: Members::default(),
            rows: BTreeMap::new(),
            facts: BTreeMap::new(),
            at: Vec::new(),
            flags: BTreeMap::new(),
            head: Partition::default(),
            dirty: BTreeSet::new(),
            late: 0,
            late_max: LATE_MAX,
            last: None,
            folded: 0,
            touched: Touched::default(),
            unwritten: BTreeSet::from([PieceKey::Head]),
        }
    }

    /// The same fold, which from now on takes so many late facts in place of [`LATE_MAX`].
    #[must_use]
    pub fn taking_late(mut self, late_max: u64) -> Self {
        self.late_max = late_max;
        self
    }

    /// The rules under which facts are followed.
    pub fn rules(&self) -> &Arc<IdentityRules> {
        &self.rules
    }

    /// Puts a row in place of an older version of itself. A version that is known, or older, is no news.
    ///
    /// An error says that the row can't be one: a fact stands in two rows, or a facet has two identifiers. Nothing has
    /// changed then.
    pub fn put(&mut self, key: RowKey, row: &LinkRow) -> Result<News, Error> {
        let known = self.rows.get(&key);
        if known.map_or(0, |known| known.version) >= row.version() {
            return Ok(News::Known);
        }
        let before = known.and_then(|known| known.fact.clone());
        let withdrawn = known.and_then(|known| known.withdrawn.clone());
        let stored = match row.fact() {
            same if same == before.as_deref() => {
                StoredRow { version: row.version(), fact: before, withdrawn }
            }
            None => {
                if let Some(fact) = &before {
                    self.take_out(fact);
                }
                StoredRow { version: row.version(), fact: None, withdrawn: before.or(withdrawn) }
            }
            Some(fact) => {
                if self.facts.contains_key(fact) {
                    return Err(Error::Invalid { what: "link row", why: "its fact stands in another row" });
                }
                if (fact.a == fact.b) != (key.a == key.b) {
                    return Err(Error::Invalid {
                        what: "link row",
                        why: "its facets are not those of its ends",
                    });
                }
                self.members.check(key.a, &fact.a)?;
                self.members.check(key.b, &fact.b)?;
                let ends = (self.take_member(key.a, &fact.a)?, self.take_member(key.b, &fact.b)?);
                if let Some(before) = &before {
                    self.take_out(before);
                }
                let fact = Arc::new(fact.clone());
                self.insert(fact.clone(), ends);
                if self.is_behind(&fact) {
                    self.folded += 1;
                    self.mark(ends);
                }
                StoredRow { version: row.version(), fact: Some(fact), withdrawn: None }
            }
        };
        self.rows.insert(key, stored);
        self.unwritten.insert(PieceKey::Row(key));
        Ok(News::New)
    }

    /// Takes in what an identifier's own slot says: whether it is shared. An older version is no news.
    pub fn set_shared(&mut self, facet: FacetId, version: u64, shared: bool) -> News {
        let known = self.flags.get(&facet).copied().unwrap_or_default();
        if known.version >= version {
            return News::Known;
        }
        self.flags.insert(facet, Flag { version, shared });
        self.unwritten.insert(PieceKey::Flag(facet));
        if let Some(number) = self.members.number(&facet).filter(|_| known.shared != shared) {
            self.members.set_shared(number, shared);
            if !self.at[number as usize].is_empty() {
                self.mark((number, number));
            }
        }
        News::New
    }

    /// Takes other rules: everything is folded again.
    pub fn set_rules(&mut self, rules: Arc<IdentityRules>) -> News {
        if self.rules == rules {
            return News::Known;
        }
        self.members.set_rules(&rules);
        self.rules = rules;
        self.begin_again();
        News::New
    }

    /// Folds up to this many facts that are younger than those that are folded. When there are no more of them, the
    /// regions of what came late are folded, whatever facts these have; unless it is a large part of all: then all are
    /// folded again, so many a step.
    pub fn step(&mut self, facts_max: usize) -> Progress {
        let facts = self.facts.len() as u64;
        if self.folded == facts && self.late > self.late_max && self.late > facts / LATE_SHARE {
            self.begin_again();
        }
        self.head.grow(self.members.len());
        let from = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        for (fact, ends) in self.facts.range((from, Bound::Unbounded)).take(facts_max) {
            self.head.judge(&self.rules, &self.members, *ends, fact, &mut self.touched);
            self.last = Some(fact.clone());
            self.folded += 1;
            self.unwritten.insert(PieceKey::Head);
        }
        if self.late > 0 && self.folded == facts {
            self.refold_regions();
            self.late = 0;
            self.unwritten.insert(PieceKey::Head);
        }
        self.progress()
    }

    /// Folds all there is.
    pub fn settle(&mut self) {
        self.step(usize::MAX);
    }

    /// How far the fold is.
    pub fn progress(&self) -> Progress {
        Progress { folded: self.folded, facts: self.facts.len() as u64 }
    }

    /// Whether all facts are folded, so that components are those of all facts. After a fact has gone, the fold is
    /// settled only when a step, of no facts, has looked at its region.
    pub fn is_settled(&self) -> bool {
        self.late == 0 && self.folded == self.facts.len() as u64
    }

    /// The components of more than one identifier, by home; `None` unless settled.
    pub fn components(&self) -> Option<Vec<Component>> {
        let roots: BTreeSet<Number> = self.head.not_alone().map(|n| self.head.root(n)).collect();
        let mut all: Vec<_> = roots.into_iter().filter_map(|root| self.component(root)).collect();
        all.sort_by_key(Component::home);
        self.is_settled().then_some(all)
    }

    /// The component of an identifier of this bundle; `None` unless settled, and for one that no row names.
    pub fn component_of(&self, facet: FacetId) -> Option<Component> {
        let number = self.members.number(&facet).filter(|_| self.is_settled())?;
        self.component(number)
    }

    /// The identifiers whose home may be another one than at the last call, with their homes; `None` unless settled.
    /// Costs a look at each of these identifiers, and not at all who are with them.
    pub fn take_moved(&mut self) -> Option<BTreeMap<FacetId, FacetId>> {
        if !self.is_settled() {
            return None;
        }
        let Touched { mut numbers, sets } = std::mem::take(&mut self.touched);
        let sets: BTreeSet<Number> = sets.into_iter().map(|n| self.head.root(n)).collect();
        numbers.extend(sets.into_iter().flat_map(|root| self.head.set(root)));
        self.unwritten.insert(PieceKey::Head);
        let facet = |number| self.members.get(number).facet;
        Some(numbers.into_iter().map(|number| (facet(number), facet(self.head.home(number)))).collect())
    }

    /// The home of an identifier of this bundle; `None` unless settled, and for one that no row names.
    pub fn home_of(&self, facet: &FacetId) -> Option<FacetId> {
        let number = self.members.number(facet).filter(|_| self.is_settled())?;
        Some(self.members.get(self.head.home(number)).facet)
    }

    /// The version of a row; 0 of one that is not known.
    pub fn row_version(&self, key: &RowKey) -> u64 {
        self.rows.get(key).map_or(0, |row| row.version)
    }

    /// The identifier of a facet that a row has named.
    pub fn identifier(&self, facet: &FacetId) -> Option<&crate::Identifier> {
        self.members.number(facet).map(|number| &self.members.get(number).identifier)
    }

    /// All rows, to be shipped to another root. It [puts](Self::put) them, as it would put any.
    pub fn rows(&self) -> impl Iterator<Item = (RowKey, LinkRow)> + '_ {
        self.rows.iter().map(|(key, row)| (*key, LinkRow::of(row.fact.as_deref().cloned(), row.version)))
    }

    /// All flags as (facet, version, shared), to be shipped likewise.
    pub fn flags(&self) -> impl Iterator<Item = (FacetId, u64, bool)> + '_ {
        self.flags.iter().map(|(facet, flag)| (*facet, flag.version, flag.shared))
    }

    /// What has to be stored since the last call.
    pub fn take_writes(&mut self) -> Vec<Write> {
        let keys = std::mem::take(&mut self.unwritten);
        keys.into_iter().map(|key| Write { key: key.to_bytes(), value: self.piece(key) }).collect()
    }

    /// The fold whose pieces these are, in any order. It is as far as the stored one was. Under rules of another
    /// version it starts from the first fact.
    ///
    /// Costs folding as many facts as were folded.
    pub fn restore<'a>(
        rules: Arc<IdentityRules>,
        pieces: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, Error> {
        let (mut fold, mut head, mut states) = (Self::new(rules), None, Vec::new());
        for (key, value) in pieces {
            match PieceKey::from_slice(key)? {
                PieceKey::Head => head = Some(Head::decode(value)?),
                PieceKey::Row(key) => {
                    fold.rows.insert(key, StoredRow::decode(value)?);
                }
                PieceKey::Flag(facet) => {
                    fold.flags.insert(facet, Flag::read(value)?);
                }
                key @ PieceKey::Saved(_) => states.push(key),
            }
        }
        let head = head.ok_or(Error::Invalid { what: "fold", why: "its head is missing" })?;
        for (key, row) in std::mem::take(&mut fold.rows) {
            if let Some(fact) = row.fact.as_ref().or(row.withdrawn.as_ref()) {
                let ends = (fold.take_member(key.a, &fact.a)?, fold.take_member(key.b, &fact.b)?);
                if let Some(fact) = &row.fact {
                    fold.insert(fact.clone(), ends);
                }
            }
            fold.rows.insert(key, row);
        }
        fold.head.grow(fold.members.len());
        if head.untaken || head.rules_version != fold.rules.version() {
            fold.touched.numbers = (0..fold.members.len() as Number).collect();
        }
        fold.unwritten.clear();
        // Earlier versions kept states of the fold: they go with the next write.
        fold.unwritten.extend(states);
        if head.rules_version != fold.rules.version() {
            fold.unwritten.insert(PieceKey::Head);
            return Ok(fold);
        }
        fold.last = head.last;
        fold.late = head.late;
        // Whoever had them before has told of them, or is among those that nobody has taken.
        let mut seen = Touched::default();
        for (fact, ends) in fold.facts.iter().take_while(|(fact, _)| fold.last.as_ref() >= Some(*fact)) {
            fold.head.judge(&fold.rules, &fold.members, *ends, fact, &mut seen);
            fold.folded += 1;
        }
        if fold.folded != head.folded {
            return Err(Error::Invalid { what: "head of a fold", why: "it is not where its rows say" });
        }
        Ok(fold)
    }

    fn take_member(&mut self, facet: FacetId, identifier: &crate::Identifier) -> Result<Number, Error> {
        let shared = self.flags.get(&facet).is_some_and(|flag| flag.shared);
        let number = self.members.take(facet, identifier, &self.rules, shared)?;
        self.at.resize_with(self.members.len(), BTreeMap::new);
        Ok(number)
    }

    /// Whether a fact would have been folded already.
    fn is_behind(&self, fact: &LinkFact) -> bool {
        self.last.as_deref().is_some_and(|last| fact <= last)
    }

    fn insert(&mut self, fact: Arc<LinkFact>, ends: Ends) {
        for end in [ends.0, ends.1] {
            self.at[end as usize].insert(fact.clone(), ends);
        }
        self.facts.insert(fact, ends);
    }

    fn take_out(&mut self, fact: &LinkFact) {
        let Some(ends) = self.facts.remove(fact) else { return };
        for end in [ends.0, ends.1] {
            self.at[end as usize].remove(fact);
        }
        if self.is_behind(fact) {
            self.folded -= 1;
            self.mark(ends);
        }
    }

    /// Folds all facts from the first again.
    fn begin_again(&mut self) {
        self.touched.numbers = (0..self.members.len() as Number).collect();
        (self.head, self.last, self.folded) = (Partition::default(), None, 0);
        self.dirty.clear();
        self.late = 0;
        self.unwritten.insert(PieceKey::Head);
    }

    /// Notes that the head is not what these identifiers' facts say.
    fn mark(&mut self, ends: Ends) {
        self.dirty.extend([ends.0, ends.1]);
        self.late = self.late.saturating_add(1);
        self.unwritten.insert(PieceKey::Head);
    }

    fn component(&self, number: Number) -> Option<Component> {
        self.component_in(&self.head, number)
    }

    /// The component of an identifier in a partition of this fold's members.
    pub(super) fn component_in(&self, partition: &Partition, number: Number) -> Option<Component> {
        let member = |number: Number| {
            let known = self.members.get(number);
            Member {
                identifier: known.identifier.clone(),
                facet: known.facet,
                first_linked: partition.first(number),
            }
        };
        Component::new(partition.set(number).map(member).collect(), &self.rules)
    }

    fn piece(&self, key: PieceKey) -> Option<Vec<u8>> {
        match key {
            PieceKey::Head => {
                let (folded, last) = (self.folded, self.last.clone());
                let (untaken, late) = (!self.touched.is_empty() || self.late > 0, self.late);
                Some(Head { rules_version: self.rules.version(), folded, last, untaken, late }.encode())
            }
            PieceKey::Row(key) => self.rows.get(&key).map(StoredRow::encode),
            PieceKey::Flag(facet) => self.flags.get(&facet).map(prost::Message::encode_to_vec),
            PieceKey::Saved(_) => None,
        }
    }
}

impl std::fmt::Debug for Fold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fold")
            .field("identifiers", &self.members.len())
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}
