//! `isthmus cluster …`

use std::time::Duration;

use crate::{Client, Error, json, proto};
use clap::Subcommand;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::{
    failure::{Done, Failure},
    output::{Output, complain},
};

pub const EXAMPLES: &str = "\
Examples:
  isthmus cluster status --wait 60s        exits 0 once every shard has a leader and all its replicas
  isthmus cluster shards --output json     each replica with its index and state hash
  isthmus cluster transfer --shard 17 --to-node 2
  isthmus cluster remove 3 --wait 10m";

/// How often a state that is waited for is asked for.
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Say whether all is well; exits 1 when not
    #[command(
        after_help = "Examples:\n  isthmus cluster status\n  isthmus cluster status --wait 60s --output json"
    )]
    Status {
        /// Wait so long for every shard to have a leader and all its replicas
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
    /// List the nodes
    #[command(after_help = "Example:\n  isthmus cluster nodes")]
    Nodes,
    /// List the replicas of all shards
    #[command(after_help = "Example:\n  isthmus cluster shards --output json")]
    Shards,
    /// Hand a shard's leadership to another node
    #[command(after_help = "Example:\n  isthmus cluster transfer --shard 17 --to-node 2")]
    Transfer {
        /// The shard
        #[arg(long)]
        shard: u64,
        /// The node that shall lead
        #[arg(long, value_name = "NODE")]
        to_node: u32,
    },
    /// Remove a node for good; its replicas are placed elsewhere first
    #[command(after_help = "Example:\n  isthmus cluster remove 3 --wait 10m")]
    Remove {
        /// The node
        #[arg(value_name = "NODE", required_unless_present = "node_option", conflicts_with = "node_option")]
        node: Option<u32>,
        /// The node, as an option
        #[arg(long = "node", value_name = "NODE", id = "node_option")]
        node_option: Option<u32>,
        /// Wait so long for it to be gone
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
}

pub async fn run(verb: ClusterVerb, client: Client, output: &mut Output) -> Result<Done, Failure> {
    match verb {
        ClusterVerb::Status { wait } => status(&client, wait, output).await,
        ClusterVerb::Nodes => nodes(&client, output).await,
        ClusterVerb::Shards => shards(&client, output).await,
        ClusterVerb::Transfer { shard, to_node } => {
            let leader = client.transfer(shard, to_node).await?;
            match output.is_json() {
                true => output.json(&json!({ "shard": shard, "leader": leader }))?,
                false => output.line(&format!("shard {shard} is led by node {leader}"))?,
            }
            Ok(Done::Well)
        }
        ClusterVerb::Remove { node, node_option, wait } => {
            let node =
                node.or(node_option).ok_or_else(|| Failure::Usage("name the node to remove".into()))?;
            remove(&client, node, wait, output).await
        }
    }
}

async fn status(client: &Client, wait: Option<Duration>, output: &mut Output) -> Result<Done, Failure> {
    let deadline = wait.map(|wait| Instant::now() + wait);
    let status = loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // While waiting, no single question may use up all the time.
        let asked = match left {
            Some(left) => client.with_deadline(left.clamp(POLL, Duration::from_secs(5))),
            None => client.clone(),
        };
        let may_wait = left.is_some_and(|left| left > POLL);
        match asked.cluster_status().await {
            Ok(status) if status.healthy || !may_wait => break status,
            Err(error) if !may_wait || matches!(error, Error::Usage(_)) => return Err(error.into()),
            _ => sleep(POLL).await,
        }
    };
    if output.is_json() {
        output.json(&json::Status::from(&status))?;
    } else {
        let leader = if status.metadata_leader == 0 {
            "none".to_owned()
        } else {
            format!("node {}", status.metadata_leader)
        };
        output.facts(&[
            ("cluster", status.cluster_id.clone()),
            ("healthy", if status.healthy { "yes" } else { "no" }.to_owned()),
            ("nodes", format!("{} of {} answer", status.nodes_alive, status.nodes)),
            ("shards", format!("{} of {} have a leader", status.shards_with_leader, status.shards)),
            ("replicas", format!("{} of each shard", status.replicas)),
            ("shard map", format!("version {}", status.shard_map_version)),
            ("metadata", format!("led by {leader}")),
            ("version", status.version.clone()),
        ])?;
        for problem in &status.problems {
            output.facts(&[("problem", problem.clone())])?;
        }
    }
    Ok(if status.healthy { Done::Well } else { Done::NotWell })
}

async fn nodes(client: &Client, output: &mut Output) -> Result<Done, Failure> {
    let nodes = client.nodes().await?;
    if output.is_json() {
        for node in &nodes {
            output.json(&json::Node::from(node))?;
        }
        return Ok(Done::Well);
    }
    let rows = nodes.iter().map(|node| {
        vec![
            node.node_id.to_string(),
            json::state_name(node.state()).to_owned(),
            if node.alive { "yes" } else { "no" }.to_owned(),
            node.replicas.to_string(),
            node.leaders.to_string(),
            node.grpc_address.clone(),
            node.http_address.clone(),
            node.peer_address.clone(),
            node.version.clone(),
        ]
    });
    let headings = ["NODE", "STATE", "ALIVE", "REPLICAS", "LEADERS", "GRPC", "HTTP", "PEER", "VERSION"];
    output.table(&headings, rows)?;
    Ok(Done::Well)
}

async fn shards(client: &Client, output: &mut Output) -> Result<Done, Failure> {
    let replicas = client.shards().await?;
    if output.is_json() {
        for replica in &replicas {
            output.json(&json::Replica::from(replica))?;
        }
        return Ok(Done::Well);
    }
    let row = |replica: &proto::Replica| {
        vec![
            replica.shard.to_string(),
            replica.slots.clone(),
            replica.node.to_string(),
            json::role_name(replica.role()).to_owned(),
            replica.term.to_string(),
            replica.applied_index.to_string(),
            replica.state_hash.clone(),
            replica.state_hash_index.to_string(),
        ]
    };
    let headings = ["SHARD", "SLOTS", "NODE", "ROLE", "TERM", "APPLIED", "STATE HASH", "AT"];
    output.table(&headings, replicas.iter().map(row))?;
    Ok(Done::Well)
}

async fn remove(
    client: &Client,
    node: u32,
    wait: Option<Duration>,
    output: &mut Output,
) -> Result<Done, Failure> {
    let deadline = wait.map(|wait| Instant::now() + wait);
    let left = client.remove_node(node).await?;
    let mut gone = false;
    while let Some(deadline) = deadline {
        // A node that can't answer now is asked again; only the deadline ends the wait.
        gone = client.nodes().await.is_ok_and(|nodes| nodes.iter().all(|listed| listed.node_id != node));
        if gone || Instant::now() + POLL >= deadline {
            break;
        }
        sleep(POLL).await;
    }
    match output.is_json() {
        true => output
            .json(&json!({ "node": node, "replicas_left": if gone { 0 } else { left }, "gone": gone }))?,
        false if gone => output.line(&format!("node {node} is gone"))?,
        false => {
            output.line(&format!(
                "node {node} is leaving; {left} replicas were still to be placed elsewhere"
            ))?;
            complain("it is gone when `isthmus cluster nodes` no longer lists it");
        }
    }
    Ok(if deadline.is_some() && !gone { Done::NotWell } else { Done::Well })
}
