//! A [`ControlStore`] in memory, for the simulation: it can lose what was not flushed, as a power cut does.
//!
//! A crash of the real engine loses *some* of the batches since the last flush, always the newest ones. So
//! [`MemoryControl::crash`] says how many of them survive.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{ControlStore, ControlWrite, KeyRange, Order, Page, check_batch, flush_is_skipped, page_of};
use crate::Result;

/// Rows in memory. See the head of its module for how.
#[derive(Default)]
pub struct MemoryControl {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<Vec<u8>, Bytes>,
    /// For each batch since the last flush: what its rows were before.
    unflushed: Vec<Vec<(Vec<u8>, Option<Bytes>)>>,
}

impl MemoryControl {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: of the batches since the last flush the oldest `survivors` are there, the others are lost.
    pub fn crash(&self, survivors: usize) {
        let mut inner = self.inner.write();
        while inner.unflushed.len() > survivors {
            for (key, before) in inner.unflushed.pop().unwrap_or_default().into_iter().rev() {
                inner.set(key, before);
            }
        }
        inner.unflushed.clear();
    }
}

impl Inner {
    fn set(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Option<Bytes> {
        match value {
            Some(value) => self.rows.insert(key, value),
            None => self.rows.remove(&key),
        }
    }
}

impl ControlStore for MemoryControl {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.inner.read().rows.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, order: Order, limit: usize) -> Result<Page> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let inner = self.inner.read();
        let end = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = inner
            .rows
            .range::<[u8], _>((Bound::Included(range.start.as_slice()), end))
            .map(|(key, value)| Ok((Bytes::copy_from_slice(key), value.clone())));
        match order {
            Order::Ascending => page_of(rows, limit),
            Order::Descending => page_of(rows.rev(), limit),
        }
    }

    fn apply(&self, writes: &[ControlWrite]) -> Result<()> {
        check_batch(writes)?;
        let mut inner = self.inner.write();
        let mut before = Vec::with_capacity(writes.len());
        for write in writes {
            let old = inner.set(write.key.clone(), write.value.clone());
            before.push((write.key.clone(), old));
        }
        inner.unflushed.push(before);
        Ok(())
    }

    fn flush_durable(&self) -> Result<()> {
        if !flush_is_skipped() {
            self.inner.write().unflushed.clear();
        }
        Ok(())
    }
}
