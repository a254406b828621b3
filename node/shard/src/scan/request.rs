//! What is asked of a scan.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use isthmus_domain::{FacetId, Stamp};
use isthmus_raft::Broken;

use super::schema::{Table, schema};
use crate::error::broken;

/// Restrictions. Each that is none asks for nothing. Those of events are exact. Of other tables rows outside of them may come
/// all the same, but for [`Self::facets`], which is exact where a table has facets, and [`Self::alone`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    /// Times of events, from the first to the last, both included; microseconds.
    pub timestamp: (Option<i64>, Option<i64>),
    /// The same of the stamps that they were taken in with.
    pub received_at: (Option<i64>, Option<i64>),
    /// Names of events.
    pub names: Option<Vec<String>>,
    /// Sources of events.
    pub sources: Option<Vec<String>>,
    /// Types of events: numbers of the domain's `EventType`.
    pub types: Option<Vec<u8>>,
    /// Facets, rising.
    pub facets: Option<Vec<FacetId>>,
    /// Of the table of facets: only those that are a whole profile, or only the others. Exact.
    pub alone: Option<bool>,
}

impl Filters {
    /// The times that fit; `None` when all do.
    pub(super) fn times((from, to): (Option<i64>, Option<i64>)) -> Option<RangeInclusive<i64>> {
        (from.is_some() || to.is_some()).then(|| from.unwrap_or(i64::MIN)..=to.unwrap_or(i64::MAX))
    }
}

/// Makes a column of a batch of the raw columns that it needs.
pub type MakeColumn = Arc<dyn Fn(&RecordBatch) -> Result<ArrayRef, String> + Send + Sync>;

/// A column that is made of raw ones, row by row: it is kept with them where rows never change, so its text is read once.
#[derive(Clone)]
pub struct Derived {
    /// Names what it is: columns with the same key are the same. Not 0.
    pub key: u64,
    /// The raw columns that it is made of, rising.
    pub needs: Vec<usize>,
    /// Names the state that it is of, where it is made of more than what never changes: of where profiles are, and what
    /// they are called. It is kept for as long as it is asked for of the same state. 0: it never changes, and the home,
    /// which does, is not among what it needs.
    pub of: u64,
    /// What it comes to.
    pub field: FieldRef,
    /// Makes it of a batch of just those columns; as many rows, of the field's type.
    pub make: MakeColumn,
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Derived({} of {:?})", self.field.name(), self.needs)
    }
}

impl PartialEq for Derived {
    fn eq(&self, other: &Self) -> bool {
        (self.key, &self.needs, self.of, &self.field) == (other.key, &other.needs, other.of, &other.field)
    }
}

/// A scan of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The table.
    pub table: Table,
    /// The numbers of the columns that are wanted, in the order in which they are to come.
    pub columns: Vec<usize>,
    /// Columns that are made of others; they come behind those.
    pub derived: Vec<Derived>,
    /// What is asked for.
    pub filters: Filters,
    /// The most rows of a batch; at least one is taken for it.
    pub batch_rows: usize,
}

impl Request {
    /// All columns of all rows.
    pub fn all(table: Table) -> Self {
        let columns = (0..schema(table).fields().len()).collect();
        Self { table, columns, derived: Vec::new(), filters: Filters::default(), batch_rows: 8_192 }
    }

    /// The columns that come, in order; numbers that name none are left out.
    pub fn schema(&self) -> SchemaRef {
        let whole = schema(self.table);
        let raw = self.columns.iter().filter_map(|column| whole.fields().get(*column).cloned());
        Arc::new(Schema::new(raw.chain(self.derived.iter().map(|it| it.field.clone())).collect::<Vec<_>>()))
    }
}

/// A pin: a hold on a replica, of which a snapshot can be made at any stamp from this one on.
#[derive(Clone, Debug, PartialEq)]
pub struct Pin {
    /// Its number, unique in the replica and over its restarts.
    pub id: u64,
    /// The replica's stamp when it was made.
    pub stamp: Stamp,
    /// The slots that the shard owned then.
    pub owned: isthmus_domain::SlotRanges,
    /// Whether the replica led then.
    pub leads: bool,
}

/// How the batches of a request come out of those of a request for raw columns alone.
pub(super) struct Shape {
    schema: SchemaRef,
    /// Where the columns stand.
    columns: Vec<usize>,
    /// Those that are made, and where what they are made of stands.
    derived: Vec<(Derived, Vec<usize>)>,
}

impl Request {
    /// A request for the raw columns that this one needs, and how its batches become those of this one; `None` when it
    /// asks for raw columns alone.
    pub(super) fn plain(&self) -> Option<(Self, Shape)> {
        if self.derived.is_empty() {
            return None;
        }
        let needs = self.derived.iter().flat_map(|derived| derived.needs.iter().copied());
        let mut columns: Vec<usize> = self.columns.iter().copied().chain(needs).collect();
        columns.sort_unstable();
        columns.dedup();
        let place = |column: &usize| columns.iter().position(|known| known == column).unwrap_or_default();
        let places = |columns: &[usize]| columns.iter().map(place).collect::<Vec<_>>();
        let derived = self.derived.iter().map(|derived| (derived.clone(), places(&derived.needs)));
        let shape =
            Shape { schema: self.schema(), columns: places(&self.columns), derived: derived.collect() };
        Some((Self { columns, derived: Vec::new(), ..self.clone() }, shape))
    }
}

impl Shape {
    /// The batch that was asked for.
    pub fn of(&self, raw: &RecordBatch) -> Result<RecordBatch, Broken> {
        let mut columns = raw.project(&self.columns).map_err(broken)?.columns().to_vec();
        for (derived, needs) in &self.derived {
            columns.push(derived.of(&raw.project(needs).map_err(broken)?)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(raw.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(broken)
    }
}

impl Derived {
    /// Makes it, of a batch of the columns that it needs.
    pub(super) fn of(&self, raw: &RecordBatch) -> Result<ArrayRef, Broken> {
        let made = (self.make)(raw).map_err(Broken::new)?;
        match made.len() == raw.num_rows() {
            true => Ok(made),
            false => Err(Broken::new("a column that is made of others has other rows than they have")),
        }
    }
}
