//! What the end-to-end tests and the benchmark share: clusters of real node processes, and load for them.

#![allow(clippy::unwrap_used, reason = "a test or a benchmark may panic, with the place")]

pub mod cluster;
pub mod load;
