//! Gives a source a new write key; the old ones are refused from then on.

use isthmus_proto::internal::v1::RotateSourceCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::{MetaState, rules};

impl MetaState {
    pub(super) fn rotate_source(&mut self, rotate: &RotateSourceCommand) -> Result<Done, Refusal> {
        rules::key(&rotate.key_hash, &rotate.key_prefix)?;
        let Some(source) = self.sources.get(&rotate.name) else {
            return refuse(Code::NotFound, "there is no such source; `source list` shows them");
        };
        if source.built_in {
            return refuse(Code::BuiltIn, "a built-in source's key can't be changed");
        }
        if source.disabled {
            return refuse(Code::SourceDisabled, "the source is disabled; make a new one");
        }
        let hashes = vec![rotate.key_hash.clone()];
        if source.key_hashes == hashes {
            // Sent again after its answer was lost.
            return Ok(Done::source(false, source.clone()));
        }
        self.refuse_key_in_use(&hashes)?;
        let mut source = source.clone();
        source.key_hashes = hashes;
        source.key_prefix = rotate.key_prefix.clone();
        self.sources.insert(source.name.clone(), source.clone());
        Ok(Done::source(true, source))
    }
}
