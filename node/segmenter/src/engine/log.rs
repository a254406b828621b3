//! What the log knows of who is in which segment, and what goes into it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{SegmentTransition, SegmentsCommand};
use isthmus_segment::{DefinitionId, Standing};
use isthmus_shard::{
    feed::name_hash,
    segments::{Key, Row, Through},
};

use super::{Cause, Engine, PROFILES_MAX, Pending, Proposed, TRANSITIONS_MAX, number};

impl Engine {
    /// Says what the log keeps. What differs from where profiles stand is pending then.
    pub fn reconcile(&mut self, through: Through, stored: impl IntoIterator<Item = (Key, Row)>) {
        self.through = through;
        self.stored = stored.into_iter().collect();
        self.pending.clear();
        self.compare(&|_| true);
    }

    /// Takes the place of an engine that is where this one is: goes on with what that one has found and the log doesn't know
    /// yet. Gives back what is left of it.
    pub fn succeed(&mut self, mut before: Self) -> Self {
        self.through = before.through;
        self.stored = std::mem::take(&mut before.stored);
        let fresh = self.plan.unlike(&before.plan);
        let stays: BTreeSet<u64> =
            self.segments().filter(|(index, _)| !fresh.contains(*index)).map(|(_, id)| id.0).collect();
        self.pending = std::mem::take(&mut before.pending);
        self.pending.retain(|pending| stays.contains(&pending.key.segment));
        // What other shards have told may have come here first.
        let none = Standing::default();
        let mut differences = Vec::new();
        for (home, profile) in &self.profiles {
            let known = before.profiles.get(home).map_or(&none, |known| &known.standing);
            let found = known.differences(&before.plan, (&profile.standing, &self.plan));
            differences.extend(found.into_iter().map(|it| (*home, it)));
        }
        for (home, known) in before.profiles.iter().filter(|(home, _)| !self.profiles.contains_key(home)) {
            let found = known.standing.differences(&before.plan, (&none, &self.plan));
            differences.extend(found.into_iter().map(|it| (*home, it)));
        }
        for (home, (id, from, to)) in differences {
            if stays.contains(&id.0) {
                self.owe(Key { home, segment: id.0 }, number(from), number(to));
            }
        }
        self.compare(&|segment| !stays.contains(&segment));
        before
    }

    /// Compares where profiles stand with what the log keeps, in some segments.
    fn compare(&mut self, is_asked: &dyn Fn(u64) -> bool) {
        let segments: Vec<(usize, DefinitionId)> = self.segments().filter(|(_, id)| is_asked(id.0)).collect();
        let by_name: BTreeMap<u64, usize> = segments.iter().map(|(index, id)| (id.0, *index)).collect();
        let mut owed: Vec<(Key, u8, u8)> = Vec::new();
        for (key, row) in self.stored.iter().filter(|(key, row)| row.membership > 0 && is_asked(key.segment))
        {
            let stands = by_name.get(&key.segment).zip(self.profiles.get(&key.home));
            let to = stands.map_or(0, |(index, it)| number(it.standing.membership(*index)));
            if to != row.membership {
                owed.push((*key, row.membership, to));
            }
        }
        // Sorted, so that leaders propose the same in the same order.
        owed.sort_unstable();
        for (home, profile) in &self.profiles {
            for (index, id) in &segments {
                let key = Key { home: *home, segment: id.0 };
                let to = number(profile.standing.membership(*index));
                if to > 0 && self.stored.get(&key).is_none_or(|row| row.membership == 0) {
                    owed.push((key, 0, to));
                }
            }
        }
        for (key, from, to) in owed {
            self.owe(key, from, to);
        }
    }

    /// Puts what nobody has brought about behind what the log doesn't know yet.
    fn owe(&mut self, key: Key, from: u8, to: u8) {
        let definition = self.plan.position(DefinitionId(key.segment));
        let definition = definition.and_then(|index| self.plan.definitions().get(index));
        let (told, name) = (definition.is_some(), definition.map_or(0, |it| name_hash(&it.name)));
        self.pending.push_back(Pending { key, from, to, told, name, cause: Cause::default() });
    }

    /// Whether something is to be proposed: what has changed, or nothing for so many changes that whoever comes to lead
    /// should not have to look at them again.
    pub fn has_news(&self, unsaid_max: usize) -> bool {
        !self.pending.is_empty() || self.unsaid > unsaid_max || self.through.version != self.version
    }

    /// Whether something has changed that the log doesn't know yet.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many changes the log doesn't know yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The next command; `None` while it would not go on from the one before.
    pub fn propose(&self) -> Option<Proposed> {
        if self.at <= self.through.stamp {
            return None;
        }
        let mut homes = BTreeSet::new();
        let mut taken = 0;
        for pending in self.pending.iter().take(TRANSITIONS_MAX) {
            homes.insert(pending.key.home);
            if homes.len() > PROFILES_MAX {
                break;
            }
            taken += 1;
        }
        let (mut last, mut home) = (None, Bytes::new());
        let transitions = self.pending.iter().take(taken).map(|pending| {
            let (place, slot) = pending.cause;
            // What one event has brought about lies together, and shares the bytes.
            if last.replace(pending.key.home) != Some(pending.key.home) {
                home = Bytes::copy_from_slice(pending.key.home.as_bytes());
            }
            SegmentTransition {
                home: home.clone(),
                segment: pending.key.segment,
                from: pending.from.into(),
                from_since: self.stored.get(&pending.key).map_or(0, |row| row.since.0),
                to: pending.to.into(),
                told: pending.told,
                cause_stamp: place.stamp.0,
                cause_number: place.number,
                cause_slot: slot.into(),
                name_hash: pending.name,
            }
        });
        let command = SegmentsCommand {
            from_stamp: self.through.stamp.0,
            through_stamp: self.at.0,
            document_version: self.version,
            transitions: transitions.collect(),
        };
        let through = Through { stamp: self.at, version: self.version };
        Some(Proposed { command, through, taken })
    }

    /// A command was taken, at this stamp.
    pub fn taken(&mut self, proposed: &Proposed, stamp: Stamp) {
        for pending in self.pending.drain(..proposed.taken.min(self.pending.len())) {
            if pending.to == 0 {
                self.stored.remove(&pending.key);
            } else {
                self.stored.insert(pending.key, Row { membership: pending.to, since: stamp });
            }
        }
        self.through = proposed.through;
        self.unsaid = 0;
    }

    /// Since when a profile is in a segment, if the log has it.
    pub fn since(&self, home: FacetId, segment: DefinitionId) -> Option<Stamp> {
        self.stored.get(&Key { home, segment: segment.0 }).map(|row| row.since)
    }
}
