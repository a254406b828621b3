//! Snapshots of a shard at an exact stamp, and scans of them as Arrow batches.
//!
//! **What it promises.** A snapshot at T holds what commands with T or an older stamp did, all of it and nothing else:
//! each event once, each facet once, each control row as it was. A scan of it gives the same whenever it is made and
//! whatever is applied, frozen, written out or merged meanwhile. It costs apply nothing while there is none, and never
//! holds it up for longer than a page of rows takes.
//!
//! **How.** First a replica is *pinned*, at whatever stamp it has; then, when a T at or above that is agreed on (over all
//! shards: the router's cut), the pin is *fixed* to T and becomes a [`Snapshot`]. From the pin on, apply remembers what
//! control rows were before they changed, and memtables that are frozen stay within reach (`watch`). So at T there
//! are: runs as of the pin, which no file that is merged away takes with it, since readers hold files; events that were
//! in memory since, of which a snapshot takes a share, up to T; and control rows as they are, with what changed after T
//! undone (`control`). Which home a facet has at T is read from its record, so that a merge rewrites nothing.
//!
//! **What bounds it.** Pins are leased, and so many at a time; what is remembered has a limit, beyond which snapshots are
//! given up, not apply (`pins`).
//!
//! **What it leaves out.** A snapshot is of this replica alone and ends with it. What a home of another shard knows at T
//! may lag behind what its members say: their messages may be under way. A facet's own record decides.

mod base;
mod columns;
mod control;
mod events;
mod facets;
mod filter;
mod homes;
mod hot;
mod journal;
mod link_facts;
mod pins;
mod quarantine;
mod request;
pub mod schema;
mod slots;
mod snapshot;
mod watch;

pub(crate) use base::Base;
pub(crate) use hot::HotColumns;
pub(crate) use journal::Journal;
pub(crate) use pins::{BASE_FOR, Pins};
pub use pins::{FIX_WITHIN, LEASE_MAX, PINS_MAX};
pub use request::{Derived, Filters, MakeColumn, Pin, Request};
pub use schema::{Table, schema};
pub use snapshot::{Part, Snapshot};
pub(crate) use watch::Watch;

/// The next larger key; `None` behind the last.
fn successor(key: &[u8; 16]) -> Option<[u8; 16]> {
    u128::from_be_bytes(*key).checked_add(1).map(u128::to_be_bytes)
}
