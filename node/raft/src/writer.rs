//! The log writer: one thread per node that syncs for all groups at once.
//!
//! Each round takes all that groups queued since the last one began, writes it with one sync, and acknowledges.
//! While a round is at the disk the next one fills up, so under load a sync covers many groups and many entries,
//! and alone a write waits for nothing. A group may have several writes under way.
//!
//! A write that fails ends the process at once: after a failed fsync nobody knows what the disk holds, and a retry
//! would acknowledge what was lost (Rebello et al., *Can Applications Recover from fsync Failures?*, 2020).
//!
//! The queue needs no bound of its own: a core bounds the bytes it has unsynced.

use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use isthmus_storage::log::{EntryId, GroupWrite, Log};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{Error, measure::LogMeasures, node::Registry, types::GroupId};

/// Who is told that a write is synced.
pub(crate) trait Synced: Send + Sync {
    /// The write of this number, and all before it of the same group, are synced.
    fn synced(&self, number: u64);
}

/// What the log writer does, in order.
pub(crate) enum Job {
    /// Write, sync, and tell `to`.
    Write { write: GroupWrite, number: u64, to: Arc<dyn Synced> },
    /// Cut the log.
    Compact { group: GroupId, base: EntryId },
    /// Remove a group's log.
    Remove { group: GroupId, done: oneshot::Sender<()> },
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    stop: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    measures: Arc<LogMeasures>,
}

/// A handle on the log writer's thread.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl LogWriter {
    pub(crate) fn start(log: Arc<dyn Log>, registry: Arc<Registry>) -> Result<Self, Error> {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), measures: Arc::default() });
        let (purge, wanted) = sync_channel::<()>(1);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| Error::Storage(format!("can't start the thread {name}: {error}")))
        };
        let purged = log.clone();
        let purger = spawn(
            "log-purger",
            Box::new(move || {
                while wanted.recv().is_ok() {
                    match purged.purge() {
                        Ok(groups) => groups.into_iter().for_each(|group| registry.compact(group)),
                        Err(error) => die("give space of the log back", &error),
                    }
                }
            }),
        )?;
        let of_thread = shared.clone();
        let writer = spawn("log-writer", Box::new(move || run(&*log, &of_thread, purge)))?;
        Ok(Self { shared, threads: Mutex::new(vec![writer, purger]) })
    }

    /// Queues jobs, which are taken out of `jobs`.
    pub(crate) fn submit(&self, jobs: &mut Vec<Job>) {
        self.shared.queue.lock().jobs.append(jobs);
        self.shared.filled.notify_one();
    }

    /// What it measures.
    pub(crate) fn measures(&self) -> &Arc<LogMeasures> {
        &self.shared.measures
    }

    /// Jobs that wait for the round after the one at the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }

    /// Removes a group's log; the receiver hears when it is done, and fails once the writer is stopping.
    pub(crate) fn remove(&self, group: GroupId) -> oneshot::Receiver<()> {
        let (done, removed) = oneshot::channel();
        let mut queue = self.shared.queue.lock();
        // What is queued before the stop is still carried out; behind it nobody would.
        if !queue.stop {
            queue.jobs.push(Job::Remove { group, done });
        }
        drop(queue);
        self.shared.filled.notify_one();
        removed
    }

    /// Lets the threads end after what is queued, and returns them to be waited for.
    pub(crate) fn stop(&self) -> Vec<JoinHandle<()>> {
        self.shared.queue.lock().stop = true;
        self.shared.filled.notify_one();
        std::mem::take(&mut *self.threads.lock())
    }
}

fn run(log: &dyn Log, shared: &Shared, purge: SyncSender<()>) {
    const PURGE_EVERY_BYTES: u64 = 16 << 20;
    let (mut writes, mut acknowledge) = (Vec::new(), Vec::new());
    let (measures, mut written_bytes) = (&shared.measures, 0u64);
    loop {
        let jobs = {
            let mut queue = shared.queue.lock();
            while queue.jobs.is_empty() {
                if queue.stop {
                    return;
                }
                shared.filled.wait(&mut queue);
            }
            std::mem::take(&mut queue.jobs)
        };
        let (mut after, mut entries, mut bytes) = (Vec::new(), 0, 0);
        for job in jobs {
            match job {
                Job::Write { write, number, to } => {
                    entries += write.entries.len() as u64;
                    bytes += write.entries.iter().map(|entry| entry.data.len() as u64 + 64).sum::<u64>();
                    writes.push(write);
                    acknowledge.push((number, to));
                }
                other => after.push(other),
            }
        }
        if !writes.is_empty() {
            let begun = now();
            if let Err(error) = log.write(&writes) {
                die("write the log", &error);
            }
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            measures.sync_micros.observe(took);
            measures.entries.observe(entries);
            measures.groups.observe(acknowledge.len() as u64);
            measures.written_bytes.fetch_add(bytes, Relaxed);
            written_bytes += bytes;
            writes.clear();
            for (number, to) in acknowledge.drain(..) {
                to.synced(number);
            }
        }
        let mut compacted = false;
        for job in after {
            let result = match &job {
                Job::Compact { group, base } => {
                    compacted = true;
                    log.compact(*group, *base)
                }
                Job::Remove { group, .. } => log.remove(*group),
                Job::Write { .. } => Ok(()),
            };
            match result {
                Ok(()) => {}
                // The group was removed, or its log replaced by a snapshot, since the compaction was asked for.
                Err(isthmus_storage::Error::Refused(reason) | isthmus_storage::Error::NotFound(reason)) => {
                    tracing::debug!(%reason, "a compaction was not needed any more");
                }
                Err(error) => die("compact the log", &error),
            }
            if let Job::Remove { done, .. } = job {
                let _ = done.send(());
            }
        }
        if compacted && written_bytes >= PURGE_EVERY_BYTES {
            written_bytes = 0;
            if let Err(TrySendError::Disconnected(())) = purge.try_send(()) {
                return;
            }
        }
    }
}

/// For measuring only.
#[expect(clippy::disallowed_methods, reason = "how long a sync takes is not what anything is decided by")]
fn now() -> Instant {
    Instant::now()
}

/// Ends the process: see the module.
fn die(action: &str, error: &dyn std::error::Error) -> ! {
    tracing::error!(%error, action, "the log can't be trusted any more: the process ends");
    eprintln!("isthmus: can't {action}: {error}; the process ends");
    std::process::abort();
}
