//! Who holds a snapshot of a replica, and until when.
//!
//! A pin is made, gets its snapshot, and is let go; or its lease ends. Until then the registry keeps the snapshot, and
//! whoever reads it holds it, too. At the lease's end what was remembered for it goes at once, and a reader that is still
//! there is told so when it next asks for a control row; what lies in files and chunks of events it may read to its end.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use isthmus_domain::Stamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Journal, Pin, Snapshot, Watch, base::number};
use crate::{Error, machine::Shared, state::Lower};

/// Pins of one replica.
pub const PINS_MAX: usize = 64;
/// A pin without a snapshot ends so early at the latest: what is frozen meanwhile stays in memory for it.
pub const FIX_WITHIN: Duration = Duration::from_secs(10);
/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(3_600);
/// So long after the last pin what is kept for queries is given back.
pub(crate) const BASE_FOR: Duration = Duration::from_secs(600);
/// When to come back that found too many pins.
const AGAIN: Duration = Duration::from_millis(500);

/// A pin's rows are remembered for as long as somebody has this.
pub(super) struct Guard {
    pub id: u64,
    pub shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.forget_pin(self.id);
    }
}

struct Entry {
    until: Instant,
    lease_until: Instant,
    /// The replica's stamp when it was made.
    stamp: Stamp,
    /// What lay below the active memtable when it was made; taken by the snapshot.
    lower: Option<Lower>,
    guard: Option<Arc<Guard>>,
    snapshot: Option<Arc<Snapshot>>,
    /// Set when it is let go.
    gone: CancellationToken,
}

/// The pins of a replica.
#[derive(Default)]
pub(crate) struct Pins {
    entries: Mutex<BTreeMap<u64, Entry>>,
    last: Mutex<Option<u64>>,
    /// When the last one was made.
    used: Mutex<Option<Instant>>,
    /// Whether somebody looks after what is kept for queries.
    tended: Mutex<bool>,
}

impl Pins {
    /// A number that no pin had before, of this or of an earlier run of the replica.
    fn number(&self) -> u64 {
        let mut last = self.last.lock();
        let next = last.map_or_else(|| RandomState::new().hash_one(0), |last| last.wrapping_add(1));
        *last = Some(next);
        next
    }
}

impl Shared {
    /// Pins the state as it is: a snapshot can be made of it at any stamp from now on. Its lease ends by itself when
    /// [`Self::end_leases`] is called after it.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there are too many.
    pub fn pin(self: &Arc<Self>, lease: Duration) -> Result<Pin, Error> {
        let now = Instant::now();
        let lease_until = now + lease.min(LEASE_MAX);
        let mut entries = self.pins.entries.lock();
        if entries.len() >= PINS_MAX {
            return Err(Error::Overloaded { retry_after: AGAIN });
        }
        let id = self.pins.number();
        let (lower, stamp, owned) = {
            let mut state = self.state.write();
            let lower = self.lower.read().clone();
            let stamp = state.meta.stamp;
            state.active.watch.get_or_insert_with(|| Box::new(Watch::begin(stamp))).pin(id);
            state.active.journal.get_or_insert_with(|| Box::new(Journal::begin(number(), stamp)));
            (lower, stamp, state.meta.owned.clone())
        };
        let entry = Entry {
            until: lease_until.min(now + FIX_WITHIN),
            lease_until,
            stamp,
            lower: Some(lower),
            guard: Some(Arc::new(Guard { id, shared: self.clone() })),
            snapshot: None,
            gone: CancellationToken::new(),
        };
        entries.insert(id, entry);
        *self.pins.used.lock() = Some(now);
        Ok(Pin { id, stamp, owned, leads: false })
    }

    /// Makes the snapshot of a pin at a stamp that was applied; the one that it has, if it is of this stamp.
    ///
    /// # Errors
    /// A pin that is no more, has another snapshot, or is younger than the stamp; a stamp that was not applied yet.
    pub fn fix(&self, id: u64, at: Stamp) -> Result<Arc<Snapshot>, Error> {
        const GONE: Error = Error::Invalid("the pin is no more: its lease has ended, or it was let go");
        let mut entries = self.pins.entries.lock();
        let entry = entries.get_mut(&id).ok_or(GONE)?;
        if let Some(snapshot) = &entry.snapshot {
            return match snapshot.at() == at {
                true => Ok(snapshot.clone()),
                false => Err(Error::Invalid("the pin has a snapshot of another stamp")),
            };
        }
        let (memtables, active, owned) = {
            let mut state = self.state.write();
            if state.meta.stamp < at {
                return Err(Error::Invalid("the stamp of a snapshot was not applied yet"));
            }
            let state = &mut *state;
            let watch = state.active.watch.as_mut().ok_or(GONE)?;
            let memtables = watch.fix(id, at).ok_or(GONE)?;
            let owned = watch.owned_at(at, &state.meta.owned);
            (memtables, state.active.share(at), owned)
        };
        let (Some(lower), Some(guard)) = (entry.lower.take(), entry.guard.take()) else { return Err(GONE) };
        let older = lower.frozen.iter().chain(&memtables).map(|memtable| memtable.share(at));
        let memory = older.chain([active]).filter(|events| !events.is_empty()).collect();
        let snapshot = Arc::new(Snapshot::new(guard, (entry.stamp, at), owned, lower.runs, memory));
        (entry.snapshot, entry.until) = (Some(snapshot.clone()), entry.lease_until);
        Ok(snapshot)
    }

    /// The snapshot of a pin, if it has one.
    pub fn snapshot(&self, pin: u64) -> Option<Arc<Snapshot>> {
        self.pins.entries.lock().get(&pin)?.snapshot.clone()
    }

    /// Lets a pin go. Who reads its snapshot reads on.
    pub fn unpin(&self, pin: u64) {
        let entry = self.pins.entries.lock().remove(&pin);
        // Outside of the lock: the last hold on a snapshot may be dropped here.
        if let Some(entry) = entry {
            entry.gone.cancel();
        }
    }

    /// Whether apply remembers anything for a snapshot.
    pub fn is_watched(&self) -> bool {
        self.state.read().active.watch.is_some()
    }

    /// How many pins there are.
    pub fn pins(&self) -> usize {
        self.pins.entries.lock().len()
    }

    /// Ends the leases that are over.
    pub fn end_leases(&self) {
        let now = Instant::now();
        let ended: Vec<(u64, Entry)> =
            self.pins.entries.lock().extract_if(.., |_, entry| entry.until <= now).collect();
        for (id, entry) in ended {
            entry.gone.cancel();
            self.forget_pin(id);
        }
    }

    /// Whether nobody looks yet after what is kept for queries: who is told so has to, by [`Self::end_base`].
    pub(crate) fn has_new_base(&self) -> bool {
        !std::mem::replace(&mut *self.pins.tended.lock(), true)
    }

    /// Lets go of what is kept for queries, if there was none for a while; whether it did.
    pub(crate) fn end_base(&self) -> bool {
        let rests = self.pins.used.lock().is_none_or(|used| used.elapsed() > BASE_FOR) && self.pins() == 0;
        if rests {
            *self.pins.tended.lock() = false;
            // Given back without the lock that apply takes.
            let journal = self.state.write().active.journal.take();
            let base = self.base.lock().take();
            drop((journal, base));
        }
        rests
    }

    /// Lets all pins go: the replica stops, or gets another state.
    pub(crate) fn end_pins(&self) {
        let ended = std::mem::take(&mut *self.pins.entries.lock());
        for (id, entry) in ended {
            entry.gone.cancel();
            self.forget_pin(id);
        }
    }

    /// When a pin's lease ends, and what tells that it was let go before; `None` when it is no more.
    pub(crate) fn lease(&self, pin: u64) -> Option<(Instant, CancellationToken)> {
        let entries = self.pins.entries.lock();
        let entry = entries.get(&pin)?;
        Some((entry.until, entry.gone.clone()))
    }

    /// Nothing is remembered for a pin any more.
    fn forget_pin(&self, id: u64) {
        let kept = {
            let mut state = self.state.write();
            let unpinned = state.active.watch.as_mut().map(|watch| watch.unpin(id));
            let last = unpinned.as_ref().is_some_and(|(more, _)| !more);
            (unpinned, if last { state.active.watch.take() } else { None })
        };
        // What it kept is given back without the lock.
        drop(kept);
    }
}
