//! Writing the files of a `COPY`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{Result, exec_datafusion_err, runtime::SpawnedTask},
    execution::SendableRecordBatchStream,
};
use futures::StreamExt;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::sync::mpsc;
use url::Url;

use super::{
    Exports, Format, Target,
    encode::encode,
    number_of,
    parts::answer,
    upload::{Object, must_not_be_there, upload},
};
use crate::{
    error::{Limit, QueryError, to_datafusion},
    options::EngineOptions,
};

/// Writes a stream to files of this node, and tells of it.
pub(crate) async fn copy(
    mut rows: SendableRecordBatchStream,
    target: &Target,
    options: &EngineOptions,
) -> Result<RecordBatch> {
    let place = target.place(options.export_dir.as_deref()).map_err(to_datafusion)?;
    let (schema, writers) = (rows.schema(), options.threads);
    let size = Arc::new(Size { bytes: AtomicU64::new(0), bytes_max: options.export_bytes });
    let partial = Partial::of(&place);
    let files: Vec<PathBuf> = if target.in_parts {
        fs::create_dir(&partial.path)?;
        let name = |n: usize| partial.path.join(format!("part-{n:05}.{}", target.format.extension()));
        (0..writers.max(1)).map(name).collect()
    } else {
        vec![partial.path.clone()]
    };
    let mut lanes = Vec::new();
    let mut tasks = Vec::new();
    for file in &files {
        let (lane, batches) = mpsc::channel::<RecordBatch>(2);
        let (file, schema, format) = (file.clone(), Arc::clone(&schema), target.format);
        let size = Arc::clone(&size);
        tasks.push(SpawnedTask::spawn_blocking(move || write(&file, size, &schema, format, batches)));
        lanes.push(lane);
    }
    let mut next = lanes.iter().cycle();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        // A writer that is gone tells why below.
        if let Some(lane) = next.next()
            && lane.send(batch).await.is_err()
        {
            break;
        }
    }
    drop(lanes);
    let mut written = 0;
    for task in tasks {
        let done = task.await.map_err(|error| exec_datafusion_err!("a writer of COPY failed: {error}"))?;
        // What the writer says of it, it says in the words of its format.
        size.check().map_err(to_datafusion)?;
        written += done?;
    }
    partial.complete(&place)?;
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    answer(number(written), number(files.len()))
}

/// What isn't complete yet, under a name that nobody else has; gone when it is dropped.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn of(place: &Path) -> Self {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let number = number_of(&name);
        Self { path: place.with_file_name(format!(".{name}.{number:016x}.partial")) }
    }

    /// Gives it its name, unless something else has got that meanwhile.
    fn complete(self, place: &Path) -> Result<()> {
        renameat_with(CWD, &self.path, CWD, place, RenameFlags::NOREPLACE)
            .map_err(|error| exec_datafusion_err!("COPY can't give {} its name: {error}", place.display()))?;
        if let Some(folder) = place.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // One of the two is there, or, once it is complete, none.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// How large the files of a statement are, all together.
struct Size {
    bytes: AtomicU64,
    bytes_max: u64,
}

impl Size {
    fn check(&self) -> Result<(), QueryError> {
        if self.bytes.load(Ordering::Acquire) <= self.bytes_max {
            return Ok(());
        }
        let detail = format!(
            "the files of a COPY may have {} bytes; write less, or raise query.export_bytes_max",
            self.bytes_max
        );
        Err(QueryError::Limit { what: Limit::Bytes, detail })
    }
}

/// A file whose bytes are counted, and which takes none that would be too many.
struct Counted {
    file: File,
    size: Arc<Size>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let all = bytes.len() as u64;
        // Before they are written: a writer of Parquet comes with many at once.
        self.size.bytes.fetch_add(all, Ordering::AcqRel);
        self.size.check().map_err(io::Error::other)?;
        let written = self.file.write(bytes);
        let done = written.as_ref().map_or(0, |done| *done as u64);
        self.size.bytes.fetch_sub(all - done, Ordering::AcqRel);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes batches until no more come.
fn write(
    path: &Path,
    size: Arc<Size>,
    schema: &SchemaRef,
    format: Format,
    batches: mpsc::Receiver<RecordBatch>,
) -> Result<usize> {
    let file = File::create_new(path)?;
    let done = file.try_clone()?;
    let (rows, mut file) = encode(BufWriter::new(Counted { file, size }), schema, format, batches)?;
    file.flush()?;
    done.sync_all()?;
    Ok(rows)
}

/// Writes a stream to one object of a store, and tells of it.
pub(crate) async fn to_object(
    rows: SendableRecordBatchStream,
    (url, format): (Url, Format),
    exports: Arc<Exports>,
) -> Result<RecordBatch> {
    let (store, path) = exports.open(&url).map_err(to_datafusion)?;
    must_not_be_there(&store, &path).await?;
    let rows = upload(&store, &path, rows, format, Object::Named).await?.unwrap_or_default();
    answer(i64::try_from(rows).unwrap_or(i64::MAX), 1)
}
