//! SQL over three engines that talk over real gRPC, against what plain Rust counts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and is its own shell")]

mod bounds;
mod cluster;
mod copy;
mod fake;
mod ids;
mod plans;
mod profiles;
mod questions;
mod statements;
mod tables;
mod world;
