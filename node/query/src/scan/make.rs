//! From raw columns to those that a query asks for.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, FixedSizeBinaryArray, RecordBatch,
        RecordBatchOptions, StringArray, StringBuilder,
    },
    compute::{cast, filter_record_batch, is_not_null},
    datatypes::{DataType, SchemaRef, UInt8Type, UInt32Type},
};
use datafusion::common::{Result, exec_datafusion_err};
use isthmus_domain::{EventType, FacetId};

use crate::{
    profiles::{Alone, founder_key},
    scan::{Names, ScanSpec},
    seam::Table,
    tables::{Make, Out, schema_of},
    values::typed,
};

/// The raw column of facets that tells how many a profile has.
const MEMBERS: usize = 2;

/// Makes batches of a scan.
pub(crate) struct Maker {
    outs: Vec<Out>,
    schema: SchemaRef,
    /// The raw columns that are read, rising.
    columns: Vec<usize>,
    alone: Option<bool>,
    present: Option<usize>,
    names: Names,
}

impl Maker {
    pub(crate) fn new(spec: &ScanSpec, names: &Names) -> Self {
        let mut columns: Vec<usize> = spec.outs.iter().flat_map(Out::needs).chain(spec.present).collect();
        let alone = if spec.table == Table::Facets { spec.filters.alone } else { None };
        if alone.is_some() {
            columns.push(MEMBERS);
        }
        if columns.is_empty() {
            // For counting rows: the smallest.
            columns.push(if spec.table == Table::Events { 5 } else { 0 });
        }
        columns.sort_unstable();
        columns.dedup();
        Self {
            outs: spec.outs.clone(),
            schema: schema_of(spec.table, &spec.outs),
            columns,
            alone,
            present: spec.present,
            names: names.clone(),
        }
    }

    /// The raw columns to read.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
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
        let alone = Alone::new(&rows, self.outs.iter().map(|out| &out.make))?;
        let mut arrays = Vec::with_capacity(self.outs.len());
        for (out, field) in self.outs.iter().zip(self.schema.fields()) {
            let array = match &out.make {
                Make::Raw(place) => as_type(rows.get(*place)?, field.data_type())?,
                Make::Hex(place) => hex(rows.ids(*place)?, |id| id),
                Make::ProfileId(place) => hex(rows.ids(*place)?, |id| self.names.of(id)),
                Make::EventType(place) => types(rows.get(*place)?),
                Make::Property(place, column) => {
                    typed(rows.texts(*place)?, column.ty, std::slice::from_ref(&column.name))?
                }
                Make::Profile(column) => alone.column(column)?,
                Make::Founder => founders(&rows)?,
            };
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(raw.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    /// Which rows belong to the table; `None` when all do.
    fn kept(&self, raw: &RecordBatch) -> Result<Option<BooleanArray>> {
        let rows = Raw { batch: raw, columns: &self.columns };
        if let Some(alone) = self.alone {
            let members = rows.get(MEMBERS)?.as_primitive_opt::<UInt32Type>();
            let members = members.ok_or_else(|| exec_datafusion_err!("members are no numbers"))?;
            return Ok(Some(members.iter().map(|members| Some((members == Some(1)) == alone)).collect()));
        }
        match self.present {
            None => Ok(None),
            Some(place) => Ok(Some(is_not_null(rows.get(place)?)?)),
        }
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
            .ok_or_else(|| exec_datafusion_err!("a shard did not give column {place}"))
    }

    pub(crate) fn ids(&self, place: usize) -> Result<&'a FixedSizeBinaryArray> {
        self.get(place)?
            .as_fixed_size_binary_opt()
            .ok_or_else(|| exec_datafusion_err!("column {place} holds no ids"))
    }

    pub(crate) fn texts(&self, place: usize) -> Result<&'a StringArray> {
        self.get(place)?.as_string_opt().ok_or_else(|| exec_datafusion_err!("column {place} holds no texts"))
    }
}

fn as_type(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if array.data_type() == ty { Ok(Arc::clone(array)) } else { Ok(cast(array, ty)?) }
}

/// Ids as hexadecimal digits. Rows of one profile often follow each other.
fn hex<'a>(ids: &'a FixedSizeBinaryArray, name: impl Fn(&'a [u8]) -> &'a [u8]) -> ArrayRef {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = StringBuilder::with_capacity(ids.len(), ids.len() * 32);
    let (mut last, mut text): (&[u8], String) = (&[], String::new());
    for id in ids {
        let Some(id) = id else {
            out.append_null();
            continue;
        };
        if id != last {
            let digit = |n: u8| char::from(DIGITS.get(usize::from(n)).copied().unwrap_or_default());
            text.clear();
            text.extend(name(id).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
            last = id;
        }
        out.append_value(&text);
    }
    Arc::new(out.finish())
}

fn types(numbers: &ArrayRef) -> ArrayRef {
    let numbers = numbers.as_primitive_opt::<UInt8Type>();
    let name = |number: Option<u8>| {
        let kind = EventType::try_from(i32::from(number?)).unwrap_or(EventType::Unspecified);
        Some(EventType::name(kind))
    };
    Arc::new(numbers.into_iter().flatten().map(name).collect::<StringArray>())
}

fn founders(rows: &Raw<'_>) -> Result<ArrayRef> {
    let times = crate::tables::facet_raw::FIRST_SEEN;
    let (facets, times) = (rows.ids(crate::tables::facet_raw::FACET)?, rows.get(times)?);
    let times = times.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>();
    let times = times.ok_or_else(|| exec_datafusion_err!("first_seen holds no times"))?;
    let namespaces = rows.texts(crate::tables::facet_raw::NAMESPACE)?;
    let values = rows.texts(crate::tables::facet_raw::VALUE)?;
    let mut out = BinaryBuilder::with_capacity(rows.rows(), rows.rows() * 64);
    for row in 0..rows.rows() {
        let known = namespaces.is_valid(row) && values.is_valid(row);
        match FacetId::from_slice(facets.value(row)).filter(|_| known) {
            None => out.append_null(),
            Some(facet) => {
                let time = times.is_valid(row).then(|| times.value(row));
                out.append_value(founder_key(time, namespaces.value(row), values.value(row), facet));
            }
        }
    }
    Ok(Arc::new(out.finish()))
}
