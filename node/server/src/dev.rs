//! `isthmus-node dev`: a whole cluster in one process, to develop against.
//!
//! The nodes are real ones: the first makes the cluster, the others join it over the loopback address, and each keeps
//! its own directory. What runs here runs the same in as many processes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use isthmus_coordinator::{DEV_SOURCE, DEV_WRITE_KEY, FoundOptions, Membership};
use isthmus_domain::NodeId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, Node, NodeOptions, Origin, Result, args::DevArgs, config, node::membership_dir, signals};

/// How long a cluster may take until all is well with it.
const READY: Duration = Duration::from_secs(60);
/// From one node's first port to the next one's.
const PORTS_APART: u16 = 10;

/// How a cluster in this process should be.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// How many nodes: 1 to 9.
    pub nodes: u32,
    /// Node i keeps its data in `node-i` in here.
    pub data_dir: PathBuf,
    /// The first port; 0: any free ones.
    pub port: u16,
    /// Shards of a new cluster.
    pub shards: u32,
    /// Replicas of each shard: odd.
    pub replicas: u32,
}

/// A running cluster.
pub struct DevCluster {
    nodes: Vec<Node>,
}

impl DevCluster {
    /// Starts a cluster and waits until all is well with it.
    ///
    /// # Errors
    /// As [`Node::start`]; [`Error::Setting`] of `port` when its data was made on another one; [`Error::NotReady`].
    pub async fn start(options: &DevOptions, stop: &CancellationToken) -> Result<Self> {
        let deadline = Instant::now() + READY;
        check_port(options)?;
        let mut cluster = Self { nodes: Vec::new() };
        for index in 0..options.nodes {
            let started = Node::start(cluster.options_of(options, index)?, stop).await;
            match started {
                Ok(node) => cluster.nodes.push(node),
                Err(error) => {
                    cluster.stop().await;
                    return Err(error);
                }
            }
        }
        match cluster.settle(deadline).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await;
                Err(error)
            }
        }
    }

    async fn settle(&self, deadline: Instant) -> Result<()> {
        for node in &self.nodes {
            node.ready(deadline).await?;
        }
        match self.nodes.first() {
            Some(first) => first.healthy(deadline).await,
            None => Ok(()),
        }
    }

    fn options_of(&self, options: &DevOptions, index: u32) -> Result<NodeOptions> {
        let origin = match self.nodes.first() {
            None => Origin::Found(FoundOptions {
                shards: options.shards,
                replicas: options.replicas,
                identity_key: None,
                dev_source: true,
            }),
            Some(first) => Origin::Join(vec![first.addresses().peer.clone()]),
        };
        let node_id = index + 1;
        let mut node = NodeOptions::local(node_id, node_dir(options, node_id), origin);
        if options.port != 0 {
            let first = offset(index).and_then(|offset| options.port.checked_add(offset));
            let port = |offset: u16| match first.and_then(|first| first.checked_add(offset)) {
                Some(port) => Ok(format!("127.0.0.1:{port}")),
                None => Err(Error::setting("port", "leaves no ports for all nodes: give a smaller one")),
            };
            (node.grpc_listen, node.http_listen, node.peer_listen) = (port(0)?, port(1)?, port(2)?);
        }
        Ok(node)
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where clients connect to the first node: `http://host:port`.
    pub fn endpoint(&self) -> String {
        self.nodes.first().map(|node| format!("http://{}", node.addresses().grpc)).unwrap_or_default()
    }

    /// Stops all nodes together.
    pub async fn stop(self) {
        join_all(self.nodes.into_iter().map(Node::stop_with_the_cluster)).await;
    }
}

/// The write key of the source that every such cluster has.
pub const WRITE_KEY: &str = DEV_WRITE_KEY;

/// A node in this process that is a whole cluster, on free ports, with its data in a temporary directory: for examples
/// and tests of whoever embeds one.
pub struct Temporary {
    cluster: DevCluster,
    // Removed when it is dropped.
    _dir: tempfile::TempDir,
}

impl Temporary {
    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// As [`DevCluster::start`].
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
        let data_dir = dir.path().to_owned();
        let options = DevOptions { nodes: 1, data_dir, port: 0, shards: 4, replicas: 1 };
        let cluster = DevCluster::start(&options, &CancellationToken::new()).await?;
        Ok(Self { cluster, _dir: dir })
    }

    /// Where clients connect to: `http://host:port`.
    pub fn endpoint(&self) -> String {
        self.cluster.endpoint()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.cluster.stop().await;
    }
}

/// Refuses another port than the data was made on. A node alone may move: it tells the cluster. Nodes that all move at
/// once look for each other where they were, and never find a leader to tell.
fn check_port(options: &DevOptions) -> Result<()> {
    let Some(view) = Membership::last_view(&membership_dir(&node_dir(options, 1)))? else { return Ok(()) };
    if view.nodes.len() < 2 {
        return Ok(());
    }
    let base = |index: u32| {
        let (_, port) = view.nodes.get(&NodeId(index + 1))?.grpc_address.rsplit_once(':')?;
        port.parse::<u16>().ok()?.checked_sub(offset(index)?)
    };
    let bases: BTreeSet<u16> = (0..options.nodes).filter_map(base).collect();
    let (port, data) = (options.port, options.data_dir.display());
    let problem = match bases.iter().collect::<Vec<_>>()[..] {
        [] => return Ok(()),
        [was] if *was == port => return Ok(()),
        [was] => format!(
            "the nodes whose data is in {data} look for each other from port {was} on, where they were made: give \
             --port {was}, not {port}, or another --data-dir"
        ),
        _ => format!(
            "the nodes whose data is in {data} were made on any free ports and look for each other there: give another \
             --data-dir"
        ),
    };
    Err(Error::setting("port", problem))
}

/// Where a node keeps its data.
fn node_dir(options: &DevOptions, node_id: u32) -> PathBuf {
    options.data_dir.join(format!("node-{node_id}"))
}

/// From the first port of all to the first one of the node with this index.
fn offset(index: u32) -> Option<u16> {
    u16::try_from(index).ok().and_then(|index| index.checked_mul(PORTS_APART))
}

/// Runs the subcommand.
///
/// # Errors
/// As [`DevCluster::start`].
pub async fn run(args: DevArgs) -> Result<()> {
    let stop = signals::stop_token()?;
    // Removed when it is dropped, at the end.
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(Error::io("make a temporary directory"))?),
    };
    let data_dir =
        args.data_dir.as_deref().or(temporary.as_ref().map(|dir| dir.path())).unwrap_or(Path::new("."));
    let replicas = args.replicas.unwrap_or(if args.nodes >= 3 { 3 } else { 1 });
    config::check_replicas(replicas).map_err(|error| given(&args, error))?;
    if args.shards == 0 || args.shards > config::SHARDS_MAX {
        let error = Error::setting("shards", format!("must be 1 to {}", config::SHARDS_MAX));
        return Err(given(&args, error));
    }
    if replicas > args.nodes {
        let problem = format!("{replicas} replicas need {replicas} nodes: give --nodes, too");
        return Err(given(&args, Error::setting("replicas", problem)));
    }
    let options = DevOptions {
        nodes: args.nodes,
        data_dir: data_dir.to_owned(),
        port: args.port,
        shards: args.shards,
        replicas,
    };
    let begun = Instant::now();
    let cluster = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        started = DevCluster::start(&options, &stop) => started.map_err(|error| given(&args, error))?,
    };
    let nodes = if args.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", args.nodes) };
    println!(
        "Isthmus is ready in {:.2} s ({nodes}): connect to {} (source `{DEV_SOURCE}`, write key `{DEV_WRITE_KEY}`)",
        begun.elapsed().as_secs_f64(),
        cluster.endpoint()
    );
    match &temporary {
        Some(dir) => println!(
            "The data is in {} and is removed at the end; --data-dir keeps it.",
            dir.path().display()
        ),
        None => println!("The data is in {}.", data_dir.display()),
    }
    stop.cancelled().await;
    cluster.stop().await;
    Ok(())
}

/// The same error in terms of this command's options: ports follow from `--port`, directories from `--data-dir`.
fn given(args: &DevArgs, error: Error) -> Error {
    let Error::Setting { key, problem } = error else { return error };
    let (place, key) = match key.as_str() {
        "grpc_listen" | "http_listen" | "peer_listen" | "port" => (format!("--port {}", args.port), "port"),
        "data_dir" | "node_id" | "join" => ("--data-dir".to_owned(), "data_dir"),
        other => (format!("--{}", other.replace('_', "-")), other),
    };
    Error::Located { place, key: key.to_owned(), problem }
}
