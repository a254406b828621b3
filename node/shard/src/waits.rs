//! Who waits for what events have set going in other shards: link facts that come into force, groups that know their
//! members. What is done wakes those who wait for it, and nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel},
};

use hashbrown::HashMap;
use isthmus_domain::{FacetId, identity::RowKey};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What an event's answer waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Awaited {
    /// A link fact's row that is to come into force.
    Link(RowKey),
    /// A group that is to confirm a message.
    Group {
        /// Whose membership it is about.
        member: FacetId,
        /// The group.
        group: FacetId,
        /// The message's number.
        number: u64,
    },
}

/// Who waits, by what for.
#[derive(Default)]
pub(crate) struct Waits(Mutex<HashMap<Awaited, Vec<Arc<Wait>>>>);

/// Waits for some things.
pub(crate) struct Wait {
    left: AtomicUsize,
    done: Notify,
}

impl Wait {
    /// Waits until all is done.
    pub async fn done(&self) {
        self.done.notified().await;
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

impl Waits {
    /// Begins to wait for things, each named once. Whoever does looks at them afterwards, and tells of those that are done
    /// already by [`Waits::settled`].
    pub fn begin(&self, awaited: &[Awaited]) -> Arc<Wait> {
        let wait = Arc::new(Wait { left: AtomicUsize::new(awaited.len()), done: Notify::new() });
        let mut waiting = self.0.lock();
        for one in awaited {
            waiting.entry(*one).or_default().push(wait.clone());
        }
        wait
    }

    /// Things are done.
    pub fn settled(&self, done: impl IntoIterator<Item = Awaited>) {
        let mut waiting = self.0.lock();
        for one in done {
            waiting.remove(&one).into_iter().flatten().for_each(|wait| wait.one_less());
        }
    }

    /// Waits no longer.
    pub fn end(&self, awaited: &[Awaited], wait: &Arc<Wait>) {
        let mut waiting = self.0.lock();
        for one in awaited {
            if let Some(of_one) = waiting.get_mut(one) {
                of_one.retain(|known| !Arc::ptr_eq(known, wait));
                if of_one.is_empty() {
                    waiting.remove(one);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_wakes_those_who_wait_for_them_and_nothing_is_left_behind() {
        let row = |n: u8| Awaited::Link(RowKey { source_and_kind: [n; 16], ..RowKey::default() });
        let waits = Waits::default();
        let (one, both) = (waits.begin(&[row(1)]), waits.begin(&[row(1), row(2)]));
        waits.settled([row(1), row(3)]);
        one.done().await;
        assert!(futures::FutureExt::now_or_never(both.done()).is_none());
        waits.settled([row(2)]);
        both.done().await;
        let gone = waits.begin(&[row(4)]);
        waits.end(&[row(4)], &gone);
        assert!(waits.0.lock().is_empty());
    }
}
