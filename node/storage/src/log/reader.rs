//! The thread on which everything that reads blocks of one raft-engine runs.
//!
//! raft-engine remembers the last block that it decoded per *thread*, and knows it by file number, offset and length
//! only. On a thread that serves one engine for as long as that is open, this memory can't be of another engine. The
//! thread ends with the log that owns it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use raft_engine::Engine;
use raft_engine::env::FileSystem;

use super::engine::{ENGINE, panic_text};
use crate::{Error, Result};

/// Reads waiting for the thread; more wait for their turn to queue.
const READS_WAITING_MAX: usize = 64;

/// The thread that reads blocks for one engine.
pub(super) struct Reader<F: FileSystem + 'static> {
    /// `None` only while it is dropped.
    jobs: Option<mpsc::SyncSender<Job<F>>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Job<F> = Box<dyn FnOnce(&Engine<F>) + Send>;

impl<F: FileSystem + 'static> Reader<F> {
    pub(super) fn start(engine: Arc<Engine<F>>, dir: &Path) -> Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<Job<F>>(READS_WAITING_MAX);
        let thread = thread::Builder::new()
            .name("raft-log-read".into())
            .spawn(move || {
                for job in waiting {
                    job(&engine);
                }
            })
            .map_err(Error::io("start the reading thread for", dir))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `job` on the thread and waits for its answer.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Engine<F>) -> T + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        let job: Job<F> = Box::new(move |engine| {
            let done = catch_unwind(AssertUnwindSafe(|| job(engine)));
            // The asker waits for it, and is only gone if it panicked.
            let _ = reply.send(done.map_err(|panic| panic_text(panic.as_ref())));
        });
        let failed = |reason: String| Error::Engine { engine: ENGINE, action: "read entries", reason };
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        match (sent, answer.recv()) {
            (true, Ok(Ok(answer))) => Ok(answer),
            (true, Ok(Err(panic))) => Err(failed(panic)),
            _ => Err(failed("the reading thread has ended".into())),
        }
    }
}

impl<F: FileSystem + 'static> Drop for Reader<F> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Jobs catch their panics, so there is nothing to hear.
            let _ = thread.join();
        }
    }
}
