//! Snapshots of a shard at an exact stamp, and scans of them as Arrow batches.

mod request;
pub mod schema;

pub use request::{Filters, Pin, Request};
pub use schema::{Table, schema};
