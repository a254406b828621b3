//! The router: from a slot to the shard that owns it, to the replica that leads it, and back with the answer.
//!
//! **What it promises.**
//! 1. Any node takes any request: whoever asks needs to know nothing of shards, leaders or nodes.
//! 2. A batch is split by shard, sent in parallel and answered in order; every item is answered once, and by the
//!    deadline. What isn't known to be stored is [`ItemResult::Unknown`], never "failed".
//! 3. A retry goes out under the attempt id of the first try, so that what did commit is answered as it was, not as a
//!    duplicate. Nothing that must not be repeated is repeated once it may have been done.
//! 4. A read is answered by shards that own what was asked for; a page over all shards is in exact order, and misses
//!    nothing while slots move.
//! 5. What waits is bounded everywhere, in calls and bytes. What comes on top is refused at once, with a time to come
//!    back.
//!
//! **How.** A [`Topology`] is given from outside by a watch; of it the router makes tables that requests look up in
//! without a lock. They are a hint: shards decide in apply what they own, Raft decides who leads. Where to ask next
//! after a refusal is pure code (`pursuit`); one loop ([`Router::ingest`] and all others go through it) acts on it. A
//! shard whose leader is on this node is called directly and nothing is encoded; others are reached over one stream for
//! each pair of nodes that carries many calls in a frame (`exchange`).
//!
//! | part | does |
//! | --- | --- |
//! | `topology` | tables by slot, shard and node |
//! | `local` | the shards of this node: [`LocalShards`], [`ShardCalls`] |
//! | `pursuit` | where to ask next, and when (pure) |
//! | `router` | [`Router`], and the loop around a pursuit |
//! | `ingest` | split, send, put back in order |
//! | `read`, `pages` | facets, events; facets and quarantine over all shards |
//! | `groups` | who belongs to which group |
//! | `profiles` | which identifiers are one customer, why, and taking that back |
//! | `rules` | how far changed identity rules have come, shard by shard |
//! | `quarantine`, `walk` | verdicts on entries; what is added up over all shards |
//! | `segments` | who is in which segment, all shards at one stamp |
//! | `matching` | pairs of profiles that may be one person, and the models that they are found by |
//! | `feed` | changes of all shards as one stream |
//! | `cut` | all shards at one stamp |
//! | `admin` | replicas' states, transfer, members; the courier's deliveries |
//! | `exchange` | calls between nodes |
//!
//! **What it leaves out.** It keeps nothing: no queue outlives a request, and a router that restarts has lost only what
//! it had learnt. Reads over several shards
//! are of no single cut, but for queries, which open one, and segments. It authenticates nobody but the node at the other
//! end of a stream, and that by name only until TLS is here.

mod admin;
mod attempt;
mod cut;
mod error;
mod exchange;
mod feed;
mod groups;
mod ingest;
mod local;
mod matching;
mod options;
mod pages;
mod profiles;
mod pursuit;
mod quality;
mod quarantine;
mod read;
mod router;
mod rules;
mod segments;
mod topology;
mod walk;

pub use admin::ReplicaAnswer;
pub use cut::{Cut, CutShard};
pub use error::Error;
pub use exchange::{ExchangeOptions, ExchangeService, Nameless, Origins, peer_server};
pub use feed::{FEED_ANSWER_MAX, FEED_RANGES_MAX, FeedAnswer, FeedPosition, FeedReader, FeedStand};
pub use groups::{Memberships, add as add_membership};
pub use ingest::{IngestSummary, ItemResult, RoutedItem};
pub use local::{Leadership, LocalShards, ShardCalls};
pub use matching::{PairFilter, PairsPage};
pub use options::RouterOptions;
pub use pages::{FacetsPage, ProfilesPage, QuarantineFilter, QuarantinePage};
pub use profiles::{Membership, ProfileParts};
pub use read::{EventsPage, Facet, ReadLevel};
pub use router::Router;
pub use segments::{
    FrozenMembers, FrozenSegment, MembersPage as SegmentMembersPage, SegmentAnswers, SegmentsOf,
    SegmentsWanted,
};
pub use topology::Topology;
