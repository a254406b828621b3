//! Dropping what nobody uses any more, a bounded step at a time.

use std::sync::Arc;

use super::node;
use super::{Keeper, Store};
use crate::control::{BATCH_ROWS_MAX, ControlWrite, Order, keys};
use crate::{Result, StoreId};

impl Keeper {
    /// One bounded step of dropping: files of merged runs that no reader holds any more, then at most 64 rows of a
    /// dropped store, or its files. Whether there is more to do now.
    pub fn collect_garbage(&self) -> Result<bool> {
        self.check_whole()?;
        let stores: Vec<_> = self.stores.read().values().cloned().collect();
        for store in stores {
            self.remove_retired(&store)?;
        }
        let Some(store) = self.dropped.lock().front().copied() else { return Ok(false) };
        if self.drop_step(store)? {
            let mut dropped = self.dropped.lock();
            dropped.retain(|other| *other != store);
        }
        Ok(!self.dropped.lock().is_empty())
    }

    /// One step of dropping a store; whether nothing is left. Needn't be durable: the list is worked off again.
    fn drop_step(&self, store: StoreId) -> Result<bool> {
        let _node = self.writer.lock();
        let page = self.control.scan(&keys::store_range(store), Order::Ascending, BATCH_ROWS_MAX)?;
        if !page.rows.is_empty() {
            let gone: Vec<_> =
                page.rows.into_iter().map(|(key, _)| ControlWrite::delete(key.to_vec())).collect();
            self.must_end(|| self.control.apply(&gone))?;
            return Ok(false);
        }
        self.runs.remove_store(store)?;
        self.must_end(|| self.control.apply(&[node::undrop_row(store)]))?;
        Ok(true)
    }

    /// Removes the files of retired runs that no reader holds.
    pub(super) fn remove_retired(&self, store: &Store) -> Result<()> {
        let free: Vec<_> = store.retired.lock().extract_if(.., |run| Arc::strong_count(run) == 1).collect();
        for run in free {
            self.runs.remove(store.id, run.table(), run.meta().id())?;
        }
        Ok(())
    }
}
