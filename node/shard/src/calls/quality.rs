//! The call of the quality report.

use bytes::Bytes;
use isthmus_domain::{FacetId, quality::Settings};
use isthmus_proto::internal::v1::{QualityCall, QualityReply};
use tokio::time::Instant;

use crate::{Error, ShardHandle, machine::blocking, read};

impl ShardHandle {
    pub(super) async fn quality(&self, call: QualityCall, deadline: Instant) -> Result<QualityReply, Error> {
        let after = match call.after.is_empty() {
            true => None,
            false => {
                Some(FacetId::from_slice(&call.after).ok_or(Error::Invalid("a facet's id is not 16 bytes"))?)
            }
        };
        let end_slot = u16::try_from(call.end_slot).unwrap_or(u16::MAX);
        let settings = Settings { source: call.source, updated_since: call.updated_since };
        self.barrier(None, deadline).await?;
        let shared = self.shared.clone();
        let part = blocking(move || read::quality(&shared, after, end_slot, settings)).await?;
        let sums = part.sums.to_bytes().map_err(|_| Error::Invalid("a customer was left open"))?;
        Ok(QualityReply {
            sums: sums.into(),
            next: part.next.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
            owned_bounds: self.shared.state.read().meta.owned.to_bounds(),
            stamp: part.stamp.0,
        })
    }
}
