//! How a replica's memory is frozen and written out, and its runs are merged.
//!
//! A freeze takes the active memtable away between two batches of apply; writing it out and merging go on beside apply
//! and readers, who find in [`Shared::lower`] what lies below the active memtable at any moment.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use isthmus_raft::Broken;
use isthmus_storage::{StoreId, keeper::GroupMeta};

use crate::{
    background::background,
    error::broken,
    machine::{Shared, blocking},
    memtable::Memtable,
    write_out,
};

/// Writes a shard out; held by the keeper.
#[derive(Clone)]
pub struct Freezer(Arc<Shared>);

impl Freezer {
    /// Of a replica.
    pub fn of(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The shard.
    pub(crate) fn shard(&self) -> u64 {
        self.0.shard
    }

    /// Freezes what is active, writes it out and starts merging.
    ///
    /// # Errors
    /// Storage that fails: the replica stops.
    pub async fn write_out(&self) -> Result<(), Broken> {
        let shared = self.0.clone();
        let _writing = shared.writing.lock().await;
        self.write_out_locked().await
    }

    /// The same, of whoever has the right to write out already.
    pub(crate) async fn write_out_locked(&self) -> Result<(), Broken> {
        let done = self.try_write_out().await;
        if let Err(error) = &done {
            self.0.failed.store(true, Relaxed);
            tracing::error!(shard = self.0.shard, %error, "writing a shard out failed; the replica stops");
        }
        done
    }

    async fn try_write_out(&self) -> Result<(), Broken> {
        let shared = &self.0;
        let Some((frozen, meta)) = self.freeze().await else { return Ok(()) };
        let index = meta.applied_index;
        let (of_task, store) = (shared.clone(), StoreId(meta.store));
        let (runs, changes) = background(move || {
            let storage = of_task.keeper.storage();
            let rows = write_out::write_out(&frozen, meta).map_err(Broken::new)?;
            let facets = write_out::facets(&rows);
            storage.write_out(rows).map_err(broken)?;
            // Of the runs below: which of them, no merge changes what they hold.
            let below = of_task.lower.read().runs.clone();
            let changes = of_task.cache.changed_by(&facets, &below).map_err(broken)?;
            // Not what the write-out returned: a merge may have ended since.
            Ok((storage.runs(store).map_err(broken)?, changes))
        })
        .await?;
        let written = {
            let mut lower = shared.lower.write();
            lower.runs = runs;
            lower.generation += 1;
            shared.cache.apply(changes);
            lower.frozen.take()
        };
        // Giving back tens of thousands of events takes a while: neither under the lock, nor where others are served.
        blocking(move || {
            drop(written);
            Ok(())
        })
        .await?;
        shared.durable.store(index, Relaxed);
        shared.load.frozen_bytes.store(0, Relaxed);
        shared.keeper.relieved();
        self.merge();
        Ok(())
    }

    /// Takes the active memtable away, if there is anything that was not written out.
    async fn freeze(&self) -> Option<(Arc<Memtable>, GroupMeta)> {
        let shared = &self.0;
        let _batch = shared.batch.lock().await;
        let mut state = shared.state.write();
        if state.applied == shared.durable.load(Relaxed) {
            return None;
        }
        let frozen = Arc::new(state.freeze());
        if let Some(watch) = &mut state.active.watch {
            watch.frozen(&frozen);
        }
        let mut lower = shared.lower.write();
        lower.frozen = Some(frozen.clone());
        shared.load.active_bytes.store(0, Relaxed);
        shared.load.frozen_bytes.store(frozen.bytes(), Relaxed);
        shared.load.replay_bytes.store(0, Relaxed);
        let meta = GroupMeta {
            group: shared.shard,
            replica: shared.replica,
            store: state.store.0,
            applied_index: state.applied,
            applied_term: state.term,
            conf_state: isthmus_raft::encode_conf(&state.conf),
            state: state.meta.encode(),
            write_outs: 0,
        };
        Some((frozen, meta))
    }

    /// Merges in the background for as long as the storage wants it.
    fn merge(&self) {
        let shared = self.0.clone();
        if !shared.keeper.storage().wants_merge(shared.store()) {
            return;
        }
        self.0.tracker.spawn(async move {
            while let Some(_permit) = shared.keeper.merge_permit().await {
                let store = shared.store();
                let storage = shared.keeper.storage().clone();
                let merged = background(move || storage.merge_once(store).map_err(broken)).await;
                let shown = match merged {
                    Ok(Some(_)) => shared.show_runs(store).await,
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                if let Err(error) = shown {
                    tracing::error!(shard = shared.shard, %error, "merging a shard's runs failed");
                    return;
                }
            }
        });
    }
}
