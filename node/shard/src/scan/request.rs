//! What is asked of a scan.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use isthmus_domain::{FacetId, Stamp};

use super::schema::{Table, schema};

/// Restrictions that a scan may use to read less. Each that is none asks for nothing. Rows outside of them may come all
/// the same, but for [`Self::facets`], which is exact where a table has facets.
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
}

impl Filters {
    /// The times that fit; `None` when all do.
    pub(super) fn times((from, to): (Option<i64>, Option<i64>)) -> Option<RangeInclusive<i64>> {
        (from.is_some() || to.is_some()).then(|| from.unwrap_or(i64::MIN)..=to.unwrap_or(i64::MAX))
    }
}

/// A scan of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The table.
    pub table: Table,
    /// The numbers of the columns that are wanted, in the order in which they are to come.
    pub columns: Vec<usize>,
    /// What is asked for.
    pub filters: Filters,
    /// The most rows of a batch; at least one is taken for it.
    pub batch_rows: usize,
}

impl Request {
    /// All columns of all rows.
    pub fn all(table: Table) -> Self {
        let columns = (0..schema(table).fields().len()).collect();
        Self { table, columns, filters: Filters::default(), batch_rows: 8_192 }
    }

    /// The columns that come, in order; numbers that name none are left out.
    pub fn schema(&self) -> SchemaRef {
        let whole = schema(self.table);
        let fields = self.columns.iter().filter_map(|column| whole.fields().get(*column).cloned());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
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
