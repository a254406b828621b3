//! The definitions in force: compiled once for each version of their document.

use std::sync::Arc;

use bytes::Bytes;
use isthmus_segment::{Document, Fault, Known, Plan};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Definitions of one version.
#[derive(Debug)]
pub struct InForce {
    /// The version of their document, from 1.
    pub version: u64,
    /// What they come to.
    pub plan: Arc<Plan>,
}

impl Default for InForce {
    /// Before any were put: none.
    fn default() -> Self {
        Self { version: 0, plan: Arc::default() }
    }
}

/// The definitions in force on this node, as they change. Clones are the same.
#[derive(Clone, Debug)]
pub struct Definitions(watch::Receiver<Option<Arc<InForce>>>);

impl Definitions {
    /// The definitions that a sender shows.
    pub const fn new(definitions: watch::Receiver<Option<Arc<InForce>>>) -> Self {
        Self(definitions)
    }

    /// Those in force; `None` when none were ever put.
    pub fn get(&self) -> Option<Arc<InForce>> {
        self.0.borrow().clone()
    }

    /// Waits for others; for ever when there will be none.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What definitions may rest on: any trait, and the currency of revenue.
pub fn known(currency: &str) -> Known {
    Known { traits: None, currency: currency.to_owned() }
}

/// Compiles a stored document.
///
/// # Errors
/// What is wrong with it: one fault for each definition.
pub fn compile(content: &[u8], currency: &str) -> Result<Plan, Vec<Fault>> {
    let document = Document::from_json(content).map_err(|fault| vec![fault])?;
    Plan::compile(&document, &known(currency))
}

/// Compiles each version of the document, until the stop. One that can't be compiled was put by a newer version of the
/// program: the one before it stays.
pub async fn follow(
    mut documents: watch::Receiver<Option<(u64, Bytes)>>,
    currency: String,
    definitions: watch::Sender<Option<Arc<InForce>>>,
    stop: CancellationToken,
) {
    loop {
        let wanted = documents.borrow_and_update().clone();
        if let Some((version, content)) = wanted {
            let currency = currency.clone();
            let compiled = tokio::task::spawn_blocking(move || compile(&content, &currency)).await;
            match compiled {
                Ok(Ok(plan)) => {
                    definitions.send_replace(Some(Arc::new(InForce { version, plan: Arc::new(plan) })));
                }
                Ok(Err(faults)) => {
                    let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(
                        version,
                        fault,
                        "the definitions of segments can't be read: update this node"
                    );
                }
                Err(error) => {
                    tracing::error!(version, %error, "compiling the definitions of segments failed")
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = documents.changed() => if changed.is_err() { return },
        }
    }
}
