//! Applying commands: one command, one file.

mod disable_source;
mod forget_node;
mod init;
mod leave_node;
mod place;
mod put_document;
mod put_node;
mod put_source;
mod rotate_source;

use bytes::Bytes;
use isthmus_proto::internal::v1::{
    DocumentRecord, MetaCommand, MetaOutcome, SourceRecord, meta_command::Command,
};

use super::{Code, MetaState, Refusal};

/// What a command did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Whether the state is another one now.
    changed: bool,
    /// The source that it was about.
    source: Option<SourceRecord>,
    /// The sealed identity key of the node that it was about.
    sealed_identity_key: Bytes,
    /// The document that it was about, without its content.
    document: Option<DocumentRecord>,
}

impl Done {
    fn changed() -> Self {
        Self { changed: true, ..Self::default() }
    }

    fn unchanged() -> Self {
        Self::default()
    }

    fn source(changed: bool, source: SourceRecord) -> Self {
        Self { changed, source: Some(source), ..Self::default() }
    }

    fn document(changed: bool, document: &DocumentRecord) -> Self {
        let document = DocumentRecord { content: Bytes::new(), ..document.clone() };
        Self { changed, document: Some(document), ..Self::default() }
    }
}

/// The command is of a kind that this version of the program doesn't know. A replica that met it in its log must
/// stop: leaving it out would make it differ from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a metadata command of a kind that this version does not know: run the newer version")]
pub struct NotUnderstood;

impl MetaState {
    /// Applies one command.
    ///
    /// # Errors
    /// [`NotUnderstood`]: the state is unchanged, and the replica has to stop.
    pub fn apply(&mut self, command: &MetaCommand) -> Result<MetaOutcome, NotUnderstood> {
        let now = command.now_micros;
        let Some(command) = &command.command else { return Err(NotUnderstood) };
        let done = match command {
            Command::Init(init) => self.init(now, init),
            _ if !self.is_initialised() => Err(Refusal::new(
                Code::NotInitialised,
                "the cluster has not been made yet; bootstrap it first",
            )),
            Command::PutNode(put) => self.put_node(put),
            Command::LeaveNode(leave) => self.leave_node(leave),
            Command::ForgetNode(forget) => self.forget_node(forget),
            Command::PlaceShard(place) => self.place_shard(place),
            Command::PlaceMetadata(place) => self.place_metadata(place),
            Command::PutSource(put) => self.put_source(now, put),
            Command::DisableSource(disable) => self.disable_source(disable),
            Command::RotateSource(rotate) => self.rotate_source(rotate),
            Command::PutDocument(put) => self.put_document(now, put),
        };
        Ok(match done {
            Ok(done) => {
                self.version += u64::from(done.changed);
                MetaOutcome {
                    version: self.version,
                    source: done.source,
                    sealed_identity_key: done.sealed_identity_key,
                    document: done.document,
                    ..MetaOutcome::default()
                }
            }
            Err(refusal) => MetaOutcome {
                version: self.version,
                refused: refusal.code.as_str().to_owned(),
                message: refusal.message,
                ..MetaOutcome::default()
            },
        })
    }
}

fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}
