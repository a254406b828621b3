//! Plans over several nodes.
//!
//! datafusion-distributed cuts a plan into stages at shuffles, broadcasts and where partitions come together, and asks how
//! many tasks a stage with a scan wants: one for each node of the cut. Task `i` goes to node `i`, whose shards it reads.
//!
//! What else is in the stage may want fewer tasks: a table that only this node has, a join that can't be spread. Then the
//! plan would read some shards not at all. So [`is_sound`] looks at what came out, and an unsound plan is made again with
//! every scan, and the filters, projections and partial aggregates above it, in a stage of its own ([`Apart`]); what is left
//! runs where the query came in. A plan that isn't sound even then is refused, never run.

mod apart;
mod channels;
mod codec;
mod sound;

use std::sync::Arc;

pub(crate) use apart::Apart;
pub(crate) use channels::Channels;
pub(crate) use codec::Codec;
use datafusion::{
    common::{DataFusionError, Result, exec_datafusion_err},
    execution::SessionStateBuilder,
    physical_plan::ExecutionPlan,
};
use datafusion_distributed::{
    ChannelResolver, DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedExt,
    LocalWorkerContext, RouteTasksEvent, RouteTasksEventResponse, SessionStateBuilderExt, WorkerResolver,
};
pub(crate) use sound::is_sound;
use sound::scan_in_stage;
use url::Url;

use crate::{
    error::QueryError,
    scan::{Names, NodeShards, Of, Rows, ScanExec},
    seam::{CutShard, Shards},
};

/// The cut of a run, as scans need it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub nodes: Arc<Vec<NodeShards>>,
    pub names: Names,
    pub tells_names: bool,
    pub rows: Rows,
}

impl Reading {
    /// Of the shards of a cut, node by node, for a query that came to the node `own`.
    pub(crate) fn new(shards: &[CutShard], own: u32) -> Self {
        let mut nodes: Vec<NodeShards> = Vec::new();
        let mut sorted = shards.to_vec();
        sorted.sort_unstable_by_key(|shard| (shard.node, shard.shard));
        for shard in sorted {
            match nodes.last_mut().filter(|last| last.node == shard.node) {
                Some(last) => last.shards.push((shard.shard, shard.pin)),
                None => nodes.push(NodeShards { node: shard.node, shards: vec![(shard.shard, shard.pin)] }),
            }
        }
        // A stage of one task is not sent anywhere: where all lies on another node, this one takes part with nothing.
        if let [only] = nodes.as_slice()
            && only.node != own
        {
            nodes.push(NodeShards { node: own, shards: Vec::new() });
            nodes.sort_unstable_by_key(|node| node.node);
        }
        let rows = Rows {
            events: shards.iter().map(|shard| shard.events).sum(),
            facets: shards.iter().map(|shard| shard.facets).sum(),
        };
        Self { nodes: Arc::new(nodes), names: Names::default(), tells_names: true, rows }
    }

    /// What a scan of this run reads.
    pub(crate) fn of_scan(&self, partitions: usize, batch_rows: usize) -> Of {
        Of {
            nodes: Arc::clone(&self.nodes),
            names: self.names.clone(),
            tells_names: self.tells_names,
            partitions: partitions.max(2),
            batch_rows,
            rows: self.rows,
        }
    }

    /// Whether all of it lies on this node.
    pub(crate) fn is_local(&self, host: &dyn Shards) -> bool {
        matches!(self.nodes.as_slice(), [only] if only.node == host.node())
    }

    /// The workers' addresses, in the order of tasks.
    pub(crate) fn urls(&self, host: &dyn Shards) -> std::result::Result<Vec<Url>, QueryError> {
        let peers = host.peers();
        let url = |node: &NodeShards| {
            let address = peers.iter().find(|(id, _)| *id == node.node).map(|(_, address)| address);
            let url = address.and_then(|address| Url::parse(address).ok());
            url.ok_or_else(|| {
                QueryError::Unavailable(format!("the address of node {} is not known", node.node))
            })
        };
        self.nodes.iter().map(url).collect()
    }
}

/// The nodes of a cut.
struct Nodes(Vec<Url>);

impl WorkerResolver for Nodes {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.clone())
    }
}

/// A session that plans for these nodes.
pub(crate) fn over_nodes(
    builder: SessionStateBuilder,
    urls: &[Url],
    channels: Arc<dyn ChannelResolver + Send + Sync>,
    local: Option<LocalWorkerContext>,
) -> Result<SessionStateBuilder> {
    let tasks = urls.len();
    let routes = urls.to_vec();
    let mut builder = builder
        .with_distributed_worker_resolver(Nodes(urls.to_vec()))
        .with_distributed_channel_resolver(channels)
        .with_distributed_cardinality_effect_task_scale_factor(1.0)?
        .with_distributed_children_isolator_unions(false)?
        // Nodes of a cluster are near each other: packing costs more than it spares.
        .with_distributed_compression(None)?
        .with_distributed_desired_task_count_handler(move |event: DesiredTaskCountEvent<'_>| {
            event.plan.is::<ScanExec>().then(|| Ok(DesiredTaskCountEventResponse::desired(tasks)))
        })
        .with_distributed_route_tasks_handler(move |event: RouteTasksEvent<'_>| {
            if !scan_in_stage(event.plan) {
                return None;
            }
            Some(if event.task_count == routes.len() {
                Ok(RouteTasksEventResponse::new(routes.clone()))
            } else {
                Err(exec_datafusion_err!(
                    "a stage with a scan has {} tasks for {} nodes",
                    event.task_count,
                    routes.len()
                ))
            })
        });
    if let Some(local) = local {
        builder = builder.with_distributed_local_worker_context(local);
    }
    Ok(builder.with_distributed_planner())
}

/// Refuses a plan that isn't sound.
pub(crate) fn check_sound(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    is_sound(plan).map_err(|why| exec_datafusion_err!("the query can't be spread over the nodes: {why}"))
}
