//! Retention of the quarantine: entries go when they are as old as the node that leads is told to keep them.
//!
//! The leader alone looks, from time to time: page by page through the entries, in rows of which each step names a
//! bounded number in one command with the leader's time. What goes is counted and logged by source and reason.
//! Another leader that looks at the same entries deletes nothing twice.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use isthmus_proto::internal::v1::{ExpireQuarantineCommand, ExpiringEntry, shard_command::Command};
use isthmus_raft::Role;
use tokio::time::Instant;

use crate::{Error, ShardHandle, apply::Outcome, machine::blocking, read};

/// Rows that one command deletes, about; an entry has two or a few, at most some hundred.
const STEP_ROWS: usize = 256;
/// How long a step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two looks: a part of the retention, within these bounds.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3600)];
/// Looks in one retention.
const LOOKS: u32 = 20;

/// What went: entries by source, reason and whether they were resolved.
type Gone = BTreeMap<(String, String, bool), u64>;

/// Looks for expired entries for as long as the replica lives; it rests while another replica leads.
pub(crate) async fn run(handle: ShardHandle, retention: Duration) {
    let pause = (retention / LOOKS).clamp(PAUSE[0], PAUSE[1]);
    let mut view = handle.group.watch();
    loop {
        if view.borrow_and_update().role == Role::Leader {
            let swept = tokio::select! {
                biased;
                () = handle.stop.cancelled() => return,
                swept = sweep(&handle, retention) => swept,
            };
            if let Err(error) = swept {
                tracing::debug!(shard = handle.shard(), %error, "expired quarantine entries wait");
            }
            tokio::select! {
                biased;
                () = handle.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            continue;
        }
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

/// Goes once through all entries.
async fn sweep(handle: &ShardHandle, retention: Duration) -> Result<(), Error> {
    let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let through = handle.clock.now_micros().saturating_sub(age).max(0).cast_unsigned();
    let (mut after, mut gone) = (None, Gone::new());
    let mut ended = Ok(());
    loop {
        let shared = handle.shared.clone();
        let found = blocking(move || read::expired(&shared, after, through, STEP_ROWS)).await;
        let step = match found {
            Ok((entries, next)) => {
                after = next;
                delete(handle, through, entries, &mut gone).await
            }
            Err(error) => Err(error.into()),
        };
        // What went before a step that failed is told all the same.
        if step.is_err() || after.is_none() {
            ended = step.and(ended);
            break;
        }
    }
    for ((source, reason, resolved), entries) in gone {
        tracing::info!(
            shard = handle.shard(),
            source,
            reason,
            resolved,
            entries,
            "quarantine entries were deleted at the end of their retention"
        );
    }
    ended
}

async fn delete(
    handle: &ShardHandle,
    through: u64,
    entries: Vec<read::Expired>,
    gone: &mut Gone,
) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let named = entries
        .iter()
        .map(|entry| ExpiringEntry { id: Bytes::copy_from_slice(&entry.id), parts: entry.parts });
    let command = ExpireQuarantineCommand { through_stamp: through, entries: named.collect() };
    match handle.propose(Command::ExpireQuarantine(command), Instant::now() + STEP_TIMEOUT).await? {
        Outcome::Expired(count) => {
            handle.expired.fetch_add(count, Relaxed);
            for entry in entries {
                *gone.entry(entry.what).or_default() += 1;
            }
            Ok(())
        }
        _ => Err(Error::Invalid("the log answered an expiry with something else")),
    }
}
