//! The command line of `isthmus-node`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::version::VERSION;

/// A node of Isthmus, the customer-data hub.
#[derive(Debug, Parser)]
#[command(name = "isthmus-node", version = VERSION, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log: a level (error, warn, info, debug, trace) or directives such as `info,isthmus_raft=debug`.
    /// `ISTHMUS_LOG` says it too.
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a whole cluster in this process, to develop against.
    Dev(DevArgs),
    /// Runs one node of a cluster.
    Serve(Box<ServeArgs>),
    /// Takes a real purchase history in, in a cluster of three nodes, and shows what the hub makes of it.
    Demo(DemoArgs),
}

/// `isthmus-node dev`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Node i listens on P+10i (gRPC), P+10i+1 (HTTP) and P+10i+2 (other nodes). There is a source \
                        `dev` with the write key `dev-write-key`.\n\nExamples:\n  isthmus-node dev\n  isthmus-node dev \
                        --nodes 3 --data-dir ./data"
)]
pub struct DevArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub nodes: u32,
    /// Where to keep the data: node i in DIR/node-i. Absent: a temporary directory, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The first port. 0: any free ports.
    #[arg(long, default_value_t = 7400)]
    pub port: u16,
    /// How many shards a new cluster has.
    #[arg(long, default_value_t = 16)]
    pub shards: u32,
    /// How many replicas a shard has: odd. Absent: 3, or as many as nodes allow.
    #[arg(long)]
    pub replicas: Option<u32>,
}

/// `isthmus-node demo`
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Stay up afterwards, until interrupted.
    #[arg(long)]
    pub keep: bool,
}

/// `isthmus-node serve`. What is given here counts before the environment (`ISTHMUS_NODE_ID`), and that before the
/// file. Names are those of the file's keys.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(
    after_help = "Every option can be set by the environment (ISTHMUS_NODE_ID=1) and in the file of --config \
                        (node_id = 1), too.\n\nExamples:\n  isthmus-node serve --node-id 1 --grpc-listen \
                        127.0.0.1:7400 --http-listen 127.0.0.1:7401 \\\n    --peer-listen 127.0.0.1:7402 --data-dir \
                        /var/lib/isthmus --bootstrap\n  isthmus-node serve --config /etc/isthmus.toml"
)]
pub struct ServeArgs {
    /// This node's id in the cluster: 1 or more, never used twice.
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u32>,
    /// Where clients' gRPC is served.
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_listen: Option<String>,
    /// Where HTTP is served: health and metrics.
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_listen: Option<String>,
    /// Where other nodes are served.
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<String>,
    /// The host name or address under which clients and other nodes reach this node. Absent: the hosts listened on.
    #[arg(long, value_name = "HOST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_host: Option<String>,
    /// Where the data is kept.
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Make a new cluster of this node. Ignored by a node that has data.
    #[arg(long, conflicts_with = "join")]
    #[serde(skip_serializing_if = "is_false")]
    pub bootstrap: bool,
    /// Join the cluster of these nodes (their --peer-listen). Ignored by a node that has data.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// How many shards a new cluster has: 1 to 4096. Default 16.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// How many replicas each shard of a new cluster should have: odd, 1 to 9. Default 3.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// A file with the key that identifiers are hashed with: 32 bytes or 64 hexadecimal digits, readable by its owner
    /// alone. For a new cluster; absent: one is made.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_key_file: Option<PathBuf>,
    /// Listen without TLS on addresses that are not loopback.
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    pub insecure_plaintext: bool,
    /// A TOML file with settings.
    #[arg(long, value_name = "FILE", env = "ISTHMUS_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// clap's: a usage error, or a request for help or the version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
