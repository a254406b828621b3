//! A shard's whole state out of one node and into another.
//!
//! An export is a directory: hard links to the runs' files, and a file of control rows (format: [`redo`](crate::redo)).
//! Nothing in it changes any more, so it can be sent at leisure. The receiver puts the same files into a directory and
//! installs it.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::create::{check_meta, next_store};
use super::{Exported, GroupMeta, Keeper, RESERVED_TABLES, Store, node};
use crate::control::{BATCH_ROWS_MAX, ControlWrite, KeyRange, Order, keys, rows};
use crate::redo::{RowReader, RowWriter};
use crate::runs::{FileEntry, RunMeta, verify};
use crate::{Error, GroupId, Result, StoreId};

/// The file of control rows.
const CONTROL_FILE: &str = "control.rows";

impl Keeper {
    /// Writes a group's state, as it was written out last, into the directory `into`: it is made, must be empty, and
    /// is on the file system of the runs. Write-outs of this group wait as long; other groups and merges don't.
    ///
    /// The caller removes the directory when it is sent.
    pub fn export(&self, group: GroupId, into: &Path) -> Result<Exported> {
        let found = self.group(group)?.ok_or_else(|| Error::NotFound(format!("group {group}")))?;
        let store = self.store(found.store_id())?;
        let disk = self.runs.disk();
        disk.create_dir(into)?;
        if !disk.list(into)?.is_empty() {
            return Err(Error::Refused(format!("{} is not empty", into.display())));
        }
        let _writing = store.writing.lock();
        // Only now does the meta row stand still.
        let meta = self.group(group)?.filter(|meta| meta.store_id() == store.id);
        let meta = meta.ok_or_else(|| Error::NotFound(format!("{} of group {group}", store.id)))?;
        let set = store.set.load_full();
        let (mut files, mut runs): (Vec<FileEntry>, Vec<RunMeta>) = (Vec::new(), Vec::new());
        for run in set.all() {
            files.extend(self.runs.link(store.id, run.table(), run.meta(), into)?);
            runs.push(run.meta().clone());
        }
        fail::fail_point!("storage::keeper::export::linked");
        let mut writer = RowWriter::create(disk, &into.join(CONTROL_FILE), 0)?;
        let prefix = keys::store_prefix(store.id);
        let own = KeyRange::between(prefix, [prefix.as_slice(), &[RESERVED_TABLES]].concat());
        for row in rows(self.control.as_ref(), &own, Order::Ascending) {
            let (key, value) = row?;
            writer.push(&ControlWrite { key: key[keys::STORE_BYTES..].to_vec(), value: Some(value) })?;
        }
        let control = writer.finish()?;
        fail::fail_point!("storage::keeper::export::rows_written");
        disk.sync_dir(into)?;
        let xxh3 = Bytes::copy_from_slice(&control.xxh3);
        files.push(FileEntry { name: CONTROL_FILE.into(), bytes: control.bytes, xxh3 });
        Ok(Exported { meta, files, runs, control_rows: control.count })
    }

    /// Replaces a group's state (or makes the group, where there is none) by an export whose files are in `from`, on
    /// the file system of the runs: all or nothing, durably on return. The new state is in a fresh store; the old one
    /// is dropped lazily. The caller removes `from`.
    ///
    /// Nothing of the group may be written out meanwhile: such a write-out is refused after the installation.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a file isn't what `exported` says; but for [`Error::Fatal`] the old state stays.
    pub fn install(
        &self,
        group: GroupId,
        replica: u64,
        from: &Path,
        exported: &Exported,
    ) -> Result<GroupMeta> {
        self.check_whole()?;
        let control = self.check_export(group, from, exported)?;
        let store = self.make_store()?;
        let installed = self.fill_store(store, from, exported, &control).and_then(|()| {
            let meta = GroupMeta { group, replica, store: store.0, ..exported.meta.clone() };
            self.flip(store, meta)
        });
        if let Err(error) = &installed
            && !error.is_fatal()
        {
            self.dropped.lock().push_back(store);
        }
        installed
    }

    /// Verifies what can be without touching anything: names, sums, counts. Runs are verified when they are adopted.
    fn check_export(&self, group: GroupId, from: &Path, exported: &Exported) -> Result<PathBuf> {
        if exported.meta.group != group {
            return Err(Error::Refused(format!("an export of another group than {group}")));
        }
        check_meta(&exported.meta)?;
        for run in &exported.runs {
            self.table(run.table)?;
            if run.xxh3.len() != 16 || run.index_xxh3.len() != 16 {
                return Err(Error::Refused("an export with a run that has no checksum".into()));
            }
        }
        let path = from.join(CONTROL_FILE);
        let control = exported.files.iter().find(|file| file.name == CONTROL_FILE);
        let control = control.ok_or_else(|| Error::Refused("an export without control rows".into()))?;
        verify(self.runs.disk(), &path, control.bytes, &control.xxh3)?;
        if RowReader::open(self.runs.disk(), &path)?.row_count() != exported.control_rows {
            return Err(Error::corrupt_at(&path, 0, "it has another number of rows than was sent"));
        }
        Ok(path)
    }

    /// A fresh store that is to be dropped, until it is made a group's.
    fn make_store(&self) -> Result<StoreId> {
        let mut node = self.writer.lock();
        let (store, counter) = next_store(&node)?;
        self.apply_durably(&[counter, node::drop_row(store)])?;
        node.next_store = store.0 + 1;
        fail::fail_point!("storage::keeper::install::store_made");
        Ok(store)
    }

    /// Files and rows into a store that nobody sees.
    fn fill_store(&self, store: StoreId, from: &Path, exported: &Exported, control: &Path) -> Result<()> {
        let mut changes = Vec::new();
        for run in &exported.runs {
            let table = self.table(run.table)?;
            let adopted = self.runs.adopt(from, table, run, store, self.next_run()?)?;
            changes.push(node::run_row(store, &adopted));
        }
        fail::fail_point!("storage::keeper::install::runs_adopted");
        for row in RowReader::open(self.runs.disk(), control)? {
            let mut row = row?;
            if row.key.first().is_none_or(|table| *table >= RESERVED_TABLES) {
                return Err(Error::Refused("an export with rows of the keeper".into()));
            }
            row.key.splice(..0, keys::store_prefix(store));
            changes.push(row);
            if changes.len() >= BATCH_ROWS_MAX {
                self.apply_some(&mut changes)?;
            }
        }
        while !changes.is_empty() {
            self.apply_some(&mut changes)?;
        }
        Ok(())
    }

    /// A batch of the fresh store; other groups' write-outs come between two.
    fn apply_some(&self, changes: &mut Vec<ControlWrite>) -> Result<()> {
        let batch: Vec<_> = changes.drain(..changes.len().min(BATCH_ROWS_MAX)).collect();
        let _node = self.writer.lock();
        self.must_end(|| self.control.apply(&batch))?;
        fail::fail_point!("storage::keeper::install::batch_applied");
        Ok(())
    }

    /// Makes the store the group's.
    fn flip(&self, store: StoreId, meta: GroupMeta) -> Result<GroupMeta> {
        let set = self.open_runs(store)?;
        // A write-out of the old store ends before, or finds that its store is gone.
        let old = self.group(meta.group)?.map(|old| old.store_id());
        let old_store = old.map(|old| self.store(old)).transpose()?;
        let _writing = old_store.as_ref().map(|old| old.writing.lock());
        let mut node = self.writer.lock();
        self.check_whole()?;
        if node.groups.get(&meta.group).map(|present| present.store_id()) != old {
            return Err(Error::Refused(format!("group {} was changed during an installation", meta.group)));
        }
        let mut changes = vec![node::group_row(&meta), node::undrop_row(store)];
        changes.extend(old.map(node::drop_row));
        // Batches keep their order on the disk: when this one is durable, so are those that filled the store.
        self.apply_durably(&changes)?;
        fail::fail_point!("storage::keeper::install::flipped");
        node.groups.insert(meta.group, meta.clone());
        let mut stores = self.stores.write();
        stores.insert(store, Store::new(set));
        if let Some(old) = old {
            stores.remove(&old);
            self.dropped.lock().push_back(old);
        }
        Ok(meta)
    }
}
