//! Splitting a batch by shard. Pure.

use std::collections::BTreeMap;

use super::{RoutedItem, Task};
use crate::topology::Routes;

/// Items of one batch that go to one shard together, and where their results belong.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The shard; 0 in a part that is yet to be split.
    pub(super) shard: u64,
    pub(super) items: Vec<RoutedItem>,
    /// The index in the batch of each item.
    pub(super) positions: Vec<u32>,
    /// Revision of the tables that it was split by.
    pub(super) revision: u64,
    /// How often its items were found to belong elsewhere.
    pub(super) stales: u32,
    /// Whether some earlier try may have stored its items.
    pub(super) maybe_done: bool,
}

impl Part {
    /// The whole batch, to be split. A batch has far fewer than 2^32 items: each takes room, and room is bounded.
    pub(super) fn whole(items: Vec<RoutedItem>) -> Self {
        let positions = (0..=u32::MAX).take(items.len()).collect();
        Self { shard: 0, items, positions, revision: 0, stales: 0, maybe_done: false }
    }

    fn empty_like(&self, shard: u64, revision: u64) -> Self {
        let Self { stales, maybe_done, .. } = *self;
        Self { shard, items: Vec::new(), positions: Vec::new(), revision, stales, maybe_done }
    }
}

/// Splits a part by the owners of its items' slots; keeps the order within each shard. Items that nobody owns, by
/// these tables, wait for newer ones.
pub(super) fn split(routes: &Routes, mut part: Part) -> Vec<Task> {
    let revision = routes.revision;
    let owner = |item: &RoutedItem| routes.owner(item.slot);
    if let Some(first) = part.items.first().and_then(owner)
        && part.items.iter().all(|item| owner(item) == Some(first))
    {
        // One shard: nothing is moved.
        (part.shard, part.revision) = (first, revision);
        return vec![Task::Send(part)];
    }
    let empty = |shard| part.empty_like(shard, revision);
    let mut unowned = empty(0);
    let mut parts: BTreeMap<u64, Part> = BTreeMap::new();
    for (item, position) in part.items.iter().zip(&part.positions) {
        let to = match owner(item) {
            Some(shard) => parts.entry(shard).or_insert_with(|| empty(shard)),
            None => &mut unowned,
        };
        to.items.push(item.clone());
        to.positions.push(*position);
    }
    let mut tasks: Vec<Task> = parts.into_values().map(Task::Send).collect();
    if !unowned.items.is_empty() {
        unowned.stales += 1;
        tasks.push(Task::Wait(unowned, revision));
    }
    tasks
}
