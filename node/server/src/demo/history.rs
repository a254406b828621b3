//! The purchase history that ships with the sources, and what is known to be true of it.
//!
//! CDNOW's customers, one in ten, 1997-01-01 to 1998-06-30: Fader and Hardie's public data set. `tests/data/README.md`
//! says where it comes from and how the totals were found. Rows that are copies of another one are real purchases, so
//! a row's message id is its line.

use isthmus_proto::v1::{IngestItem, ingest_item::Body};

use crate::{Error, Result};

const ROWS: &str = include_str!("../../../../tests/data/cdnow_sample.txt");
const NAME: &str = "cdnow_sample.txt";

/// The name of a purchase's event.
pub(super) const EVENT: &str = "Order Completed";
/// How many customers there are.
pub(super) const CUSTOMERS: u64 = 2_357;
/// How many purchases.
pub(super) const TRANSACTIONS: u64 = 6_919;
/// What they come to, in dollars.
pub(super) const REVENUE: &str = "244091.94";

/// All purchases, as items of batches.
///
/// # Errors
/// [`Error::Demo`] when a row has not the five columns that it should have.
pub(super) fn items() -> Result<Vec<IngestItem>> {
    let rows = ROWS.lines().enumerate().filter(|(_, row)| !row.trim().is_empty());
    rows.map(|(index, row)| {
        let line = index + 1;
        let json = event(line, row).ok_or_else(|| Error::Demo(format!("{NAME}:{line} is not a purchase")))?;
        Ok(IngestItem { body: Some(Body::Json(json.into())), origin: format!("{NAME}:{line}") })
    })
    .collect()
}

/// A row as an event in Segment's shape. Its columns hold digits and points alone, so nothing has to be escaped.
fn event(line: usize, row: &str) -> Option<String> {
    let mut columns = row.split_whitespace();
    let (_full, customer, date) = (columns.next()?, columns.next()?, columns.next()?);
    let (cds, dollars) = (columns.next()?, columns.next()?);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if columns.next().is_some() || ![customer, date, cds, dollars].into_iter().all(plain) {
        return None;
    }
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    Some(format!(
        r#"{{"type":"track","event":"{EVENT}","messageId":"{NAME}:{line}","userId":"{customer}","timestamp":"{year}-{month}-{day}","properties":{{"quantity":{cds},"revenue":"{dollars}"}}}}"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_purchase() {
        let items = items().unwrap();
        assert_eq!(items.len() as u64, TRANSACTIONS);
        let Some(Body::Json(first)) = &items[0].body else { panic!("not JSON") };
        assert_eq!(
            std::str::from_utf8(first).unwrap(),
            r#"{"type":"track","event":"Order Completed","messageId":"cdnow_sample.txt:1","userId":"0001","timestamp":"1997-01-01","properties":{"quantity":2,"revenue":"29.33"}}"#
        );
    }

    #[test]
    fn a_row_of_another_shape_is_none() {
        for row in ["", "1 2 19970101 1", "1 2 19970101 1 2.00 3", "1 x 19970101 1 2.00", "1 2 1997 1 2.00"] {
            assert_eq!(event(1, row), None, "{row}");
        }
    }
}
