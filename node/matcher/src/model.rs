//! The model in force: what a document names, loaded from the shard that keeps its parts.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use isthmus_domain::Slot;
use isthmus_matching::Model;
use isthmus_proto::internal::v1::MatchingDocument;
use isthmus_router::Router;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The largest model, decompressed.
const MODEL_BYTES_MAX: usize = 256 << 20;
/// How long reading a model may take, and the pause before it is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
const LEVEL: i32 = 3;

/// A model that nodes compare by.
#[derive(Debug)]
pub struct InForce {
    /// The version of its document.
    pub version: u64,
    /// The document.
    pub document: MatchingDocument,
    /// The model.
    pub model: Arc<Model>,
}

/// The model in force on this node, as it changes. Clones are the same.
#[derive(Clone, Debug)]
pub struct Models(watch::Receiver<Option<Arc<InForce>>>);

impl Models {
    /// The models that a sender shows.
    pub const fn new(models: watch::Receiver<Option<Arc<InForce>>>) -> Self {
        Self(models)
    }

    /// The one in force; `None` when none was learned, or it isn't loaded yet.
    pub fn get(&self) -> Option<Arc<InForce>> {
        self.0.borrow().clone()
    }

    /// Waits for a change; for ever when there will be none.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Loads each model that a document names, until the stop. What can't be loaded is tried again: its shard may be
/// without a leader, and a document that was just put may be known before its parts can be read.
pub async fn follow(
    router: Router,
    mut documents: watch::Receiver<Option<(u64, Bytes)>>,
    models: watch::Sender<Option<Arc<InForce>>>,
    stop: CancellationToken,
) {
    loop {
        let wanted = documents.borrow_and_update().clone();
        let known = models.borrow().as_ref().map(|model| model.version);
        let mut loaded = true;
        if let Some((version, content)) = wanted.filter(|(version, _)| Some(*version) != known) {
            match load(&router, version, content).await {
                Ok(model) => _ = models.send_replace(Some(Arc::new(model))),
                Err(error) => {
                    tracing::warn!(version, error, "the model for matching can't be loaded; trying again");
                    loaded = false;
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if !loaded => {}
        }
    }
}

async fn load(router: &Router, version: u64, content: Bytes) -> Result<InForce, String> {
    let document =
        <MatchingDocument as prost::Message>::decode(content).map_err(|error| error.to_string())?;
    let slot = u16::try_from(document.slot).ok().and_then(Slot::new).ok_or("there is no such slot")?;
    let read = router.read_model(slot, document.model, document.parts, Instant::now() + TIMEOUT).await;
    let parts = read.map_err(|error| error.to_string())?;
    let hash = document.hash.clone();
    let model = tokio::task::spawn_blocking(move || unpack(&parts, &hash)).await;
    let model = model.map_err(|error| error.to_string())??;
    Ok(InForce { version, document, model: Arc::new(model) })
}

/// A model as it is kept.
///
/// # Errors
/// What can't be written, which would be a defect.
pub fn pack(model: &Model) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(model).map_err(|error| error.to_string())?;
    zstd::bulk::compress(&json, LEVEL).map_err(|error| error.to_string())
}

fn unpack(parts: &[Bytes], hash: &[u8]) -> Result<Model, String> {
    let packed = parts.concat();
    if blake3::hash(&packed).as_bytes() != hash {
        return Err("its parts are not whole yet, or damaged".to_owned());
    }
    let json = zstd::bulk::decompress(&packed, MODEL_BYTES_MAX).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}
