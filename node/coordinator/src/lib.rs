//! The coordinator: what the nodes of a cluster agree on, and the reconciler that carries it out.
//!
//! **What it promises.** One *metadata group*, a Raft group on 1, 3 or 5 nodes, holds the members, the shard map with
//! the replicas that shards should have, the sources and their keys, configuration documents with their versions, and
//! the identity key sealed to each node. Every
//! node has a [`View`] of it, pushed to it after each change and on disk before it is shown. Any node takes any
//! change: it finds its way to the group's leader. Before a node calls a write key wrong, it makes sure that its view is
//! current. What the group refuses it refuses with a stable code and with what
//! to do. Nodes join by asking any member; removed, their replicas are placed elsewhere first, and their ids never
//! come back.
//!
//! **How.** Pure parts decide: [`state`] applies commands; [`placement`] says where groups should be;
//! [`reconciler`] says which step comes next. Thin shells act:
//!
//! ```text
//!   Coordinator --propose--> metadata group's leader --commit--> state --> View --saved--> shown --> node
//!        |                        ^      ^                                  ^
//!        | reports (1/s)          |      | steps: place, forget             | Watch stream, on nodes without
//!        +----> reconciler -------+------+                                  | a metadata replica
//!                  | steps: change members, transfer
//!                  v
//!             ShardControl (the router) --> shards' leaders
//! ```
//!
//! A node comes to belong to a cluster by [`Membership`]: it founds one, joins one, or resumes. Then
//! [`Coordinator::start`] opens the metadata replica where the view wants one, and [`Coordinator::attach`] connects
//! the shards.
//!
//! **Invariants**, each with a test:
//! 1. [`state`]'s list: every slot owned once, no peer id given out twice, node ids bound to their first key.
//! 2. [`reconciler`]'s list: no change of members that could not commit, no voter's data deleted.
//! 3. A view never goes back, not even over a restart.
//! 4. A repeated command changes nothing and is answered as before.
//!
//! **What it leaves out.** It never removes a node by itself. It knows nothing of customers, and of shards only their
//! slots, peers and leaders: it reaches them by [`ShardControl`]. Joining needs no credentials until TLS comes.

mod channels;
mod clock;
mod control;
mod coordinator;
mod documents;
mod error;
mod feed;
mod files;
mod follow;
mod inner;
mod keys;
mod machine;
mod membership;
mod metadata;
pub mod placement;
pub mod reconciler;
mod refresh;
mod reports;
pub mod seal;
mod service;
pub mod state;
mod status;
mod view;

pub use clock::{Clock, SystemClock};
pub use control::{ShardControl, replica_report};
pub use coordinator::{ClusterStatus, Coordinator, Parts};
pub use error::{Error, Result};
pub use keys::{KeyHash, WRITE_KEY_PREFIX, WriteKey};
pub use membership::{
    DEFAULT_CURRENCY, DEFAULT_SOURCE, DEV_SOURCE, DEV_WRITE_KEY, FoundOptions, Membership, NodeOptions,
};
pub use view::{ShardPeer, Source, View};
