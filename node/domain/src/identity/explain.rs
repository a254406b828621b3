//! Why two identifiers are one customer, or are not, and what a proposed split would do.
//!
//! Both fold all facts of the bundle anew, from the first, and keep what was said about each: nothing of it has to be
//! stored, and it is right also while the fold goes on. That takes time in proportion to the facts of the bundle, on
//! the reader's side, never in apply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::component::Component;
use super::fold::Fold;
use super::members::Number;
use super::partition::{Partition, Touched};
use super::pieces::RowKey;
use super::verdict::Verdict;
use crate::error::Error;
use crate::hash::FacetId;
use crate::link::{LinkFact, LinkRow};

/// A fact, and what the fold did with it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Judged {
    /// The fact.
    pub fact: Arc<LinkFact>,
    /// Followed or refused, and why.
    pub verdict: Verdict,
}

/// Why two identifiers are together or apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Whether they are one customer.
    pub together: bool,
    /// The followed facts that lead from the one to the other, from end to end; none when they are apart. Without any
    /// one of them the two would not have come together when they did.
    pub chain: Vec<Judged>,
    /// All facts about their components, followed and refused, in the order in which the fold goes through them.
    pub facts: Vec<Judged>,
}

/// Rows and flags to take for granted: what a proposed retraction would make of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WhatIf {
    /// The facts that would count in these rows, or none.
    pub rows: Vec<(RowKey, Option<LinkFact>)>,
    /// Which identifiers would be shared, or no longer.
    pub shared: Vec<(FacetId, bool)>,
}

/// What a change would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// The components that would not stay as they are; with those of one member that would be joined.
    pub before: Vec<Component>,
    /// What would become of their members.
    pub after: Vec<Component>,
    /// The facts that would be judged differently, in order.
    pub facts: Vec<ChangedFact>,
}

/// A fact that a change would have judged differently.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedFact {
    /// The fact.
    pub fact: Arc<LinkFact>,
    /// What is said of it now; `None` when it doesn't count now.
    pub before: Option<Verdict>,
    /// What would be said of it; `None` when it wouldn't count.
    pub after: Option<Verdict>,
}

impl Fold {
    /// All facts in order, and what the fold does with each.
    pub fn facts(&self) -> Vec<Judged> {
        self.judge_all().1
    }

    fn judge_all(&self) -> (Partition, Vec<Judged>) {
        let mut partition = Partition::default();
        partition.grow(self.members.len());
        let mut touched = Touched::default();
        let judge = |(fact, ends): (&Arc<LinkFact>, &_)| {
            let verdict = partition.judge(&self.rules, &self.members, *ends, fact, &mut touched);
            Judged { fact: fact.clone(), verdict }
        };
        let judged = self.facts.iter().map(judge).collect();
        (partition, judged)
    }

    /// Why two identifiers are one customer, or are not. One that the bundle doesn't know stands alone.
    pub fn explain(&self, x: FacetId, y: FacetId) -> Explanation {
        let (partition, judged) = self.judge_all();
        let [x_number, y_number] = [x, y].map(|facet| self.members.number(&facet));
        let roots: BTreeSet<Number> =
            [x_number, y_number].into_iter().flatten().map(|n| partition.root(n)).collect();
        let together = x == y || (x_number.is_some() && y_number.is_some() && roots.len() == 1);
        let about =
            self.facts.values().zip(&judged).filter(|((a, b), _)| {
                roots.contains(&partition.root(*a)) || roots.contains(&partition.root(*b))
            });
        let chain = match (x_number, y_number) {
            (Some(x), Some(y)) if together => self.chain(&judged, x, y),
            _ => vec![],
        };
        Explanation { together, chain, facts: about.map(|(_, judged)| judged.clone()).collect() }
    }

    /// The joins form a tree over each component, so there is one way from one member to another.
    fn chain(&self, judged: &[Judged], from: Number, to: Number) -> Vec<Judged> {
        let mut joins: BTreeMap<Number, Vec<(Number, usize)>> = BTreeMap::new();
        for (i, ((a, b), judged)) in self.facts.values().zip(judged).enumerate() {
            if judged.verdict == Verdict::Joined {
                joins.entry(*a).or_default().push((*b, i));
                joins.entry(*b).or_default().push((*a, i));
            }
        }
        // From the far end, so that following the way back lists it from the near one.
        let mut came_from: BTreeMap<Number, (Number, usize)> = BTreeMap::from([(to, (to, usize::MAX))]);
        let mut queue = VecDeque::from([to]);
        while let Some(at) = queue.pop_front().filter(|at| *at != from) {
            for (next, fact) in joins.get(&at).into_iter().flatten() {
                came_from.entry(*next).or_insert_with(|| {
                    queue.push_back(*next);
                    (at, *fact)
                });
            }
        }
        let (mut chain, mut at) = (vec![], from);
        while let Some((back, fact)) = came_from.get(&at).filter(|_| at != to) {
            chain.push(judged[*fact].clone());
            at = *back;
        }
        chain
    }

    /// What would change if these rows and flags were so. This fold stays as it is.
    pub fn preview(&self, what_if: &WhatIf) -> Result<Preview, Error> {
        let mut changed = self.clone();
        for (key, fact) in &what_if.rows {
            let version = self.rows.get(key).map_or(0, |row| row.version);
            changed.put(*key, &LinkRow::of(fact.clone(), version.saturating_add(1)))?;
        }
        for (facet, shared) in &what_if.shared {
            let version = self.flags.get(facet).map_or(0, |flag| flag.version);
            changed.set_shared(*facet, version.saturating_add(1), *shared);
        }
        let ((now, facts_now), (then, facts_then)) = (self.judge_all(), changed.judge_all());
        let concerned: BTreeSet<Number> = (0..changed.members.len() as Number)
            .filter(|n| changed.component_in(&now, *n) != changed.component_in(&then, *n))
            .collect();
        let components = |partition: &Partition| {
            let roots: BTreeSet<Number> = concerned.iter().map(|n| partition.root(*n)).collect();
            let mut all: Vec<Component> =
                roots.into_iter().filter_map(|root| changed.component_in(partition, root)).collect();
            all.sort_by_key(Component::home);
            all
        };
        let (before, after) = (components(&now), components(&then));
        Ok(Preview { before, after, facts: differences(facts_now, facts_then) })
    }
}

fn differences(now: Vec<Judged>, then: Vec<Judged>) -> Vec<ChangedFact> {
    let mut facts: BTreeMap<Arc<LinkFact>, (Option<Verdict>, Option<Verdict>)> = BTreeMap::new();
    for judged in now {
        facts.entry(judged.fact).or_default().0 = Some(judged.verdict);
    }
    for judged in then {
        facts.entry(judged.fact).or_default().1 = Some(judged.verdict);
    }
    let changed = facts.into_iter().filter(|(_, (before, after))| before != after);
    changed.map(|(fact, (before, after))| ChangedFact { fact, before, after }).collect()
}
