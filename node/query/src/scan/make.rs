//! From raw columns to those that a query asks for.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, RecordBatch,
        RecordBatchOptions, StringArray, StringViewArray, make_view, new_null_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer},
    compute::{cast, filter_record_batch, is_not_null, take},
    datatypes::{DataType, Decimal128Type, Int32Type, SchemaRef, UInt8Type},
};
use datafusion::common::{DataFusionError, Result};
use isthmus_domain::{EventType, FacetId};

use crate::{
    error::broken,
    ids,
    profiles::{Alone, founder_key, parts, unknown_founder_key},
    scan::{Names, ScanSpec},
    seam::{Derived, Table},
    tables::{Make, Out, facet_raw, schema_of},
    values::typed,
};

/// Makes batches of a scan.
pub(crate) struct Maker {
    outs: Vec<Out>,
    /// Which of them are names that shards keep.
    is_kept: Vec<bool>,
    schema: SchemaRef,
    /// The raw columns that are read, rising.
    columns: Vec<usize>,
    /// Those that the shard makes, in the order of the columns that are asked for.
    derived: Vec<Derived>,
    present: Option<usize>,
    /// Which of the columns names the profile of a row, where rows that say nothing else may be left out.
    key: Option<usize>,
    names: Names,
}

impl Maker {
    pub(crate) fn new(spec: &ScanSpec, names: &Names) -> Self {
        let is_derived = |out: &Out| out.is_derived() || is_kept(spec.table, out, names);
        let plain = spec.outs.iter().filter(|out| !is_derived(out));
        let key = terse_key(spec);
        let facet = key.map(|_| facet_raw::FACET);
        let mut columns: Vec<usize> = plain.flat_map(Out::needs).chain(spec.present).chain(facet).collect();
        columns.sort_unstable();
        columns.dedup();
        let derived: Vec<&Out> = spec.outs.iter().filter(|out| is_derived(out)).collect();
        Self {
            is_kept: spec.outs.iter().map(|out| is_kept(spec.table, out, names)).collect(),
            outs: spec.outs.clone(),
            schema: schema_of(spec.table, &spec.outs),
            columns,
            derived: derived.into_iter().map(|out| derive(spec.table, out, names)).collect(),
            present: spec.present,
            key,
            names: names.clone(),
        }
    }

    /// The raw columns to read.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The columns that the shard is to make.
    pub(crate) fn derived(&self) -> &[Derived] {
        &self.derived
    }

    /// The columns asked for, of the rows that belong to the table.
    pub(crate) fn make(&self, raw: &RecordBatch) -> Result<RecordBatch> {
        let kept;
        let raw = match self.kept(raw)? {
            None => raw,
            Some(mask) => {
                kept = filter_record_batch(raw, &mask)?;
                &kept
            }
        };
        let rows = Raw { batch: raw, columns: &self.columns };
        let mut derived = raw.columns().iter().skip(self.columns.len());
        let mut arrays = Vec::with_capacity(self.outs.len());
        for ((out, is_kept), field) in self.outs.iter().zip(&self.is_kept).zip(self.schema.fields()) {
            let mut made = || {
                let made = derived.next();
                Ok::<_, DataFusionError>(Arc::clone(
                    made.ok_or_else(|| broken!("a shard did not make {}", out.name))?,
                ))
            };
            let array = match &out.make {
                _ if *is_kept => made()?,
                Make::Raw(place) => as_type(rows.get(*place)?, field.data_type())?,
                Make::Hex(place) => hex(rows.ids(*place)?, |id| id),
                Make::ProfileId(place) => hex(rows.ids(*place)?, |id| self.names.of(id)),
                Make::ProfileNumber(place) => ids::numbers(rows.ids(*place)?, |id| self.names.of(id))?,
                Make::Number(place) => ids::numbers(rows.ids(*place)?, |id| id)?,
                Make::EventType(place) => types(rows.get(*place)?),
                Make::Property(..) | Make::Profile(_) | Make::Part(_) | Make::Founder => made()?,
            };
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(raw.num_rows()));
        let wanted = match self.key {
            Some(key) => says_something(&arrays, key, rows.ids(facet_raw::FACET)?),
            None => None,
        };
        let made = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok(match wanted {
            Some(mask) => filter_record_batch(&made, &mask)?,
            None => made,
        })
    }

    /// Which rows belong to the table; `None` when all do.
    fn kept(&self, raw: &RecordBatch) -> Result<Option<BooleanArray>> {
        let rows = Raw { batch: raw, columns: &self.columns };
        match self.present {
            None => Ok(None),
            Some(place) => Ok(Some(is_not_null(rows.get(place)?)?)),
        }
    }
}

/// Where the numbers of profiles stand, if rows may say nothing else and may be left out then.
fn terse_key(spec: &ScanSpec) -> Option<usize> {
    let key = spec.outs.iter().position(|out| matches!(out.make, Make::ProfileNumber(_)))?;
    let mut others = spec.outs.iter().enumerate().filter(|(place, _)| *place != key);
    (spec.terse && others.all(|(_, out)| out.field(spec.table).is_nullable())).then_some(key)
}

/// Which rows say something of their profile beside its number, or are its founder's; `None`: all, or so many that it isn't
/// worth it to leave the others out.
fn says_something(arrays: &[ArrayRef], key: usize, facets: &FixedSizeBinaryArray) -> Option<BooleanArray> {
    let others = || arrays.iter().enumerate().filter(|(place, _)| *place != key).map(|(_, array)| array);
    if others().any(|array| array.null_count() == 0) {
        return None;
    }
    let numbers = arrays.get(key)?.as_primitive_opt::<Decimal128Type>()?;
    let present = others().filter_map(|array| array.nulls().map(NullBuffer::inner));
    let says = present.fold(BooleanBuffer::new_unset(facets.len()), |all, some| &all | some);
    let stays = |row| says.value(row) || numbers.value(row) == ids::number(facets.value(row));
    let stays = BooleanBuffer::collect_bool(facets.len(), stays);
    (5 * stays.count_set_bits() <= 4 * stays.len()).then(|| stays.into())
}

/// Whether a column is of names that shards keep with the rows, for as long as profiles have them.
fn is_kept(table: Table, out: &Out, names: &Names) -> bool {
    let may_be = matches!(table, Table::Events | Table::Facets) && names.number() > 0;
    may_be && matches!(out.make, Make::ProfileNumber(_))
}

/// A column that shards make, and may keep.
fn derive(table: Table, out: &Out, names: &Names) -> Derived {
    let of = if is_kept(table, out, names) { names.number() } else { 0 };
    let names = names.clone();
    let mut needs = out.needs();
    needs.sort_unstable();
    let mut hasher = DefaultHasher::new();
    (table, &out.make).hash(&mut hasher);
    let (make, columns) = (out.make.clone(), needs.clone());
    let field = Arc::new(out.field(table));
    let made = move |raw: &RecordBatch| {
        let rows = Raw { batch: raw, columns: &columns };
        make_derived(&rows, &make, &names).map_err(|error| error.strip_backtrace())
    };
    Derived { key: hasher.finish(), needs, of, field, make: Arc::new(made) }
}

fn make_derived(rows: &Raw<'_>, make: &Make, names: &Names) -> Result<ArrayRef> {
    match make {
        Make::ProfileNumber(place) => ids::numbers(rows.ids(*place)?, |id| names.of(id)),
        Make::Property(place, column) => {
            typed(rows.texts(*place)?, column.ty, std::slice::from_ref(&column.name))
        }
        Make::Profile(column) => Alone::new(rows, std::iter::once(make))?.column(column),
        Make::Part(part) => parts(rows, part),
        Make::Founder => founders(rows),
        _ => Err(broken!("a column is not made by shards")),
    }
}

/// A raw batch whose columns are named by their places in the table.
pub(crate) struct Raw<'a> {
    batch: &'a RecordBatch,
    columns: &'a [usize],
}

impl<'a> Raw<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub(crate) fn get(&self, place: usize) -> Result<&'a ArrayRef> {
        let at = self.columns.binary_search(&place).ok();
        at.and_then(|at| self.batch.columns().get(at))
            .ok_or_else(|| broken!("a shard did not give column {place}"))
    }

    pub(crate) fn ids(&self, place: usize) -> Result<&'a FixedSizeBinaryArray> {
        self.get(place)?.as_fixed_size_binary_opt().ok_or_else(|| broken!("column {place} holds no ids"))
    }

    pub(crate) fn texts(&self, place: usize) -> Result<&'a StringArray> {
        self.get(place)?.as_string_opt().ok_or_else(|| broken!("column {place} holds no texts"))
    }
}

fn as_type(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    match array.as_dictionary_opt::<Int32Type>() {
        _ if array.data_type() == ty => Ok(Arc::clone(array)),
        // Views of the few values, one for each row.
        Some(few) => Ok(take(&cast(few.values(), ty)?, few.keys(), None)?),
        None => Ok(cast(array, ty)?),
    }
}

/// Ids as hexadecimal digits. Rows of one profile often follow each other, and share their text.
fn hex<'a>(ids: &'a FixedSizeBinaryArray, name: impl Fn(&'a [u8]) -> &'a [u8]) -> ArrayRef {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or_default();
    let mut texts: Vec<u8> = Vec::with_capacity(ids.len() * 8);
    let mut views: Vec<u128> = Vec::with_capacity(ids.len());
    let (mut last, mut view): (&[u8], u128) = (&[], 0);
    for id in ids {
        // Where the row is NULL, its view is of no text.
        let Some(id) = id else {
            views.push(0);
            continue;
        };
        if id != last {
            let at = u32::try_from(texts.len()).unwrap_or(u32::MAX);
            texts.extend(name(id).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
            view = make_view(texts.get(at as usize..).unwrap_or_default(), 0, at);
            last = id;
        }
        views.push(view);
    }
    let buffers = vec![Buffer::from_vec(texts)];
    match StringViewArray::try_new(views.into(), buffers, ids.nulls().cloned()) {
        Ok(array) => Arc::new(array),
        // Batches are far from the 4 GiB that a view can tell.
        Err(_) => new_null_array(&DataType::Utf8View, ids.len()),
    }
}

fn types(numbers: &ArrayRef) -> ArrayRef {
    // All are short enough for a view to hold them.
    let view = |number: u8| {
        let kind = EventType::try_from(i32::from(number)).unwrap_or(EventType::Unspecified);
        make_view(EventType::name(kind).as_bytes(), 0, 0)
    };
    let views: Vec<u128> = (0..=u8::MAX).map(view).collect();
    let numbers = numbers.as_primitive::<UInt8Type>();
    let of = |number: &u8| views.get(usize::from(*number)).copied().unwrap_or_default();
    let made: Vec<u128> = numbers.values().iter().map(of).collect();
    match StringViewArray::try_new(made.into(), Vec::new(), numbers.nulls().cloned()) {
        Ok(array) => Arc::new(array),
        Err(_) => new_null_array(&DataType::Utf8View, numbers.len()),
    }
}

fn founders(rows: &Raw<'_>) -> Result<ArrayRef> {
    let times = facet_raw::FIRST_SEEN;
    let (facets, times) = (rows.ids(facet_raw::FACET)?, rows.get(times)?);
    let times = times.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>();
    let times = times.ok_or_else(|| broken!("first_seen holds no times"))?;
    let namespaces = rows.texts(facet_raw::NAMESPACE)?;
    let values = rows.texts(facet_raw::VALUE)?;
    let mut out = BinaryBuilder::with_capacity(rows.rows(), rows.rows() * 64);
    for row in 0..rows.rows() {
        let known = namespaces.is_valid(row) && values.is_valid(row);
        match FacetId::from_slice(facets.value(row)).filter(|_| known) {
            // Of whom nobody else is the founder.
            None => out.append_value(unknown_founder_key(facets.value(row))),
            Some(facet) => {
                let time = times.is_valid(row).then(|| times.value(row));
                out.append_value(founder_key(time, namespaces.value(row), values.value(row), facet));
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn who_says_nothing_is_left_out_but_for_founders() {
        let id = |n: u8| [n; 16];
        let facets = FixedSizeBinaryArray::try_from_iter([1, 2, 3, 4, 5].map(id).iter()).unwrap();
        // The second founded the profile of the first three, the fourth that of the last two.
        let keys = FixedSizeBinaryArray::try_from_iter([2, 2, 2, 4, 4].map(id).iter()).unwrap();
        let keys = ids::numbers(&keys, |id| id).unwrap();
        let column = |values: [Option<i64>; 5]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
        let one = column([None, None, Some(7), None, None]);
        let stays = |arrays: &[ArrayRef]| {
            let mask = says_something(arrays, 0, &facets)?;
            Some(mask.iter().map(Option::unwrap).collect::<Vec<bool>>())
        };
        assert_eq!(stays(std::slice::from_ref(&keys)), Some(vec![false, true, false, true, false]));
        assert_eq!(stays(&[keys.clone(), one.clone()]), Some(vec![false, true, true, true, false]));
        let other = column([None, None, None, None, Some(0)]);
        assert_eq!(stays(&[keys.clone(), one.clone(), other]), Some(vec![false, true, true, true, true]));
        let all = column([Some(1); 5]);
        assert_eq!(stays(&[keys, one, all]), None);
    }
}
