//! Puts a new version of a configuration document in force. What it says was checked by who proposed it.

use isthmus_proto::internal::v1::{DocumentKind, PutDocumentCommand};

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, documents, rules};

impl MetaState {
    pub(super) fn put_document(
        &mut self,
        now_micros: u64,
        put: &PutDocumentCommand,
    ) -> Result<Done, Refusal> {
        let Some(document) = &put.document else { return refuse(Code::Invalid, "the document is missing") };
        rules::document(document)?;
        let key = (document.kind, document.name.clone());
        let present = self.documents.get(&key).and_then(|versions| versions.last());
        let version = present.map_or(0, |present| present.version);
        if let Some(present) = present {
            let says = |d: &isthmus_proto::internal::v1::DocumentRecord| {
                (d.content.clone(), d.policy.clone(), d.compatibility.clone())
            };
            // The same again: a repetition of the command that put it, or nothing new. Identity rules hold their
            // version, so those are only equal when they are repeated.
            if says(present) == says(document) && version.saturating_sub(put.based_on_version) <= 1 {
                return Ok(Done::document(false, present));
            }
        }
        if version != put.based_on_version {
            let what = format!(
                "version {version} is in force, and this was made from version {}: look at it, and decide anew",
                put.based_on_version
            );
            return refuse(Code::StaleView, what);
        }
        if present.is_none() && self.documents.len() >= rules::DOCUMENTS_MAX {
            return refuse(Code::TooMany, format!("a hub has at most {} documents", rules::DOCUMENTS_MAX));
        }
        let mut document = document.clone();
        document.version = version + 1;
        document.created_at_micros = now_micros;
        let kept = self.documents.entry(key.clone()).or_default();
        kept.push(document.clone());
        let over = kept.len().saturating_sub(rules::DOCUMENT_VERSIONS_MAX);
        let mut gone: Vec<_> = kept.drain(..over).collect();
        if documents::bytes(&self.documents) > rules::DOCUMENTS_BYTES_MAX {
            let in_force: usize = documents::in_force(&self.documents).map(|one| one.content.len()).sum();
            if in_force > rules::DOCUMENTS_BYTES_MAX {
                // Taken back as a whole: a refusal changes nothing.
                if let Some(kept) = self.documents.get_mut(&key) {
                    kept.pop();
                    gone.append(kept);
                    *kept = gone;
                }
                if version == 0 {
                    self.documents.remove(&key);
                }
                let what =
                    format!("all documents in force have at most {} bytes", rules::DOCUMENTS_BYTES_MAX);
                return refuse(Code::TooMany, what);
            }
            while documents::bytes(&self.documents) > rules::DOCUMENTS_BYTES_MAX
                && documents::forget_oldest(&mut self.documents)
            {}
        }
        if document.kind() == DocumentKind::IdentityRules {
            self.config_version += 1;
        }
        Ok(Done::document(true, &document))
    }
}
