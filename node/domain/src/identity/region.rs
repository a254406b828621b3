//! Folding again what some facts concern, and nothing else of a bundle.
//!
//! A fact is judged by the components of its two ends as they are at its time, so what happens in one component depends
//! on another only by the facts between the two. Let a set of identifiers be closed: no followed fact leads out of it,
//! at any time. Then folding the facts inside gives what the fold of all facts gives for it, and what is outside is as
//! if the set weren't there.
//!
//! The *region* of a change are the components of the identifiers that it concerns. Its facts are folded anew, in the
//! total order, together with the facts of the components *around* it, to which some of its facts lead: what these were
//! at any time decides whether such a fact is followed. If none is, the region is closed and the components around it
//! are what they were. If one is, the component that it leads to belongs to the region, and the whole is done again.
//!
//! Facts that are refused whatever the components are (blocked, shared, a source that isn't trusted) lead nowhere. So an
//! identifier that thousands of customers share costs nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fold::{Ends, Fold};
use super::members::Number;
use super::partition::{Node, Partition, Touched};
use super::verdict::Verdict;
use crate::link::LinkFact;

impl Fold {
    /// Folds the regions of what is dirty; nothing is, then.
    pub(super) fn refold_regions(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut inside: BTreeSet<Number> = dirty.iter().flat_map(|number| self.head.set(*number)).collect();
        loop {
            let around = self.around(&inside);
            let facts = self.facts_of(&inside, &around);
            let numbers = || inside.iter().chain(around.keys()).copied();
            let before: Vec<(Number, Node)> = numbers().map(|n| (n, self.head.set_alone(n))).collect();
            let (mut joined, mut seen) = (BTreeSet::new(), Touched::default());
            for (fact, ends) in facts {
                let verdict = self.head.judge(&self.rules, &self.members, ends, &fact, &mut seen);
                let outer = |end: Number| around.get(&end).filter(|_| verdict == Verdict::Joined);
                // Within one of the components around, both ends are outside.
                match (outer(ends.0), outer(ends.1)) {
                    (Some(component), None) | (None, Some(component)) => _ = joined.insert(*component),
                    _ => {}
                }
            }
            if joined.is_empty() {
                break;
            }
            for (number, node) in before {
                self.head.put_back(number, node);
            }
            inside.extend(around.iter().filter(|(_, component)| joined.contains(component)).map(|(n, _)| *n));
        }
        self.touched.numbers.extend(inside);
    }

    /// The members of the components that facts lead to from here, each with one that names its component.
    fn around(&self, inside: &BTreeSet<Number>) -> BTreeMap<Number, Number> {
        let mut around = BTreeMap::new();
        for (fact, (a, b)) in inside.iter().flat_map(|number| &self.at[*number as usize]) {
            let Some(other) = [*a, *b].into_iter().find(|end| !inside.contains(end)) else { continue };
            if !around.contains_key(&other)
                && Partition::refused_always(&self.rules, &self.members, (*a, *b), fact).is_none()
            {
                around.extend(self.head.set(other).map(|member| (member, other)));
            }
        }
        around
    }

    /// The facts within a region, those that lead out of it, and those within each of the components around, in order.
    fn facts_of(
        &self,
        inside: &BTreeSet<Number>,
        around: &BTreeMap<Number, Number>,
    ) -> Vec<(Arc<LinkFact>, Ends)> {
        let counts = |(a, b): Ends| match (around.get(&a), around.get(&b)) {
            (Some(x), Some(y)) => x == y,
            (Some(_), None) => inside.contains(&b),
            (None, Some(_)) => inside.contains(&a),
            (None, None) => inside.contains(&a) && inside.contains(&b),
        };
        let of = |number: Number| {
            // Each once: at its first end.
            let facts = self.at[number as usize].iter().filter(move |(_, ends)| ends.0 == number);
            facts.filter(|(_, ends)| counts(**ends)).map(|(fact, ends)| (fact.clone(), *ends))
        };
        let mut facts: Vec<_> = inside.iter().chain(around.keys()).flat_map(|number| of(*number)).collect();
        facts.sort_unstable_by(|x, y| x.0.cmp(&y.0));
        facts
    }
}
