//! Whole nodes over an in-memory network: what clients are promised, through kills, transfers, faults and overload.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use isthmus_raft::{Error, MembershipChange, ReplicaState, Role, Start, transport::channel::Faults};
use isthmus_storage::log::{EngineLog, EngineLogOptions};
use support::{GROUP, Nodes, deadline, peer, wait};
use tokio::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_proposed_is_applied_everywhere_in_the_same_order() {
    let mut nodes = Nodes::new(1);
    nodes.bootstrap(&[1, 2, 3]).await;
    for number in 1..=100u64 {
        assert_eq!(nodes.propose(&format!("c{number}:1")).await, Ok(number));
    }
    let state = nodes.converged().await;
    assert_eq!((state.count, state.sum), (100, 100));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_refuses_proposals_and_names_its_leader() {
    let mut nodes = Nodes::new(2);
    nodes.bootstrap(&[1, 2, 3]).await;
    nodes.propose("a:1").await.unwrap();
    let leader = nodes.leader().await;
    let follower = nodes.up().find(|member| member.node != leader).unwrap();
    let handle = follower.handle();
    wait("the follower to know", || (handle.view().leader == Some(peer(leader))).then_some(())).await;
    let refused = handle.propose(Bytes::from_static(b"b:1"), deadline()).await;
    assert_eq!(refused.unwrap_err(), Error::NotLeader { leader: Some(peer(leader)) });
    let leading = nodes.members[&leader].handle();
    let empty = leading.propose(Bytes::new(), deadline()).await;
    assert!(matches!(empty, Err(Error::Invalid { .. })));
    let large = leading.propose(Bytes::from(vec![b'1'; 2 << 20]), deadline()).await;
    assert!(matches!(large, Err(Error::TooLarge { .. })));
    nodes.stop().await;
}

/// Proposes from several tasks while `disturb` does its worst; then every acknowledged command is there exactly once,
/// and every unknown one at most once.
async fn acknowledged_exactly_once(mut nodes: Nodes, engine: bool) {
    if engine {
        for node in 1..=3 {
            let log = engine_log(&nodes, node);
            nodes.add_with(node, Start::Bootstrap(vec![peer(1), peer(2), peer(3)]), log, None).await;
        }
    } else {
        nodes.bootstrap(&[1, 2, 3]).await;
    }
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let batch = futures::future::join_all((0..40).map(|number| {
            let (nodes, command) = (&nodes, format!("r{round}n{number}:1"));
            async move { (nodes.propose(&command).await, command) }
        }));
        for (result, command) in batch.await {
            match result {
                Ok(_) => acknowledged.push(command),
                Err(Error::OutcomeUnknown) => unknown.push(command),
                Err(error) => panic!("{command}: {error}"),
            }
        }
        // A proposal whose answer the kill takes away.
        let leader = nodes.leader().await;
        let handle = nodes.members[&leader].handle();
        let command = format!("killed{round}:1");
        let cut_off = tokio::spawn({
            let data = Bytes::from(command.clone());
            async move { handle.propose(data, deadline()).await }
        });
        nodes.kill(leader).await;
        match cut_off.await.unwrap() {
            Ok(_) => acknowledged.push(command),
            Err(_) => unknown.push(command),
        }
        if engine {
            let member = nodes.members.get_mut(&leader).unwrap();
            member.log = Arc::new(isthmus_storage::log::MemoryLog::new());
            let log = engine_log(&nodes, leader);
            nodes.members.get_mut(&leader).unwrap().log = log;
        }
        nodes.start(leader, Start::Join).await;
    }
    nodes.propose("last:1").await.unwrap();
    let state = nodes.converged().await;
    for command in &acknowledged {
        assert_eq!(state.seen.get(command.as_bytes()), Some(&1), "{command}");
    }
    for command in &unknown {
        assert!(state.seen.get(command.as_bytes()).is_none_or(|times| *times == 1), "{command}");
    }
    assert!(acknowledged.len() >= 200);
    nodes.stop().await;
}

fn engine_log(nodes: &Nodes, node: u32) -> Arc<EngineLog> {
    let dir = nodes.dir.path().join(format!("log-{node}"));
    std::fs::create_dir_all(&dir).unwrap();
    Arc::new(EngineLog::open(&dir, EngineLogOptions::default()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_killed_leaders_exactly_once() {
    let mut nodes = Nodes::new(3);
    nodes.save_every = 50;
    acknowledged_exactly_once(nodes, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_on_the_real_log_too() {
    let mut nodes = Nodes::new(4);
    nodes.save_every = 70;
    acknowledged_exactly_once(nodes, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_though_messages_are_lost_repeated_and_reordered() {
    let mut nodes = Nodes::new(5);
    nodes.bootstrap(&[1, 2, 3]).await;
    nodes.leader().await;
    nodes.network.set_faults(Faults { drop_permille: 50, duplicate_permille: 50, reorder_permille: 50 });
    let all = (0..200).map(|number| {
        let (nodes, command) = (&nodes, format!("c{number}:1"));
        async move { (nodes.propose(&command).await, command) }
    });
    let results = futures::future::join_all(all).await;
    nodes.network.set_faults(Faults::default());
    nodes.propose("last:1").await.unwrap();
    let state = nodes.converged().await;
    for (result, command) in results {
        let times = state.seen.get(command.as_bytes()).copied().unwrap_or(0);
        assert!(times == 1 || result.is_err() && times == 0, "{command} {result:?} {times}");
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_on_any_replica_sees_every_write_acknowledged_before_it_during_transfers() {
    let mut nodes = Nodes::new(6);
    nodes.bootstrap(&[1, 2, 3]).await;
    nodes.leader().await;
    let nodes = Arc::new(nodes);
    let (highest, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let (nodes, highest, done) = (nodes.clone(), highest.clone(), done.clone());
        async move {
            let mut number = 0;
            while !done.load(Ordering::SeqCst) {
                number += 1;
                if let Ok(sum) = nodes.propose(&format!("w{number}:1")).await {
                    highest.fetch_max(sum, Ordering::SeqCst);
                }
            }
            number
        }
    });
    let transfers = tokio::spawn({
        let (nodes, done) = (nodes.clone(), done.clone());
        async move {
            let mut moved = 0;
            while !done.load(Ordering::SeqCst) {
                let leader = nodes.leader().await;
                let to = leader % 3 + 1;
                let until = Instant::now() + Duration::from_secs(2);
                if nodes.members[&leader].handle().transfer_leader(peer(to), until).await.is_ok() {
                    moved += 1;
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            moved
        }
    });
    let mut reads = 0;
    while reads < 600 {
        let member = &nodes.members[&(reads % 3 + 1)];
        let acknowledged = highest.load(Ordering::SeqCst);
        if member.handle().read_index(deadline()).await.is_ok() {
            reads += 1;
            let seen = member.published().sum;
            assert!(
                seen >= acknowledged,
                "node {} shows {seen}, {acknowledged} was acknowledged",
                member.node
            );
        }
    }
    done.store(true, Ordering::SeqCst);
    assert!(writer.await.unwrap() > 10);
    assert!(transfers.await.unwrap() > 0);
    Arc::into_inner(nodes).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_peer_is_fed_by_a_snapshot_and_promoted_and_another_removed() {
    let mut nodes = Nodes::new(7);
    nodes.save_every = 20;
    nodes.tune = |options| {
        options.log_keep_bytes = 0;
        options.compact_entries_min = 10;
    };
    nodes.bootstrap(&[1, 2, 3]).await;
    for number in 0..200 {
        nodes.propose(&format!("c{number}:1")).await.unwrap();
    }
    let leader = nodes.leader().await;
    let leading = nodes.members[&leader].handle();
    wait("the log to be cut", || (leading.view().compacted > 50).then_some(())).await;
    nodes.network.fail_snapshots(true);
    nodes.add(4, Start::Join).await;
    let add = MembershipChange { add_learners: vec![peer(4)], ..Default::default() };
    let conf = leading.change_membership(add, deadline()).await.unwrap();
    assert_eq!(conf.learners, [peer(4).0]);
    // A failed transfer ends in a report: the leader tries again, and meanwhile the others go on.
    nodes.propose("while:1").await.unwrap();
    wait("a snapshot to be made", || (nodes.members[&leader].disk.lock().snapshots_made > 0).then_some(()))
        .await;
    nodes.network.fail_snapshots(false);
    let state = nodes.converged().await;
    assert_eq!(state.sum, 201);
    assert_eq!(nodes.members[&4].disk.lock().snapshots_installed, 1);

    let gone = nodes.up().map(|member| member.node).find(|node| *node != leader && *node != 4).unwrap();
    let replace = MembershipChange { promote: vec![peer(4)], remove: vec![peer(gone)], ..Default::default() };
    let conf = leading.change_membership(replace, deadline()).await.unwrap();
    assert!(conf.voters.contains(&peer(4).0) && !conf.voters.contains(&peer(gone).0));
    assert!(conf.voters_outgoing.is_empty() && conf.learners.is_empty());
    let member = nodes.members.get_mut(&gone).unwrap();
    member.handle = None;
    let removed = member.raft.take().unwrap();
    removed.remove_group(GROUP).await.unwrap();
    assert_eq!(member.log.state(GROUP).unwrap(), None);
    removed.stop().await;
    assert_eq!(nodes.propose("after:1").await, Ok(202));
    nodes.converged().await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joint_configuration_ends_though_its_leader_is_killed() {
    let mut nodes = Nodes::new(8);
    nodes.bootstrap(&[1, 2, 3]).await;
    let leader = nodes.leader().await;
    nodes.add(4, Start::Join).await;
    let leading = nodes.members[&leader].handle();
    let add = MembershipChange { add_learners: vec![peer(4)], ..Default::default() };
    leading.change_membership(add, deadline()).await.unwrap();
    nodes.propose("a:1").await.unwrap();
    let gone = leader % 3 + 1;
    let replace = MembershipChange { promote: vec![peer(4)], remove: vec![peer(gone)], ..Default::default() };
    let changing = tokio::spawn({
        let leading = leading.clone();
        async move { leading.change_membership(replace, deadline()).await }
    });
    drop(leading);
    tokio::task::yield_now().await;
    nodes.kill(leader).await;
    let _ = changing.await.unwrap();
    nodes.propose("b:1").await.unwrap();
    wait("the joint configuration to end", || {
        let views = nodes.views();
        let serving = views.iter().find(|view| view.role == Role::Leader && view.serving)?;
        serving.conf.voters_outgoing.is_empty().then_some(())
    })
    .await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_the_load_is_refused_and_the_rest_goes_through() {
    const ENTRY_BYTES: usize = 1000;
    let mut nodes = Nodes::new(9);
    nodes.tune = |options| {
        options.message_bytes_max = 16 << 10;
        options.uncommitted_bytes_max = 100 * ENTRY_BYTES;
        options.mail_max = 50;
        options.mail_bytes_max = 50 * ENTRY_BYTES;
        options.election_ticks = 400;
    };
    nodes.bootstrap(&[1, 2, 3]).await;
    nodes.members[&1].handle().campaign().await;
    let leader = nodes.leader().await;
    let handle = nodes.members[&leader].handle();
    let others: Vec<u32> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
    // Nothing commits: everything that is accepted stays.
    others.iter().for_each(|node| nodes.network.cut(*node, leader));
    let load = (0..1500).map(|number| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let data = Bytes::from(format!("{}{number}:1", "x".repeat(ENTRY_BYTES)));
            handle.propose(data, deadline()).await
        })
    });
    let load: Vec<_> = load.collect();
    wait("what doesn't fit to be refused", || {
        (load.iter().filter(|task| task.is_finished()).count() >= 1350).then_some(())
    })
    .await;
    assert!(handle.view().last < 150, "the log took {} entries", handle.view().last);
    nodes.network.heal();
    let (mut applied, mut overloaded) = (0, 0);
    for task in load {
        match task.await.unwrap() {
            Ok(_) => applied += 1,
            Err(Error::Overloaded { retry_after }) if !retry_after.is_zero() => overloaded += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(applied + overloaded, 1500);
    assert!((50..=150).contains(&applied), "{applied} of 1500 were applied");
    assert_eq!(nodes.converged().await.count, applied);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_state_machine_stops_its_replica_and_not_the_group() {
    let mut nodes = Nodes::new(10);
    nodes.bootstrap(&[1, 2, 3]).await;
    let leader = nodes.leader().await;
    let broken = leader % 3 + 1;
    nodes.members[&broken].disk.lock().break_at = Some(Bytes::from_static(b"poison:1"));
    nodes.propose("poison:1").await.unwrap();
    let handle = nodes.members[&broken].handle();
    wait("the replica to stop", || (handle.view().state == ReplicaState::Broken).then_some(())).await;
    assert_eq!(handle.propose(Bytes::from_static(b"x:1"), deadline()).await.unwrap_err(), Error::Stopped);
    assert_eq!(handle.read_index(deadline()).await, Err(Error::Stopped));
    assert_eq!(nodes.propose("after:1").await, Ok(2));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_answers_all_that_wait() {
    let mut nodes = Nodes::new(11);
    nodes.tune = |options| options.election_ticks = 400;
    nodes.bootstrap(&[1, 2, 3]).await;
    nodes.members[&1].handle().campaign().await;
    let leader = nodes.leader().await;
    nodes.network.isolate(leader);
    let handle = nodes.members[&leader].handle();
    let last = handle.view().last;
    let proposal = tokio::spawn({
        let handle = handle.clone();
        async move { handle.propose(Bytes::from_static(b"a:1"), deadline()).await }
    });
    wait("the proposal to be accepted", || (handle.view().last > last).then_some(())).await;
    let read = tokio::spawn({
        let handle = handle.clone();
        async move { handle.read_index(deadline()).await }
    });
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.wait_applied(1000, deadline()).await }
    });
    handle.stop().await;
    assert_eq!(proposal.await.unwrap().unwrap_err(), Error::OutcomeUnknown);
    assert_eq!(read.await.unwrap(), Err(Error::Stopped));
    assert_eq!(waiting.await.unwrap(), Err(Error::Stopped));
    assert_eq!(handle.view().state, ReplicaState::Stopped);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_serves_at_once_and_grows() {
    let mut nodes = Nodes::new(12);
    nodes.bootstrap(&[1]).await;
    nodes.members[&1].handle().campaign().await;
    assert_eq!(nodes.propose("a:1").await, Ok(1));
    assert!(nodes.members[&1].handle().read_index(deadline()).await.is_ok());
    for node in [2, 3] {
        nodes.add(node, Start::Join).await;
        let leading = nodes.members[&1].handle();
        let add = MembershipChange { add_learners: vec![peer(node)], ..Default::default() };
        leading.change_membership(add, deadline()).await.unwrap();
        nodes.converged().await;
        let promote = MembershipChange { promote: vec![peer(node)], ..Default::default() };
        leading.change_membership(promote, deadline()).await.unwrap();
    }
    nodes.members[&1].handle().transfer_leader(peer(3), deadline()).await.unwrap();
    let remove = MembershipChange { remove: vec![peer(1)], ..Default::default() };
    assert_eq!(nodes.leader().await, 3);
    let conf = nodes.members[&3].handle().change_membership(remove, deadline()).await.unwrap();
    assert_eq!(conf.voters, [peer(2).0, peer(3).0]);
    assert_eq!(nodes.propose("b:1").await, Ok(2));
    nodes.stop().await;
}
