//! Who is in which segment at a cut, as rows of the raw table of members.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions, StringArray},
    datatypes::Schema,
    error::ArrowError,
};
use isthmus_domain::{FacetId, Stamp};
use isthmus_query::{Batches, QueryError, Request, Table};
use isthmus_router::FrozenMembers;

/// The parts of a scan: one for each segment that is asked for.
pub(super) fn parts(members: &Arc<FrozenMembers>, request: &Request) -> Vec<Batches> {
    let named = |name: &String| request.filters.names.as_ref().is_none_or(|names| names.contains(name));
    let wanted = (0..).zip(&members.segments).filter(|(_, segment)| named(&segment.name));
    let part = |(index, _): (usize, _)| -> Batches {
        let part = Part {
            members: members.clone(),
            segment: index,
            columns: request.columns.clone(),
            batch_rows: request.batch_rows.max(1),
            given: 0,
        };
        Box::new(part)
    };
    wanted.map(part).collect()
}

/// A segment that is read.
struct Part {
    members: Arc<FrozenMembers>,
    segment: usize,
    columns: Vec<usize>,
    batch_rows: usize,
    /// Rows that were given.
    given: usize,
}

impl Iterator for Part {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let segment = self.members.segments.get(self.segment)?;
        let (given, rows) = (self.given, self.batch_rows);
        let rows: Vec<(FacetId, bool, Stamp)> = self.members.rows(segment).skip(given).take(rows).collect();
        self.given += rows.len();
        let batch = batch(&segment.name, &rows, &self.columns);
        (!rows.is_empty()).then(|| batch.map_err(|error| QueryError::Internal(error.to_string())))
    }
}

fn batch(name: &str, rows: &[(FacetId, bool, Stamp)], columns: &[usize]) -> Result<RecordBatch, ArrowError> {
    let schema = Table::SegmentMembers.schema();
    let fields: Vec<_> = columns.iter().filter_map(|column| schema.fields().get(*column).cloned()).collect();
    let column = |column: &usize| -> Result<Option<ArrayRef>, ArrowError> {
        Ok(Some(match column {
            0 => {
                let homes = rows.iter().map(|(home, ..)| home.as_bytes());
                Arc::new(FixedSizeBinaryArray::try_from_iter(homes)?)
            }
            1 => Arc::new(rows.iter().map(|_| Some(name)).collect::<StringArray>()),
            2 => {
                let since = rows.iter().map(|(.., since)| since.as_micros());
                let times = arrow::array::TimestampMicrosecondArray::from_iter_values(since);
                Arc::new(times.with_timezone("UTC"))
            }
            3 => Arc::new(
                rows.iter().map(|(_, overflow, _)| (!overflow).then_some(true)).collect::<BooleanArray>(),
            ),
            4 => Arc::new(
                rows.iter().map(|(_, overflow, _)| overflow.then_some(true)).collect::<BooleanArray>(),
            ),
            _ => return Ok(None),
        }))
    };
    let arrays = columns.iter().filter_map(|it| column(it).transpose()).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

#[cfg(test)]
mod tests {
    use isthmus_query::Filters;
    use isthmus_router::FrozenSegment;

    use super::*;

    #[test]
    fn a_part_is_a_segment_batch_by_batch_and_says_of_whom_it_cant_be_said() {
        let homes = (0..10_u8).map(|home| FacetId::from_bytes([home; 16])).collect();
        let segment = |name: &str, inside: &[u32], overflows: &[u32], since: &[u64]| FrozenSegment {
            name: name.to_owned(),
            inside: inside.iter().copied().collect(),
            overflows: overflows.iter().copied().collect(),
            since: since.iter().copied().map(Stamp).collect(),
        };
        let segments = vec![segment("a", &[1, 3, 9], &[4], &[11, 13, 19, 14]), segment("b", &[2], &[], &[])];
        let members = Arc::new(FrozenMembers { at: Stamp(77), homes: Arc::new(homes), segments });
        let request = |names: Option<&str>| Request {
            table: Table::SegmentMembers,
            columns: vec![0, 1, 2, 3, 4],
            derived: vec![],
            filters: Filters { names: names.map(|name| vec![name.to_owned()]), ..Filters::default() },
            batch_rows: 3,
        };
        let rows = |names| -> Vec<usize> {
            let all = parts(&members, &request(names)).into_iter();
            all.flat_map(|part| part.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>()).collect()
        };
        assert_eq!((rows(None), rows(Some("a")), rows(Some("c"))), (vec![3, 1, 1], vec![3, 1], vec![]));
        let mut part = parts(&members, &request(Some("a"))).remove(0);
        let (first, second) = (part.next().unwrap().unwrap(), part.next().unwrap().unwrap());
        assert_eq!(first.schema(), Table::SegmentMembers.schema());
        assert_eq!((first.column(3).null_count(), first.column(4).null_count()), (0, 3));
        assert_eq!((second.column(3).null_count(), second.column(4).null_count()), (1, 0));
        let only = Request { columns: vec![], ..request(Some("b")) };
        assert_eq!(parts(&members, &only).remove(0).next().unwrap().unwrap().num_rows(), 1);
    }
}
