//! Facets whose profiles are put together by other shards, and those of other shards whose profiles are put together here.

use std::collections::BTreeMap;

use isthmus_domain::{FacetId, SlotRanges, Stamp};
use isthmus_segment::FacetState;

use super::{Cause, Engine, Foreign};

impl Engine {
    /// Puts only profiles of these slots together: others are told of the facets of theirs.
    pub fn own(&mut self, slots: SlotRanges) {
        self.owned = Some(slots);
    }

    /// The slots whose profiles it puts together; `None`: all.
    pub fn owned(&self) -> Option<&SlotRanges> {
        self.owned.as_ref()
    }

    pub(super) fn owns(&self, home: &FacetId) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.contains(home.slot()))
    }

    /// Home and facet of all that others have to know.
    pub fn abroad(&self) -> impl Iterator<Item = (FacetId, FacetId)> {
        let others = self.guests.iter().filter(|(home, _)| !self.owns(home));
        others.flat_map(|(home, facets)| facets.iter().map(|facet| (*home, *facet)))
    }

    /// What has changed of that since it was taken last.
    pub(crate) fn take_abroad(&mut self) -> BTreeMap<(FacetId, FacetId), Cause> {
        std::mem::take(&mut self.abroad)
    }

    /// The state of a facet, if it has events and this home.
    pub fn state_at(&self, facet: &FacetId, home: &FacetId) -> Option<&FacetState> {
        self.facets.get(facet).filter(|_| self.home(facet) == *home)
    }

    /// Another shard has told what it knows of a facet of its own; no state: the facet has left the home.
    pub fn told(
        &mut self,
        from: (u64, u64),
        (facet, home): (FacetId, FacetId),
        stamp: Stamp,
        state: Option<FacetState>,
        cause: Cause,
    ) {
        if let Some(known) = self.foreign.get_mut(&facet)
            && known.stamp > stamp
        {
            known.from = known.from.max(from);
            return;
        }
        self.foreign.insert(facet, Foreign { from, stamp });
        let (all, now) = (self.plan.all(), self.at.as_micros());
        let before = self.homes.get(&facet).copied();
        match state {
            Some(state) => {
                self.facets.insert(facet, state);
                self.homes.insert(facet, home);
                if let Some(before) = before.filter(|before| *before != home) {
                    self.part(&facet, &before);
                    self.look(before, &all, now, cause);
                }
                self.guests.entry(home).or_default().insert(facet);
                self.look(home, &all, now, cause);
            }
            None if before == Some(home) => self.drop_told(facet, cause),
            None => {}
        }
    }

    /// A shard has told all it knows: what only an earlier evaluator of it told is none any more.
    pub fn forget_told(&mut self, from: (u64, u64)) {
        let is_old = |it: &Foreign| it.from.0 == from.0 && it.from.1 < from.1;
        let mut old: Vec<FacetId> =
            self.foreign.iter().filter(|(_, it)| is_old(it)).map(|(facet, _)| *facet).collect();
        old.sort_unstable();
        for facet in old {
            self.foreign.remove(&facet);
            self.drop_told(facet, Cause::default());
        }
    }

    fn drop_told(&mut self, facet: FacetId, cause: Cause) {
        self.facets.remove(&facet);
        if let Some(home) = self.homes.remove(&facet) {
            self.part(&facet, &home);
            let (all, now) = (self.plan.all(), self.at.as_micros());
            self.look(home, &all, now, cause);
        }
    }

    pub(super) fn part(&mut self, facet: &FacetId, home: &FacetId) {
        if let Some(guests) = self.guests.get_mut(home) {
            guests.remove(facet);
            if guests.is_empty() {
                self.guests.remove(home);
            }
        }
    }
}
