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
