//! Makes a source.

use isthmus_proto::internal::v1::PutSourceCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, rules};

impl MetaState {
    pub(super) fn put_source(&mut self, now_micros: u64, put: &PutSourceCommand) -> Result<Done, Refusal> {
        let Some(source) = &put.source else { return refuse(Code::Invalid, "the source is missing") };
        rules::source(source)?;
        if source.built_in || source.disabled {
            return refuse(Code::Invalid, "a new source is neither built in nor disabled");
        }
        if let Some(present) = self.sources.get(&source.name) {
            // The same random key again: this is a repetition of the command that made it.
            if !present.key_hashes.is_empty() && present.key_hashes == source.key_hashes {
                return Ok(Done::source(false, present.clone()));
            }
            return refuse(Code::AlreadyExists, format!("there is a source {} already", source.name));
        }
        self.refuse_key_in_use(&source.key_hashes)?;
        if self.sources.len() >= rules::SOURCES_MAX {
            return refuse(Code::TooMany, format!("a hub has at most {} sources", rules::SOURCES_MAX));
        }
        let mut source = source.clone();
        source.created_at_micros = now_micros;
        self.sources.insert(source.name.clone(), source.clone());
        Ok(Done::source(true, source))
    }

    /// A write key must lead to one source.
    pub(super) fn refuse_key_in_use(&self, hashes: &[bytes::Bytes]) -> Result<(), Refusal> {
        let in_use = |hash| self.sources.values().any(|source| source.key_hashes.contains(hash));
        if hashes.iter().any(in_use) {
            return refuse(Code::KeyTaken, "the write key belongs to another source");
        }
        Ok(())
    }
}
