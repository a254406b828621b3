//! What happens when writes and syncs fail, when power is cut, and when a guard is switched off by its fail point.
//!
//! Fail points are global to the process, so these tests have a binary of their own and run one after the other.

#![expect(clippy::unwrap_used, reason = "tests: a failure has to be loud")]

mod control;
mod log;
mod power;
