//! One cache for all runs of a node, within a budget in bytes: decoded stripes, verified flat blocks, dictionary pages.
//!
//! Scans and merges go around it, since they would only push out what look-ups use. Run numbers are never used twice,
//! so nothing in it is ever stale.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::key::Keys;
use super::table::Projection;
use crate::Result;

/// A decoded stripe with the keys of its rows.
pub(crate) struct Stripe {
    pub batch: RecordBatch,
    pub keys: Keys,
}

#[derive(Clone)]
enum Cached {
    Stripe(Arc<Stripe>),
    Block(Bytes),
}

/// Run, number of the stripe or block, columns. No stripe is decoded without its first column, so even numbers are
/// free for what has no columns.
type Key = (u64, u32, u64);
const BLOCK: u64 = 0;
const DICTIONARY_PAGE: u64 = 2;

#[derive(Clone)]
struct Bytewise;

/// What an entry costs besides its data.
const ENTRY_BYTES: usize = 128;

impl Weighter<Key, Cached> for Bytewise {
    fn weight(&self, _: &Key, cached: &Cached) -> u64 {
        let bytes = match cached {
            Cached::Stripe(stripe) => stripe.batch.get_array_memory_size() + stripe.keys.as_bytes().len(),
            Cached::Block(block) => block.len(),
        };
        (bytes + ENTRY_BYTES) as u64
    }
}

/// The cache. See the module's text.
pub(crate) struct RunCache(Cache<Key, Cached, Bytewise>);

impl RunCache {
    /// `budget_bytes` bounds the data in it.
    pub fn new(budget_bytes: u64) -> Self {
        let entries = (budget_bytes / 16_384).clamp(64, 1 << 20) as usize;
        Self(Cache::with_weighter(entries, budget_bytes, Bytewise))
    }

    /// A decoded stripe; `projection` holds column 0.
    pub fn stripe(
        &self,
        run: u64,
        number: usize,
        projection: Projection,
        read: impl FnOnce() -> Result<Stripe>,
    ) -> Result<Arc<Stripe>> {
        let key = (run, number as u32, projection.0);
        if let Some(Cached::Stripe(stripe)) = self.0.get(&key) {
            return Ok(stripe);
        }
        let stripe = Arc::new(read()?);
        self.0.insert(key, Cached::Stripe(Arc::clone(&stripe)));
        Ok(stripe)
    }

    /// A block of a flat run.
    pub fn block(&self, run: u64, number: usize, read: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        self.bytes_of((run, number as u32, BLOCK), read)
    }

    /// A dictionary page of a columnar run: every stripe of its row group needs it.
    pub fn dictionary(&self, run: u64, number: usize, read: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        self.bytes_of((run, number as u32, DICTIONARY_PAGE), read)
    }

    fn bytes_of(&self, key: Key, read: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        if let Some(Cached::Block(block)) = self.0.get(&key) {
            return Ok(block);
        }
        let block = read()?;
        self.0.insert(key, Cached::Block(block.clone()));
        Ok(block)
    }

    /// Bytes in it.
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }
}
