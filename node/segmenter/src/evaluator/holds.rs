//! Who wants this shard to stay where it is, so that answers of several shards are of one stamp. Pure.
//!
//! A hold begins without a stamp of its own: by what it is told, it does not go below a *floor*, and the evaluator does not
//! go beyond that. Then it is *named*: the stamp that all shards are to come to. Floors are not below any stamp that was
//! named before, so whoever comes later is served later, in the order of stamps, and in the same order everywhere: nobody
//! waits in a circle, and nobody is overtaken. Whoever forgets to end a hold loses it with its lease.

use std::{collections::BTreeMap, time::Duration};

use isthmus_domain::Stamp;
use tokio::time::Instant;

/// Holds of a shard; the next one is refused.
const HOLDS_MAX: usize = 256;
/// The longest lease of one that has no name yet.
const LEASE_MAX: Duration = Duration::from_secs(5);
/// The lease of one that has: a round is left, or two.
const NAMED_LEASE: Duration = Duration::from_secs(3);

/// The holds of a shard.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<u64, Hold>);

#[derive(Debug)]
struct Hold {
    /// Its floor, until it is named.
    stamp: Stamp,
    is_named: bool,
    until: Instant,
}

/// What becomes of a hold that is named.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Its turn has come, or comes when those of smaller stamps have ended.
    Held,
    /// There is no such hold any more, or it has another stamp.
    Gone,
}

impl Holds {
    /// Begins a hold of an evaluator that is nowhere behind `at`; its floor. `None`: there are too many.
    pub(super) fn stop(&mut self, id: u64, at: Stamp, lease: Duration, now: Instant) -> Option<Stamp> {
        if self.0.len() >= HOLDS_MAX && !self.0.contains_key(&id) {
            return None;
        }
        let named = self.0.values().filter(|hold| hold.is_named).map(|hold| hold.stamp).max();
        let stamp = named.map_or(at, |named| named.max(at));
        let until = now + lease.min(LEASE_MAX);
        self.0.insert(id, Hold { stamp, is_named: false, until });
        Some(stamp)
    }

    /// Names the stamp of a hold. Again with the same: nothing changes.
    pub(super) fn name(&mut self, id: u64, stamp: Stamp, now: Instant) -> Named {
        match self.0.get_mut(&id) {
            Some(hold) if stamp == hold.stamp || (!hold.is_named && stamp > hold.stamp) => {
                (hold.stamp, hold.is_named, hold.until) = (stamp, true, now + NAMED_LEASE);
                Named::Held
            }
            _ => Named::Gone,
        }
    }

    /// The stamp of a hold that was named.
    pub(super) fn stamp(&self, id: u64) -> Option<Stamp> {
        self.0.get(&id).filter(|hold| hold.is_named).map(|hold| hold.stamp)
    }

    /// How far the evaluator may go; `None`: as far as it likes.
    pub(super) fn limit(&self) -> Option<Stamp> {
        self.0.values().map(|hold| hold.stamp).min()
    }

    /// Ends a hold.
    pub(super) fn release(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// Ends those whose lease is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, hold| hold.until > now);
    }

    /// When the next lease is over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|hold| hold.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    fn at(holds: &mut Holds, id: u64, at: u64) -> Stamp {
        holds.stop(id, Stamp(at), LEASE, Instant::now()).unwrap()
    }

    #[test]
    fn whoever_comes_later_is_not_below_what_was_named_before() {
        let mut holds = Holds::default();
        assert_eq!(at(&mut holds, 1, 10), Stamp(10));
        assert_eq!(at(&mut holds, 2, 12), Stamp(12));
        assert_eq!(holds.name(1, Stamp(50), Instant::now()), Named::Held);
        // The second may yet name anything from its floor on: it comes first.
        assert_eq!(holds.limit(), Some(Stamp(12)));
        assert_eq!(at(&mut holds, 3, 12), Stamp(50));
        assert_eq!(holds.name(2, Stamp(11), Instant::now()), Named::Gone);
        assert_eq!(holds.name(2, Stamp(20), Instant::now()), Named::Held);
        assert_eq!((holds.limit(), holds.name(2, Stamp(30), Instant::now())), (Some(Stamp(20)), Named::Gone));
        holds.release(2);
        assert_eq!((holds.limit(), holds.stamp(1)), (Some(Stamp(50)), Some(Stamp(50))));
        assert_eq!((holds.stamp(3), holds.stamp(2)), (None, None));
        holds.release(1);
        holds.release(3);
        assert_eq!(holds.limit(), None);
    }

    #[test]
    fn a_lease_ends_and_is_never_longer_than_allowed() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        holds.stop(1, Stamp(1), LEASE * 1_000, now);
        assert_eq!(holds.next_end(), Some(now + LEASE_MAX));
        holds.expire(now + LEASE_MAX);
        assert_eq!((holds.limit(), holds.name(1, Stamp(1), Instant::now())), (None, Named::Gone));
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for id in 0..HOLDS_MAX as u64 {
            assert!(holds.stop(id, Stamp(1), LEASE, now).is_some());
        }
        assert_eq!(holds.stop(u64::MAX, Stamp(1), LEASE, now), None);
        assert!(holds.stop(1, Stamp(1), LEASE, now).is_some());
    }
}
