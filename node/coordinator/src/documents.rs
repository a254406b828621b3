//! Configuration documents: identity rules, rules for traits, schemas. Whoever puts one has checked what it says.

use std::sync::Arc;

use isthmus_domain::identity::IdentityRules;
use isthmus_proto::internal::v1::{DocumentKind, DocumentRecord, PutDocumentCommand, meta_command::Command};
use tokio::time::Instant;

use crate::{
    Coordinator,
    error::{Error, Result},
    state::{Code, rules},
    view::View,
};

impl Coordinator {
    /// A view with everything that was answered anywhere before the call.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when that can't be made sure of before the deadline; [`Error::Overloaded`],
    /// [`Error::Stopped`].
    pub async fn current_view(&self, deadline: Instant) -> Result<Arc<View>> {
        self.inner.refresher.refreshed(deadline).await?;
        Ok(self.inner.view())
    }

    /// Puts a new version of a document in force, decided on version `based_on_version` of it (0: there was none).
    /// Returns it without its content; its version is the old one when that says the same. This node's view has it
    /// then; other nodes' views follow within moments.
    ///
    /// # Errors
    /// As [`Self::propose`]: refused with `STALE_VIEW` when another version is in force, above all.
    pub async fn put_document(
        &self,
        document: DocumentRecord,
        based_on_version: u64,
        deadline: Instant,
    ) -> Result<DocumentRecord> {
        rules::document(&document).map_err(|refusal| Error::refused(refusal.code, refusal.message))?;
        // Shards get these as they are: what they could not read must not be put.
        if document.kind() == DocumentKind::IdentityRules {
            let rules = IdentityRules::decode(&document.content)
                .map_err(|error| Error::refused(Code::Invalid, error.to_string()))?;
            if rules.version() != based_on_version + 1 {
                return Err(Error::refused(Code::Invalid, "identity rules bear their document's version"));
            }
        }
        let put = PutDocumentCommand { document: Some(document), based_on_version };
        let outcome = self.propose(Command::PutDocument(put), deadline).await?;
        self.inner.wait_view(outcome.version, deadline).await?;
        outcome.document.ok_or_else(|| Error::malformed("answer of another node"))
    }
}
