//! Random schedules of a cluster of cores: messages lost, repeated and reordered, nodes cut off and crashed, syncs
//! and applies at any moment, members changed, logs cut. After every step the harness checks its invariants, and
//! reads are checked to be linearizable; then all faults stop, and everything must converge.
//!
//! A failure names its seed: `ISTHMUS_SEED=<seed> cargo test -p isthmus-raft --test simulation` replays it alone.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod harness;

use std::collections::BTreeMap;

use harness::{Cluster, peer};
use isthmus_raft::MembershipChange;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn node(&mut self) -> u32 {
        self.below(3) as u32 + 1
    }
}

/// Reads by name: the highest index that was acknowledged to anyone when it was asked for.
type Reads = BTreeMap<String, u64>;

fn acknowledged(cluster: &Cluster) -> u64 {
    let applied = cluster.answers.values().filter_map(|answer| answer.strip_prefix("applied at "));
    applied.filter_map(|at| at.split_once('@')?.0.parse().ok()).max().unwrap_or(0)
}

fn step(cluster: &mut Cluster, random: &mut Random, number: u32, reads: &mut Reads) {
    let node = random.node();
    match random.below(100) {
        0..12 => cluster.tick(node),
        12..28 => drop(cluster.sync(node)),
        28..40 => drop(cluster.apply(node)),
        40..58 => {
            let (from, to) = (random.node(), random.node());
            cluster.deliver(|a, b| (a, b) == (from, to));
        }
        58..72 => drop(cluster.deliver(|_, _| true)),
        72..75 => {
            let lost = random.below(1 + cluster.network.len() as u64) as usize;
            if lost < cluster.network.len() && !snapshot_at(cluster, lost) {
                cluster.network.remove(lost);
            }
        }
        75..78 => {
            let again = random.below(1 + cluster.network.len() as u64) as usize;
            if let Some(message) = cluster.network.get(again).cloned()
                && !snapshot_at(cluster, again)
            {
                cluster.network.push_front(message);
            }
        }
        78..86 => cluster.propose(node, &[&format!("p{number}")]),
        86..91 => {
            let name = format!("r{number}");
            reads.insert(name.clone(), acknowledged(cluster));
            cluster.read(node, &name);
        }
        91 if random.below(3) == 0 => cluster.isolate(node),
        91..94 => cluster.cut.clear(),
        94 if random.below(4) == 0 => cluster.crash(node),
        95 => {
            cluster.node(node).durable = cluster.node(node).state().position.index;
            cluster.applied_to(node);
            cluster.node(node).core.compact_now();
            cluster.collect(node);
        }
        96 if random.below(2) == 0 => {
            let heir = random.node();
            let _ = cluster.transfer(node, heir);
        }
        97 => {
            // The fourth joins and leaves.
            let conf = cluster.node(node).core.view().conf;
            let four = peer(4);
            let change = if conf.learners.contains(&four.0) {
                MembershipChange { promote: vec![four], ..Default::default() }
            } else if conf.voters.contains(&four.0) {
                return;
            } else {
                MembershipChange { add_learners: vec![four], ..Default::default() }
            };
            cluster.change(node, &change, &format!("m{number}"));
        }
        _ => {
            cluster.sync(4);
            cluster.apply(4);
            cluster.tick(4);
            cluster.deliver(|from, to| from == 4 || to == 4);
        }
    }
}

/// A snapshot's transfer ends in one report: the harness makes it when the message leaves the network.
fn snapshot_at(cluster: &Cluster, at: usize) -> bool {
    cluster.network[at].get_msg_type() == raft::eraftpb::MessageType::MsgSnapshot
}

fn check(cluster: &Cluster, reads: &Reads) -> Result<(), String> {
    if let Some(violation) = cluster.violations.first() {
        return Err(violation.clone());
    }
    for (name, acknowledged) in reads {
        let at = cluster.answers.get(name).and_then(|answer| answer.strip_prefix("read at "));
        let at: Option<u64> = at.and_then(|at| at.parse().ok());
        if at.is_some_and(|at| at < *acknowledged) {
            return Err(format!("{name} was served at {at:?}, {acknowledged} was acknowledged before"));
        }
    }
    Ok(())
}

/// What happened in a run: a schedule in which nothing happens proves nothing.
#[derive(Debug, Default)]
struct Coverage {
    applied: usize,
    unknown: usize,
    reads: usize,
    snapshots: usize,
    elections: usize,
    changes: usize,
}

impl Coverage {
    fn add(&mut self, cluster: &Cluster) {
        let answers = |part: &str| cluster.answers.values().filter(|answer| answer.contains(part)).count();
        self.applied += answers("applied at");
        self.unknown += answers("unknown");
        self.reads += answers("read at");
        self.changes += answers("members (");
        self.snapshots += cluster.out.matches("installs a snapshot").count();
        self.elections += cluster.out.matches("is Leader").count();
    }
}

fn simulate(seed: u64, coverage: &mut Coverage) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut cluster, mut reads) = (Cluster::default(), Reads::new());
    cluster.quiet = true;
    // One node with the usual bounds, one that reads all entries from its log, one that is always at its bounds.
    let usual = std::mem::replace(&mut cluster.options, Box::new(|_| unreachable!()));
    cluster.options = Box::new(move |node| {
        let mut options = usual(node);
        match node {
            2 => options.cache_bytes_max = 0,
            3 => {
                options.cache_bytes_max = 300;
                options.backlog_bytes_max = 400;
                options.committed_bytes_per_ready_max = 150;
            }
            _ => {}
        }
        options
    });
    cluster.bootstrap(&[1, 2, 3]);
    cluster.start(4, None);
    cluster.run(20);
    for number in 0..2000 {
        step(&mut cluster, &mut random, number, &mut reads);
        check(&cluster, &reads)?;
    }
    cluster.cut.clear();
    cluster.run(120);
    check(&cluster, &reads)?;
    let leader = cluster.leader().ok_or("nobody leads after all faults ended")?;
    cluster.propose(leader, &["last"]);
    cluster.run(40);
    let answer = cluster.answers.get("last").cloned().unwrap_or_default();
    if !answer.starts_with("applied") {
        return Err(format!("a proposal after all faults ended: {answer:?}"));
    }
    let members = cluster.nodes[&leader].core.view().conf;
    if !members.voters_outgoing.is_empty() {
        return Err("the joint configuration never ended".to_owned());
    }
    let expected = cluster.nodes[&leader].state().clone();
    for (id, node) in &cluster.nodes {
        let member = members.voters.contains(&peer(*id).0) || members.learners.contains(&peer(*id).0);
        if member && *node.state() != expected {
            return Err(format!(
                "{id} ended at {:?}, the leader at {:?}",
                node.state().position,
                expected.position
            ));
        }
    }
    coverage.add(&cluster);
    check(&cluster, &reads)
}

#[test]
fn random_schedules_keep_all_invariants_and_converge() {
    if let Some(seed) = std::env::var("ISTHMUS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        simulate(seed, &mut Coverage::default()).unwrap();
        return;
    }
    const SEEDS: usize = 100;
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS as u64 {
        if let Err(violation) = simulate(seed, &mut coverage) {
            panic!("{violation}\nreplay: ISTHMUS_SEED={seed} cargo test -p isthmus-raft --test simulation");
        }
    }
    let Coverage { applied, unknown, reads, snapshots, elections, changes } = coverage;
    assert!(applied > 10 * SEEDS && reads > 5 * SEEDS && elections > 3 * SEEDS, "{coverage:?}");
    assert!(unknown > SEEDS / 10 && snapshots > SEEDS / 10 && changes > SEEDS / 10, "{coverage:?}");
    println!("{coverage:?}");
}
