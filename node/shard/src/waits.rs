//! Who waits for link facts to come into force. A row that does wakes those who wait for it, and nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel},
};

use hashbrown::HashMap;
use isthmus_domain::identity::RowKey;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who waits, by row.
#[derive(Default)]
pub(crate) struct Waits(Mutex<HashMap<RowKey, Vec<Arc<Wait>>>>);

/// Waits for some rows.
pub(crate) struct Wait {
    left: AtomicUsize,
    done: Notify,
}

impl Wait {
    /// Waits until all rows are in force.
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
    /// Begins to wait for rows, each named once. Whoever does looks at them afterwards, and tells of those that are in
    /// force already by [`Waits::settled`].
    pub fn begin(&self, rows: &[RowKey]) -> Arc<Wait> {
        let wait = Arc::new(Wait { left: AtomicUsize::new(rows.len()), done: Notify::new() });
        let mut waiting = self.0.lock();
        for row in rows {
            waiting.entry(*row).or_default().push(wait.clone());
        }
        wait
    }

    /// Rows are in force.
    pub fn settled(&self, rows: impl IntoIterator<Item = RowKey>) {
        let mut waiting = self.0.lock();
        for row in rows {
            waiting.remove(&row).into_iter().flatten().for_each(|wait| wait.one_less());
        }
    }

    /// Waits no longer.
    pub fn end(&self, rows: &[RowKey], wait: &Arc<Wait>) {
        let mut waiting = self.0.lock();
        for row in rows {
            if let Some(of_row) = waiting.get_mut(row) {
                of_row.retain(|known| !Arc::ptr_eq(known, wait));
                if of_row.is_empty() {
                    waiting.remove(row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_rows_wake_those_who_wait_for_them_and_nothing_is_left_behind() {
        let row = |n: u8| RowKey { source_and_kind: [n; 16], ..RowKey::default() };
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
