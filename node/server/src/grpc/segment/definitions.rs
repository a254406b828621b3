//! The definitions in force, and changes to them.

use std::collections::BTreeMap;

use isthmus_coordinator::DEFAULT_CURRENCY;
use isthmus_proto::internal::v1::{DocumentKind, DocumentRecord};
use isthmus_segment::{Document, Fault, Known, Plan, Type};
use isthmus_segmenter::definitions::known;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Segments, faults::Sent};
use crate::grpc::status::{Refusal, status};

/// How often a change is made anew when others are faster.
const TRIES: usize = 4;

/// A document and its version.
pub(super) struct InForce {
    pub(super) version: u64,
    pub(super) document: Document,
    pub(super) created_at_micros: u64,
}

impl Segments {
    /// The definitions of a version; 0: those in force.
    pub(super) async fn definitions(&self, version: u64, deadline: Instant) -> Result<InForce, Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let versions = view.document_versions(DocumentKind::Segments, "");
        let found = match version {
            0 => versions.last(),
            version => Some(
                versions
                    .iter()
                    .find(|document| document.version == version)
                    .ok_or_else(|| Refusal::not_found("there is no such version: the last 32 are kept"))?,
            ),
        };
        let Some(found) = found else {
            return Ok(InForce { version: 0, document: Document::default(), created_at_micros: 0 });
        };
        let document = Document::from_json(&found.content).map_err(|fault| {
            let message = format!("the definitions can't be read ({fault}): this node may be too old");
            Refusal::new(Code::Internal, "INTERNAL", message)
        })?;
        Ok(InForce { version: found.version, document, created_at_micros: found.created_at_micros })
    }

    /// Changes the definitions, as often as others are faster: `change` says whether it changed anything, given the
    /// version that comes to be. The version in force then, the document, and whether it is another one.
    pub(super) async fn change(
        &self,
        sent: Sent<'_>,
        deadline: Instant,
        mut change: impl FnMut(&mut Document, u64) -> Result<bool, Refusal>,
    ) -> Result<(u64, Document, bool), Status> {
        let mut tries = 0;
        loop {
            tries += 1;
            let InForce { version, mut document, .. } = self.definitions(0, deadline).await?;
            let before = sent.expression(&document).map(ToOwned::to_owned);
            if !change(&mut document, version + 1)? {
                return Ok((version, document, false));
            }
            // What was taken once may be described anew, whatever traits there are by now.
            let is_new = sent.expression(&document) != before.as_deref();
            self.check(&document, sent, is_new, deadline).await?;
            let put = DocumentRecord {
                kind: DocumentKind::Segments.into(),
                content: document.to_json().into(),
                ..DocumentRecord::default()
            };
            match self.hub.coordinator.put_document(put, version, deadline).await {
                Ok(put) => return Ok((put.version, document, true)),
                Err(isthmus_coordinator::Error::Refused { code, .. })
                    if code == "STALE_VIEW" && tries < TRIES => {}
                Err(error) => return Err(status(&error)),
            }
        }
    }

    /// Refuses a document that can't be taken; and, with `traits`, an expression that was sent and names a trait that no
    /// customer can have. What is in force already stays: its traits may be known of older events.
    pub(super) async fn check(
        &self,
        document: &Document,
        sent: Sent<'_>,
        traits: bool,
        deadline: Instant,
    ) -> Result<(), Status> {
        let traits = if traits { self.traits(deadline).await? } else { None };
        let document = document.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let faults = compiled(&document, None);
            match traits {
                Some(traits) if faults.is_empty() => (Vec::new(), compiled(&document, Some(traits))),
                _ => (faults, Vec::new()),
            }
        });
        let (faults, mut of_traits) =
            compiled.await.map_err(|error| Refusal::new(Code::Internal, "INTERNAL", error.to_string()))?;
        of_traits.retain(|fault| sent.field_of(fault).is_some());
        match (&faults[..], &of_traits[..]) {
            ([], []) => Ok(()),
            ([], faults) | (faults, _) => Err(sent.refused(faults).into()),
        }
    }

    /// The traits that customers may have; `None`: any. What a schema says of a trait's type changes nothing: shards read
    /// expressions without it.
    async fn traits(&self, deadline: Instant) -> Result<Option<BTreeMap<String, Type>>, Status> {
        let view = self.hub.coordinator.current_view(deadline).await.map_err(|error| status(&error))?;
        let registry = self.hub.registries.of(&view)?;
        let names = registry.traits();
        Ok(names.map(|names| names.map(|name| (name.to_owned(), Type::Any)).collect()))
    }
}

/// What is wrong with a document.
fn compiled(document: &Document, traits: Option<BTreeMap<String, Type>>) -> Vec<Fault> {
    Plan::compile(document, &Known { traits, ..known(DEFAULT_CURRENCY) }).err().unwrap_or_default()
}
