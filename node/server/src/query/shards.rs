//! What the engine needs of this node: cuts by the router, snapshots of local shards, the cluster by its view.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use isthmus_coordinator::{Coordinator, DEFAULT_CURRENCY};
use isthmus_domain::Stamp;
use isthmus_query::{
    Batches, Catalog, CutShard, Filters, Freshness, Limit, Members, NodeInfo, OpenCut, QueryError, Request,
    ShardInfo, ShardSnapshot, Shards, SourceInfo, Table,
};
use isthmus_router::{Cut, Error as RouterError, FrozenMembers, ReadLevel, Router, SegmentsWanted};
use isthmus_shard::{Clock, scan};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::catalog::Registered;

/// See the [module](self).
pub struct NodeShards {
    node: u32,
    router: Router,
    coordinator: Coordinator,
    registered: Registered,
    clock: Arc<dyn Clock>,
    /// The node's, not the engine's.
    runtime: Handle,
}

impl NodeShards {
    /// Those of a node. To be called in its runtime.
    pub fn new(node: u32, router: Router, coordinator: Coordinator, clock: Arc<dyn Clock>) -> Self {
        let runtime = Handle::current();
        Self { node, router, coordinator, registered: Registered::default(), clock, runtime }
    }
}

#[async_trait]
impl Shards for NodeShards {
    fn node(&self) -> u32 {
        self.node
    }

    async fn open_cut(
        &self,
        freshness: Freshness,
        members: Option<Members>,
        lease: Duration,
        deadline: Instant,
    ) -> Result<Arc<dyn OpenCut>, QueryError> {
        let level = match freshness {
            Freshness::Linearizable => ReadLevel::Linearizable,
            Freshness::MinVersion(stamp) => ReadLevel::AtLeast(stamp),
            Freshness::MaxStaleness(age) => ReadLevel::Stale(age),
        };
        // Connections to other nodes that this opens belong to the node, and not to the engine's own few threads.
        let router = self.router.clone();
        let wanted = members.map(|wanted| SegmentsWanted { names: wanted.segments, since: wanted.since });
        let opening = async move { router.open_cut(level, wanted.as_ref(), lease, deadline.into()).await };
        let opening = AbortOnDropHandle::new(self.runtime.spawn(opening));
        let cut = opening.await.map_err(|_| QueryError::Cancelled)?.map_err(not_opened)?;
        let shards = cut.shards.iter();
        let shards = shards.map(|shard| CutShard {
            shard: shard.shard,
            node: shard.node,
            pin: shard.pin,
            events: shard.events,
            facets: shard.facets,
            identities: shard.identities,
        });
        Ok(Arc::new(Opened { shards: shards.collect(), cut }))
    }

    fn takes_events(&self) -> bool {
        const LATELY: Duration = Duration::from_millis(100);
        let oldest =
            Stamp::next(self.clock.now_micros(), Stamp::ZERO).0.saturating_sub(LATELY.as_micros() as u64);
        self.router.local().stamp().0 > oldest
    }

    fn snapshot(&self, shard: u64, pin: u64) -> Option<Arc<dyn ShardSnapshot>> {
        let snapshot = self.router.local().snapshot(shard, pin)?;
        let members = self.router.local().members(shard, pin);
        Some(Arc::new(Local { snapshot, members }))
    }

    fn catalog(&self) -> Catalog {
        let status = self.coordinator.status();
        let view = &status.view;
        let columns = self.registered.of(view);
        let nodes = view.nodes.iter().map(|(id, info)| NodeInfo {
            node: id.0,
            address: info.grpc_address.clone(),
            alive: status.alive.contains(id),
        });
        let shards = view.shard_map.shards.iter().map(|shard| ShardInfo {
            shard: shard.id.0,
            slots: u32::from(shard.ranges.len()),
            replicas: shard.replicas.iter().map(|replica| replica.node().0).collect(),
            leader: self.router.leader(shard.id.0),
        });
        let sources = view.sources.values().map(|source| SourceInfo {
            name: source.name.clone(),
            enabled: !source.disabled,
            currency: Some(source.default_currency.clone()).filter(|currency| !currency.is_empty()),
        });
        Catalog {
            traits: columns.traits.clone(),
            properties: columns.properties.clone(),
            meanings: columns.meanings.clone(),
            currency: DEFAULT_CURRENCY.to_owned(),
            sources: sources.collect(),
            nodes: nodes.collect(),
            shards: shards.collect(),
        }
    }

    fn peers(&self) -> Vec<(u32, String)> {
        let view = self.coordinator.status().view;
        view.nodes.iter().map(|(id, info)| (id.0, format!("http://{}", info.peer_address))).collect()
    }
}

/// A cut that could not be opened.
fn not_opened(error: RouterError) -> QueryError {
    match error {
        RouterError::Overloaded { retry_after } => QueryError::Overloaded { retry_after },
        RouterError::DeadlineExceeded { .. } => QueryError::DeadlineExceeded,
        RouterError::BadReply { .. } => QueryError::Internal(error.to_string()),
        RouterError::Invalid { message } => QueryError::Limit { what: Limit::Rows, detail: message },
        other => QueryError::Unavailable(other.to_string()),
    }
}

/// A cut: the router's, which lets go of the shards when it is dropped.
struct Opened {
    cut: Cut,
    shards: Vec<CutShard>,
}

impl OpenCut for Opened {
    fn at(&self) -> Stamp {
        self.cut.at
    }

    fn shards(&self) -> &[CutShard] {
        &self.shards
    }

    fn definitions(&self) -> Option<u64> {
        self.cut.definitions
    }
}

/// A shard of this node at a cut.
struct Local {
    snapshot: Arc<scan::Snapshot>,
    /// Who is in which segment, if the query asked for that.
    members: Option<Arc<FrozenMembers>>,
}

impl ShardSnapshot for Local {
    fn parts(&self, request: &Request) -> Vec<Batches> {
        let Some(table) = table(request.table) else {
            let Some(members) = &self.members else {
                let gone = QueryError::Unavailable("who is in which segment was let go of".to_owned());
                return vec![Box::new(std::iter::once(Err(gone)))];
            };
            return super::members::parts(members, request);
        };
        let Request { columns, derived, filters, batch_rows, .. } = request.clone();
        let derived = derived.into_iter().map(made).collect();
        let asked = scan::Request { table, columns, derived, filters: wanted(filters), batch_rows };
        let parts = self.snapshot.parts(&asked).into_iter();
        parts
            .map(|part| {
                let snapshot = self.snapshot.clone();
                let fault = move |error: isthmus_raft::Broken| match snapshot.is_held() {
                    true => QueryError::Internal(error.to_string()),
                    false => QueryError::Unavailable(error.to_string()),
                };
                Box::new(part.map(move |batch| batch.map_err(&fault))) as Batches
            })
            .collect()
    }
}

fn table(table: Table) -> Option<scan::Table> {
    match table {
        Table::Events => Some(scan::Table::Events),
        Table::Facets => Some(scan::Table::Facets),
        Table::LinkFacts => Some(scan::Table::LinkFacts),
        Table::Quarantine => Some(scan::Table::Quarantine),
        Table::SegmentMembers => None,
    }
}

fn wanted(filters: Filters) -> scan::Filters {
    let Filters { timestamp, received_at, names, sources, types, facets, alone } = filters;
    scan::Filters { timestamp, received_at, names, sources, types, facets, alone }
}

fn made(derived: isthmus_query::Derived) -> scan::Derived {
    let isthmus_query::Derived { key, needs, of, field, make } = derived;
    scan::Derived { key, needs, of, field, make }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_the_shards_mean_the_same_by_a_column() {
        for of in [Table::Events, Table::Facets, Table::LinkFacts, Table::Quarantine] {
            assert_eq!(of.schema(), scan::schema(table(of).unwrap()), "{of:?}");
        }
    }
}
