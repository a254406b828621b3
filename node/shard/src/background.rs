//! Work that nobody waits for, on threads of low priority.
//!
//! Where processors are short, clients and the heartbeats of leaders come first. What is put off is bounded: apply waits when
//! memory that is to be written out passes twice its budget, and processors are free then.

use std::thread;

use isthmus_raft::Broken;

use crate::{error::broken, machine::blocking};

/// Of threads that write out and merge, on Unix's scale: a third of the share of others.
const NICENESS: i32 = 5;

/// Lowers the priority of this thread. It stays as it is where that isn't allowed.
pub fn lower_priority(niceness: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, niceness) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Runs what takes long and is not waited for by a client. The runtime waits for it when it ends, as for what blocks.
pub(crate) async fn background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Broken> + Send + 'static,
) -> Result<T, Broken> {
    blocking(move || {
        // A thread of its own: only the privileged may raise a priority again.
        let run = || {
            lower_priority(NICENESS);
            work()
        };
        let thread = thread::Builder::new().name("write-out".to_owned()).spawn(run).map_err(broken)?;
        thread.join().unwrap_or_else(|_| Err(broken("a thread that writes out has a fault")))
    })
    .await
}
