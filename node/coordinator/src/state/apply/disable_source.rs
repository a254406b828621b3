//! Disables a source: its keys are known and refused from then on; what it sent stays.

use isthmus_proto::internal::v1::DisableSourceCommand;

use super::{Code, Done, Refusal, refuse};
use crate::state::MetaState;

impl MetaState {
    pub(super) fn disable_source(&mut self, disable: &DisableSourceCommand) -> Result<Done, Refusal> {
        let Some(source) = self.sources.get_mut(&disable.name) else {
            return refuse(Code::NotFound, "there is no such source; `source list` shows them");
        };
        if source.built_in {
            return refuse(Code::BuiltIn, "a built-in source can't be disabled");
        }
        let changed = !source.disabled;
        source.disabled = true;
        Ok(Done::source(changed, source.clone()))
    }
}
