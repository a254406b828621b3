//! Scanning events: those in runs column by column, those in memory one by one. An event is in one place only, so nothing
//! is merged and nothing is sorted.
//!
//! Of a run, the columns that are asked about are decoded first, a block of some thousand rows at a time; the others only
//! where a row fits. What was decoded is kept (`hot`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{cast, filter};
use arrow::datatypes::{Int32Type, Schema, SchemaRef, UInt8Type};
use isthmus_domain::{FacetId, RecordView};
use isthmus_raft::Broken;
use isthmus_storage::runs::{Projection, Run};

use super::{
    Derived, Part, Request, Snapshot, Table,
    columns::Columns as Rows,
    filter::{Passes, Rule},
    homes::Homes,
    hot::{BLOCK_ROWS, Block, HotColumns, Kind},
    schema::{event, few_values, schema},
    slots::Owned,
};
use crate::{
    error::broken,
    tables::{self, EVENTS, micros},
};

/// Rows of a part.
const PART_ROWS: usize = 128 << 10;

/// The column of the stored table that a column is read from.
fn stored(column: usize) -> usize {
    match column {
        event::TIMESTAMP => tables::event::TIMESTAMP,
        event::EVENT_KEY => tables::event::KEY,
        event::RECEIVED_AT => tables::event::RECEIVED_AT,
        event::TYPE => tables::event::KIND,
        event::SOURCE => tables::event::SOURCE,
        event::NAME => tables::event::NAME,
        event::MESSAGE_ID => tables::event::MESSAGE_ID,
        event::PROPERTIES => tables::event::PROPERTIES,
        event::CONTEXT => tables::event::CONTEXT,
        // The facet, and what follows from it.
        _ => tables::event::FACET,
    }
}

/// The parts of a scan of events.
pub(super) fn parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    let rule = Arc::new(Rule::of(&request.filters));
    let mut parts = Vec::new();
    for run in snapshot.runs.runs_of(EVENTS) {
        for stripes in cut(stripes(run, &rule), PART_ROWS.div_ceil(run.stripe_rows().max(1))) {
            parts.push(Part::of(OfRun {
                scan: Scan::of(snapshot, request, &rule),
                run: run.clone(),
                stripes,
                homes: None,
            }));
        }
    }
    parts.extend(Part::shaped(request, |request| {
        let mut parts = Vec::new();
        for memory in 0..snapshot.memory.len() {
            let len = snapshot.memory.get(memory).map_or(0, |events| events.len());
            for start in (0..len).step_by(PART_ROWS) {
                let scan = Scan::of(snapshot, request, &rule);
                let rows = start..(start + PART_ROWS).min(len);
                parts.push(Part::of(OfMemory { scan, memory, rows, homes: None }));
            }
        }
        parts
    }));
    parts
}

/// The stripes of a run that may hold what is asked for.
fn stripes(run: &Run, rule: &Rule) -> Vec<Range<usize>> {
    let Some(facets) = rule.facets() else { return std::iter::once(0..run.stripes()).collect() };
    let mut found: Vec<Range<usize>> = Vec::new();
    for facet in facets {
        let id = facet.as_bytes();
        if !run.may_contain(id) {
            continue;
        }
        let range = run.stripes_between(Some(id), super::successor(id).as_ref());
        match found.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => found.push(range),
        }
    }
    found
}

/// Cuts ranges into parts of at most so many stripes.
fn cut(ranges: Vec<Range<usize>>, most: usize) -> Vec<Vec<Range<usize>>> {
    let (mut parts, mut room) = (Vec::<Vec<Range<usize>>>::new(), 0);
    for mut range in ranges {
        while !range.is_empty() {
            if room == 0 {
                parts.push(Vec::new());
                room = most.max(1);
            }
            let end = range.end.min(range.start + room);
            room -= end - range.start;
            if let Some(part) = parts.last_mut() {
                part.push(range.start..end);
            }
            range.start = end;
        }
    }
    // The next range is taken from the end of each.
    parts.iter_mut().for_each(|part| part.reverse());
    parts
}

/// What the parts of a scan have in common.
struct Scan {
    snapshot: Arc<Snapshot>,
    request: Arc<Request>,
    rule: Arc<Rule>,
    schema: SchemaRef,
}

impl Scan {
    fn of(snapshot: &Arc<Snapshot>, request: &Arc<Request>, rule: &Arc<Rule>) -> Self {
        Self {
            snapshot: snapshot.clone(),
            request: request.clone(),
            rule: rule.clone(),
            schema: request.schema(),
        }
    }

    /// The homes, when they are asked for.
    fn homes(&self, known: &mut Option<Arc<Homes>>) -> Result<Arc<Homes>, Broken> {
        if let Some(homes) = known {
            return Ok(homes.clone());
        }
        let needed = self.request.derived.iter().flat_map(|it| &it.needs);
        let homes = match self.request.columns.iter().chain(needed).any(|it| *it == event::HOME) {
            true => self.snapshot.homes()?,
            false => Arc::default(),
        };
        *known = Some(homes.clone());
        Ok(homes)
    }
}

/// A part of a run.
struct OfRun {
    scan: Scan,
    run: Arc<Run>,
    /// The next one last.
    stripes: Vec<Range<usize>>,
    homes: Option<Arc<Homes>>,
}

/// Columns by their number in the table.
type Found = BTreeMap<usize, ArrayRef>;

impl OfRun {
    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let homes = self.scan.homes(&mut self.homes)?;
        while let Some(range) = self.stripes.pop() {
            let block = self.block_at(range.start);
            let end = range.end.min(block.end);
            if end < range.end {
                self.stripes.push(end..range.end);
            }
            let hot = (range.start, end) == (block.start, block.end);
            let batch = self.read(range.start..end, hot, &homes)?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The stripes of the block that a stripe is in. A block lies in one row group.
    fn block_at(&self, stripe: usize) -> Range<usize> {
        let group = self.run.group_of(stripe);
        let stripes = (BLOCK_ROWS / self.run.stripe_rows().max(1)).max(1);
        let start = group.start + (stripe - group.start) / stripes * stripes;
        start..(start + stripes).min(group.end)
    }

    /// Reads stripes of one block; `hot`: all of it, whose columns are kept.
    fn read(&self, stripes: Range<usize>, hot: bool, homes: &Homes) -> Result<RecordBatch, Broken> {
        let Scan { snapshot, request, rule, schema } = &self.scan;
        let columns = Columns { of: self, stripes: stripes.clone(), hot };
        let rows = self.run.rows_of_stripes(stripes);
        let owned = Owned::of(snapshot.owned());
        let whole = self.run.bounds().is_none_or(|(first, last)| {
            owned.has_all(&FacetId::from_bytes(first), &FacetId::from_bytes(last))
        });
        let mut first = rule.columns();
        if !whole || rule.facets().is_some() {
            first.push(event::FACET);
        }
        let mut found = Found::new();
        let mut fits = None;
        if !first.is_empty() {
            columns.take(&first, &[], &mut found)?;
            let mask = self.mask(&found, rows, (!whole).then_some(owned))?;
            match mask.true_count() {
                0 => return Ok(RecordBatch::new_empty(schema.clone())),
                all if all == rows => {}
                _ => fits = Some(mask),
            }
        }
        let wanted: Vec<usize> = request.columns.iter().map(raw).collect();
        let mut derived: Vec<Option<ArrayRef>> = request.derived.iter().map(|it| columns.kept(it)).collect();
        let missing = request.derived.iter().zip(&derived).filter(|(_, kept)| kept.is_none());
        let needs: Vec<usize> = missing.flat_map(|(it, _)| it.needs.iter().map(raw)).collect();
        columns.take(&wanted, &needs, &mut found)?;
        for (place, it) in derived.iter_mut().zip(&request.derived) {
            if place.is_none() {
                *place = Some(columns.derive(it, &found, homes)?);
            }
        }
        let raw_columns = request.columns.iter().map(|number| column(&found, *number, homes));
        let mut arrays =
            raw_columns.chain(derived.into_iter().flatten().map(Ok)).collect::<Result<Vec<_>, _>>()?;
        let mut rows = rows;
        if let Some(fits) = &fits {
            rows = fits.true_count();
            for array in &mut arrays {
                *array = filter(array, fits).map_err(broken)?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options).map_err(broken)
    }

    /// Which rows fit.
    fn mask(&self, found: &Found, rows: usize, owned: Option<Owned<'_>>) -> Result<BooleanArray, Broken> {
        let column = |number: usize| {
            found.get(&number).ok_or_else(|| broken("a column that is asked about was not read"))
        };
        let rule = &self.scan.rule;
        let mut fits = Passes::all(rows);
        for number in rule.columns() {
            let column = column(number)?;
            match number {
                event::TIMESTAMP | event::RECEIVED_AT => {
                    let times = micros(column).ok_or_else(|| broken("an event's time is not one"))?;
                    fits.keep(|row| times.get(row).is_some_and(|time| rule.time(number, *time)));
                }
                event::TYPE => {
                    let types = column.as_primitive::<UInt8Type>().values();
                    fits.keep(|row| types.get(row).is_some_and(|kind| rule.kind(*kind)));
                }
                _ => {
                    let texts = column.as_dictionary::<Int32Type>();
                    let values = texts.values().as_string::<i32>();
                    let pass: Vec<bool> =
                        values.iter().map(|text| rule.text(number, text.unwrap_or_default())).collect();
                    let null = rule.text(number, "");
                    let passes = |key: &i32| pass.get(*key as usize) == Some(&true);
                    let (keys, nulls) = (texts.keys().values(), texts.nulls());
                    match nulls {
                        None => fits.keep(|row| keys.get(row).is_some_and(passes)),
                        Some(nulls) => fits.keep(|row| match nulls.is_valid(row) {
                            true => keys.get(row).is_some_and(passes),
                            false => null,
                        }),
                    }
                }
            }
        }
        if rule.facets().is_some() || owned.is_some() {
            let ids = column(event::FACET)?.as_fixed_size_binary();
            let mut owned = owned;
            fits.keep_of_rest(|row| {
                FacetId::from_slice(ids.value(row)).is_some_and(|facet| {
                    rule.facet(&facet) && owned.as_mut().is_none_or(|owned| owned.has(facet.as_bytes()))
                })
            });
        }
        Ok(fits.finish())
    }
}

/// The columns of some stripes.
struct Columns<'a> {
    of: &'a OfRun,
    stripes: Range<usize>,
    /// Whether they are a block, whose columns are kept.
    hot: bool,
}

impl Columns<'_> {
    fn kept_as(&self) -> Option<(&HotColumns, Block)> {
        let block = u32::try_from(self.stripes.start).ok().filter(|_| self.hot)?;
        Some((self.of.scan.snapshot.hot(), Block::Run(self.of.run.number(), block)))
    }

    /// Adds columns to those that were found: `wanted` ones are kept, and the others only used.
    fn take(&self, wanted: &[usize], used: &[usize], found: &mut Found) -> Result<(), Broken> {
        let mut missing = Vec::new();
        for column in wanted.iter().chain(used) {
            if found.contains_key(column) {
                continue;
            }
            let kept = self.kept_as().and_then(|(hot, block)| hot.get(block, Kind::Raw(*column), 0));
            match kept {
                Some(array) => _ = found.insert(*column, array),
                None if !missing.contains(column) => missing.push(*column),
                None => {}
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable_by_key(|column| stored(*column));
        let numbers: Vec<usize> = missing.iter().map(|column| stored(*column)).collect();
        let (batch, end) =
            self.of.run.read(self.stripes.clone(), Projection::of(&numbers)).map_err(broken)?;
        if end != self.stripes.end {
            return Err(broken("stripes that were read together are of several row groups"));
        }
        for (column, array) in missing.into_iter().zip(batch.columns()) {
            let array = match column {
                event::SOURCE | event::NAME => cast(array, &few_values()).map_err(broken)?,
                _ => array.clone(),
            };
            if let Some((hot, block)) = self.kept_as().filter(|_| wanted.contains(&column)) {
                hot.put(block, Kind::Raw(column), 0, &array);
            }
            found.insert(column, array);
        }
        Ok(())
    }

    /// A derived column, if it is kept.
    fn kept(&self, derived: &Derived) -> Option<ArrayRef> {
        let (hot, block) = self.kept_as()?;
        hot.get(block, Kind::Derived(derived.key), derived.of)
    }

    /// Makes a derived column of those that were found.
    fn derive(&self, derived: &Derived, found: &Found, homes: &Homes) -> Result<ArrayRef, Broken> {
        let arrays = derived.needs.iter().map(|need| {
            let field = schema(Table::Events).fields().get(*need).cloned();
            Ok((field.ok_or_else(|| broken("there is no such column"))?, column(found, *need, homes)?))
        });
        let (fields, arrays): (Vec<_>, Vec<_>) =
            arrays.collect::<Result<Vec<_>, Broken>>()?.into_iter().unzip();
        let options =
            RecordBatchOptions::new().with_row_count(Some(self.of.run.rows_of_stripes(self.stripes.clone())));
        let raw = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        let made = derived.of(&raw.map_err(broken)?)?;
        if let Some((hot, block)) = self.kept_as() {
            hot.put(block, Kind::Derived(derived.key), derived.of, &made);
        }
        Ok(made)
    }
}

/// A column that is asked for, of those that were found.
fn column(found: &Found, number: usize, homes: &Homes) -> Result<ArrayRef, Broken> {
    let column = found.get(&raw(&number)).ok_or_else(|| broken("a column was not read"))?;
    match number {
        event::HOME => home_column(column, homes),
        _ => Ok(column.clone()),
    }
}

/// The column that one follows from: the home from the facet.
fn raw(column: &usize) -> usize {
    if *column == event::HOME { event::FACET } else { *column }
}

impl Iterator for OfRun {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}

/// The homes of a column of facets.
pub(super) fn home_column(facets: &ArrayRef, homes: &Homes) -> Result<ArrayRef, Broken> {
    if homes.is_plain() {
        return Ok(facets.clone());
    }
    let facets = facets.as_fixed_size_binary();
    let mut values = Vec::with_capacity(facets.len() * 16);
    let (mut last, mut home) = (&[][..], FacetId::default());
    for id in facets.iter().flatten() {
        // Rows of a facet lie together.
        if id != last {
            let facet = FacetId::from_slice(id).ok_or_else(|| broken("a facet's id is not 16 bytes"))?;
            (last, home) = (id, homes.of(facet));
        }
        values.extend_from_slice(home.as_bytes());
    }
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, values.into(), None).map_err(broken)?))
}

/// A part of what is in memory; of raw columns alone.
struct OfMemory {
    scan: Scan,
    memory: usize,
    rows: Range<usize>,
    homes: Option<Arc<Homes>>,
}

impl OfMemory {
    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let homes = self.scan.homes(&mut self.homes)?;
        let Scan { snapshot, request, rule, schema } = &self.scan;
        let Some(events) = snapshot.memory.get(self.memory) else { return Ok(None) };
        let mut owned = Owned::of(snapshot.owned());
        let mut columns = Rows::new(schema);
        while columns.rows() < request.batch_rows
            && let Some(row) = self.rows.next().and_then(|number| events.get(number))
        {
            let received = row.entry.stamp.as_micros();
            if !owned.has(row.facet.as_bytes())
                || !rule.facet(&row.facet)
                || !rule.time(event::TIMESTAMP, row.timestamp)
                || !rule.time(event::RECEIVED_AT, received)
            {
                continue;
            }
            let record = RecordView::read(events.record(row)).map_err(broken)?;
            if !rule.kind(record.kind as u8)
                || !rule.text(event::SOURCE, record.source)
                || !rule.text(event::NAME, record.name)
            {
                continue;
            }
            for (place, column) in request.columns.iter().enumerate() {
                match *column {
                    event::FACET => columns.id(place, row.facet.as_bytes()),
                    event::HOME => columns.id(place, homes.of(row.facet).as_bytes()),
                    event::TIMESTAMP => columns.time(place, Some(row.timestamp)),
                    event::EVENT_KEY => columns.id(place, &row.key),
                    event::RECEIVED_AT => columns.time(place, Some(received)),
                    event::TYPE => columns.kind(place, record.kind as u8),
                    event::SOURCE => columns.text(place, Some(record.source)),
                    event::NAME => columns.text(place, said(record.name)),
                    event::MESSAGE_ID => columns.text(place, Some(record.message_id)),
                    event::PROPERTIES => columns.text(place, json(record.properties)?),
                    event::CONTEXT => columns.text(place, json(record.context)?),
                    _ => {}
                }
            }
            columns.end_row();
        }
        columns.finish_some()
    }
}

impl Iterator for OfMemory {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}

/// A text, unless it is empty.
pub(super) fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn json(bytes: &[u8]) -> Result<Option<&str>, Broken> {
    let text = std::str::from_utf8(bytes);
    Ok(said(text.map_err(|_| broken("an event's properties or context are no text"))?))
}
