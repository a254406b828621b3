//! How the cluster is: in one sentence, then node by node and shard by shard.

use std::collections::BTreeMap;

use isthmus_proto::v1::{Node, NodeState, Replica, ReplicaRole, StatusResponse};
use maud::{Markup, html};

use crate::{
    failure::sentence,
    page::{Section, Shell, heading},
    show::{count, number, rate},
};

/// The page is asked for anew after so many milliseconds.
const LIVE_MS: u32 = 2_000;

/// What is told.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Whether all is well, and if not, what is amiss.
    pub status: StatusResponse,
    /// The nodes, by id.
    pub nodes: Vec<Node>,
    /// Their shards' replicas, by shard and node.
    pub replicas: Vec<Replica>,
    /// Events a second that came in through all nodes, lately.
    pub events_a_second: f64,
}

/// The page.
pub fn page(shell: &Shell<'_>, told: &Overview) -> String {
    let main = html! {
        div.title { h1 { "Overview" } p.faint { "Cluster " code { (told.status.cluster_id) } } }
        div data-part="health" { (health(&told.status)) }
        div data-part="figures" { (figures(told)) }
        section aria-labelledby="nodes" data-part="nodes" {
            (heading("nodes", "Nodes", html! { (count(told.nodes.len() as u64, "node", "nodes")) }))
            (nodes(shell, told))
        }
        section aria-labelledby="shards" data-part="shards" {
            (heading("shards", "Shards", html! { "what each replica has applied, and how far it is behind its leader" }))
            (shards(told))
        }
    };
    shell.page(Section::Overview, "Overview", Some(LIVE_MS), main)
}

fn health(status: &StatusResponse) -> Markup {
    html! {
        @if status.healthy {
            div.notice.good role="status" {
                p.lead { "All is well." }
                p {
                    "Each of the " (count(status.shards.into(), "shard", "shards")) " has a leader and "
                    @if status.replicas == 1 { "its one replica." }
                    @else { "all its " (status.replicas) " replicas." }
                }
            }
        } @else {
            div.notice.warn role="status" {
                p.lead {
                    @if status.shards_with_leader < status.shards {
                        (count(u64::from(status.shards - status.shards_with_leader), "shard has", "shards have"))
                        " no leader: what belongs there can be neither read nor written."
                    } @else {
                        "Everything is served, but something needs attention."
                    }
                }
                ul { @for problem in &status.problems { li { (sentence(problem)) } } }
            }
        }
    }
}

fn figures(told: &Overview) -> Markup {
    let status = &told.status;
    html! {
        dl.figures {
            div {
                dt { "Nodes that answer" }
                dd { (status.nodes_alive) span.of { " of " (status.nodes) } }
            }
            div {
                dt { "Shards with a leader" }
                dd { (status.shards_with_leader) span.of { " of " (status.shards) } }
            }
            div { dt { "Replicas of each shard" } dd { (status.replicas) } }
            div {
                dt { a href="/ingest" { "Events a second" } }
                dd { (rate(told.events_a_second)) }
            }
        }
    }
}

fn nodes(shell: &Shell<'_>, told: &Overview) -> Markup {
    html! {
        div.cards {
            @for node in &told.nodes {
                article.card aria-label=(format!("Node {}", node.node_id)) {
                    header {
                        h3 { "Node " (node.node_id) }
                        @if node.node_id == shell.node { span.faint { "this one" } }
                        (state(node))
                    }
                    dl.pairs {
                        dt { "Leads" }
                        dd { (node.leaders) span.of { " of " (count(node.replicas.into(), "replica", "replicas")) } }
                        dt { "gRPC" } dd { code { (node.grpc_address) } }
                        dt { "HTTP" }
                        dd {
                            @if node.alive && node.node_id != shell.node {
                                a href=(format!("http://{}/", node.http_address)) { (node.http_address) }
                            } @else { code { (node.http_address) } }
                        }
                        @if told.status.metadata_leader == node.node_id {
                            dt { "Metadata" } dd { "leads the group" }
                        }
                    }
                }
            }
        }
    }
}

fn state(node: &Node) -> Markup {
    html! {
        @if !node.alive { span.badge.bad { "does not answer" } }
        @else if node.state() == NodeState::Leaving { span.badge.warn { "is leaving" } }
        @else { span.badge.good { "answers" } }
    }
}

/// A shard's replicas, by node.
type Row<'a> = BTreeMap<u32, &'a Replica>;

fn shards(told: &Overview) -> Markup {
    let mut rows: BTreeMap<u64, Row<'_>> = BTreeMap::new();
    for replica in &told.replicas {
        rows.entry(replica.shard).or_default().insert(replica.node, replica);
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label="Shards" {
            table.shards {
                thead {
                    tr {
                        th scope="col" { "Shard" }
                        th.wide scope="col" { "Slots" }
                        @for node in &told.nodes { th scope="col" { "Node " (node.node_id) } }
                    }
                }
                tbody {
                    @for (shard, row) in &rows { (shard_row(*shard, row, &told.nodes)) }
                }
            }
        }
    }
}

fn shard_row(shard: u64, row: &Row<'_>, nodes: &[Node]) -> Markup {
    let leader = row.values().find(|replica| replica.role() == ReplicaRole::Leader);
    let slots = row.values().next().map_or("", |replica| replica.slots.as_str());
    html! {
        tr {
            th scope="row" { (shard) }
            td.wide { (slots.replace(',', ", ").replace('-', "–")) }
            @for node in nodes {
                td {
                    @match row.get(&node.node_id) {
                        None => span.faint title="no replica of this shard" { "–" },
                        Some(replica) => (cell(replica, leader.map(|leader| leader.applied_index))),
                    }
                }
            }
        }
    }
}

fn cell(replica: &Replica, leader_applied: Option<u64>) -> Markup {
    let title = format!("term {}, applied up to {}", replica.term, number(replica.applied_index));
    let behind = leader_applied.map(|applied| applied.saturating_sub(replica.applied_index));
    html! {
        @match replica.role() {
            ReplicaRole::Leader => span.role.leads title=(title) { "leads" },
            ReplicaRole::Follower => span.role title=(title) { "follows" },
            ReplicaRole::Learner => span.role.learns title=(title) { "learns" },
            ReplicaRole::Candidate => span.role.asks title=(title) { "wants to lead" },
            ReplicaRole::Unspecified => span.role.silent title="it could not be asked" { "silent" },
        }
        @if replica.role() != ReplicaRole::Leader && replica.role() != ReplicaRole::Unspecified {
            @match behind {
                Some(0) => span.lag { "level" },
                Some(behind) => span.lag.late { (number(behind)) " behind" },
                None => span.lag {},
            }
        } @else if replica.role() == ReplicaRole::Leader {
            span.lag { (number(replica.applied_index)) }
        }
    }
}
