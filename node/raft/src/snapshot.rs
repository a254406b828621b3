//! Snapshots on their way out: kept while any transfer needs them, each transfer ended by exactly one report.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    group::Replica,
    inbox::News,
    machine::SnapshotSource,
    transport::{OutgoingSnapshot, SnapshotLost, Transport},
    types::PeerId,
};

/// A snapshot frozen on disk. Its directory goes with the last one who holds it.
pub(crate) struct Frozen {
    pub(crate) id: u64,
    pub(crate) source: SnapshotSource,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        remove(std::mem::take(&mut self.source.dir));
    }
}

/// Removes a snapshot's directory. What can't be removed is only space, and staging is emptied at the next start.
pub(crate) fn remove(dir: PathBuf) {
    if let Err(error) = std::fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "a snapshot's directory can't be removed");
    }
}

/// Reports once, whatever becomes of the transfer's task.
struct Report<O> {
    replica: Arc<Replica<O>>,
    to: PeerId,
    arrived: bool,
}

impl<O> Drop for Report<O> {
    fn drop(&mut self) {
        let _ = self.replica.inbox.news(News::SnapshotReported { to: self.to, arrived: self.arrived });
    }
}

/// Sends a snapshot and reports. The time-out begins when the transfer does, not while it waits for its turn.
pub(crate) async fn send<O>(
    replica: Arc<Replica<O>>,
    transport: Arc<dyn Transport>,
    turns: Arc<Semaphore>,
    frozen: Option<Arc<Frozen>>,
    to: PeerId,
    message: Bytes,
    time: std::time::Duration,
) {
    let mut report = Report { replica: replica.clone(), to, arrived: false };
    let sent = async {
        let frozen = frozen.ok_or_else(|| SnapshotLost::new("it was superseded"))?;
        let _turn = turns.acquire().await.map_err(SnapshotLost::new)?;
        let snapshot = OutgoingSnapshot {
            group: replica.group,
            from: replica.peer,
            to,
            id: frozen.id,
            message,
            dir: frozen.source.dir.clone(),
            files: frozen.source.files.clone(),
        };
        let sent = timeout(time, transport.send_snapshot(snapshot)).await;
        // Until here, so that the files stay.
        drop(frozen);
        sent.map_err(|_| SnapshotLost::new("it took too long"))?
    };
    match sent.await {
        Ok(()) => report.arrived = true,
        Err(error) => tracing::warn!(group = replica.group, %to, %error, "a snapshot was not delivered"),
    }
}
