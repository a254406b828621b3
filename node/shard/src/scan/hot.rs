//! Decoded columns, kept for the next query.
//!
//! People ask of the same few columns again and again, and decoding them (a page of Parquet, a number in a JSON text) costs
//! far more than adding them up. A *block* is some thousand rows of a run, or of a [`Base`](super::base::Base), that will
//! always be the same; its columns are kept by the block and what they are. Where a column depends on more, it is kept with the
//! state of that, and made anew in another. All replicas of a node share one budget.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use quick_cache::{Weighter, sync::Cache};

/// Rows of a block, about.
pub(super) const BLOCK_ROWS: usize = 8_192;

/// A block. Numbers of runs and of bases are given out once by a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Block {
    /// Of a run of events: the run, and the block in it.
    Run(u64, u32),
    /// Of a base: the base, and the block in it.
    Base(u64, u32),
    /// Link facts of some slots: the first of them. These change, and are kept by their state.
    Links(u16),
}

/// A column of a block: a raw one by its place in the table, or a derived one by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// As it is stored.
    Raw(usize),
    /// See [`Derived`](super::Derived).
    Derived(u64),
}

#[derive(Clone)]
struct Bytewise;

/// What an entry costs besides its data, about.
const ENTRY_BYTES: usize = 256;

impl Weighter<(Block, Kind), Entry> for Bytewise {
    fn weight(&self, _: &(Block, Kind), (_, array): &Entry) -> u64 {
        (array.get_array_memory_size() + ENTRY_BYTES) as u64
    }
}

/// The columns of a node.
pub(crate) struct HotColumns(Cache<(Block, Kind), Entry, Bytewise>);

/// A column, and of which state it is ([`Derived::of`](super::Derived)).
type Entry = (u64, ArrayRef);

impl HotColumns {
    /// Of at most so many bytes.
    pub fn new(budget_bytes: u64) -> Self {
        let entries = (budget_bytes / (64 << 10)).clamp(64, 1 << 20) as usize;
        Self(Cache::with_weighter(entries, budget_bytes, Bytewise))
    }

    /// A column, if it is kept, of this state.
    pub(super) fn get(&self, block: Block, kind: Kind, of: u64) -> Option<ArrayRef> {
        self.0.get(&(block, kind)).filter(|(known, _)| *known == of).map(|(_, array)| array)
    }

    /// Keeps a column, instead of one of another state.
    pub(super) fn put(&self, block: Block, kind: Kind, of: u64, array: &ArrayRef) {
        self.0.insert((block, kind), (of, Arc::clone(array)));
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

impl std::fmt::Debug for HotColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HotColumns({} bytes)", self.bytes())
    }
}
