//! Opening: what a crash left is brought to an end or removed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};

use super::node::{self, Counter, Node};
use super::{Keeper, KeeperOptions, Store};
use crate::control::{BATCH_ROWS_MAX, ControlStore, ControlWrite, Order, rows};
use crate::redo::{Redo, RowReader};
use crate::runs::{RunSet, RunStore, Table, TableSpec};
use crate::{Error, Result, StoreId};

impl Keeper {
    /// Opens what is there.
    ///
    /// A complete redo file is applied again; runs are opened; files that nothing refers to, and what is left of
    /// dropped stores, are removed. `dir` holds the keeper's redo files, on the disk of `runs`; nobody else uses it.
    /// `tables` are all tables that any store has ever had.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when something that is referred to is missing or damaged; [`Error::Refused`] when options or
    /// tables make no sense.
    pub fn open(
        dir: &Path,
        control: Arc<dyn ControlStore>,
        runs: Arc<dyn RunStore>,
        tables: Vec<TableSpec>,
        options: KeeperOptions,
    ) -> Result<Self> {
        options.check()?;
        let mut known = BTreeMap::new();
        for spec in tables {
            let table = Table::new(spec)?;
            if let Some(other) = known.insert(table.id(), table) {
                return Err(Error::Refused(format!("{other:?}: its number is used twice")));
            }
        }
        runs.disk().create_dir(dir)?;
        let redo = apply_again(control.as_ref(), &Redo { disk: runs.disk(), dir })?;
        let keeper = Self {
            dir: dir.to_path_buf(),
            tables: known,
            options,
            stores: RwLock::default(),
            writer: Mutex::new(load_node(control.as_ref(), redo)?),
            dropped: Mutex::new(load_dropped(control.as_ref())?),
            broken: AtomicBool::new(false),
            control,
            runs,
        };
        keeper.open_stores()?;
        while keeper.collect_garbage()? {}
        Ok(keeper)
    }

    fn open_stores(&self) -> Result<()> {
        let live: Vec<StoreId> = self.writer.lock().groups.values().map(|meta| meta.store_id()).collect();
        let dropped: BTreeSet<StoreId> = self.dropped.lock().iter().copied().collect();
        for store in live {
            if dropped.contains(&store) {
                return Err(Error::corrupt(store.to_string(), "a group has it, but it is to be dropped"));
            }
            let set = self.open_runs(store)?;
            self.stores.write().insert(store, Store::new(set));
        }
        self.remove_leftovers(&dropped)
    }

    /// Opens all runs of a store's manifest.
    pub(super) fn open_runs(&self, store: StoreId) -> Result<RunSet> {
        let mut opened = Vec::new();
        for row in rows(self.control.as_ref(), &node::manifest_range(store), Order::Ascending) {
            let meta = node::decode_run(store, &row?.1)?;
            opened.push(self.runs.open(store, self.table(meta.table)?, &meta)?);
        }
        Ok(RunSet::empty(store, self.tables.values()).changed(&[], opened))
    }

    /// Removes files that no manifest names: parts of runs, and inputs of merges.
    fn remove_leftovers(&self, dropped: &BTreeSet<StoreId>) -> Result<()> {
        let stores = self.stores.read();
        for (store, names) in self.runs.list()? {
            let Some(live) = stores.get(&store) else {
                if !dropped.contains(&store) {
                    self.runs.remove_store(store)?;
                }
                continue;
            };
            let known: BTreeSet<String> =
                live.set.load().all().map(|run| run.meta().id().to_string()).collect();
            for name in names {
                if !name.split_once('.').is_some_and(|(run, _)| known.contains(run)) {
                    self.runs.remove_file(store, &name)?;
                }
            }
        }
        Ok(())
    }
}

/// Applies complete redo files that were not applied to the end; says the last number.
fn apply_again(control: &dyn ControlStore, redo: &Redo<'_>) -> Result<u64> {
    let mut done = Counter::Redo.load(control)?.unwrap_or(0);
    for file in redo.found()? {
        let number = file.number();
        if number > done {
            apply_file(control, file)?;
            control.flush_durable()?;
            done = number;
        }
        redo.remove(number)?;
    }
    Ok(done)
}

fn apply_file(control: &dyn ControlStore, file: RowReader) -> Result<()> {
    let mut batch: Vec<ControlWrite> = Vec::with_capacity(BATCH_ROWS_MAX);
    for row in file {
        batch.push(row?);
        if batch.len() == BATCH_ROWS_MAX {
            control.apply(&batch)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        control.apply(&batch)?;
    }
    Ok(())
}

fn load_node(control: &dyn ControlStore, redo: u64) -> Result<Node> {
    let mut groups = BTreeMap::new();
    for row in rows(control, &node::groups_range(), Order::Ascending) {
        let meta = node::decode_group(&row?.1)?;
        groups.insert(meta.group, meta);
    }
    let next_store = Counter::Store.load(control)?.unwrap_or(1);
    let next_store =
        u32::try_from(next_store).map_err(|_| Error::corrupt("the node's counters", "stores"))?;
    // Numbers that were reserved before the restart may have been used.
    let next_run = Counter::Run.load(control)?.unwrap_or(1);
    Ok(Node { groups, next_store, next_run, runs_reserved: next_run, redo })
}

fn load_dropped(control: &dyn ControlStore) -> Result<VecDeque<StoreId>> {
    let found = rows(control, &node::dropped_range(), Order::Ascending);
    found.map(|row| node::dropped_store(&row?.0)).collect()
}
