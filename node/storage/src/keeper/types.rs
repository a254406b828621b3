//! What goes in and out of the keeper.

use bytes::Bytes;

use crate::control::ControlWrite;
use crate::runs::{FileEntry, RunMeta, TableRows};
use crate::{Error, GroupId, Result, StoreId};

/// The meta row of a group's local replica. Stored: tags never change their meaning.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GroupMeta {
    /// The group.
    #[prost(uint64, tag = "1")]
    pub group: GroupId,
    /// The replica of the group that this is.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// The store that holds its state ([`StoreId`]).
    #[prost(uint32, tag = "3")]
    pub store: u32,
    /// The state holds all entries of the log up to this one.
    #[prost(uint64, tag = "4")]
    pub applied_index: u64,
    /// The term of that entry.
    #[prost(uint64, tag = "5")]
    pub applied_term: u64,
    /// Raft's ConfState at that entry, encoded; opaque here.
    #[prost(bytes = "bytes", tag = "6")]
    pub conf_state: Bytes,
    /// What the state machine keeps in its meta row; opaque here.
    #[prost(bytes = "bytes", tag = "7")]
    pub state: Bytes,
    /// How many write-outs this store has had; the keeper counts it.
    #[prost(uint64, tag = "8")]
    pub write_outs: u64,
}

impl GroupMeta {
    /// The store, typed.
    pub fn store_id(&self) -> StoreId {
        StoreId(self.store)
    }
}

/// A frozen part of a shard's state, to be written all or not at all.
#[derive(Clone, Debug)]
pub struct WriteOut {
    /// The new meta row. `group`, `replica` and `store` are those that the group has; `write_outs` is ignored.
    pub meta: GroupMeta,
    /// Changed control rows; keys **without** the store prefix, first byte (the table) below
    /// [`RESERVED_TABLES`](super::RESERVED_TABLES). Of several writes of a key the last counts.
    pub rows: Vec<ControlWrite>,
    /// Sorted rows, at most one entry for each table; empty ones are left out.
    pub tables: Vec<TableRows>,
}

/// What the receiver of a snapshot has to know before it fetches the files. Sent over the wire and checked there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Exported {
    /// The meta row at the export; `replica` and `store` are the sender's.
    #[prost(message, required, tag = "1")]
    pub meta: GroupMeta,
    /// All files of the export.
    #[prost(message, repeated, tag = "2")]
    pub files: Vec<FileEntry>,
    /// The runs among them, oldest first; run numbers are the sender's.
    #[prost(message, repeated, tag = "3")]
    pub runs: Vec<RunMeta>,
    /// Control rows in the control file.
    #[prost(uint64, tag = "4")]
    pub control_rows: u64,
}

/// How the keeper merges.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// So many runs of the first level are merged into one of the second (2..=16). Default 8.
    pub first_level_runs: usize,
    /// So many runs of any other level are merged into one of the next (2..=16). Default 8.
    pub fan_out: usize,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self { first_level_runs: 8, fan_out: 8 }
    }
}

impl KeeperOptions {
    pub(super) fn check(&self) -> Result<()> {
        for (name, value) in [("first_level_runs", self.first_level_runs), ("fan_out", self.fan_out)] {
            if !(2..=16).contains(&value) {
                return Err(Error::Refused(format!("{name} is {value}, allowed are 2 to 16")));
            }
        }
        Ok(())
    }
}
