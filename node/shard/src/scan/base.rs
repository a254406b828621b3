//! All facets of a shard as of one stamp, in blocks, so that what was made of them once is there for the next query.
//!
//! Facets change in place, unlike events, and their rows lie in several runs, in memory and in records; to bring them
//! together takes about a microsecond each. A *base* says which facets there were at a stamp, and where their profiles
//! were. Columns are filled in when they are first asked for, and kept ([`HotColumns`](super::HotColumns)). What has
//! changed after it is in the [`Journal`](super::Journal): rows of those facets are left out, and read as they are at the
//! snapshot's stamp. So a scan gives what it would without a base, at a cost that follows from what has changed.
//!
//! **Why it is right.** A base is made from a snapshot whose pin is not older than the journal. So a facet that is not in
//! the journal has not changed since the base's stamp, and its row is the same at any stamp from there to now, also if it
//! is read later. A snapshot that is older than the base does without.
//!
//! **When it ends.** With the journal: slots come or go, another state is installed, or very much has changed. When more
//! has changed than a part of it, the next snapshot makes a new one.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, RecordBatch,
    RecordBatchOptions, UInt32Array, UInt32Builder,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{concat_batches, filter, take};
use isthmus_domain::{FacetId, SlotRanges, Stamp};
use isthmus_raft::Broken;

use super::{
    Filters, Request, Snapshot, Table,
    facets::{Between, OfFacets},
    homes::Homes,
    hot::{BLOCK_ROWS, Block, Kind},
    schema::{facet, schema},
};
use crate::error::broken;

/// Facets that may have changed for a base to be of use, and the part of all that may have.
const CHANGED_MAX: usize = 2_048;
const CHANGED_PART: usize = 16;

/// Numbers of bases and journals: from somewhere on that no other process begins at.
static NUMBERS: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(0)));

/// A number that no base and no journal of this process had before, nor of any other, by all chance.
pub(super) fn number() -> u64 {
    NUMBERS.fetch_add(1, Relaxed)
}

/// See the module.
pub(crate) struct Base {
    number: u64,
    at: Stamp,
    owned: SlotRanges,
    /// The journal that has what changed since.
    journal: u64,
    /// The facets, rising.
    blocks: Vec<Facets>,
    pub(super) homes: Arc<Homes>,
}

/// The facets of a block, and what holds of those that haven't changed: whoever has another home, or is no whole profile any
/// more, or is one again, is in the journal.
struct Facets {
    ids: FixedSizeBinaryArray,
    homes: ArrayRef,
    /// Which are whole profiles.
    alone: BooleanBuffer,
}

impl Facets {
    fn of(ids: FixedSizeBinaryArray, homes: &Homes) -> Result<Self, Broken> {
        let alone =
            ids.iter().map(|id| id.and_then(FacetId::from_slice).is_some_and(|id| homes.is_alone(&id)));
        let alone = alone.collect();
        let homes = super::events::home_column(&(Arc::new(ids.clone()) as ArrayRef), homes)?;
        Ok(Self { ids, homes, alone })
    }

    /// Where a facet is.
    fn place(&self, facet: &FacetId) -> Option<usize> {
        let (mut low, mut high) = (0, self.ids.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.ids.value(middle).cmp(facet.as_bytes()) {
                Ordering::Equal => return Some(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// A base as one snapshot sees it.
pub(super) struct View {
    pub base: Arc<Base>,
    /// Facets whose rows are read anew, rising.
    pub changed: Vec<FacetId>,
    /// Where profiles are at the snapshot's stamp.
    pub homes: Arc<Homes>,
}

impl Base {
    /// Reads all facets. The journal was there before the snapshot's pin.
    fn read(snapshot: &Arc<Snapshot>, journal: u64) -> Result<Self, Broken> {
        let homes = Arc::new(Homes::read(snapshot)?);
        let request = Request {
            table: Table::Facets,
            columns: vec![facet::FACET],
            derived: Vec::new(),
            filters: Filters::default(),
            batch_rows: BLOCK_ROWS,
        };
        let rows = OfFacets::new(snapshot, &Arc::new(request), vec![(None, None)], homes.clone());
        let mut blocks = Vec::new();
        for batch in rows {
            blocks.push(Facets::of(batch?.column(0).as_fixed_size_binary().clone(), &homes)?);
        }
        let owned = snapshot.owned().clone();
        Ok(Self { number: number(), at: snapshot.at(), owned, journal, blocks, homes })
    }

    fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.ids.len()).sum()
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

impl Snapshot {
    /// What is known of all facets, if that helps. May wait for a disk.
    pub(super) fn view(self: &Arc<Self>) -> Result<Option<Arc<View>>, Broken> {
        let mut known = self.view.lock();
        if let Some(view) = &*known {
            return Ok(view.clone());
        }
        let view = self.make_view()?.map(Arc::new);
        *known = Some(view.clone());
        Ok(view)
    }

    fn make_view(self: &Arc<Self>) -> Result<Option<View>, Broken> {
        let shared = &self.guard.shared;
        let mut kept = shared.base.lock();
        // Also a base that is not used: it may be another's soon.
        let journal = {
            let state = shared.state.read();
            state.active.journal.as_ref().map(|journal| {
                let base = kept.as_ref().filter(|base| base.journal == journal.number());
                let changed = base.filter(|base| base.at <= self.at()).map(|base| journal.after(base.at));
                (journal.number(), journal.since(), base.map(|base| base.at), changed)
            })
        };
        let Some((number, since, at, changed)) = journal else {
            kept.take();
            return Ok(None);
        };
        if at.is_some_and(|at| at > self.at()) || since > self.pinned() {
            return Ok(None);
        }
        let fits = |base: &&Arc<Base>| base.owned == *self.owned();
        if let Some(changed) = changed
            && let Some(base) = kept.as_ref().filter(fits)
            && changed.facets.len() <= CHANGED_MAX.max(base.rows() / CHANGED_PART)
        {
            let homes = match changed.places.is_empty() {
                true => base.homes.clone(),
                false => Arc::new(base.homes.changed(self, &changed.places)?),
            };
            let mut facets = changed.facets;
            facets.sort_unstable();
            return Ok(Some(View { base: base.clone(), changed: facets, homes }));
        }
        let base = Arc::new(Base::read(self, number)?);
        *kept = Some(base.clone());
        drop(kept);
        // What changed since the snapshot's stamp is left out by this view, too: those rows are as they were, but columns
        // of them are filled in only as they are now.
        let changed = shared.state.read().active.journal.as_ref().map(|journal| journal.after(base.at));
        let mut facets = changed.unwrap_or_default().facets;
        facets.sort_unstable();
        let homes = base.homes.clone();
        Ok(Some(View { base, changed: facets, homes }))
    }
}

/// A block of a base, as a request wants it.
pub(super) struct OfBlock<'a> {
    pub snapshot: &'a Arc<Snapshot>,
    pub request: &'a Request,
    pub view: &'a View,
    pub block: usize,
}

impl OfBlock<'_> {
    /// Its rows that have not changed.
    pub fn read(&self) -> Result<RecordBatch, Broken> {
        let request = self.request;
        let Some(block) = self.view.base.blocks.get(self.block) else {
            return Ok(RecordBatch::new_empty(request.schema()));
        };
        let (fits, facets) = (self.mask(block), &block.ids);
        let count = fits.as_ref().map_or(facets.len(), BooleanArray::true_count);
        if count == 0 {
            return Ok(RecordBatch::new_empty(request.schema()));
        }
        let mut derived: Vec<Option<ArrayRef>> =
            request.derived.iter().map(|it| self.kept(Kind::Derived(it.key), it.of)).collect();
        let missing = request.derived.iter().zip(&derived).filter(|(_, kept)| kept.is_none());
        let needs: Vec<usize> = missing.flat_map(|(it, _)| it.needs.iter().copied()).collect();
        let found = self.columns(block, &needs)?;
        let column =
            |number: &usize| found.iter().find(|(it, _)| it == number).map(|(_, array)| array.clone());
        for (place, it) in derived.iter_mut().zip(&request.derived) {
            if place.is_none() {
                let arrays = it.needs.iter().filter_map(column).collect();
                let fields =
                    it.needs.iter().filter_map(|need| schema(Table::Facets).fields().get(*need).cloned());
                // Rows that have changed may lack what the table says they have.
                let fields: Vec<_> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(facets.len()));
                let raw = RecordBatch::try_new_with_options(
                    Arc::new(arrow::datatypes::Schema::new(fields)),
                    arrays,
                    &options,
                );
                let made = it.of(&raw.map_err(broken)?)?;
                self.keep(Kind::Derived(it.key), it.of, &made);
                *place = Some(made);
            }
        }
        let raw = request
            .columns
            .iter()
            .map(|number| column(number).ok_or_else(|| broken("a column was not read")));
        let mut arrays = raw.chain(derived.into_iter().flatten().map(Ok)).collect::<Result<Vec<_>, _>>()?;
        if let Some(fits) = &fits {
            for array in &mut arrays {
                *array = filter(array, fits).map_err(broken)?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(request.schema(), arrays, &options).map_err(broken)
    }

    fn name(&self) -> Block {
        Block::Base(self.view.base.number, u32::try_from(self.block).unwrap_or(u32::MAX))
    }

    fn kept(&self, kind: Kind, of: u64) -> Option<ArrayRef> {
        self.snapshot.hot().get(self.name(), kind, of)
    }

    fn keep(&self, kind: Kind, of: u64, array: &ArrayRef) {
        self.snapshot.hot().put(self.name(), kind, of, array);
    }

    /// Which rows are asked for; `None`: all.
    fn mask(&self, block: &Facets) -> Option<BooleanArray> {
        let changed = self.changed(block);
        let fits = match self.request.filters.alone {
            None if changed.is_empty() => return None,
            None => BooleanBuffer::new_set(block.ids.len()),
            Some(true) => block.alone.clone(),
            Some(false) => !&block.alone,
        };
        if changed.is_empty() {
            return (fits.count_set_bits() < fits.len()).then(|| BooleanArray::new(fits, None));
        }
        let mut builder = BooleanBufferBuilder::new(fits.len());
        builder.append_buffer(&fits);
        for place in changed {
            builder.set_bit(place, false);
        }
        Some(BooleanArray::new(builder.finish(), None))
    }

    /// The places of those that have changed.
    fn changed(&self, block: &Facets) -> Vec<usize> {
        let changed = &self.view.changed;
        let ends = block.ids.len().checked_sub(1).map(|last| (block.ids.value(0), block.ids.value(last)));
        let Some((first, last)) = ends else { return Vec::new() };
        let from = changed.partition_point(|facet| facet.as_bytes().as_slice() < first);
        let within = changed.get(from..).unwrap_or_default().iter();
        let within = within.take_while(|facet| facet.as_bytes().as_slice() <= last);
        within.filter_map(|facet| block.place(facet)).collect()
    }

    /// The raw columns that the request and what is missing need, by number.
    fn columns(&self, block: &Facets, needs: &[usize]) -> Result<Vec<(usize, ArrayRef)>, Broken> {
        let facets = &block.ids;
        let mut wanted: Vec<usize> = self.request.columns.iter().chain(needs).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for number in wanted {
            match number {
                facet::FACET => found.push((number, Arc::new(facets.clone()) as ArrayRef)),
                facet::HOME => found.push((number, block.homes.clone())),
                facet::MEMBERS => found.push((number, members(&block.alone))),
                _ => match self.kept(Kind::Raw(number), 0) {
                    Some(array) => found.push((number, array)),
                    None => missing.push(number),
                },
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        for (number, array) in missing.iter().zip(self.fill(facets, &missing)?) {
            if self.request.columns.contains(number) && *number != facet::SUMMARY {
                self.keep(Kind::Raw(*number), 0, &array);
            }
            found.push((*number, array));
        }
        Ok(found)
    }

    /// Reads raw columns of the block's facets as they are at the snapshot's stamp.
    fn fill(&self, facets: &FixedSizeBinaryArray, columns: &[usize]) -> Result<Vec<ArrayRef>, Broken> {
        let ids: Vec<&[u8]> = facets.iter().flatten().collect();
        let id = |id: Option<&&[u8]>| id.and_then(|id| <[u8; 16]>::try_from(*id).ok());
        let (Some(first), Some(last)) = (id(ids.first()), id(ids.last())) else { return Ok(Vec::new()) };
        let range: Between = (Some(first), super::successor(&last));
        let request = Request {
            table: Table::Facets,
            columns: std::iter::once(facet::FACET).chain(columns.iter().copied()).collect(),
            derived: Vec::new(),
            filters: Filters::default(),
            batch_rows: BLOCK_ROWS,
        };
        let (schema, homes) = (request.schema(), self.view.homes.clone());
        let read = OfFacets::new(self.snapshot, &Arc::new(request), vec![range], homes);
        let rows = concat_batches(&schema, &read.collect::<Result<Vec<_>, _>>()?).map_err(broken)?;
        let there: Vec<&[u8]> = rows.column(0).as_fixed_size_binary().iter().flatten().collect();
        if there == ids {
            return Ok(rows.columns().iter().skip(1).cloned().collect());
        }
        // Facets have come since the base was made: both lists rise.
        let mut places = UInt32Builder::with_capacity(ids.len());
        let mut place = 0;
        for id in ids {
            while there.get(place).is_some_and(|known| *known < id) {
                place += 1;
            }
            let at = u32::try_from(place).ok().filter(|_| there.get(place) == Some(&id));
            // Rows stay when a facet has said anything once.
            places.append_value(at.ok_or_else(|| broken("a facet is no more that did not change"))?);
        }
        let places = places.finish();
        rows.columns().iter().skip(1).map(|array| take(array, &places, None).map_err(broken)).collect()
    }
}

/// 1 where a facet is a whole profile.
fn members(alone: &BooleanBuffer) -> ArrayRef {
    let ones = vec![1; alone.len()];
    Arc::new(UInt32Array::new(ones.into(), Some(NullBuffer::new(alone.clone()))))
}
