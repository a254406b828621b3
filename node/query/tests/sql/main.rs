//! SQL over three engines that talk over real gRPC, against what plain Rust counts.

mod bounds;
mod cluster;
mod copy;
mod fake;
mod plans;
mod profiles;
mod questions;
mod statements;
mod tables;
mod world;
