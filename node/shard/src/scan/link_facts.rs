//! Scanning link facts, as they stand at their primaries.
//!
//! They are control rows, a few microseconds each to bring together and to read. So those of a few slots, a *block*, are kept
//! as columns ([`HotColumns`](super::HotColumns)), by the state that they are of: the journal notes when link rows of a slot
//! changed last. A block that has changed is read anew, and one of which that isn't known is not kept.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use isthmus_domain::{LinkFact, LinkKind};
use isthmus_identity::{keys, stored::StoredRow};
use isthmus_raft::Broken;

use super::{
    Part, Request, Snapshot,
    columns::Columns,
    control::Cursor,
    events::home_column,
    homes::Homes,
    hot::{Block, Kind},
    schema::link_fact,
    slots::{Owned, SlotSpan, blocks},
};
use crate::{error::broken, keys::table};

/// Parts of a scan: how many rows there are isn't known beforehand.
const PARTS: usize = 4;
/// Slots of a block: a thousandth of all.
const BLOCK_SLOTS: u16 = 16;

/// The parts of a scan of link facts.
pub(super) fn parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    let (snapshot, request) = (snapshot.clone(), request.clone());
    if let Some(facets) = &request.filters.facets {
        let of_one = |facet| Cursor::of_prefix(snapshot.clone(), &keys::link_rows(facet, None));
        let cursors = facets.iter().rev().map(of_one).collect();
        let columns = request.columns.clone();
        return vec![Part::of(Rows {
            snapshot,
            columns,
            batch_rows: request.batch_rows,
            homes: None,
            cursors,
        })];
    }
    let all = blocks(snapshot.owned(), BLOCK_SLOTS);
    let part = |blocks: &[SlotSpan]| {
        let blocks = blocks.iter().rev().copied().collect();
        Part::of(Blocks {
            snapshot: snapshot.clone(),
            request: request.clone(),
            homes: None,
            blocks,
            rest: None,
        })
    };
    all.chunks(all.len().div_ceil(PARTS).max(1)).map(part).collect()
}

/// Blocks, whose columns are kept.
struct Blocks {
    snapshot: Arc<Snapshot>,
    request: Arc<Request>,
    homes: Option<Arc<Homes>>,
    /// The next one last.
    blocks: Vec<SlotSpan>,
    /// What was read and not yet given.
    rest: Option<RecordBatch>,
}

impl Blocks {
    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let homes = homes(&mut self.homes, &self.snapshot, &self.request.columns)?;
        let most = self.request.batch_rows;
        let mut rows = self.rest.as_ref().map_or(0, RecordBatch::num_rows);
        let mut some: Vec<RecordBatch> = self.rest.take().into_iter().collect();
        while rows < most
            && let Some(block) = self.blocks.pop()
        {
            let batch = self.block(block, &homes)?;
            rows += batch.num_rows();
            some.push(batch);
        }
        if rows == 0 {
            return Ok(None);
        }
        let all = match &some[..] {
            [one] => one.clone(),
            several if self.request.columns.is_empty() => {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                let schema = several.first().map_or_else(|| self.request.schema(), RecordBatch::schema);
                RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(broken)?
            }
            several => concat_batches(&self.request.schema(), several).map_err(broken)?,
        };
        if rows > most {
            self.rest = Some(all.slice(most, rows - most));
            return Ok(Some(all.slice(0, most)));
        }
        Ok(Some(all))
    }

    fn block(&self, slots: SlotSpan, homes: &Homes) -> Result<RecordBatch, Broken> {
        let Self { snapshot, request, .. } = self;
        // The facets are always among them: they say how many rows there are, and where their profiles are.
        let mut raw: Vec<usize> =
            request.columns.iter().copied().filter(|column| *column != link_fact::HOME).collect();
        raw.push(link_fact::FACET);
        raw.sort_unstable();
        raw.dedup();
        let (hot, name, of) = (snapshot.hot(), Block::Links(slots.start), snapshot.links(slots));
        let kept = |column: &usize| hot.get(name, Kind::Raw(*column), of).filter(|_| of != 0);
        let kept: Option<Vec<ArrayRef>> = raw.iter().map(kept).collect();
        // Columns that came at different times have the same rows, as they are of one state.
        let arrays = match kept {
            Some(arrays) => arrays,
            None => {
                let cursors = vec![Cursor::of_slots(snapshot.clone(), table::LINK_ROW, slots)];
                let columns = raw.clone();
                let mut rows = Rows {
                    snapshot: snapshot.clone(),
                    columns,
                    batch_rows: usize::MAX,
                    homes: None,
                    cursors,
                };
                let schema = Request { columns: raw.clone(), ..Request::all(request.table) }.schema();
                let batch = rows.fill()?.unwrap_or_else(|| RecordBatch::new_empty(schema));
                if of != 0 {
                    for (column, array) in raw.iter().zip(batch.columns()) {
                        hot.put(name, Kind::Raw(*column), of, array);
                    }
                }
                batch.columns().to_vec()
            }
        };
        let found = |number: usize| {
            let at = raw.binary_search(&number).ok();
            at.and_then(|at| arrays.get(at)).ok_or_else(|| broken("a column was not read"))
        };
        let facets = found(link_fact::FACET)?;
        let columns = request.columns.iter().map(|number| match *number {
            link_fact::HOME => home_column(facets, homes),
            number => found(number).cloned(),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(facets.len()));
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new_with_options(request.schema(), columns, &options).map_err(broken)
    }
}

impl Iterator for Blocks {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}

/// The homes, when they are asked for.
fn homes(
    known: &mut Option<Arc<Homes>>,
    snapshot: &Arc<Snapshot>,
    columns: &[usize],
) -> Result<Arc<Homes>, Broken> {
    if let Some(homes) = known {
        return Ok(homes.clone());
    }
    let homes = match columns.contains(&link_fact::HOME) {
        true => snapshot.homes()?,
        false => Arc::default(),
    };
    *known = Some(homes.clone());
    Ok(homes)
}

/// Rows as they come.
struct Rows {
    snapshot: Arc<Snapshot>,
    columns: Vec<usize>,
    batch_rows: usize,
    homes: Option<Arc<Homes>>,
    /// The next one last.
    cursors: Vec<Cursor>,
}

impl Rows {
    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let homes = homes(&mut self.homes, &self.snapshot, &self.columns)?;
        let snapshot = self.snapshot.clone();
        let mut owned = Owned::of(snapshot.owned());
        let request = Request { columns: self.columns.clone(), ..Request::all(super::Table::LinkFacts) };
        let mut columns = Columns::new(&request.schema());
        while columns.rows() < self.batch_rows {
            let Some(cursor) = self.cursors.last_mut() else { break };
            let Some(row) = cursor.next() else {
                self.cursors.pop();
                continue;
            };
            let (key, value) = row?;
            let row = StoredRow::read(&value).map_err(broken)?;
            // A row whose facts were all retracted.
            let Some(fact) = &row.fact else { continue };
            let fact = LinkFact::decode(fact).map_err(broken)?;
            let facet = keys::facet(&key).ok_or_else(|| broken("a link row's key is damaged"))?;
            if !owned.has(facet.as_bytes()) {
                continue;
            }
            for (place, column) in self.columns.iter().enumerate() {
                match *column {
                    link_fact::FACET => columns.id(place, facet.as_bytes()),
                    link_fact::HOME => columns.id(place, homes.of(facet).as_bytes()),
                    link_fact::NAMESPACE => columns.text(place, Some(fact.a.namespace().as_str())),
                    link_fact::VALUE => columns.text(place, Some(fact.a.value())),
                    link_fact::COUNTERPART_NAMESPACE => {
                        columns.text(place, Some(fact.b.namespace().as_str()));
                    }
                    link_fact::COUNTERPART_VALUE => columns.text(place, Some(fact.b.value())),
                    link_fact::SOURCE => columns.text(place, Some(&fact.source)),
                    link_fact::KIND => columns.text(place, Some(kind(fact.kind))),
                    link_fact::TIMESTAMP => columns.time(place, Some(fact.timestamp)),
                    link_fact::MESSAGE_ID => columns.text(place, Some(&fact.message_id)),
                    // What was told is for the root to judge.
                    link_fact::FOLLOWED => columns.flag(place, (!row.told).then_some(false)),
                    _ => {}
                }
            }
            columns.end_row();
        }
        columns.finish_some()
    }
}

fn kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Plain => "plain",
        LinkKind::Alias => "alias",
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}
