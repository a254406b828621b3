//! An answer as record batches of Arrow.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    ipc::reader::StreamDecoder,
};
use futures::stream::{self, BoxStream, Stream};

use super::Pieces;
use crate::{
    Error,
    proto::{self, query_response::Part},
};

const UNREADABLE: Error = Error::BadAnswer("what came is no Arrow stream");

/// A stream of record batches. See [`Client::query_arrow`](crate::Client::query_arrow).
pub struct QueryBatches {
    start: proto::QueryStart,
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

/// The decoder, and what it has not taken yet.
struct Decoding {
    pieces: Pieces,
    decoder: StreamDecoder,
    waiting: Buffer,
}

impl Decoding {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if !self.waiting.is_empty() {
                match self.decoder.decode(&mut self.waiting).map_err(|_| UNREADABLE)? {
                    Some(batch) => return Ok(Some(batch)),
                    None => continue,
                }
            }
            match self.pieces.next().await? {
                Some(Part::Arrow(bytes)) => self.waiting = Buffer::from(bytes),
                Some(Part::End(_)) | None => {
                    self.decoder.finish().map_err(|_| UNREADABLE)?;
                    return Ok(None);
                }
                Some(_) => return Err(Error::BadAnswer("an answer in Arrow holds something else")),
            }
        }
    }
}

impl QueryBatches {
    /// Waits for the schema, which comes in front of the first batch.
    pub(super) async fn begin(start: proto::QueryStart, pieces: Pieces) -> Result<Self, Error> {
        let decoder = StreamDecoder::new();
        let mut decoding = Decoding { pieces, decoder, waiting: Buffer::from(Vec::<u8>::new()) };
        let first = decoding.next().await?;
        let schema = decoding.decoder.schema().or_else(|| first.as_ref().map(RecordBatch::schema));
        let state = (first, Some(decoding));
        let batches = stream::try_unfold(state, |(first, decoding)| async move {
            let Some(mut decoding) = decoding else { return Ok(None) };
            let batch = match first {
                Some(batch) => Some(batch),
                None => decoding.next().await?,
            };
            Ok(batch.map(|batch| (batch, (None, Some(decoding)))))
        });
        let schema = schema.unwrap_or_else(|| Schema::empty().into());
        Ok(Self { start, schema, batches: Box::pin(batches) })
    }

    /// The cut that all rows are of, as a version token; nothing when no shard was read.
    pub fn version(&self) -> Option<&str> {
        Some(self.start.version.as_str()).filter(|version| !version.is_empty())
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Stream for QueryBatches {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(context)
    }
}

impl fmt::Debug for QueryBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryBatches").field("schema", &self.schema).finish_non_exhaustive()
    }
}
