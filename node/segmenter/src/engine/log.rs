//! What the log knows of who is in which segment, and what goes into it.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{SegmentTransition, SegmentsCommand};
use isthmus_segment::DefinitionId;
use isthmus_shard::{
    feed::name_hash,
    segments::{Key, Row, Through},
};

use super::{Cause, Engine, PROFILES_MAX, Pending, Proposed, TRANSITIONS_MAX, number};

impl Engine {
    /// Says what the log keeps. What differs from where profiles stand is pending then.
    pub fn reconcile(&mut self, through: Through, stored: HashMap<Key, Row>) {
        self.through = through;
        self.pending.clear();
        let segments: Vec<(usize, DefinitionId)> = self.segments().collect();
        let names: HashMap<u64, u32> =
            self.plan.definitions().iter().map(|it| (it.id.0, name_hash(&it.name))).collect();
        // Sorted, so that leaders propose the same in the same order.
        let mut kept: Vec<(&Key, &Row)> = stored.iter().filter(|(_, row)| row.membership > 0).collect();
        kept.sort_unstable_by_key(|(key, _)| **key);
        for (key, row) in kept {
            let is_known = segments.iter().any(|(_, id)| id.0 == key.segment);
            let stands =
                self.profiles.get(&key.home).map(|it| it.standing.membership(DefinitionId(key.segment)));
            let to = stands.filter(|_| is_known).map_or(0, number);
            if to != row.membership {
                let (key, from) = (*key, row.membership);
                let name = names.get(&key.segment).copied().unwrap_or_default();
                self.pending.push_back(Pending {
                    key,
                    from,
                    to,
                    told: is_known,
                    name,
                    cause: Cause::default(),
                });
            }
        }
        for (home, profile) in &self.profiles {
            for (_, id) in &segments {
                let key = Key { home: *home, segment: id.0 };
                let to = number(profile.standing.membership(*id));
                if to > 0 && stored.get(&key).is_none_or(|row| row.membership == 0) {
                    let name = names.get(&key.segment).copied().unwrap_or_default();
                    let cause = Cause::default();
                    self.pending.push_back(Pending { key, from: 0, to, told: true, name, cause });
                }
            }
        }
        self.stored = stored;
    }

    /// Gives up what the log keeps, to an engine that takes the place of this one.
    pub fn into_stored(self) -> (Through, HashMap<Key, Row>) {
        (self.through, self.stored)
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
        let transitions = self.pending.iter().take(taken).map(|pending| {
            let (place, slot) = pending.cause;
            SegmentTransition {
                home: Bytes::copy_from_slice(pending.key.home.as_bytes()),
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
        Some(Proposed { command, taken })
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
        self.through = Through {
            stamp: Stamp(proposed.command.through_stamp),
            version: proposed.command.document_version,
        };
        self.unsaid = 0;
    }

    /// Since when a profile is in a segment, if the log has it.
    pub fn since(&self, home: FacetId, segment: DefinitionId) -> Option<Stamp> {
        self.stored.get(&Key { home, segment: segment.0 }).map(|row| row.since)
    }
}
