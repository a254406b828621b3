//! Drills: what a cluster must stand, in a size of one's choice.
//!
//! The tests run them small, with every build; `cargo run --release -p isthmus-tests --bin bench -- drill` runs them in
//! full and prints what it measured.

mod failover;
mod kills;
mod linearizable;
mod members;
mod restart;

pub use failover::{Gaps, leader_kills};
pub use kills::{KillsReport, kills_during_ingest};
pub use linearizable::{LinearizableReport, reads_after_writes};
pub use members::{MembersReport, a_node_joins_and_another_leaves};
pub use restart::{RestartReport, all_killed_under_load};
