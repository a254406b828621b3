//! The shards of this node, as the router sees them.
//!
//! [`ShardCalls`] is the seam: a real shard's handle implements it, and so do the scripted shards of the tests. Calls
//! are the protobuf bodies that go over the wire to other nodes; to a shard of this node they are passed as they are,
//! never encoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{CallError, shard_call, shard_reply};
pub use isthmus_shard::Leadership;
use isthmus_shard::{ShardHandle, scan::Snapshot};
use tokio::time::Instant;

use crate::segments::FrozenMembers;

/// A shard's replica on this node.
pub trait ShardCalls: Send + Sync + 'static {
    /// The shard's id.
    fn shard(&self) -> u64;

    /// Who leads, without asking the replica.
    fn leadership(&self) -> Leadership;

    /// The stamp of the last command that the replica has applied.
    fn stamp(&self) -> Stamp {
        Stamp::ZERO
    }

    /// The snapshot that the replica holds under a pin, if it has one.
    fn snapshot(&self, _pin: u64) -> Option<Arc<Snapshot>> {
        None
    }

    /// Who was in which segment at the stamp of a pin's snapshot, if that was handed out for it.
    fn members(&self, _pin: u64) -> Option<Arc<FrozenMembers>> {
        None
    }

    /// Asks the replica. It answers by the deadline: with [`OUTCOME_UNKNOWN`] when it can't say, and with a code that
    /// means "nothing was done" only when nothing was.
    ///
    /// [`OUTCOME_UNKNOWN`]: isthmus_proto::internal::v1::CallErrorCode::OutcomeUnknown
    fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>>;
}

impl ShardCalls for ShardHandle {
    fn shard(&self) -> u64 {
        Self::shard(self)
    }

    fn leadership(&self) -> Leadership {
        Self::leadership(self)
    }

    fn stamp(&self) -> Stamp {
        Self::stamp(self)
    }

    fn snapshot(&self, pin: u64) -> Option<Arc<Snapshot>> {
        Self::snapshot(self, pin)
    }

    fn call(
        &self,
        body: shard_call::Body,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<shard_reply::Body, CallError>> {
        let handle = self.clone();
        Box::pin(async move { Self::call(&handle, body, deadline).await })
    }
}

/// The shards that have a replica on this node, by id. Clones are the same registry.
///
/// One actor writes it (whoever opens and closes replicas); routing reads it without a lock.
#[derive(Clone, Default)]
pub struct LocalShards {
    shards: Arc<ArcSwap<BTreeMap<u64, Arc<dyn ShardCalls>>>>,
}

impl LocalShards {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a shard; one with the same id is replaced.
    pub fn insert(&self, shard: impl ShardCalls) {
        let shard: Arc<dyn ShardCalls> = Arc::new(shard);
        self.change(|shards| {
            shards.insert(shard.shard(), Arc::clone(&shard));
        });
    }

    /// Takes a shard out: from now on calls to it are answered with `NO_REPLICA`. Calls under way go on.
    pub fn remove(&self, shard: u64) {
        self.change(|shards| {
            shards.remove(&shard);
        });
    }

    /// The shard with this id, if it has a replica here.
    pub fn get(&self, shard: u64) -> Option<Arc<dyn ShardCalls>> {
        self.shards.load().get(&shard).cloned()
    }

    /// The stamp of the last command that any replica here has applied.
    pub fn stamp(&self) -> Stamp {
        self.shards.load().values().map(|shard| shard.stamp()).max().unwrap_or_default()
    }

    /// The snapshot that a shard's replica here holds under a pin.
    pub fn snapshot(&self, shard: u64, pin: u64) -> Option<Arc<Snapshot>> {
        self.get(shard)?.snapshot(pin)
    }

    /// Who was in which segment at the stamp of that snapshot, if it was handed out for it.
    pub fn members(&self, shard: u64, pin: u64) -> Option<Arc<FrozenMembers>> {
        self.get(shard)?.members(pin)
    }

    /// The ids of all shards with a replica here, rising.
    pub fn ids(&self) -> Vec<u64> {
        self.shards.load().keys().copied().collect()
    }

    fn change(&self, edit: impl Fn(&mut BTreeMap<u64, Arc<dyn ShardCalls>>)) {
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            edit(&mut shards);
            shards
        });
    }
}

impl std::fmt::Debug for LocalShards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LocalShards").field(&self.ids()).finish()
    }
}
