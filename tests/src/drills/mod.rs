//! Drills: what a cluster must stand, in a size of one's choice.
//!
//! The tests run them small, with every build; `cargo run --release -p isthmus-tests --bin bench -- drill` runs them in
//! full and prints what it measured.

mod failover;
mod feed;
mod giant;
mod kills;
mod linearizable;
pub mod matching;
mod members;
mod restart;

use tokio::{sync::Semaphore, time::timeout};

use crate::cluster::PATIENCE;

pub use failover::{Gaps, leader_kills};
pub use feed::{FeedReport, a_watch_over_kills};
pub use giant::{GiantReport, a_giant_comes_together};
pub use kills::{KillsReport, kills_during_ingest};
pub use linearizable::{LinearizableReport, reads_after_writes};
pub use members::{MembersReport, a_node_joins_and_another_leaves};
pub use restart::{RestartReport, all_killed_under_load};

/// Acknowledged writes: counted by who writes, waited for by who directs the drill.
struct Acknowledged(Semaphore);

impl Acknowledged {
    /// None yet.
    fn none() -> Self {
        Self(Semaphore::new(0))
    }

    /// Counts some.
    fn add(&self, writes: usize) {
        self.0.add_permits(writes);
    }

    /// Waits until so many were acknowledged that were not waited for yet.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`].
    async fn wait(&self, writes: u64) {
        for acknowledged in 0..writes {
            let next = timeout(PATIENCE, self.0.acquire()).await;
            let Ok(next) = next else { panic!("no write is acknowledged any more, after {acknowledged}") };
            next.unwrap().forget();
        }
    }

    /// Forgets those that were not waited for: what is waited for next comes from now on.
    fn forget(&self) {
        self.0.forget_permits(usize::MAX);
    }
}
