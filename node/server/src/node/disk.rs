//! Whether the disk is nearly full: looked at now and then, so that events are refused while there is still room to
//! write out what was taken.
//!
//! Without this a full disk would fail a write of the log, and with that the node ([`isthmus_storage::log`] never
//! retries one): safe, but no answer. With it, callers are told (`DISK_FULL`), reads go on, and the node takes events
//! again as soon as there is room. What other nodes' leaders replicate to this one is not refused.

use std::{sync::Arc, time::Duration};

use isthmus_shard::Keeper;
use isthmus_storage::format::DataDir;
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at: full speed writes some hundred megabytes in that time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks once, and says so to the keeper. The kernel knows the numbers without reading the disk.
pub(super) fn look(dir: &DataDir, reserve_bytes: u64, keeper: &Keeper) {
    let free_bytes = match dir.space() {
        Ok(space) => space.free_bytes,
        Err(error) => return tracing::warn!(%error, "can't tell how much room the disk has"),
    };
    let full = free_bytes < reserve_bytes;
    match (keeper.refuse_events(full), full) {
        (false, true) => {
            tracing::error!(free_bytes, reserve_bytes, "the disk is nearly full: events are refused")
        }
        (true, false) => tracing::info!(free_bytes, reserve_bytes, "the disk has room again"),
        _ => {}
    }
}

/// Looks again and again until the stop.
pub(super) async fn watch(dir: Arc<DataDir>, reserve_bytes: u64, keeper: Keeper, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => look(&dir, reserve_bytes, &keeper),
        }
    }
}
