//! Calls about the quarantine.

use bytes::Bytes;
use isthmus_domain::Resolution;
use isthmus_proto::internal::v1::{
    CountQuarantineCall, CountQuarantineReply, QuarantineCount, QuarantineRow, ReadQuarantineCall,
    ReadQuarantineReply, ResolveQuarantineCommand, ResolveQuarantineReply, shard_command::Command,
};
use prost::Message as _;
use tokio::time::Instant;

use super::PAGE_MAX;
use crate::{
    Error, ShardHandle,
    apply::Outcome,
    machine::blocking,
    read::{self, QuarantineQuery},
};

/// Verdicts that one command may bring.
const VERDICTS_MAX: usize = 1_000;
/// Entries that one call counts at most.
const COUNTED_MAX: usize = 10_000;

/// An id of an entry; absent when it is empty.
fn id(bytes: &Bytes) -> Result<Option<[u8; 16]>, Error> {
    match bytes.is_empty() {
        true => Ok(None),
        false => bytes.as_ref().try_into().map(Some).map_err(|_| Error::Invalid("an id is not 16 bytes")),
    }
}

impl ShardHandle {
    pub(super) async fn read_quarantine(
        &self,
        call: ReadQuarantineCall,
        deadline: Instant,
    ) -> Result<ReadQuarantineReply, Error> {
        let (after, only) = (id(&call.after)?, id(&call.only)?);
        let query = QuarantineQuery {
            after,
            limit: (call.limit as usize).clamp(1, PAGE_MAX),
            source: call.source,
            reason: call.reason,
            resolved_too: call.resolved_too,
        };
        self.barrier(None, deadline).await?;
        let shared = self.shared.clone();
        let (entries, more) = blocking(move || match only {
            Some(id) => Ok((read::entry(&shared, &id)?.into_iter().collect(), false)),
            None => read::page(&shared, &query).map(|page| (page.entries, page.more)),
        })
        .await?;
        let rows = entries.into_iter().map(|entry| QuarantineRow {
            id: entry.id.clone(),
            stamp: entry.received,
            entry: entry.encode_to_vec().into(),
        });
        let owned_bounds = self.shared.state.read().meta.owned.to_bounds();
        Ok(ReadQuarantineReply { rows: rows.collect(), more, owned_bounds })
    }

    pub(super) async fn resolve_quarantine(
        &self,
        call: ResolveQuarantineCommand,
        deadline: Instant,
    ) -> Result<ResolveQuarantineReply, Error> {
        self.must_lead()?;
        if call.verdicts.len() > VERDICTS_MAX {
            return Err(Error::Invalid("too many verdicts in one call"));
        }
        // Apply would stop the replica at what it can't read, so it is checked here.
        for verdict in &call.verdicts {
            id(&verdict.id)?.ok_or(Error::Invalid("a verdict has no id"))?;
            Resolution::from_bytes(verdict.resolution.clone())
                .map_err(|_| Error::Invalid("a resolution can't be read"))?;
        }
        match self.propose(Command::ResolveQuarantine(call), deadline).await? {
            Outcome::Resolved(replies) => Ok(ResolveQuarantineReply { replies }),
            _ => Err(Error::Invalid("the log answered verdicts with something else")),
        }
    }

    pub(super) async fn count_quarantine(
        &self,
        call: CountQuarantineCall,
        deadline: Instant,
    ) -> Result<CountQuarantineReply, Error> {
        let after = id(&call.after)?;
        let limit = (call.limit as usize).clamp(1, COUNTED_MAX);
        let end_slot = u16::try_from(call.end_slot).unwrap_or(u16::MAX);
        self.barrier(None, deadline).await?;
        let shared = self.shared.clone();
        let counted = blocking(move || read::count(&shared, after, end_slot, limit)).await?;
        let counts = counted.counts.into_iter().map(|((source, reason), [open, resolved])| QuarantineCount {
            source,
            reason,
            open,
            resolved,
        });
        Ok(CountQuarantineReply {
            counts: counts.collect(),
            next: counted.next.map(|id| Bytes::copy_from_slice(&id)).unwrap_or_default(),
            owned_bounds: self.shared.state.read().meta.owned.to_bounds(),
        })
    }
}
