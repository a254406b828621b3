//! Plain types that cross the crate's border: ids, positions, what a group shows of itself.

use bytes::Bytes;
use raft::eraftpb::ConfState;

pub use isthmus_storage::GroupId;

/// A member of one group: the node in the upper 32 bits, its generation in the lower 32.
///
/// A node that is removed from a group and comes back gets a higher generation, so an id is never used twice and a
/// late message for the former replica is told apart. Zero is no peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerId(pub u64);

impl PeerId {
    /// The `generation`th replica on `node`. `node` must not be zero (zero stands for "nobody" in Raft).
    pub const fn new(node: u32, generation: u32) -> Self {
        Self(((node as u64) << 32) | generation as u64)
    }

    /// The node that holds the replica.
    pub const fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which replica of that node's it is, counted from when the node first held the group.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// `None` for Raft's "nobody".
    pub(crate) const fn known(id: u64) -> Option<Self> {
        if id == 0 { None } else { Some(Self(id)) }
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.node(), self.generation())
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Where a state machine stands: the last entry it applied, and the members as of that entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Index of the last applied entry; 0 before the first.
    pub index: u64,
    /// Term of that entry; 0 before the first.
    pub term: u64,
    /// The group's members as of `index`; empty before the first entry.
    pub conf: ConfState,
}

/// A committed entry, to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What was proposed, byte for byte; never empty.
    pub data: Bytes,
}

/// A proposal that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed<O> {
    /// Where in the log it stands.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What the state machine made of it.
    pub outcome: O,
}

/// A change of a group's members. All parts take effect together, by joint consensus where there is more than one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// Peers that shall receive the log without a vote.
    pub add_learners: Vec<PeerId>,
    /// Learners that shall become voters.
    pub promote: Vec<PeerId>,
    /// Members that shall leave.
    pub remove: Vec<PeerId>,
}

/// What a replica is to its group just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows a leader, or waits for one. A learner is a follower too.
    #[default]
    Follower,
    /// Asks for votes, or asks whether it would get them.
    Candidate,
    /// Leads.
    Leader,
}

/// Whether a replica works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReplicaState {
    /// It takes part.
    #[default]
    Running,
    /// Its state machine or log contradicts itself: it takes no part and has to be rebuilt from its peers.
    Broken,
    /// It was stopped.
    Stopped,
}

/// How a leader sends to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// One message at a time, to find where the logs part.
    Probe,
    /// A stream of entries.
    Replicate,
    /// The peer needs a snapshot; nothing else is sent meanwhile.
    Snapshot,
}

/// What a leader knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Who.
    pub peer: PeerId,
    /// Highest index known to be synced there.
    pub matched: u64,
    /// Whether it answered within the last election timeout.
    pub recent_active: bool,
    /// How it is sent to.
    pub state: ProgressState,
    /// Whether it has no vote.
    pub learner: bool,
}

/// What a replica shows of itself: for people, metrics, and the placement of replicas.
///
/// It is refreshed at once when role, leader, term or members change, and otherwise with each tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    /// The group.
    pub group: GroupId,
    /// This replica.
    pub peer: PeerId,
    /// Whether it works.
    pub state: ReplicaState,
    /// Its role.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<PeerId>,
    /// Its term.
    pub term: u64,
    /// Highest index it knows to be committed.
    pub commit: u64,
    /// Highest index its state machine has applied.
    pub applied: u64,
    /// Last index of its log, synced or not.
    pub last: u64,
    /// Highest index that its state machine has made durable.
    pub durable: u64,
    /// Index before the log's first entry.
    pub compacted: u64,
    /// The members it knows; `voters_outgoing` is not empty while a joint configuration lasts.
    pub conf: ConfState,
    /// Whether it leads and has committed an entry of its own term, so that it can serve reads.
    pub serving: bool,
    /// Of each other member, sorted by id; empty unless it leads.
    pub progress: Vec<PeerProgress>,
}
