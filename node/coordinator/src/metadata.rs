//! The node's replica of the metadata group: opened, closed and deleted as the view says.
//!
//! **What it promises.** The node holds exactly the peer that the newest shown view lists for it. A peer that it
//! doesn't list any more is deleted, log and state: the reconciler takes a peer off the list only when the group
//! doesn't have it any more. A view is on disk before it is shown, so a restart doesn't bring back what was deleted.
//!
//! **How.** One task watches the shown view. A founder's peer is opened at start instead, before there is any view.

use std::{path::PathBuf, sync::Arc, time::Duration};

use isthmus_domain::{NodeId, ReplicaId};
use isthmus_proto::internal::v1::MetaOutcome;
use isthmus_raft::{GroupHandle, OpenGroup, PeerId, RaftNode, ReplicaState, Role, Start};
use isthmus_storage::keeper::Keeper;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    error::{Error, Result},
    feed::ViewFeed,
    machine::{Machine, blocking},
    state::{FOUNDER_GENERATION, METADATA_GROUP},
    view::{View, founders},
};

/// A handle on the metadata group's replica.
pub(crate) type Group = GroupHandle<MetaOutcome>;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether this replica leads and can answer.
pub(crate) fn leads(group: &Group) -> bool {
    let view = group.view();
    view.role == Role::Leader && view.serving && view.state == ReplicaState::Running
}

/// Opens and deletes the replica.
pub(crate) struct Keep {
    pub(crate) me: NodeId,
    pub(crate) raft: RaftNode,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) feed: ViewFeed,
    pub(crate) snapshots: PathBuf,
    pub(crate) tracker: TaskTracker,
    pub(crate) group: watch::Sender<Option<Group>>,
}

impl Keep {
    /// Follows the view until cancelled.
    pub(crate) async fn run(self, mut view: watch::Receiver<Arc<View>>, stop: CancellationToken) {
        loop {
            let shown = Arc::clone(&view.borrow_and_update());
            let followed = self.follow(&shown).await;
            if let Err(error) = &followed {
                tracing::error!(%error, "the metadata replica is not as it should be; trying again");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = view.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if followed.is_err() => {}
            }
        }
    }

    /// Brings the replica to where the view wants it.
    pub(crate) async fn follow(&self, view: &View) -> Result<()> {
        if view.version == 0 {
            return Ok(());
        }
        let wanted = view.metadata_peers.iter().copied().find(|peer| peer.node() == self.me);
        let open = self.group.borrow().as_ref().map(|group| ReplicaId(group.peer().0));
        if wanted == open && open.is_some() {
            return Ok(());
        }
        if let Some(old) = open {
            tracing::info!(peer = %old, "this node leaves the metadata group");
            self.group.send_replace(None);
            self.raft.close_group(METADATA_GROUP).await;
            self.remove().await?;
        }
        let keeper = Arc::clone(&self.keeper);
        let stored = blocking(move || Ok(keeper.group(METADATA_GROUP)?)).await?;
        let Some(peer) = wanted else {
            // What an interrupted removal left behind.
            return if stored.is_some() { self.remove().await } else { Ok(()) };
        };
        match stored {
            Some(meta) if meta.replica == peer.0 => {}
            _ if peer.generation() == FOUNDER_GENERATION => {
                return Err(Error::Membership {
                    path: self.snapshots.clone(),
                    what: "the state of the metadata group is missing: give the node a new id and an empty data \
                           directory"
                        .into(),
                });
            }
            _ => self.remove().await?,
        }
        tracing::info!(%peer, "this node opens its replica of the metadata group");
        self.open(peer, founders(peer, &view.metadata_peers)).await
    }

    /// Opens the replica; with first voters where it founds the group.
    pub(crate) async fn open(&self, peer: ReplicaId, founders: Vec<ReplicaId>) -> Result<()> {
        let (keeper, feed) = (Arc::clone(&self.keeper), self.feed.clone());
        let (snapshots, tracker) = (self.snapshots.clone(), self.tracker.clone());
        let machine = blocking(move || Machine::open(keeper, peer, feed, snapshots, tracker)).await?;
        let start = if founders.is_empty() {
            Start::Join
        } else {
            Start::Bootstrap(founders.iter().map(|peer| PeerId(peer.0)).collect())
        };
        let open = OpenGroup { group: METADATA_GROUP, peer: PeerId(peer.0), start, machine };
        let group = self.raft.open_group(open).await?;
        if founders.len() == 1 {
            // Alone it wins at once: no need to wait for a time-out. In a grown group pre-vote keeps it harmless.
            group.campaign().await;
        }
        self.group.send_replace(Some(group));
        Ok(())
    }

    /// Deletes what is stored: the state first, since a log without a state can be begun anew.
    async fn remove(&self) -> Result<()> {
        let keeper = Arc::clone(&self.keeper);
        blocking(move || match keeper.group(METADATA_GROUP)? {
            Some(_) => Ok(keeper.remove_group(METADATA_GROUP)?),
            None => Ok(()),
        })
        .await?;
        Ok(self.raft.remove_group(METADATA_GROUP).await?)
    }
}
