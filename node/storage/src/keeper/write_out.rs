//! Writing a frozen part of a shard's state out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::create::check_meta;
use super::node::{self, Counter, Node};
use super::{GroupMeta, Keeper, RESERVED_TABLES, Store, WriteOut};
use crate::control::{BATCH_ROWS_MAX, ControlWrite, KEY_BYTES_MAX, VALUE_BYTES_MAX, keys};
use crate::runs::{NewRun, RowSource, Run, RunMeta, RunSet, TableRows};
use crate::{Error, Result, StoreId};

impl Keeper {
    /// Writes rows, runs and the meta row: all take effect or none, durably on return. Returns the store's runs.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::Io`] change nothing: the same write-out may be tried again (when the disk has
    /// room). [`Error::Fatal`] ends the process.
    pub fn write_out(&self, write_out: WriteOut) -> Result<Arc<RunSet>> {
        self.check_whole()?;
        let WriteOut { mut meta, rows, tables } = write_out;
        let store = self.store(meta.store_id())?;
        let _writing = store.writing.lock();
        let written = self.checked(&meta, &rows, &tables)?;
        meta.write_outs = written.write_outs + 1;
        fail::fail_point!("storage::keeper::write_out::start");
        let mut metas = Vec::new();
        for table in tables.into_iter().filter(|table| !table.rows.is_empty()) {
            match self.write_run(store.id, table, meta.write_outs) {
                Ok(run) => metas.push(run),
                Err(error) => {
                    self.remove_written(store.id, &metas);
                    return Err(error);
                }
            }
        }
        fail::fail_point!("storage::keeper::write_out::runs_written");
        let opened: Result<Vec<_>> = metas.iter().map(|run| self.open_run(store.id, run)).collect();
        let set = opened.and_then(|opened| self.commit(&store, meta, rows, &metas, opened));
        if let Err(error) = &set
            && !error.is_fatal()
        {
            self.remove_written(store.id, &metas);
        }
        let set = set?;
        self.remove_retired(&store)?;
        Ok(set)
    }

    /// Refuses what can't be written, before anything is. Returns the group's present meta row.
    fn checked(&self, meta: &GroupMeta, rows: &[ControlWrite], tables: &[TableRows]) -> Result<GroupMeta> {
        let refused =
            |what: &str| Err(Error::Refused(format!("a write-out of group {}: {what}", meta.group)));
        let Some(written) = self.writer.lock().groups.get(&meta.group).cloned() else {
            return Err(Error::NotFound(format!("group {}", meta.group)));
        };
        if (written.store, written.replica) != (meta.store, meta.replica) {
            return refused("it is of another replica or store");
        }
        if meta.applied_index < written.applied_index {
            return refused("it is older than what is written");
        }
        check_meta(meta)?;
        for row in rows {
            if row.key.first().is_none_or(|table| *table >= RESERVED_TABLES) {
                return refused("a row without a table, or in a table of the keeper");
            }
            if row.key.len() + keys::STORE_BYTES > KEY_BYTES_MAX {
                return refused("a key is too long");
            }
            if row.value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
                return refused("a value is too long");
            }
        }
        for (number, table) in tables.iter().enumerate() {
            self.table(u32::from(table.table.0))?;
            if tables[..number].iter().any(|other| other.table == table.table) {
                return refused("a table comes twice");
            }
        }
        Ok(written)
    }

    fn write_run(&self, store: StoreId, rows: TableRows, created_from: u64) -> Result<RunMeta> {
        let table = self.table(u32::from(rows.table.0))?;
        let new = NewRun { id: self.next_run()?, level: 0, created_from };
        let written = self.runs.write(store, table, new, RowSource::Rows(rows.rows));
        if written.is_err() {
            self.remove_files(store, table, new.id);
        }
        fail::fail_point!("storage::keeper::write_out::run_written");
        written
    }

    pub(super) fn open_run(&self, store: StoreId, meta: &RunMeta) -> Result<Arc<Run>> {
        self.runs.open(store, self.table(meta.table)?, meta)
    }

    fn remove_written(&self, store: StoreId, metas: &[RunMeta]) {
        for run in metas {
            if let Ok(table) = self.table(run.table) {
                self.remove_files(store, table, run.id());
            }
        }
    }

    /// The control part: the redo file makes it one.
    fn commit(
        &self,
        store: &Store,
        meta: GroupMeta,
        rows: Vec<ControlWrite>,
        metas: &[RunMeta],
        opened: Vec<Arc<Run>>,
    ) -> Result<Arc<RunSet>> {
        let mut node = self.writer.lock();
        self.check_whole()?;
        if node.groups.get(&meta.group).map(|group| group.store) != Some(meta.store) {
            return Err(Error::NotFound(format!("{} of group {}", store.id, meta.group)));
        }
        let number = node.redo + 1;
        let prefix = keys::store_prefix(store.id);
        let mut changes = rows;
        for row in &mut changes {
            row.key.splice(..0, prefix);
        }
        changes.extend(metas.iter().map(|run| node::run_row(store.id, run)));
        changes.push(Counter::Redo.put(number));
        changes.push(node::group_row(&meta));
        let redo = self.redo().write(number, &changes);
        if redo.as_ref().is_err_and(Error::is_fatal) {
            self.broken.store(true, Ordering::Release);
        }
        redo?;
        self.must_end(|| self.apply_changes(&mut node, number, &changes))?;
        let set = Arc::new(store.set.load().changed(&[], opened));
        store.set.store(Arc::clone(&set));
        node.groups.insert(meta.group, meta);
        Ok(set)
    }

    fn apply_changes(&self, node: &mut Node, number: u64, changes: &[ControlWrite]) -> Result<()> {
        fail::fail_point!("storage::keeper::write_out::redo_synced");
        // Number and meta row are the last two: they are in the last batch, together.
        let (rows, last) = changes.split_at(changes.len() - (changes.len() % BATCH_ROWS_MAX).max(2));
        for batch in rows.chunks(BATCH_ROWS_MAX) {
            self.control.apply(batch)?;
            fail::fail_point!("storage::keeper::write_out::batch_applied");
        }
        self.control.apply(last)?;
        fail::fail_point!("storage::keeper::write_out::applied");
        self.control.flush_durable()?;
        node.redo = number;
        fail::fail_point!("storage::keeper::write_out::durable");
        self.redo().remove(number)?;
        fail::fail_point!("storage::keeper::write_out::redo_removed");
        Ok(())
    }
}
