//! How far changed identity rules have come, shard by shard.

use futures::future::try_join_all;
use isthmus_proto::internal::v1::{ReadRulesCall, ReadRulesReply, shard_call, shard_reply};
use tokio::time::Instant;

use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;

impl Router {
    /// Each shard's number with its answer, rising. Each is exact at a moment of its own, after the call and before the
    /// answer.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn rules_progress(&self, deadline: Instant) -> Result<Vec<(u64, ReadRulesReply)>, Error> {
        let mut shards: Vec<u64> = self.routes().shards().map(|route| route.id).collect();
        shards.sort_unstable();
        let asked = shards.into_iter().map(|shard| async move {
            let body = shard_call::Body::ReadRules(ReadRulesCall {});
            match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await? {
                shard_reply::Body::ReadRules(reply) => Ok((shard, reply)),
                _ => Err(Error::BadReply { shard, what: "not how far rules have come" }),
            }
        });
        try_join_all(asked).await
    }
}
