//! Merging runs, one step at a time.

use std::sync::Arc;

use super::policy::{self, Plan};
use super::{Keeper, Store, node};
use crate::control::BATCH_ROWS_MAX;
use crate::runs::{NewRun, PointKey, RowSource, Run, RunId, RunMeta, RunSet, Table, TableId};
use crate::{Error, Result, StoreId};

impl Keeper {
    /// Whether [`Keeper::merge_once`] has something to do for a store.
    pub fn wants_merge(&self, store: StoreId) -> bool {
        self.store(store).is_ok_and(|store| self.plan(&store.set.load()).is_some())
    }

    /// One step of merging, when there is one to do: the runs of one level of one table into one run. Returns the
    /// store's new runs. Takes as long as writing the run takes, and blocks neither readers nor write-outs; of the
    /// same store, one step at a time (a second caller gets `None`).
    ///
    /// # Errors
    /// But for [`Error::Fatal`] nothing is changed, and merging may be tried again.
    pub fn merge_once(&self, store: StoreId) -> Result<Option<Arc<RunSet>>> {
        self.check_whole()?;
        let store = self.store(store)?;
        let Some(_merging) = store.merging.try_lock() else { return Ok(None) };
        let Some(plan) = self.plan(&store.set.load()) else { return Ok(None) };
        let Some(first) = plan.inputs.first() else { return Ok(None) };
        let table = Arc::clone(first.table());
        fail::fail_point!("storage::keeper::merge::start");
        let id = self.next_run()?;
        let set = self.write_merged(&store, &table, id, plan);
        if let Err(error) = &set
            && !error.is_fatal()
        {
            self.remove_files(store.id, &table, id);
        }
        let set = set?;
        self.remove_retired(&store)?;
        fail::fail_point!("storage::keeper::merge::inputs_removed");
        Ok(Some(set))
    }

    /// Drops the runs of a sequence all of whose keys are below `key`, all or none, durably on return. Returns the
    /// store's new runs, or `None` where there was nothing to drop, or a merge is under way: then it is to be tried again.
    ///
    /// # Errors
    /// But for [`Error::Fatal`] nothing is changed.
    pub fn drop_below(&self, store: StoreId, table: TableId, key: &PointKey) -> Result<Option<Arc<RunSet>>> {
        self.check_whole()?;
        let store = self.store(store)?;
        let Some(_merging) = store.merging.try_lock() else { return Ok(None) };
        let gone: Vec<Arc<Run>> = {
            let set = store.set.load();
            let runs = set.sequence(table)?.into_iter();
            runs.filter(|(_, last, _)| last < key).map(|(.., run)| Arc::clone(run)).collect()
        };
        let mut dropped = None;
        // All of a batch go at once, the oldest first: what is left is a sequence without a gap.
        for gone in gone.chunks(BATCH_ROWS_MAX) {
            let _node = self.writer.lock();
            let rows: Vec<_> = gone.iter().map(|run| node::no_run_row(store.id, run.meta().id())).collect();
            self.apply_durably(&rows)?;
            let set = Arc::new(store.set.load().changed(gone, Vec::new()));
            store.set.store(Arc::clone(&set));
            store.retired.lock().extend(gone.iter().cloned());
            dropped = Some(set);
        }
        self.remove_retired(&store)?;
        Ok(dropped)
    }

    fn plan(&self, set: &RunSet) -> Option<Plan> {
        let plan = |(id, table): (&TableId, &Arc<Table>)| match table.flat() {
            Ok(flat) if flat.sequence => policy::plan_sequence(set.runs_of(*id), &self.options),
            _ => policy::plan(set.runs_of(*id), &self.options),
        };
        self.tables.iter().find_map(plan)
    }

    fn write_merged(&self, store: &Store, table: &Arc<Table>, id: RunId, plan: Plan) -> Result<Arc<RunSet>> {
        let created_from = plan.inputs.iter().map(|run| run.meta().created_from).max().unwrap_or(0);
        let new = NewRun { id, level: plan.level, created_from };
        let meta = self.runs.write(store.id, table, new, RowSource::Runs(plan.inputs.clone()))?;
        fail::fail_point!("storage::keeper::merge::run_written");
        let run = self.runs.open(store.id, table, &meta)?;
        self.check_rows(&plan, &meta, table)?;

        let node = self.writer.lock();
        self.check_whole()?;
        if !node.groups.values().any(|group| group.store_id() == store.id) {
            return Err(Error::NotFound(store.id.to_string()));
        }
        let gone = plan.inputs.iter().map(|run| node::no_run_row(store.id, run.meta().id()));
        let changes: Vec<_> = gone.chain([node::run_row(store.id, &meta)]).collect();
        self.must_end(|| {
            self.control.apply(&changes)?;
            fail::fail_point!("storage::keeper::merge::applied");
            self.control.flush_durable()?;
            fail::fail_point!("storage::keeper::merge::durable");
            Ok(())
        })?;
        let set = Arc::new(store.set.load().changed(&plan.inputs, vec![run]));
        store.set.store(Arc::clone(&set));
        store.retired.lock().extend(plan.inputs);
        Ok(set)
    }

    /// A merge may only make fewer rows where rows are folded or replaced.
    fn check_rows(&self, plan: &Plan, meta: &RunMeta, table: &Table) -> Result<()> {
        let rows: u64 = plan.inputs.iter().map(|run| run.meta().rows).sum();
        let may_shrink = table.columnar().is_err() || table.columnar()?.combine.is_some();
        if meta.rows > rows || (meta.rows < rows && !may_shrink) {
            let what = format!("a merge of {rows} rows gave {}", meta.rows);
            return Err(Error::corrupt(format!("{table:?}"), what));
        }
        Ok(())
    }

    /// Removes files that nothing refers to; if that fails, the next open does it.
    pub(super) fn remove_files(&self, store: StoreId, table: &Table, run: RunId) {
        if let Err(error) = self.runs.remove(store, table, run) {
            tracing::warn!(%error, %run, "files of an unfinished run stay until the next start");
        }
    }
}
