//! What was handed out to queries: who is in which segment at the stamps of their snapshots.
//!
//! It goes with the snapshot's pin, or with its lease. While it is there, the evaluator copies what it changes of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use isthmus_router::FrozenMembers;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::hosted::Segments;

/// What queries have of a replica, by pin.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<BTreeMap<u64, (Instant, Arc<FrozenMembers>)>>);

impl Shelf {
    /// Keeps something for a pin.
    pub(crate) fn put(
        self: &Arc<Self>,
        pin: u64,
        members: Arc<FrozenMembers>,
        lease: Duration,
        segments: &Segments,
    ) {
        let until = Instant::now() + lease;
        self.0.lock().insert(pin, (until, members));
        let (shelf, stop) = (Arc::downgrade(self), segments.stop.clone());
        segments.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(until) => {
                    if let Some(shelf) = shelf.upgrade() {
                        shelf.0.lock().retain(|_, (until, _)| *until > Instant::now());
                    }
                }
            }
        });
    }

    /// What is kept for a pin.
    pub(crate) fn get(&self, pin: u64) -> Option<Arc<FrozenMembers>> {
        Some(self.0.lock().get(&pin)?.1.clone())
    }

    /// A pin is let go.
    pub(crate) fn remove(&self, pin: u64) {
        let gone = self.0.lock().remove(&pin);
        // Given back without the lock.
        drop(gone);
    }
}
