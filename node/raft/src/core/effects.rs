//! What the core wants done: its only way to act.

use isthmus_storage::log::EntryId;
use raft::eraftpb::{ConfState, Entry, HardState, Message, Snapshot};

use crate::{Error, types::Committed};

/// Ties the core to whoever asks: what stands for a request until it is answered. In production these are the
/// sending halves of one-shot channels, in tests names.
pub trait Tokens {
    /// Stands for a proposal.
    type Proposal;
    /// Stands for a read barrier.
    type Read;
    /// Stands for a change of members.
    type Change;
}

/// Something to be synced in the log, in the order of `number`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    /// To be given to [`Core::persisted`](super::Core::persisted) once this write and all before it are synced.
    pub number: u64,
    /// Forget all entries first: the log begins after this one.
    pub reset: Option<EntryId>,
    /// Entries to append, replacing what is there from the first one's index on.
    pub entries: Vec<Entry>,
    /// The new hard state.
    pub hard_state: Option<HardState>,
}

/// A committed entry on its way to the state machine.
pub enum Apply<T: Tokens> {
    /// A proposal, and who waits for its outcome, if it was made here.
    Entry(Committed, Option<T::Proposal>),
    /// A leader's empty entry.
    Empty {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// A change of members.
    Conf {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// The members from here on.
        conf: ConfState,
    },
}

/// What is to be done, in this order: messages, writes, entries, the installation, answers.
pub struct Effects<T: Tokens> {
    /// To be sent at once.
    pub messages: Vec<Message>,
    /// Snapshots to be sent at once, on a connection of their own. Each must end in one
    /// [`Core::snapshot_reported`](super::Core::snapshot_reported).
    pub snapshots: Vec<Message>,
    /// To be synced, in order.
    pub writes: Vec<Write>,
    /// To be applied, in order.
    pub apply: Vec<Apply<T>>,
    /// To be installed after `apply`; answered by [`Core::installed`](super::Core::installed). Until then the core
    /// hands out nothing else but answers.
    pub install: Option<Snapshot>,
    /// Read barriers that pass once the index is applied.
    pub reads: Vec<(u64, T::Read)>,
    /// Proposals that end without an outcome.
    pub failed: Vec<(T::Proposal, Error)>,
    /// Read barriers that were refused.
    pub refused_reads: Vec<(T::Read, Error)>,
    /// Changes of members that ended.
    pub changes: Vec<(T::Change, Result<ConfState, Error>)>,
    /// A snapshot is wanted; answered by [`Core::snapshot_made`](super::Core::snapshot_made).
    pub make_snapshot: bool,
    /// The offered snapshot is not needed any more.
    pub drop_snapshot: bool,
    /// The log may be cut here, at any time.
    pub compact: Option<EntryId>,
    /// Role, leader, term or members changed.
    pub changed: bool,
}

impl<T: Tokens> Default for Effects<T> {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            snapshots: Vec::new(),
            writes: Vec::new(),
            apply: Vec::new(),
            install: None,
            reads: Vec::new(),
            failed: Vec::new(),
            refused_reads: Vec::new(),
            changes: Vec::new(),
            make_snapshot: false,
            drop_snapshot: false,
            compact: None,
            changed: false,
        }
    }
}
