//! The quality report over all shards.

use bytes::Bytes;
use isthmus_domain::quality::{Partial, Settings};
use isthmus_proto::internal::v1::{QualityCall, shard_call, shard_reply};
use tokio::time::Instant;

use crate::error::Error;
use crate::router::Router;
use crate::walk::Piece;

impl Router {
    /// Adds up all identify events, part by part. What is held is bounded by the sums of one report.
    pub async fn quality(&self, settings: Settings, deadline: Instant) -> Result<Partial, Error> {
        let call = |after: Option<[u8; 16]>, end_slot: u32| {
            shard_call::Body::Quality(QualityCall {
                after: after.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default(),
                end_slot,
                source: settings.source.clone(),
                updated_since: settings.updated_since,
            })
        };
        let read = |reply| {
            let shard_reply::Body::Quality(reply) = reply else { return None };
            let next = match reply.next.is_empty() {
                true => None,
                false => Some(reply.next.as_ref().try_into().ok()?),
            };
            Some(Piece { found: reply.sums, next, owned_bounds: reply.owned_bounds })
        };
        let mut whole = Partial::new(settings.clone());
        let add = |shard, sums: Bytes| {
            let part = Partial::from_bytes(settings.clone(), &sums)
                .map_err(|_| Error::BadReply { shard, what: "not sums of quality" })?;
            whole.merge(part);
            Ok(())
        };
        self.walk(call, read, add, deadline).await?;
        Ok(whole)
    }
}
