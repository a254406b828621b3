//! Opening a replica: each way in which log and state machine can fit or contradict each other.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test with helpers, and tasks that end with it"
)]

mod harness;

use std::sync::Arc;

use harness::{GROUP, Names, peer};
use isthmus_raft::{
    ConfState, Error, Options, Position, Role,
    core::{Apply, Core, Open},
};
use isthmus_storage::log::{EntryId, GroupWrite, Log, LogState, MemoryLog};
use raft::eraftpb::{Entry, HardState};

fn at(index: u64, term: u64) -> Position {
    Position { index, term, conf: ConfState { voters: vec![peer(1).0], ..Default::default() } }
}

fn open(log: &Arc<MemoryLog>, position: Position, first: bool, seeded: bool) -> Result<Core<Names>, Error> {
    let options = Options::new(1, "unused");
    Core::open(Open {
        options: &options,
        group: GROUP,
        peer: peer(1),
        log: log.clone(),
        position,
        first_voters: first.then(|| vec![peer(1)]),
        seeded,
        incarnation: 1,
    })
}

/// A log that begins after `base` and ends at `last`, all of `term`.
fn log(base: (u64, u64), last: u64, term: u64, commit: u64) -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new());
    let entries = (base.0 + 1..=last).map(|index| {
        let mut entry = Entry { index, term, ..Default::default() };
        entry.data = format!("{index}").into();
        entry
    });
    let hard_state = HardState { term, vote: peer(1).0, commit, ..Default::default() };
    let write = GroupWrite {
        group: GROUP,
        reset: Some(EntryId { index: base.0, term: base.1 }),
        entries: entries.collect(),
        hard_state: Some(hard_state),
    };
    log.write(&[write]).unwrap();
    log
}

fn state(log: &MemoryLog) -> LogState {
    log.state(GROUP).unwrap().unwrap()
}

fn reason(opened: Result<Core<Names>, Error>) -> &'static str {
    match opened {
        Err(Error::Inconsistent { reason, .. }) => reason,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opened"),
    }
}

#[test]
fn a_new_group_begins_with_its_first_voters_and_a_new_replica_with_nothing() {
    let bootstrapped = Arc::new(MemoryLog::new());
    let mut core = open(&bootstrapped, Position::default(), true, false).unwrap();
    let (effects, _) = core.collect().unwrap();
    assert!(
        matches!(&effects.apply[..], [Apply::Conf { index: 1, term: 1, conf }] if conf.voters == [peer(1).0])
    );
    let joining = Arc::new(MemoryLog::new());
    let mut core = open(&joining, Position::default(), false, false).unwrap();
    let (effects, _) = core.collect().unwrap();
    assert!(effects.apply.is_empty());
    // It has no vote to give and never stands for election.
    (0..100).for_each(|_| core.tick());
    assert_eq!(core.view().role, Role::Follower);
    assert_eq!(state(&joining).last.index, 0);
}

#[test]
fn a_bootstrap_of_a_group_that_has_a_log_changes_nothing() {
    let log = log((0, 0), 5, 2, 5);
    let before = state(&log);
    open(&log, at(3, 2), true, false).unwrap();
    assert_eq!(state(&log), before);
}

#[test]
fn a_restart_applies_again_what_follows_the_position() {
    let log = log((2, 1), 9, 2, 7);
    let mut core = open(&log, at(4, 2), false, false).unwrap();
    let (effects, _) = core.collect().unwrap();
    let indexes: Vec<u64> = effects
        .apply
        .iter()
        .map(|apply| match apply {
            Apply::Entry(entry, None) => entry.index,
            _ => panic!("not an entry"),
        })
        .collect();
    assert_eq!(indexes, [5, 6, 7]);
}

#[test]
fn what_was_applied_counts_as_committed_though_the_hard_state_lags() {
    let log = log((0, 0), 9, 2, 3);
    let core = open(&log, at(6, 2), false, false).unwrap();
    assert_eq!((core.view().commit, core.view().applied), (6, 6));
}

#[test]
fn an_installation_that_was_interrupted_is_finished() {
    // The log ends before the snapshot, or holds another entry at its index.
    for (log, term) in [(log((0, 0), 5, 2, 5), 3), (log((0, 0), 30, 2, 5), 3)] {
        let core = open(&log, at(20, term), false, false).unwrap();
        let state = state(&log);
        assert_eq!((state.base, state.last.index), (EntryId { index: 20, term }, 20));
        assert_eq!((core.view().commit, core.view().last), (20, 20));
        assert_eq!(core.view().term, 3);
    }
}

#[test]
fn an_interrupted_installation_keeps_the_vote_of_the_same_term() {
    let log = log((0, 0), 5, 3, 5);
    open(&log, at(20, 3), false, false).unwrap();
    assert_eq!((state(&log).hard_state.term, state(&log).hard_state.vote), (3, peer(1).0));
}

#[test]
fn a_state_whose_log_is_lost_is_refused_unless_it_was_made_here() {
    let lost = Arc::new(MemoryLog::new());
    assert_eq!(reason(open(&lost, at(7, 2), false, false)), "there is a state and no log for it");
    assert_eq!(lost.state(GROUP).unwrap(), None);
    let seeded = Arc::new(MemoryLog::new());
    let core = open(&seeded, at(7, 2), false, true).unwrap();
    assert_eq!((core.view().last, core.view().term, core.view().compacted), (7, 2, 7));
    drop(core);
    open(&seeded, at(7, 2), false, true).unwrap();
}

#[test]
fn a_log_cut_past_the_position_is_refused() {
    let log = log((10, 2), 15, 2, 15);
    assert_eq!(reason(open(&log, at(7, 2), false, false)), "the log was cut past what the state machine has");
}

#[test]
fn a_hard_state_ahead_of_the_log_is_refused() {
    let log = log((0, 0), 5, 2, 9);
    assert_eq!(reason(open(&log, at(3, 2), false, false)), "the hard state is ahead of the log");
}

#[test]
fn a_replica_whose_leader_knows_more_of_it_than_it_has_is_broken_and_does_not_panic() {
    let log = log((0, 0), 5, 2, 5);
    let mut core = open(&log, at(5, 2), false, false).unwrap();
    let mut heartbeat =
        raft::eraftpb::Message { from: peer(2).0, to: peer(1).0, term: 2, commit: 8, ..Default::default() };
    heartbeat.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
    assert!(core.step(heartbeat).unwrap_err().reason.contains("acknowledged entry 8"));
}

#[test]
fn a_change_of_members_that_is_committed_and_not_applied_holds_an_election_back() {
    use raft::eraftpb::{ConfChangeType, ConfChangeV2, EntryType};
    for changes in [false, true] {
        let log = log((0, 0), 9, 2, 9);
        if changes {
            use protobuf::Message as _;
            let mut change = ConfChangeV2::default();
            let mut single = raft::eraftpb::ConfChangeSingle { node_id: peer(3).0, ..Default::default() };
            single.set_change_type(ConfChangeType::AddLearnerNode);
            change.set_changes(vec![single].into());
            let mut entry = Entry { index: 7, term: 2, ..Default::default() };
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry.data = change.write_to_bytes().unwrap().into();
            let mut entries = vec![entry];
            entries.extend(log.entries(GROUP, 8, 10, u64::MAX).unwrap());
            log.write(&[GroupWrite { group: GROUP, entries, ..Default::default() }]).unwrap();
        }
        let mut position = at(4, 2);
        position.conf.voters.push(peer(2).0);
        let mut core = open(&log, position, false, false).unwrap();
        // Not even handed out: none of them is known.
        (0..25).for_each(|_| core.tick());
        assert_eq!(core.view().role, Role::Follower);
        core.collect().unwrap();
        (0..25).for_each(|_| core.tick());
        assert_eq!(core.view().role == Role::Candidate, !changes);
        core.applied(9, 0);
        (0..25).for_each(|_| core.tick());
        assert_eq!(core.view().role, Role::Candidate);
    }
}

#[test]
fn a_replica_that_installs_a_snapshot_does_not_stand_for_election_until_it_is_synced() {
    let log = log((0, 0), 5, 2, 5);
    let mut core = open(&log, at(5, 2), false, false).unwrap();
    let mut message =
        raft::eraftpb::Message { from: peer(2).0, to: peer(1).0, term: 3, ..Default::default() };
    message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
    let meta = message.mut_snapshot().mut_metadata();
    (meta.index, meta.term) = (20, 3);
    meta.set_conf_state(ConfState { voters: vec![peer(1).0, peer(2).0], ..Default::default() });
    core.snapshot_arrived(message);
    let (effects, _) = core.collect().unwrap();
    assert!(effects.install.is_some() && effects.writes.is_empty() && effects.messages.is_empty());
    let mut lead_now =
        raft::eraftpb::Message { from: peer(2).0, to: peer(1).0, term: 3, ..Default::default() };
    lead_now.set_msg_type(raft::eraftpb::MessageType::MsgTimeoutNow);
    let patient = |core: &mut Core<Names>| {
        (0..50).for_each(|_| core.tick());
        core.step(lead_now.clone()).unwrap();
        assert_eq!(core.view().role, Role::Follower);
    };
    patient(&mut core);
    assert!(core.collect().unwrap().0.writes.is_empty(), "nothing is written before the state is installed");
    core.installed();
    core.applied(20, 20);
    let (effects, _) = core.collect().unwrap();
    let [write] = &effects.writes[..] else { panic!("one write") };
    assert_eq!(write.reset, Some(EntryId { index: 20, term: 3 }));
    assert!(effects.messages.is_empty(), "nothing is acknowledged before the log is reset");
    patient(&mut core);
    core.persisted(write.number);
    let (effects, _) = core.collect().unwrap();
    assert!(effects.messages.iter().any(|message| message.index == 20 && !message.reject));
    (0..50).for_each(|_| core.tick());
    assert_eq!(core.view().role, Role::Candidate);
}

#[test]
fn what_only_clients_may_cause_is_not_taken_from_peers() {
    use raft::eraftpb::MessageType::*;
    let log = log((0, 0), 5, 2, 5);
    let core = open(&log, at(5, 2), false, false).unwrap();
    for kind in [
        MsgHup,
        MsgBeat,
        MsgPropose,
        MsgSnapshot,
        MsgUnreachable,
        MsgSnapStatus,
        MsgCheckQuorum,
        MsgTransferLeader,
        MsgReadIndex,
        MsgReadIndexResp,
    ] {
        let mut message = raft::eraftpb::Message { from: peer(2).0, to: peer(1).0, ..Default::default() };
        message.set_msg_type(kind);
        assert!(!core.admit(&message), "{kind:?}");
    }
    let mut message = raft::eraftpb::Message { from: peer(2).0, to: peer(1).0, ..Default::default() };
    message.set_msg_type(MsgHeartbeat);
    assert!(core.admit(&message));
    for (from, to) in [(0, peer(1).0), (peer(1).0, peer(1).0), (peer(2).0, peer(3).0)] {
        (message.from, message.to) = (from, to);
        assert!(!core.admit(&message), "{from} -> {to}");
    }
}
