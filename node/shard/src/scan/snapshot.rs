//! A shard's state at one stamp.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use isthmus_domain::{FacetId, SlotRanges, Stamp};
use isthmus_raft::Broken;
use isthmus_storage::runs::RunSet;
use parking_lot::Mutex;

use super::{
    Request, Table, base::View, events, facets, homes::Homes, hot::HotColumns, link_facts, pins::Guard,
    quarantine, slots::SlotSpan,
};
use crate::{memtable::SharedEvents, tables};

/// An event in memory: its facet, which of the parts it is in, and its number there.
pub(super) type Delta = (FacetId, u32, u32);

/// A shard's state at one stamp; see the module. To be read on threads that may wait for a disk.
pub struct Snapshot {
    pub(super) guard: Arc<Guard>,
    pinned: Stamp,
    at: Stamp,
    owned: SlotRanges,
    /// What had been written out when the pin was made.
    pub(super) runs: Arc<RunSet>,
    /// All other events up to the stamp.
    pub(super) memory: Vec<SharedEvents>,
    homes: Mutex<Option<Arc<Homes>>>,
    /// The base and what has changed since, once it was asked for.
    pub(super) view: Mutex<Option<Option<Arc<View>>>>,
    deltas: Mutex<Option<Arc<Vec<Delta>>>>,
}

/// A part of a scan, independent of the others: batches in no particular order of rows.
pub struct Part {
    batches: Box<dyn Iterator<Item = Result<RecordBatch, Broken>> + Send>,
    failed: bool,
}

impl Snapshot {
    pub(super) fn new(
        guard: Arc<Guard>,
        (pinned, at): (Stamp, Stamp),
        owned: SlotRanges,
        runs: Arc<RunSet>,
        memory: Vec<SharedEvents>,
    ) -> Self {
        let (homes, view, deltas) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { guard, pinned, at, owned, runs, memory, homes, view, deltas }
    }

    /// The stamp that the replica had when the pin was made.
    pub(super) fn pinned(&self) -> Stamp {
        self.pinned
    }

    /// The stamp that it is of: it holds what commands with this stamp or an older one did, and nothing else.
    pub fn at(&self) -> Stamp {
        self.at
    }

    /// The shard.
    pub fn shard(&self) -> u64 {
        self.guard.shared.shard
    }

    /// How many rows a table has, about: more than it has where they are merged.
    pub fn rows(&self, table: Table) -> u64 {
        match table {
            Table::Events => {
                let memory: usize = self.memory.iter().map(SharedEvents::len).sum();
                self.runs.rows(tables::EVENTS) + memory as u64
            }
            _ => self.runs.rows(tables::FACETS),
        }
    }

    /// Names the state of all identifiers: as long as it stays the same, so do their homes, and the times and founders of
    /// those that are linked. 0: it is not known.
    pub fn identities(&self) -> u64 {
        let state = self.guard.shared.state.read();
        state.active.journal.as_ref().map_or(0, |journal| journal.identities(self.at))
    }

    /// Names the state of the link rows of some slots: as long as it stays the same, so do they. 0: it is not known.
    pub(super) fn links(&self, slots: SlotSpan) -> u64 {
        let state = self.guard.shared.state.read();
        state.active.journal.as_ref().map_or(0, |journal| journal.links(slots.start..slots.end, self.at))
    }

    /// The columns that this node keeps.
    pub(super) fn hot(&self) -> &HotColumns {
        self.guard.shared.keeper.hot()
    }

    /// Whether it can still be read to its end: its lease goes on, and what has changed since is known.
    pub fn is_held(&self) -> bool {
        let state = self.guard.shared.state.read();
        state.active.watch.as_ref().is_some_and(|watch| watch.holds(self.guard.id))
    }

    /// The slots that the shard owned then. Rows of others don't come.
    pub fn owned(&self) -> &SlotRanges {
        &self.owned
    }

    /// The parts of a scan, each at most some 100,000 rows where that is possible. Reads nothing yet.
    pub fn parts(self: &Arc<Self>, request: &Request) -> Vec<Part> {
        let mut request = request.clone();
        let columns = super::schema(request.table).fields().len();
        request.columns.retain(|column| *column < columns);
        request.derived.iter_mut().for_each(|derived| derived.needs.retain(|column| *column < columns));
        request.batch_rows = request.batch_rows.max(1);
        if let Some(facets) = &mut request.filters.facets {
            facets.sort_unstable();
            facets.dedup();
        }
        let request = Arc::new(request);
        match request.table {
            Table::Events => events::parts(self, &request),
            Table::Facets => facets::parts(self, &request),
            Table::LinkFacts => Part::shaped(&request, |request| link_facts::parts(self, request)),
            Table::Quarantine => Part::shaped(&request, |request| quarantine::parts(self, request)),
        }
    }

    /// Where facets' profiles are; read once. May wait for a disk.
    pub(super) fn homes(self: &Arc<Self>) -> Result<Arc<Homes>, Broken> {
        if let Some(view) = self.view()? {
            return Ok(view.homes.clone());
        }
        let mut known = self.homes.lock();
        if let Some(homes) = &*known {
            return Ok(homes.clone());
        }
        let homes = Arc::new(Homes::read(self)?);
        *known = Some(homes.clone());
        Ok(homes)
    }

    /// The events in memory by rising facets; sorted once.
    pub(super) fn deltas(&self) -> Arc<Vec<Delta>> {
        let mut known = self.deltas.lock();
        let deltas = known.get_or_insert_with(|| {
            let mut deltas = Vec::with_capacity(self.memory.iter().map(SharedEvents::len).sum());
            for (part, events) in (0..).zip(&self.memory) {
                let rows = (0..).zip(events.rows(0..events.len()));
                deltas.extend(rows.map(|(number, row)| (row.facet, part, number)));
            }
            deltas.sort_unstable();
            Arc::new(deltas)
        });
        deltas.clone()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("shard", &self.shard()).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Part {
    pub(super) fn of(batches: impl Iterator<Item = Result<RecordBatch, Broken>> + Send + 'static) -> Self {
        Self { batches: Box::new(batches), failed: false }
    }

    /// Parts that give raw columns alone, made to give all that is asked for.
    pub(super) fn shaped(
        request: &Arc<Request>,
        parts: impl FnOnce(&Arc<Request>) -> Vec<Self>,
    ) -> Vec<Self> {
        let Some((plain, shape)) = request.plain() else { return parts(request) };
        let shape = Arc::new(shape);
        let shaped = |part: Self| {
            let shape = shape.clone();
            Self::of(part.map(move |batch| shape.of(&batch?)))
        };
        parts(&Arc::new(plain)).into_iter().map(shaped).collect()
    }
}

impl Iterator for Part {
    type Item = Result<RecordBatch, Broken>;

    /// The next batch; may wait for a disk. Nothing comes behind an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batches.next();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").finish_non_exhaustive()
    }
}
