//! Writing an object to a store, while its rows are made.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use datafusion::{
    common::{DataFusionError, Result, exec_datafusion_err, runtime::SpawnedTask},
    execution::SendableRecordBatchStream,
};
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart, path::Path};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Format, encode::encode};
use crate::error::{QueryError, to_datafusion};

/// Bytes of a part of an object: stores take ten thousand of them, and none but the last may be under 5 MiB.
const PART_BYTES: usize = 16 << 20;
/// Parts under way at a time.
const PARTS_MAX: usize = 2;

/// Writes rows to an object, which is there when all of it is; how many rows. `None`: there were no rows, and an object without
/// any isn't wanted.
pub(super) async fn upload(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    mut rows: SendableRecordBatchStream,
    format: Format,
    is_wanted_empty: bool,
) -> Result<Option<usize>> {
    let schema = rows.schema();
    let first = loop {
        match rows.next().await.transpose()? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => break first,
        }
    };
    if first.is_none() && !is_wanted_empty {
        return Ok(None);
    }
    let (lane, batches) = mpsc::channel::<RecordBatch>(2);
    let (parts, made) = mpsc::channel::<Part>(1);
    let encoding = SpawnedTask::spawn_blocking(move || encoded(parts, &schema, format, batches));
    let encode = async {
        let mut next = first;
        while let Some(batch) = next {
            // An encoder that is gone tells why below.
            if lane.send(batch).await.is_err() {
                break;
            }
            next = rows.next().await.transpose()?;
        }
        // Not before all went well: what the encoder takes for the end, it makes the end of the object.
        drop(lane);
        encoding.await.map_err(|error| exec_datafusion_err!("a writer of COPY failed: {error}"))?
    };
    let put = put(store, path, made);
    match tokio::join!(put, encode) {
        // When the store fails, the encoder only knows that nobody takes its parts.
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(()), Ok(rows)) => Ok(Some(rows)),
    }
}

/// Some bytes of an object.
struct Part {
    bytes: Bytes,
    /// Nothing comes behind them.
    is_last: bool,
}

/// Completes the object once its last part has come, and not when parts end before.
async fn put(store: &Arc<dyn ObjectStore>, path: &Path, mut made: mpsc::Receiver<Part>) -> Result<()> {
    let failed = |error| to_datafusion(store_failed(path, &error));
    let mut writing: Option<Writing> = None;
    while let Some(Part { bytes, is_last }) = made.recv().await {
        let Some(Writing(Some(upload))) = &mut writing else {
            // What fits into one part needs no more than one request.
            if is_last {
                // And two that write to one place are told apart by the store.
                store
                    .put_opts(path, PutPayload::from(bytes), PutMode::Create.into())
                    .await
                    .map_err(failed)?;
                return Ok(());
            }
            let begun = store.put_multipart(path).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(begun, PART_BYTES);
            upload.put(bytes);
            writing = Some(Writing(Some(upload)));
            continue;
        };
        upload.wait_for_capacity(PARTS_MAX).await.map_err(failed)?;
        upload.put(bytes);
        if is_last && let Some(upload) = writing.as_mut().and_then(|writing| writing.0.take()) {
            upload.finish().await.map_err(failed)?;
            return Ok(());
        }
    }
    // Whoever makes the parts tells why it ended.
    Ok(())
}

pub(super) fn store_failed(path: &Path, error: &object_store::Error) -> QueryError {
    use object_store::Error::{AlreadyExists, NotFound, PermissionDenied, Unauthenticated};
    match error {
        AlreadyExists { .. } => QueryError::invalid(format!("{path} is there already")),
        NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. } => QueryError::invalid(format!(
            "COPY can't write {path} (do the URL and the store's settings in the nodes' environment hold?): {error}"
        )),
        // What may pass.
        error => QueryError::Unavailable(format!("COPY can't write {path}: {error}")),
    }
}

/// An upload of several parts; given up when it is dropped before its end.
struct Writing(Option<WriteMultipart>);

impl Drop for Writing {
    fn drop(&mut self) {
        let Some(upload) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "the parts of a COPY that was broken off stay in the store");
                }
            });
        }
    }
}

fn encoded(
    parts: mpsc::Sender<Part>,
    schema: &SchemaRef,
    format: Format,
    batches: mpsc::Receiver<RecordBatch>,
) -> Result<usize> {
    let (rows, mut parts) = encode(Parts { buffer: Vec::new(), to: parts }, schema, format, batches)?;
    parts.send(true)?;
    Ok(rows)
}

/// What is written, cut into parts.
struct Parts {
    buffer: Vec<u8>,
    to: mpsc::Sender<Part>,
}

impl Parts {
    fn send(&mut self, is_last: bool) -> Result<(), DataFusionError> {
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let sent = self.to.blocking_send(Part { bytes, is_last });
        sent.map_err(|_| DataFusionError::from(io::Error::from(io::ErrorKind::BrokenPipe)))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART_BYTES {
            self.send(false).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
