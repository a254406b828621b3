//! Making and removing groups; handing out numbers.

use bytes::Bytes;

use super::node::{self, Counter, Node, RUNS_RESERVED};
use super::{GroupMeta, Keeper, Store};
use crate::control::{ControlWrite, VALUE_BYTES_MAX};
use crate::runs::{RunId, RunSet};
use crate::{Error, GroupId, Result, StoreId};

impl Keeper {
    /// A new group with an empty store of its own, at index 0. Durable on return.
    ///
    /// # Errors
    /// [`Error::Refused`] when the group is there.
    pub fn create_group(
        &self,
        group: GroupId,
        replica: u64,
        conf_state: Bytes,
        state: Bytes,
    ) -> Result<GroupMeta> {
        self.check_whole()?;
        let mut node = self.writer.lock();
        if node.groups.contains_key(&group) {
            return Err(Error::Refused(format!("group {group} exists")));
        }
        let (store, counter) = next_store(&node)?;
        let meta = GroupMeta { group, replica, store: store.0, conf_state, state, ..GroupMeta::default() };
        check_meta(&meta)?;
        self.apply_durably(&[counter, node::group_row(&meta)])?;
        node.next_store = store.0 + 1;
        node.groups.insert(group, meta.clone());
        self.stores.write().insert(store, Store::new(RunSet::empty(store, self.tables.values())));
        Ok(meta)
    }

    /// Forgets a group: nothing of it is found any more, durably. Its rows and files are dropped later, by
    /// [`Keeper::collect_garbage`] or at the next open. Whoever holds its runs can still read them.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the group isn't there.
    pub fn remove_group(&self, group: GroupId) -> Result<()> {
        self.check_whole()?;
        let mut node = self.writer.lock();
        let meta = node.groups.get(&group).ok_or_else(|| Error::NotFound(format!("group {group}")))?;
        let store = meta.store_id();
        self.apply_durably(&[ControlWrite::delete(node::group_key(group)), node::drop_row(store)])?;
        node.groups.remove(&group);
        self.stores.write().remove(&store);
        self.dropped.lock().push_back(store);
        Ok(())
    }

    /// The number of the next run.
    pub(super) fn next_run(&self) -> Result<RunId> {
        let mut node = self.writer.lock();
        if node.next_run >= node.runs_reserved {
            let reserved = node.next_run + RUNS_RESERVED;
            self.apply_durably(&[Counter::Run.put(reserved)])?;
            node.runs_reserved = reserved;
        }
        node.next_run += 1;
        Ok(RunId(node.next_run - 1))
    }
}

/// The next store, and the row that makes sure it is handed out once.
pub(super) fn next_store(node: &Node) -> Result<(StoreId, ControlWrite)> {
    let next =
        node.next_store.checked_add(1).ok_or_else(|| Error::Refused("all store numbers are used".into()))?;
    Ok((StoreId(node.next_store), Counter::Store.put(u64::from(next))))
}

/// A meta row has to fit into a control row.
pub(super) fn check_meta(meta: &GroupMeta) -> Result<()> {
    // Ten numbers and two lengths take less than this.
    let spare = 128;
    if meta.conf_state.len() + meta.state.len() + spare > VALUE_BYTES_MAX {
        return Err(Error::Refused(format!("the state in the meta row of group {} is too long", meta.group)));
    }
    Ok(())
}
