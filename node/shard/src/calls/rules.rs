//! The call that tells how far changed identity rules have come.

use isthmus_proto::internal::v1::ReadRulesReply;
use tokio::time::Instant;

use crate::{Error, ShardHandle};

impl ShardHandle {
    pub(super) async fn read_rules(&self, deadline: Instant) -> Result<ReadRulesReply, Error> {
        self.barrier(None, deadline).await?;
        let state = self.shared.state.read();
        let meta = &state.meta;
        Ok(ReadRulesReply {
            rules_version: meta.rules.version(),
            owned_slots: meta.owned.len().into(),
            swept_slots: meta.swept_slots().into(),
            swept: meta.is_swept(),
            messages_made: meta.made,
            messages_handled: meta.handled,
        })
    }
}
