//! The keeper's own control rows: groups, counters, stores to be dropped, manifests.
//!
//! | row | store | key | value |
//! | --- | --- | --- | --- |
//! | group | 0 | `f0`, group (8) | [`GroupMeta`] |
//! | counter | 0 | `f1`, its name | number (8) |
//! | store to be dropped | 0 | `f2`, store (4) | empty |
//! | run of a store | its own | `f8`, run (8) | [`RunMeta`] |
//!
//! Numbers are big-endian. Stored: these never change their meaning.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::GroupMeta;
use crate::control::{ControlStore, ControlWrite, KeyRange, keys};
use crate::runs::{RunId, RunMeta};
use crate::{Error, GroupId, Result, StoreId};

const GROUPS: u8 = 0xf0;
const COUNTERS: u8 = 0xf1;
const DROPPED: u8 = 0xf2;
const MANIFEST: u8 = 0xf8;

/// The counters of a node.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    /// The next store.
    Store,
    /// All runs below this number may have been used.
    Run,
    /// The last redo file that was applied.
    Redo,
}

impl Counter {
    fn key(self) -> Vec<u8> {
        let name = match self {
            Self::Store => "store",
            Self::Run => "run",
            Self::Redo => "redo",
        };
        keys::table_key(StoreId::NODE, COUNTERS, name.as_bytes())
    }

    pub fn load(self, control: &dyn ControlStore) -> Result<Option<u64>> {
        let Some(value) = control.get(&self.key())? else { return Ok(None) };
        match <[u8; 8]>::try_from(value.as_ref()) {
            Ok(number) => Ok(Some(u64::from_be_bytes(number))),
            Err(_) => Err(Error::corrupt("a counter of the node", "it has not 8 bytes")),
        }
    }

    pub fn put(self, number: u64) -> ControlWrite {
        ControlWrite::put(self.key(), number.to_be_bytes().to_vec())
    }
}

/// What only the holder of the writer lock changes.
pub(super) struct Node {
    pub groups: BTreeMap<GroupId, GroupMeta>,
    /// The next store's number.
    pub next_store: u32,
    /// The next run's number, and the first one that is not reserved yet.
    pub next_run: u64,
    pub runs_reserved: u64,
    /// The last redo file's number.
    pub redo: u64,
}

/// Numbers of runs are reserved so many at a time: one durable row for each thousand runs.
pub(super) const RUNS_RESERVED: u64 = 1024;

pub(super) fn group_key(group: GroupId) -> Vec<u8> {
    keys::table_key(StoreId::NODE, GROUPS, &group.to_be_bytes())
}

pub(super) fn groups_range() -> KeyRange {
    keys::table_range(StoreId::NODE, GROUPS)
}

pub(super) fn group_row(meta: &GroupMeta) -> ControlWrite {
    ControlWrite::put(group_key(meta.group), meta.encode_to_vec())
}

pub(super) fn decode_group(value: &Bytes) -> Result<GroupMeta> {
    GroupMeta::decode(value.clone()).map_err(|_| Error::corrupt("a group's meta row", "it can't be decoded"))
}

fn dropped_key(store: StoreId) -> Vec<u8> {
    keys::table_key(StoreId::NODE, DROPPED, &store.0.to_be_bytes())
}

pub(super) fn dropped_range() -> KeyRange {
    keys::table_range(StoreId::NODE, DROPPED)
}

/// Says that a store is to be dropped.
pub(super) fn drop_row(store: StoreId) -> ControlWrite {
    ControlWrite::put(dropped_key(store), Bytes::new())
}

/// Says that there is nothing left of it, or that it is to stay.
pub(super) fn undrop_row(store: StoreId) -> ControlWrite {
    ControlWrite::delete(dropped_key(store))
}

/// The store that a key of [`dropped_range`] names.
pub(super) fn dropped_store(key: &[u8]) -> Result<StoreId> {
    let wrong = || Error::corrupt("the list of dropped stores", "a key has not 9 bytes");
    let number = key.get(keys::TABLE_BYTES..).and_then(|rest| rest.try_into().ok()).ok_or_else(wrong)?;
    Ok(StoreId(u32::from_be_bytes(number)))
}

fn run_key(store: StoreId, run: RunId) -> Vec<u8> {
    keys::table_key(store, MANIFEST, &run.0.to_be_bytes())
}

pub(super) fn manifest_range(store: StoreId) -> KeyRange {
    keys::table_range(store, MANIFEST)
}

pub(super) fn run_row(store: StoreId, meta: &RunMeta) -> ControlWrite {
    ControlWrite::put(run_key(store, meta.id()), meta.encode_to_vec())
}

pub(super) fn no_run_row(store: StoreId, run: RunId) -> ControlWrite {
    ControlWrite::delete(run_key(store, run))
}

pub(super) fn decode_run(store: StoreId, value: &Bytes) -> Result<RunMeta> {
    RunMeta::decode(value.clone())
        .map_err(|_| Error::corrupt(format!("the manifest of {store}"), "a row can't be decoded"))
}
