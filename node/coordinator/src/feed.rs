//! How views reach the rest of the node: newest wins, and none is shown before it is on disk.
//!
//! Views come from the node's own metadata replica or from another node's, in any order. The newest is saved, then
//! shown. So whatever a node did upon a view (opened a replica, deleted one), after a restart it begins with that view
//! or a newer one: it never takes an older one for the truth and opens what it had deleted.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{files, machine::blocking, view::View};

/// The file with the view that was shown last.
pub(crate) const VIEW_FILE: &str = "view";

/// Where views are offered. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ViewFeed {
    newest: Arc<watch::Sender<Arc<View>>>,
}

impl ViewFeed {
    /// A feed that begins with `view`, which is on disk already (or empty), and where its views are shown. `saver`
    /// has to run for that.
    pub(crate) fn new(view: Arc<View>, file: PathBuf) -> (Self, Saver, watch::Receiver<Arc<View>>) {
        let (newest, offered) = watch::channel(Arc::clone(&view));
        let (shown, receiver) = watch::channel(view);
        (Self { newest: Arc::new(newest) }, Saver { offered, shown, file }, receiver)
    }

    /// The version of the newest view that was offered, shown yet or not.
    pub(crate) fn newest_version(&self) -> u64 {
        self.newest.borrow().version
    }

    /// Offers a view; an older one than the newest is left aside.
    pub(crate) fn offer(&self, view: View) {
        self.newest.send_if_modified(|newest| {
            let newer = view.version > newest.version;
            if newer {
                *newest = Arc::new(view);
            }
            newer
        });
    }
}

/// Saves views and shows them.
pub(crate) struct Saver {
    offered: watch::Receiver<Arc<View>>,
    shown: watch::Sender<Arc<View>>,
    file: PathBuf,
}

impl Saver {
    /// Runs until cancelled. A view that can't be saved is not shown; it is tried again with the next one.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let view = Arc::clone(&self.offered.borrow_and_update());
            if view.version > self.shown.borrow().version {
                let (path, wire) = (self.file.clone(), view.wire().clone());
                match blocking(move || files::write_message(&path, &wire)).await {
                    Ok(()) => drop(self.shown.send_replace(view)),
                    Err(error) => tracing::error!(%error, "the cluster's view could not be saved"),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.offered.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::ShardMap;
    use isthmus_proto::internal::v1::ClusterView;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::state::MetaState;

    fn view(version: u64) -> View {
        let shard_map = ShardMap::even(4).unwrap();
        View::of(&MetaState { version, shard_map, ..MetaState::new() }).unwrap()
    }

    #[tokio::test]
    async fn a_view_is_on_disk_before_it_is_shown_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(VIEW_FILE);
        let (feed, saver, mut shown) = ViewFeed::new(Arc::default(), file.clone());
        feed.offer(view(2));
        assert_eq!(shown.borrow().version, 0, "nothing is shown before the saver has run");
        assert!(!file.exists());
        let stop = CancellationToken::new();
        let saving = TaskTracker::new();
        saving.spawn(saver.run(stop.clone()));
        saving.close();
        shown.wait_for(|view| view.version == 2).await.unwrap();
        assert!(files::read_message::<ClusterView>(&file).unwrap().is_some());
        feed.offer(view(1));
        feed.offer(view(3));
        assert_eq!(shown.wait_for(|view| view.version != 2).await.unwrap().version, 3);
        stop.cancel();
        saving.wait().await;
    }

    #[tokio::test]
    async fn a_view_that_cannot_be_saved_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (feed, saver, shown) = ViewFeed::new(Arc::default(), dir.path().join("missing").join(VIEW_FILE));
        feed.offer(view(2));
        let stop = CancellationToken::new();
        stop.cancel();
        saver.run(stop).await;
        assert_eq!(shown.borrow().version, 0);
    }
}
