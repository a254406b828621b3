//! A statement under way: its rows as they come, counted.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::stream::{BoxStream, Stream};
use isthmus_domain::Stamp;
use isthmus_query::{Answer, QueryError};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::outcome;
use crate::metrics::{QueryOutcome, RunningQuery};

/// A statement under way. Letting go of it ends the work on all nodes.
pub struct Running {
    schema: SchemaRef,
    cut: Option<Stamp>,
    batches: Option<BoxStream<'static, Result<RecordBatch, QueryError>>>,
    rows: u64,
    bytes: u64,
    counted: Option<RunningQuery>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Running {
    pub(super) fn new(answer: Answer, counted: RunningQuery, stop: CancellationToken) -> Self {
        let Answer { schema, cut, batches } = answer;
        let never = CancellationToken::new().cancelled_owned();
        Self {
            schema,
            cut,
            batches: Some(batches),
            rows: 0,
            bytes: 0,
            counted: Some(counted),
            stopped: Box::pin(stop.cancelled_owned()),
            cancelled: Box::pin(never),
        }
    }

    /// The same, which also ends when this is cancelled.
    #[must_use]
    pub fn until(mut self, cancelled: CancellationToken) -> Self {
        self.cancelled = Box::pin(cancelled.cancelled_owned());
        self
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The cut that its rows are of; `None` when no shard is read.
    pub fn cut(&self) -> Option<Stamp> {
        self.cut
    }

    /// The rows that came so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The bytes that they take in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It is over: nothing of it stays.
    fn over(&mut self, outcome: QueryOutcome) {
        self.batches = None;
        if let Some(counted) = self.counted.take() {
            counted.ended(outcome);
        }
    }
}

impl Stream for Running {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(batches) = &mut this.batches else { return Poll::Ready(None) };
        let ended = if this.stopped.as_mut().poll(context).is_ready() {
            Some(QueryError::Unavailable("this node is stopping".to_owned()))
        } else if this.cancelled.as_mut().poll(context).is_ready() {
            Some(QueryError::Cancelled)
        } else {
            None
        };
        if let Some(error) = ended {
            this.over(outcome(&error));
            return Poll::Ready(Some(Err(error)));
        }
        let polled = batches.as_mut().poll_next(context);
        match &polled {
            Poll::Ready(Some(Ok(batch))) => {
                let rows = batch.num_rows() as u64;
                this.rows += rows;
                this.bytes += isthmus_query::bytes_of(batch);
                if let Some(counted) = &this.counted {
                    counted.rows(rows);
                }
            }
            Poll::Ready(Some(Err(error))) => this.over(outcome(error)),
            Poll::Ready(None) => this.over(QueryOutcome::Answered),
            Poll::Pending => {}
        }
        polled
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("cut", &self.cut).field("rows", &self.rows).finish_non_exhaustive()
    }
}
