//! Opening a replica: what the log holds and where the state machine stands must fit each other.
//!
//! | log | state machine | meaning |
//! | --- | --- | --- |
//! | nothing | 0 | a new replica: bootstrapped with its first members, or waiting for a leader |
//! | nothing | *i* | only if it says that its state was made here; else the log was lost, and with it a vote |
//! | base ≤ *i* ≤ last | *i*, same term | a restart: entries after *i* are applied again |
//! | ends before *i*, or another term at *i* | *i* | a snapshot was installed, and the process ended before the log was reset: reset it now |
//! | base > *i* | *i* | the log was cut past what is durable: refused |
//!
//! The first members are entries of the log themselves, as in etcd: each is added by a change of members at the
//! indexes 1 to n, the same on each of them. So a replica that starts from nothing, and one that joins later and is
//! sent the log from its beginning, come to the same members.

use std::sync::Arc;

use isthmus_storage::log::{EntryId, GroupWrite, Log, LogState};
use raft::{
    RawNode,
    eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState},
};

use super::{
    Core, Effects, Limits, Tokens,
    membership::sorted,
    pending::Pending,
    reads::Reads,
    requests::Standing,
    store::{Loaded, Store},
};
use crate::{
    Error, Options, codec, drain,
    types::{GroupId, PeerId, Position},
};

/// What a replica is opened with.
pub struct Open<'a> {
    /// Bounds and time-outs.
    pub options: &'a Options,
    /// The group.
    pub group: GroupId,
    /// This replica.
    pub peer: PeerId,
    /// The node's log.
    pub log: Arc<dyn Log>,
    /// Where the state machine stands.
    pub position: Position,
    /// If the group is new: its first voters, the same list on each of them.
    pub first_voters: Option<Vec<PeerId>>,
    /// The state was made on this node (by a split, from a backup) and the log may begin after it.
    pub seeded: bool,
    /// Never the same for two openings of a peer.
    pub incarnation: u64,
}

impl<T: Tokens> Core<T> {
    /// Opens a replica. Reads the log, and writes to it if the replica is new or a snapshot's installation was
    /// interrupted: so it blocks.
    pub fn open(open: Open<'_>) -> Result<Self, Error> {
        let Open { options, group, peer, log, position, incarnation, .. } = &open;
        let state = prepare_log(&open)?;
        let mut hard_state = state.hard_state.clone();
        // What was applied is committed, though the hard state that says so may not have been written.
        hard_state.commit = hard_state.commit.max(position.index).max(state.base.index);
        hard_state.term = hard_state.term.max(state.last.term);
        if hard_state.commit > state.last.index {
            return Err(inconsistent(&open, &state, "the hard state is ahead of the log"));
        }
        // Who voted for itself led last, or nearly did: after a restart of all it needn't wait for the time-out, and
        // all groups don't wait for theirs at once. Pre-vote keeps it harmless where somebody leads.
        let led_last = hard_state.vote == peer.0;
        let loaded =
            Loaded { base: state.base, last: state.last.index, hard_state, conf: position.conf.clone() };
        let store = Store::new(*group, log.clone(), loaded, position.index, options.cache_bytes_max);
        let raw = RawNode::new(&options.raft(*peer, position.index), store, &drain::logger(*group, *peer))
            .map_err(|error| Error::Storage(error.to_string()))?;
        Ok(Self {
            group: *group,
            peer: *peer,
            limits: Limits {
                proposal_bytes_max: options.message_bytes_max,
                backlog_bytes_max: options.backlog_bytes_max,
                reads_max: options.mail_max,
                pending_max: options.mail_max * 4,
                read_retry_ticks: options.read_retry_ticks,
                log_keep_bytes: options.log_keep_bytes,
                compact_entries_min: options.compact_entries_min,
                snapshot_keep_ticks: options.snapshot_keep_ticks,
            },
            raw,
            tick: 0,
            pending: Pending::new(),
            reads: Reads::new(peer.0, *incarnation),
            changing: None,
            conf: sorted(position.conf.clone()),
            held: Default::default(),
            unsynced_bytes: 0,
            hard_state_unwritten: None,
            installing: None,
            unapplied: Default::default(),
            unapplied_bytes: 0,
            applied: position.index,
            durable: 0,
            making_snapshot: false,
            compact_now: false,
            standing: led_last.then_some(Standing { asked: 0, next: 0, persists: true }),
            out: Effects::default(),
        })
    }
}

/// Brings the log into a state that fits the state machine's position, or refuses.
fn prepare_log(open: &Open<'_>) -> Result<LogState, Error> {
    let at = EntryId { index: open.position.index, term: open.position.term };
    let Some(state) = open.log.state(open.group)? else {
        let fresh = match (at.index, &open.first_voters) {
            (0, Some(voters)) => bootstrap(open.group, voters)?,
            (0, None) => GroupWrite {
                group: open.group,
                reset: Some(EntryId::default()),
                entries: Vec::new(),
                hard_state: Some(HardState::default()),
            },
            _ if open.seeded => reset(open.group, at, HardState::default()),
            _ => {
                return Err(inconsistent(open, &LogState::default(), "there is a state and no log for it"));
            }
        };
        return rewritten(open, fresh);
    };
    if at.index < state.base.index {
        return Err(inconsistent(open, &state, "the log was cut past what the state machine has"));
    }
    if at.index > state.last.index || open.log.term(open.group, at.index)? != at.term {
        if at.index == 0 {
            return Err(inconsistent(open, &state, "the log begins with a term of its own"));
        }
        return rewritten(open, reset(open.group, at, state.hard_state));
    }
    Ok(state)
}

fn rewritten(open: &Open<'_>, write: GroupWrite) -> Result<LogState, Error> {
    open.log.write(&[write])?;
    let state = open.log.state(open.group)?;
    state.ok_or(Error::Group { group: open.group, reason: "the log doesn't keep what was written" })
}

fn reset(group: GroupId, base: EntryId, mut hard_state: HardState) -> GroupWrite {
    if base.term > hard_state.term {
        hard_state.term = base.term;
        hard_state.vote = 0;
    }
    hard_state.commit = base.index;
    GroupWrite { group, reset: Some(base), entries: Vec::new(), hard_state: Some(hard_state) }
}

/// The log of a new group: one entry per first voter, all committed.
fn bootstrap(group: GroupId, voters: &[PeerId]) -> Result<GroupWrite, Error> {
    let mut voters = voters.to_vec();
    voters.sort_unstable();
    voters.dedup();
    if voters.is_empty() || voters[0].node() == 0 {
        return Err(Error::Invalid { reason: "a group's first voters: none, or one with node 0" });
    }
    let mut entries = Vec::with_capacity(voters.len());
    for (voter, index) in voters.iter().zip(1..) {
        let mut single = ConfChangeSingle { node_id: voter.0, ..Default::default() };
        single.set_change_type(ConfChangeType::AddNode);
        let mut change = ConfChangeV2::default();
        change.set_changes(vec![single].into());
        let data = codec::encode_conf_change(&change).map_err(|error| Error::Storage(error.to_string()))?;
        let mut entry = Entry { index, term: 1, data, ..Default::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entries.push(entry);
    }
    let hard_state = HardState { term: 1, commit: entries.len() as u64, ..Default::default() };
    Ok(GroupWrite { group, reset: Some(EntryId::default()), entries, hard_state: Some(hard_state) })
}

fn inconsistent(open: &Open<'_>, state: &LogState, reason: &'static str) -> Error {
    Error::Inconsistent {
        group: open.group,
        reason,
        applied: open.position.index,
        base: state.base.index,
        last: state.last.index,
    }
}
