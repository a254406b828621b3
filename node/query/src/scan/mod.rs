//! Scans: a raw table of a cut's shards as the columns that a query asks for.
//!
//! A scan knows all shards of its cut and which node holds which. One task a node runs it: the task reads the shards of its
//! own node, and refuses to run if it isn't on the node that it should be on, so that no plan, however it was cut into
//! stages, reads a shard twice or not at all without being found out ([`crate::distribute::is_sound`] looks before).
//!
//! Parts of shards are dealt to partitions in turn; a partition reads its parts one after the other, some batches at a time
//! on a thread that may block, as many scans at a time as the engine has threads. It stops when nobody takes its batches any
//! more.

mod exec;
mod filters;
mod make;
mod names;

use std::sync::Arc;

pub(crate) use exec::{ScanExec, Turns};
pub(crate) use filters::{filters_of, is_exact, is_useful};
pub(crate) use make::Raw;
pub(crate) use names::{
    KnownNames, Names, NamesOf, are_unknown as says_names_are_unknown, unknown as names_are_unknown,
};
use serde::{Deserialize, Serialize};

use crate::{
    seam::{Filters, Table},
    tables::Out,
};

/// What is read, of whatever cut.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ScanSpec {
    /// What people call it.
    pub name: String,
    pub table: Table,
    pub outs: Vec<Out>,
    pub filters: Filters,
    /// Rows without a value in this raw column are left out.
    pub present: Option<usize>,
    /// So many rows are enough.
    pub limit: Option<usize>,
    /// Rows that say nothing but which profile they are of may be left out, but for one of each profile: its founder's. Names
    /// are gathered of the same rows at the same state, so that row is among them, and its facet is the name. Only under
    /// aggregates by profile that don't look at NULL.
    pub terse: bool,
}

/// A node and what it holds of a cut: shards and their pins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NodeShards {
    pub node: u32,
    pub shards: Vec<(u64, u64)>,
}

/// Of which cut, and how.
#[derive(Clone, Debug)]
pub(crate) struct Of {
    /// In the order of tasks.
    pub nodes: Arc<Vec<NodeShards>>,
    pub names: Names,
    /// Whether names go to other nodes with the plan: they may not know them yet.
    pub tells_names: bool,
    pub partitions: usize,
    pub batch_rows: usize,
    pub rows: Rows,
}

/// How many rows all shards of a cut have, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rows {
    pub events: u64,
    pub facets: u64,
}
