//! Clusters of real processes on loopback, which can be killed and started again.

use std::{
    io::{BufRead as _, BufReader, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use isthmus_proto::v1::{
    ReplicaRole, ShardsRequest, StatusRequest, cluster_service_client::ClusterServiceClient,
};
use tonic::transport::Channel;

use crate::ports;

/// How long a test waits for what must come; only a broken build takes as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How nodes are started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The program and its leading arguments; `serve …` comes behind.
    pub program: Vec<String>,
    /// Where the nodes' data lies: a folder for each.
    pub data: PathBuf,
    /// How many nodes.
    pub nodes: u32,
    /// How many shards.
    pub shards: u32,
    /// How many replicas each shard should have.
    pub replicas: u32,
    /// Further arguments for `serve`.
    pub arguments: Vec<String>,
    /// Environment of the nodes, on top of this process's.
    pub environment: Vec<(String, String)>,
    /// Where the nodes' HTTP ports listen.
    pub http_host: Ipv4Addr,
}

impl ClusterOptions {
    /// A cluster for tests: four shards, each with a replica on every node.
    pub fn small(program: &str, data: impl Into<PathBuf>, nodes: u32) -> Self {
        Self {
            program: vec![program.to_owned()],
            data: data.into(),
            nodes,
            shards: 4,
            replicas: nodes,
            arguments: vec![],
            environment: vec![],
            http_host: Ipv4Addr::LOCALHOST,
        }
    }

    /// The same with variables in the nodes' environment.
    pub fn with_environment(mut self, variables: &[(&str, &str)]) -> Self {
        self.environment.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        self
    }
}

/// A node's process and where it listens.
pub struct Node {
    /// Its id.
    pub id: u32,
    /// Where clients' gRPC goes.
    pub grpc: SocketAddr,
    /// Where HTTP goes.
    pub http: SocketAddr,
    /// Where other nodes go.
    pub peer: SocketAddr,
    /// Its data.
    pub data: PathBuf,
    child: Option<Child>,
}

/// A cluster of processes. Dropping it kills them.
pub struct Cluster {
    options: ClusterOptions,
    /// The nodes, by rising id.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts a cluster and waits until every shard has a leader and all its replicas.
    ///
    /// # Panics
    /// When a node doesn't start.
    pub async fn start(options: ClusterOptions) -> Self {
        let mut cluster = Self { options, nodes: Vec::new() };
        for _ in 0..cluster.options.nodes {
            cluster.add_node();
        }
        cluster.healthy().await;
        cluster
    }

    /// Starts the nodes of a cluster that is there already, on the data and at the addresses (gRPC, HTTP, peers) that they
    /// had, by rising id, and waits as [`start`](Self::start) does.
    ///
    /// # Panics
    /// When a node doesn't start.
    pub async fn start_again(options: ClusterOptions, addresses: &[[SocketAddr; 3]]) -> Self {
        let mut cluster = Self { options, nodes: Vec::new() };
        for at in addresses {
            cluster.add_node_at(*at);
        }
        cluster.healthy().await;
        cluster
    }

    /// Adds a node: the first one bootstraps, the others join. Returns its index.
    pub fn add_node(&mut self) -> usize {
        self.add_node_at(ports::reserve())
    }

    fn add_node_at(&mut self, [grpc, http, peer]: [SocketAddr; 3]) -> usize {
        let id = self.nodes.last().map_or(1, |node| node.id + 1);
        let data = self.options.data.join(format!("node-{id}"));
        self.nodes.push(Node { id, grpc, http, peer, data, child: None });
        self.launch(self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Sets variables in the environment of nodes that start from now on, in place of those before.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.options.environment.clear();
        self.options = self.options.clone().with_environment(variables);
    }

    /// Starts a node's process, by the same command each time.
    ///
    /// # Panics
    /// When it is running, or can't be started.
    pub fn launch(&mut self, index: usize) {
        let first = self.nodes[0].peer;
        let options = &self.options;
        let node = &mut self.nodes[index];
        assert!(node.child.is_none(), "node {} runs", node.id);
        let mut command = Command::new(&options.program[0]);
        command
            .args(&options.program[1..])
            .args(["serve", "--node-id", &node.id.to_string()])
            .args(["--grpc-listen", &node.grpc.to_string()])
            .args(["--http-listen", &format!("{}:{}", options.http_host, node.http.port())])
            .args(["--peer-listen", &node.peer.to_string()])
            .args(["--shards", &options.shards.to_string(), "--replicas", &options.replicas.to_string()])
            .arg("--data-dir")
            .arg(&node.data)
            .args(&options.arguments)
            .envs(options.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(&options.data, node.id));
        if index == 0 {
            command.arg("--bootstrap");
        } else {
            command.args(["--join", &first.to_string()]);
        }
        node.child = Some(command.spawn().unwrap());
    }

    /// Kills a node as a power cut would, but for the page cache (SIGKILL), and waits until it is gone.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.nodes[index].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal, such as `STOP` or `CONT`, to a node.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn signal(&self, index: usize, name: &str) {
        let id = self.nodes[index].child.as_ref().unwrap().id();
        let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Asks a node to stop (SIGTERM) and waits until it has; its exit code.
    ///
    /// # Panics
    /// When it doesn't run or doesn't stop.
    pub fn stop(&mut self, index: usize) -> Option<i32> {
        let mut child = self.nodes[index].child.take().unwrap();
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "a node doesn't stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Forgets a node that was removed for good; its process is killed.
    pub fn forget(&mut self, index: usize) {
        let mut node = self.nodes.remove(index);
        if let Some(mut child) = node.child.take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Whether a node's process is alive.
    pub fn runs(&mut self, index: usize) -> bool {
        let child = self.nodes[index].child.as_mut();
        child.is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// The endpoints of all nodes, for the CLI.
    pub fn endpoints(&self) -> String {
        let all: Vec<String> = self.nodes.iter().map(|node| format!("http://{}", node.grpc)).collect();
        all.join(",")
    }

    /// A connection to a node, made when it is first used.
    ///
    /// # Panics
    /// Never: the address is a valid one.
    pub fn channel(&self, index: usize) -> Channel {
        channel(self.nodes[index].grpc)
    }

    /// Waits until every shard has a leader and all its replicas.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`].
    pub async fn healthy(&self) {
        self.wait("the cluster is healthy", |status| status.healthy).await;
    }

    /// Waits until some node says that every shard has a leader, whether or not all replicas are there.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`].
    pub async fn serving(&self) {
        self.wait("all shards have leaders", |s| s.shards > 0 && s.shards_with_leader == s.shards).await;
    }

    /// Waits until some node's status fits.
    ///
    /// # Panics
    /// When that takes longer than [`PATIENCE`].
    pub async fn wait(&self, what: &str, fits: impl Fn(&isthmus_proto::v1::StatusResponse) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            for (index, node) in self.nodes.iter().enumerate() {
                if node.child.is_none() {
                    continue;
                }
                let asked = ClusterServiceClient::new(self.channel(index)).status(StatusRequest {}).await;
                match asked {
                    Ok(status) if fits(status.get_ref()) => return,
                    Ok(status) => last = format!("{:?}", status.get_ref().problems),
                    Err(error) => last = error.to_string(),
                }
            }
            assert!(
                Instant::now() < until,
                "waited in vain until {what}; {last}; logs: {}; they end with {:?}",
                self.options.data.display(),
                self.nodes.iter().map(|n| log_lines(&self.options.data, n.id, "").pop()).collect::<Vec<_>>()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The index of the node that leads most shards.
    ///
    /// # Panics
    /// When the first node doesn't answer.
    pub async fn busiest(&self) -> usize {
        let asked = ClusterServiceClient::new(self.channel(0)).shards(ShardsRequest {}).await;
        let replicas = asked.unwrap().into_inner().replicas;
        let leads = |id: u32| {
            replicas.iter().filter(|row| row.node == id && row.role() == ReplicaRole::Leader).count()
        };
        (0..self.nodes.len()).max_by_key(|index| leads(self.nodes[*index].id)).unwrap()
    }

    /// Peak and present resident memory of a node, in bytes.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn memory(&self, index: usize) -> (u64, u64) {
        let id = self.nodes[index].child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0) * 1024
        };
        (field("VmHWM:"), field("VmRSS:"))
    }

    /// Bytes that a node's data takes on the disk.
    ///
    /// # Panics
    /// When a folder can't be read for another reason than that it has just gone.
    pub fn disk_bytes(&self, index: usize) -> u64 {
        disk_bytes(&self.nodes[index].data)
    }

    /// Processor time that a node has used, in seconds.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn processor_seconds(&self, index: usize) -> f64 {
        let id = self.nodes[index].child.as_ref().unwrap().id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ended = child.kill();
                let _reaped = child.wait();
            }
        }
    }
}

/// Bytes that the files under a folder take on the disk, as `du` counts them. The folder may be changing: what is gone
/// by the time that it is looked at counts nothing.
fn disk_bytes(folder: &Path) -> u64 {
    let there = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let entries = std::fs::read_dir(folder).map_err(there).into_iter().flatten();
    let bytes = entries.filter_map(|entry| {
        let entry = entry.map_err(there).ok()?;
        let known = entry.metadata().map_err(there).ok()?;
        Some(if known.is_dir() { disk_bytes(&entry.path()) } else { known.blocks() * 512 })
    });
    bytes.sum()
}

/// A connection to an address, made when it is first used.
///
/// # Panics
/// Never: the address is a valid one.
pub fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true).connect_lazy()
}

fn log_file(data: &Path, id: u32) -> Stdio {
    std::fs::create_dir_all(data).unwrap();
    let path = data.join(format!("node-{id}.log"));
    Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap())
}

/// The lines of a node's log that hold a word.
///
/// # Panics
/// When there is no log.
pub fn log_lines(data: &Path, id: u32, word: &str) -> Vec<String> {
    let file = std::fs::File::open(data.join(format!("node-{id}.log"))).unwrap();
    BufReader::new(file).lines().map_while(Result::ok).filter(|line| line.contains(word)).collect()
}
