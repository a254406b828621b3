//! An engine for other definitions, made of one at work.
//!
//! Most edits change one definition of many. What is known of facets and where profiles stand is taken over for all that
//! has stayed the same: only terms that nobody has asked for before are gathered from the events, and only definitions that
//! are new are answered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use isthmus_domain::{FacetId, RecordView, Stamp};
use isthmus_segment::{Plan, Touched};
use isthmus_shard::segments::Through;
use roaring::RoaringBitmap;

use super::{Cause, Engine, FacetMap, Foreign};

/// What is left to do for an engine that was made of another.
#[derive(Debug)]
pub struct Missing {
    /// Takes up the terms that the other didn't have; `None`: it had all.
    pub plan: Option<Plan>,
    /// Definitions that the other didn't answer.
    fresh: Touched,
}

impl Engine {
    /// An engine for another plan, where this one is, and what it lacks yet. `None`: this one knows nothing that it could
    /// begin with.
    pub fn successor(&self, plan: &Arc<Plan>, version: u64) -> Option<(Self, Missing)> {
        if self.plan.definitions().is_empty() || plan.definitions().is_empty() {
            return None;
        }
        let missing = Missing { plan: plan.beyond(&self.plan), fresh: plan.unlike(&self.plan) };
        let mut facets = self.facets.clone();
        if self.plan.beyond(plan).is_some() {
            let kept: Vec<_> = plan.terms().map(|(id, _)| id).collect();
            facets.values_mut().for_each(|state| state.retain(|id| kept.contains(&id)));
        }
        let mut profiles = self.profiles.clone();
        profiles.values_mut().for_each(|it| it.standing = it.standing.under(&self.plan, plan));
        let wakes = profiles.iter().filter_map(|(home, profile)| Some((profile.standing.next()?, *home)));
        let wakes = wakes.collect();
        let of = |sets: &[RoaringBitmap]| {
            let all = plan.definitions().iter();
            all.map(|it| {
                let before = self.plan.position(it.id).and_then(|index| sets.get(index));
                before.cloned().unwrap_or_default()
            })
            .collect()
        };
        // All others tell what they know anew: what they don't tell again has left meanwhile.
        let told = |it: &Foreign| Foreign { from: (it.from.0, 0), stamp: Stamp::ZERO };
        let foreign: FacetMap<FacetId, Foreign> =
            self.foreign.iter().map(|(facet, it)| (*facet, told(it))).collect();
        let engine = Self {
            plan: plan.clone(),
            version,
            at: self.at,
            through: Through::default(),
            facets,
            homes: self.homes.clone(),
            owned: self.owned.clone(),
            foreign,
            abroad: BTreeMap::new(),
            guests: self.guests.clone(),
            profiles,
            wakes,
            all: self.all.clone(),
            sets: of(&self.sets),
            overflows: of(&self.overflows),
            by_number: self.by_number.clone(),
            free: self.free.clone(),
            stored: FacetMap::default(),
            pending: VecDeque::new(),
            unsaid: 0,
            is_made_anew: false,
        };
        Some((engine, missing))
    }

    /// Takes an event up that is known but for what is missing.
    pub fn load_missing(&mut self, plan: &Plan, facet: FacetId, event: &RecordView<'_>) {
        if let Some(state) = self.facets.get_mut(&facet) {
            plan.absorb(event, state, &mut Touched::default());
        }
    }

    /// Answers what the engine before didn't, once all that is missing was loaded.
    pub fn begin_missing(&mut self, missing: &Missing) {
        let now = self.at.as_micros();
        let homes: Vec<FacetId> = self.profiles.keys().copied().collect();
        self.is_made_anew = true;
        for home in homes {
            self.look(home, &missing.fresh, now, Cause::default());
        }
        self.is_made_anew = false;
    }
}
