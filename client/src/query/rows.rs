//! An answer as rows in JSON.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::stream::{self, BoxStream, Stream};
use serde::de::DeserializeOwned;

use super::Pieces;
use crate::{
    Error,
    proto::{self, query_response::Part},
};

/// A row: a JSON object, names in the order of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryRow(String);

impl QueryRow {
    /// The object, as the hub made it.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The row as a type of one's own.
    ///
    /// # Errors
    /// Those of `serde_json`, when the row is not of this shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

/// A stream of rows. See [`Client::query`](crate::Client::query).
pub struct QueryRows {
    start: proto::QueryStart,
    rows: BoxStream<'static, Result<QueryRow, Error>>,
}

impl QueryRows {
    pub(super) fn new(start: proto::QueryStart, pieces: Pieces) -> Self {
        let state = Some((pieces, VecDeque::new()));
        let rows = stream::try_unfold(state, |state: Option<(Pieces, VecDeque<String>)>| async move {
            let Some((mut pieces, mut waiting)) = state else { return Ok(None) };
            loop {
                if let Some(row) = waiting.pop_front() {
                    return Ok(Some((QueryRow(row), Some((pieces, waiting)))));
                }
                match pieces.next().await? {
                    Some(Part::Rows(rows)) => waiting = rows.rows.into(),
                    Some(Part::End(_)) | None => return Ok(None),
                    Some(_) => return Err(Error::BadAnswer("an answer in JSON holds something else")),
                }
            }
        });
        Self { start, rows: Box::pin(rows) }
    }

    /// The cut that all rows are of, as a version token; nothing when no shard was read.
    pub fn version(&self) -> Option<&str> {
        Some(self.start.version.as_str()).filter(|version| !version.is_empty())
    }

    /// The columns.
    pub fn columns(&self) -> &[proto::QueryColumn] {
        &self.start.columns
    }
}

impl Stream for QueryRows {
    type Item = Result<QueryRow, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.as_mut().poll_next(context)
    }
}

impl fmt::Debug for QueryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryRows").field("start", &self.start).finish_non_exhaustive()
    }
}
