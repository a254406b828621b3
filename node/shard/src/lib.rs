//! A shard: the deterministic actor that owns a slice of all customers, and what stands around it on a node.
//!
//! **What it promises.** A shard's log is its mailbox: what a command does follows from the state and the command
//! alone, so replicas that applied the same index hold the same state, and [`StateHash`] tells. An event is applied
//! exactly once, however often it is sent and whoever leads. Messages between shards arrive exactly once and are
//! handled by whoever owns the slot. Readers see whole entries only, never half of one.
//!
//! **How.** [`State`] applies commands ([`apply`]: one command, one file) to an *active* [`memtable`]. What apply may
//! need from disk is fetched before ([`state`]), so apply waits for nothing. When the node's
//! [`Keeper`] says so, the active memtable is *frozen* at an index, written out in the background as sorted runs and
//! control rows, all at once or not at all, and the log may then be compacted up to that index. Readers merge active,
//! frozen and runs ([`read`]). [`Machine`] plugs this into a Raft group; [`ShardHandle`] is what the rest of the node
//! holds; the [`courier`] ships the outbox.
//!
//! **Invariants.**
//! 1. Apply reads nothing but the active memtable, the fetched rows and the resident part of the state.
//! 2. Whether the shard owns a slot is decided in apply, by the shard map that a command put there.
//! 3. An item's deduplication entry, its event row, its facet and its link rows are of one command: all or none.
//! 4. A stamp rises strictly with every command and is above all stamps that were received.
//! 5. A message's number in a stream is one above the one before it; the inbox takes each number once, in order.
//! 6. What is frozen changes no more; there is at most one frozen memtable.
//!
//! Link facts become profiles by [`isthmus_identity`], whose rows and messages lie and travel here; what takes long of
//! that, the leader does beside apply and brings back by a command (`tend`).
//!
//! **What it leaves out.** But for the quarantine and the [`feed`] nothing is aged out yet: deduplication is exact for
//! ever.

pub mod apply;
pub mod background;
mod below;
mod calls;
mod clock;
pub mod courier;
mod error;
pub mod feed;
mod freezer;
pub mod freshness;
mod handle;
mod hash;
mod identity_calls;
mod inbox_queue;
mod ingest_queue;
mod keeper;
pub mod keys;
mod large;
mod machine;
pub mod memtable;
mod meta;
mod outbox;
pub mod read;
mod retention;
mod rows;
pub mod scan;
pub mod segments;
pub mod state;
mod tables;
mod tend;
mod touched;
mod waits;
pub mod write_out;

pub use apply::matching::seen_before;
pub use calls::{FACETS_MAX, PAGE_MAX};
pub use clock::{Clock, SystemClock};
pub use courier::Deliver;
pub use error::Error;
pub use feed::retention::FeedRetention;
pub use freezer::Freezer;
pub use freshness::Freshness;
pub use handle::{Leadership, Open, ReplicaView, ShardConfig, ShardHandle, Waiting, open};
pub use hash::StateHash;
pub use keeper::{Keeper, KeeperOptions, Load};
pub use machine::{Machine, Shared};
pub use meta::ShardMeta;
pub use outbox::{Parcel, Streams};
pub use state::State;
pub use tables::{DEDUP, EVENTS, FACETS, FEED, MEMBERS, tables};
pub use waits::Awaited;
