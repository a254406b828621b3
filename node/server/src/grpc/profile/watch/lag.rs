//! How far streams of changes are behind.
//!
//! A stream that asks for more is as far behind as the changes that it was given last were old, or not at all once there
//! was nothing more to give. One that leaves what it was given lying is behind by the age of that, which grows.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// One stream's.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The stamp of the newest change that it holds and has not asked behind; 0: it has asked.
    holds: AtomicU64,
    /// How old the newest change was that it was given last, in microseconds.
    behind_micros: AtomicU64,
}

impl Lag {
    /// It asks for more.
    pub(super) fn asked(&self) {
        self.holds.store(0, Relaxed);
    }

    /// There is nothing more to give.
    pub(super) fn caught_up(&self) {
        self.behind_micros.store(0, Relaxed);
    }

    /// It is given changes, of which the newest has this stamp.
    pub(super) fn handed(&self, stamp: u64, now_micros: i64) {
        self.holds.store(stamp, Relaxed);
        self.behind_micros.store(since(stamp, now_micros), Relaxed);
    }

    fn micros(&self, now_micros: i64) -> u64 {
        match self.holds.load(Relaxed) {
            0 => self.behind_micros.load(Relaxed),
            stamp => since(stamp, now_micros),
        }
    }
}

fn since(stamp: u64, now_micros: i64) -> u64 {
    now_micros.max(0).cast_unsigned().saturating_sub(stamp)
}

/// Those of all streams of a node.
#[derive(Debug, Default)]
pub(super) struct Lags(Mutex<Vec<Weak<Lag>>>);

impl Lags {
    /// A stream begins; it ends when it lets go of this.
    pub(super) fn enter(&self) -> Arc<Lag> {
        let lag = Arc::default();
        let mut all = self.0.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&lag));
        lag
    }

    /// The longest, in microseconds.
    pub(super) fn longest_micros(&self, now_micros: i64) -> u64 {
        let all = self.0.lock();
        all.iter().filter_map(Weak::upgrade).map(|lag| lag.micros(now_micros)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_changes_lying_falls_behind_and_who_has_all_is_not() {
        let lags = Lags::default();
        assert_eq!(lags.longest_micros(1_000), 0);
        let (one, two) = (lags.enter(), lags.enter());
        one.handed(900, 1_000);
        assert_eq!((lags.longest_micros(1_000), lags.longest_micros(5_000)), (100, 4_100));
        one.asked();
        assert_eq!(lags.longest_micros(5_000), 100);
        one.caught_up();
        two.handed(4_990, 5_000);
        assert_eq!(lags.longest_micros(5_000), 10);
        drop(two);
        assert_eq!(lags.longest_micros(5_000), 0);
    }
}
