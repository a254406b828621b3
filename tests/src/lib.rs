//! What the end-to-end tests and the benchmark share: clusters of real node processes, load for them, and drills.

#![allow(clippy::unwrap_used, reason = "a test or a benchmark may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests and benchmarks own a clock, and tasks end with them")]

pub mod ask;
pub mod bad_input;
pub mod cli;
pub mod cluster;
pub mod drills;
pub mod load;
pub mod look;
mod ports;
pub mod program;
pub mod questions;
pub mod tools;
