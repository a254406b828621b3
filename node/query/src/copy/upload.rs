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
use futures::{StreamExt, stream::FuturesUnordered};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UploadPart, path::Path,
};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Format, encode::encode};
use crate::error::{QueryError, to_datafusion};

/// Bytes of a part of an object: stores take ten thousand of them, and none but the last may be under 5 MiB.
const PART_BYTES: usize = 16 << 20;
/// Parts under way at a time.
const PARTS_MAX: usize = 2;

/// What an object is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    /// One that somebody named: it must not be there before, and is written of no rows, too.
    Named,
    /// A part under a name that no other has, and whether it is written of no rows, too.
    Part { is_wanted_empty: bool },
}

/// Writes rows to an object, which is there when all of it is; how many rows. `None`: there were no rows, and an object without
/// any isn't wanted.
pub(super) async fn upload(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    mut rows: SendableRecordBatchStream,
    format: Format,
    object: Object,
) -> Result<Option<usize>> {
    let schema = rows.schema();
    let first = loop {
        match rows.next().await.transpose()? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => break first,
        }
    };
    if first.is_none() && matches!(object, Object::Part { is_wanted_empty: false }) {
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
    let put = put(store, path, object, made);
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
async fn put(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    object: Object,
    mut made: mpsc::Receiver<Part>,
) -> Result<()> {
    let failed = |error| to_datafusion(store_failed(path, &error));
    let mut writing: Option<Writing> = None;
    while let Some(Part { bytes, is_last }) = made.recv().await {
        let payload = PutPayload::from(bytes);
        let Some(begun) = &mut writing else {
            if is_last {
                // What fits into one part needs no more than one request.
                let mode = match object {
                    Object::Named => PutMode::Create,
                    // May be tried again when nobody knows how the first try ended.
                    Object::Part { .. } => PutMode::Overwrite,
                };
                store.put_opts(path, payload, mode.into()).await.map_err(failed)?;
                return Ok(());
            }
            let mut begun = Writing::of(store.put_multipart(path).await.map_err(failed)?);
            begun.put(payload).await.map_err(failed)?;
            writing = Some(begun);
            continue;
        };
        begun.put(payload).await.map_err(failed)?;
        if is_last {
            begun.all_put(0).await.map_err(failed)?;
            // Stores know no condition for an object of several parts: who came first is looked for at the last moment.
            if matches!(object, Object::Named) {
                must_not_be_there(store, path).await?;
            }
            begun.complete().await.map_err(failed)?;
            return Ok(());
        }
    }
    // Whoever makes the parts tells why it ended.
    Ok(())
}

/// Checks that nothing is at a place.
pub(super) async fn must_not_be_there(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<()> {
    match store.head(path).await {
        Ok(_) => Err(to_datafusion(QueryError::invalid(format!("{path} is there already")))),
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(to_datafusion(store_failed(path, &error))),
    }
}

pub(super) fn store_failed(path: &Path, error: &object_store::Error) -> QueryError {
    use object_store::Error::{AlreadyExists, NotFound, PermissionDenied, Unauthenticated};
    match error {
        AlreadyExists { .. } => QueryError::invalid(format!("{path} is there already")),
        NotFound { .. } => QueryError::invalid(format!("COPY can't write {path}: {error}")),
        PermissionDenied { .. } | Unauthenticated { .. } => QueryError::Unavailable(format!(
            "COPY may not write {path} (the store's keys are in the nodes' environment): {error}"
        )),
        // What may pass.
        error => QueryError::Unavailable(format!("COPY can't write {path}: {error}")),
    }
}

/// An upload of several parts; given up when it is dropped before its end.
struct Writing {
    upload: Option<Box<dyn MultipartUpload>>,
    parts: FuturesUnordered<UploadPart>,
}

impl Writing {
    fn of(upload: Box<dyn MultipartUpload>) -> Self {
        Self { upload: Some(upload), parts: FuturesUnordered::new() }
    }

    /// Sends a part, once few enough others are under way.
    async fn put(&mut self, payload: PutPayload) -> object_store::Result<()> {
        self.all_put(PARTS_MAX - 1).await?;
        if let Some(upload) = &mut self.upload {
            self.parts.push(upload.put_part(payload));
        }
        Ok(())
    }

    /// Waits until so many parts, or fewer, are under way.
    async fn all_put(&mut self, under_way: usize) -> object_store::Result<()> {
        while self.parts.len() > under_way {
            self.parts.next().await.transpose()?;
        }
        Ok(())
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
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
