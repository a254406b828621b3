//! What the Raft groups of a node show, the log that they share, and what waits in front of shards.
//!
//! Each of them has the label `shard`; that of the metadata group is `metadata`.

use isthmus_raft::{GroupMeasures, HistogramView, ReplicaState, Role};
use isthmus_shard::Waiting;

use super::{
    Levels,
    family::{Family, Label},
};

/// The metadata group's id; shards come behind.
const METADATA: u64 = 1;

/// What the log writer has measured.
#[derive(Clone, Debug, Default)]
pub struct LogLevels {
    /// Microseconds of synced writes.
    pub sync_micros: HistogramView,
    /// Entries in a synced write.
    pub entries: HistogramView,
    /// Groups in a synced write.
    pub groups: HistogramView,
    /// Bytes of entries written.
    pub written_bytes: u64,
    /// Jobs that wait.
    pub waiting_jobs: usize,
}

pub(super) fn families(levels: &Levels) -> Vec<Family> {
    let mut all = groups(&levels.groups);
    all.extend(queues(&levels.groups, &levels.shards));
    all.extend(log(&levels.log));
    all
}

fn shard(id: u64) -> Label {
    ("shard", if id == METADATA { "metadata".to_owned() } else { id.to_string() })
}

/// One number of each group.
fn each(family: Family, groups: &[GroupMeasures], of: impl Fn(&GroupMeasures) -> u64) -> Family {
    groups.iter().fold(family, |mut family, group| {
        family.push(vec![shard(group.view.group)], of(group));
        family
    })
}

fn groups(groups: &[GroupMeasures]) -> Vec<Family> {
    let gauge = |name, help, of: fn(&GroupMeasures) -> u64| each(Family::gauge(name, help), groups, of);
    let counter = |name, help, of: fn(&GroupMeasures) -> u64| each(Family::counter(name, help), groups, of);
    let mut roles = Family::gauge("raft_role", "1 with the role of this node's replica in its label");
    let mut lag = Family::gauge(
        "raft_follower_lag_entries",
        "Entries that a peer is not known to have synced, as the leader sees it; the label node is the peer's",
    );
    for GroupMeasures { view, .. } in groups {
        let role = match view.role {
            _ if view.conf.learners.contains(&view.peer.0) => "learner",
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
        };
        roles.push(vec![shard(view.group), ("role", role.to_owned())], 1);
        for peer in &view.progress {
            let labels = vec![shard(view.group), ("node", peer.peer.node().to_string())];
            lag.push(labels, view.last.saturating_sub(peer.matched));
        }
    }
    vec![
        gauge("raft_term", "Raft's term at this node's replica", |group| group.view.term),
        gauge("raft_leader", "1 where this node's replica leads, else 0", |group| {
            u64::from(group.view.role == Role::Leader)
        }),
        gauge("raft_leader_node", "The node that leads, as this one knows it; 0: none is known", |group| {
            group.view.leader.map_or(0, |peer| peer.node().into())
        }),
        roles,
        gauge(
            "raft_running",
            "1 where this node's replica works, 0 where it is broken or stopped",
            |group| u64::from(group.view.state == ReplicaState::Running),
        ),
        gauge("raft_last_index", "Last index of the log of this node's replica", |group| group.view.last),
        gauge("raft_commit_index", "Highest index that this node's replica knows to be committed", |group| {
            group.view.commit
        }),
        gauge("raft_applied_index", "Highest index that this node's replica has applied", |group| {
            group.view.applied
        }),
        gauge(
            "raft_durable_index",
            "Highest index whose effects this node's replica has written out",
            |group| group.view.durable,
        ),
        lag,
        counter("raft_proposals", "Proposals to this node's replica", |group| group.proposals),
        counter("raft_elections", "Elections that this node's replica stood for", |group| group.elections),
        counter("raft_leaderships", "Times that this node's replica began to lead", |group| {
            group.leaderships
        }),
    ]
}

fn queues(groups: &[GroupMeasures], shards: &[(u64, Waiting)]) -> Vec<Family> {
    let gauge = |name, help, of: fn(&GroupMeasures) -> usize| {
        each(Family::gauge(name, help), groups, |group| of(group) as u64)
    };
    let of_shards = |name, help, of: fn(&Waiting) -> usize| {
        let mut family = Family::gauge(name, help);
        for (id, waiting) in shards {
            family.push(vec![shard(*id)], of(waiting) as u64);
        }
        family
    };
    vec![
        gauge("raft_mailbox_requests", "Clients' requests in a replica's mailbox", |it| it.waiting_requests),
        gauge("raft_mailbox_messages", "Peers' messages in a replica's mailbox", |it| it.waiting_messages),
        gauge("raft_apply_queue_entries", "Committed entries in front of a state machine", |it| {
            it.waiting_entries
        }),
        of_shards("ingest_queue_calls", "Callers whose events wait to be proposed", |it| it.ingest_calls),
        of_shards("ingest_queue_bytes", "Bytes of events that wait to be proposed", |it| it.ingest_bytes),
        of_shards("inbox_parcels", "Parcels of other shards that wait to be proposed", |it| it.parcels),
        of_shards("outbox_messages", "Messages to other shards that wait to be shipped", |it| {
            it.outbox_messages
        }),
    ]
}

fn log(log: &LogLevels) -> Vec<Family> {
    let mut sync = Family::histogram("log_sync_seconds", "Time of a synced write of the Raft log");
    sync.push_micros(Vec::new(), log.sync_micros.clone());
    let mut entries = Family::histogram("log_write_entries", "Entries of all groups in a synced write");
    entries.push_counts(Vec::new(), log.entries.clone());
    let mut groups = Family::histogram("log_write_groups", "Groups' writes in a synced write");
    groups.push_counts(Vec::new(), log.groups.clone());
    vec![
        sync,
        entries,
        groups,
        Family::counter("log_written_bytes", "Bytes of entries written to the Raft log")
            .of(log.written_bytes),
        Family::gauge("log_queue_jobs", "Writes and compactions that wait for the log writer")
            .of(log.waiting_jobs as u64),
    ]
}
