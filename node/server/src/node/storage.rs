//! A node's data on disk, opened.
//!
//! Inside the data directory, beside what `isthmus-storage` lays out there: `cluster/` with the node's membership, and
//! in `runs/`, on one file system so that snapshots are hard links, `stores/` with the runs, `redo/`, `incoming/` with
//! snapshots that arrive and `outgoing/` with those that are sent. The last two are emptied at the start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use isthmus_storage::{
    control::{SledControl, SledOptions},
    format::DataDir,
    keeper::{Keeper, KeeperOptions},
    log::{EngineLog, EngineLogOptions},
    runs::{FileRuns, RunOptions},
};
use tokio::time::{Instant, sleep};

use super::LET_GO;
use crate::{Error, Result, config::StorageOptions};

/// The opened data of a node.
pub(super) struct Storage {
    /// Holds the directory's lock.
    pub(super) dir: Arc<DataDir>,
    pub(super) log: Arc<EngineLog>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) runs: Arc<FileRuns>,
    pub(super) incoming: PathBuf,
    pub(super) outgoing: PathBuf,
}

/// Locks and checks the directory.
///
/// # Errors
/// [`Error::Setting`] of `data_dir` for what an operator has to mend.
pub(super) async fn open_dir(path: PathBuf) -> Result<Arc<DataDir>> {
    let until = Instant::now() + LET_GO;
    loop {
        let opening = path.clone();
        match blocking(move || Ok(DataDir::open(&opening))).await? {
            Err(isthmus_storage::Error::Locked { .. }) if Instant::now() < until => sleep(LET_GO / 20).await,
            opened => return opened.map(Arc::new).map_err(Error::data_dir),
        }
    }
}

/// Where the membership of the node with this data directory is kept.
pub(crate) fn membership_dir(dir: &Path) -> PathBuf {
    dir.join("cluster")
}

impl Storage {
    /// Opens log, control rows and runs.
    ///
    /// # Errors
    /// [`Error::Storage`], above all when something is damaged.
    pub(super) async fn open(dir: Arc<DataDir>, options: StorageOptions) -> Result<Self> {
        blocking(move || Self::open_all(dir, &options)).await
    }

    fn open_all(dir: Arc<DataDir>, options: &StorageOptions) -> Result<Self> {
        let log = EngineLog::open(&dir.log_dir(), EngineLogOptions::default())?;
        let control_options = SledOptions { cache_bytes: options.control_cache.0 };
        let control = SledControl::open(&dir.control_dir(), control_options)?;
        let runs_dir = dir.runs_dir();
        let run_options = RunOptions { cache_bytes: options.run_cache.0, ..RunOptions::default() };
        let runs = FileRuns::open(&runs_dir.join("stores"), run_options)?;
        let keeper = Keeper::open(
            &runs_dir.join("redo"),
            Arc::new(control),
            runs.clone(),
            isthmus_shard::tables(),
            KeeperOptions::default(),
        )?;
        let (incoming, outgoing) = (runs_dir.join("incoming"), runs_dir.join("outgoing"));
        empty(&incoming)?;
        empty(&outgoing)?;
        Ok(Self { dir, log: Arc::new(log), keeper: Arc::new(keeper), runs, incoming, outgoing })
    }
}

/// An empty directory, whatever was there.
fn empty(path: &Path) -> Result<()> {
    let shown = path.display();
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(format!("empty {shown}"))(error));
        }
        _ => {}
    }
    std::fs::create_dir_all(path).map_err(Error::io(format!("create {shown}")))
}

/// Runs what waits for a disk on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::NotReady(format!("a task of the storage ended early: {error}"))),
    }
}
