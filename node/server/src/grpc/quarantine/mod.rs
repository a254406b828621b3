//! `QuarantineService`: what could not be applied, to be looked at, mended, brought in or given up.

mod mend;

use std::sync::Arc;

use futures::future::try_join_all;
use isthmus_domain::{
    QuarantineEntry, Resolution, ResolutionKind, Stamp, quarantine::mend::Change, value::json,
};
use isthmus_proto::{
    internal::v1::QuarantineRow,
    v1::{
        self, CountsRequest, CountsResponse, DropRequest, DropResponse, MendRequest, MendResponse,
        QuarantineCounts, QuarantineOutcome, QuarantineResolution, QuarantineServiceListRequest,
        QuarantineServiceListResponse, ReplayRequest, ReplayResponse, ShowRequest, ShowResponse,
        mend_request, quarantine_service_server::QuarantineService,
    },
};
use isthmus_router::QuarantineFilter;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use self::mend::Try;
use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit},
    status::{Refusal, status},
    value::timestamp,
};

/// Ids that one call may name, and entries that one call replays.
const IDS_MAX: usize = 100;
/// Entries that are held with their content at a time.
const HELD: usize = 10;
/// Who asks, in bytes.
const BY_BYTES_MAX: usize = 128;
/// Why an entry is dropped, in bytes.
const NOTE_BYTES_MAX: usize = 512;

/// The service.
pub struct Quarantine {
    hub: Arc<Hub>,
}

impl Quarantine {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// An entry with its content.
    async fn whole(&self, id: [u8; 16], deadline: Instant) -> Result<Option<QuarantineEntry>, Status> {
        let row = self.hub.router.quarantine_entry(id, deadline).await.map_err(|error| status(&error))?;
        row.map(decoded).transpose()
    }

    /// Replays entries, a few at a time.
    async fn replay_all(
        &self,
        ids: Vec<[u8; 16]>,
        by: &str,
        deadline: Instant,
    ) -> Result<Vec<v1::QuarantineResult>, Status> {
        let mut results = Vec::with_capacity(ids.len());
        for some in ids.chunks(HELD) {
            let entries = try_join_all(some.iter().copied().map(|id| self.whole(id, deadline))).await?;
            let tries = some.iter().zip(entries);
            let tries = tries.map(|(id, entry)| Try { id: *id, entry, change: Change::None }).collect();
            results.extend(self.try_all(tries, ResolutionKind::Replayed, by, deadline).await?);
        }
        Ok(results)
    }
}

/// An entry as clients get it; a page's rows have no content.
fn entry(row: QuarantineRow) -> Result<v1::QuarantineEntry, Status> {
    let (stamp, entry) = (row.stamp, decoded(row)?);
    Ok(v1::QuarantineEntry {
        id: hex(&entry.id()),
        field: entry.field.clone(),
        resolution: entry.resolution.as_ref().map(resolution),
        reason: entry.reason,
        message: entry.message,
        source: entry.source,
        origin: entry.origin,
        received_at: Some(timestamp(Stamp(stamp).as_micros())),
        message_id: entry.message_id,
        content_type: entry.content_type,
        content: entry.payload,
    })
}

fn decoded(row: QuarantineRow) -> Result<QuarantineEntry, Status> {
    let damaged = "a quarantine entry can't be read: it is damaged";
    QuarantineEntry::from_bytes(row.entry)
        .map_err(|_| Refusal::new(Code::Internal, "INTERNAL", damaged).into())
}

/// A resolution as clients get it.
fn resolution(known: &Resolution) -> QuarantineResolution {
    let kind = match known.kind() {
        ResolutionKind::Unspecified => v1::QuarantineResolutionKind::Unspecified,
        ResolutionKind::Mended => v1::QuarantineResolutionKind::Mended,
        ResolutionKind::Replayed => v1::QuarantineResolutionKind::Replayed,
        ResolutionKind::Dropped => v1::QuarantineResolutionKind::Dropped,
    };
    QuarantineResolution {
        kind: kind.into(),
        by: known.by.clone(),
        resolved_at: Some(timestamp(Stamp(known.at).as_micros())),
        message_id: known.message_id.clone(),
        note: known.note.clone(),
    }
}

/// Checks who asks.
fn checked_by(by: &str) -> Result<(), Refusal> {
    match by.len() <= BY_BYTES_MAX {
        true => Ok(()),
        false => Err(Refusal::field("INVALID_BY", "by", format!("must have at most {BY_BYTES_MAX} bytes"))),
    }
}

/// Ids of a request: at most [`IDS_MAX`].
fn ids(given: &[String]) -> Result<Vec<[u8; 16]>, Refusal> {
    if given.len() > IDS_MAX {
        return Err(Refusal::field(
            "TOO_MANY_IDS",
            "ids",
            format!("must be at most {IDS_MAX}: send several calls"),
        ));
    }
    given.iter().map(|id| parsed(id)).collect()
}

fn hex(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

fn parsed(text: &str) -> Result<[u8; 16], Refusal> {
    let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    number.map(u128::to_be_bytes).ok_or_else(|| {
        Refusal::field("INVALID_ID", "id", "must be 32 hexadecimal digits, as List shows them")
    })
}

#[tonic::async_trait]
impl QuarantineService for Quarantine {
    async fn list(
        &self,
        request: Request<QuarantineServiceListRequest>,
    ) -> Result<Response<QuarantineServiceListResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let after = cursor::decode(Kind::Quarantine, &request.cursor)?;
        let filter =
            QuarantineFilter { source: request.source, reason: request.reason, resolved_too: request.all };
        let read = self.hub.router.list_quarantine(after, limit, filter, deadline);
        let page = read.await.map_err(|error| status(&error))?;
        let entries: Vec<_> = page.rows.into_iter().map(entry).collect::<Result<_, _>>()?;
        let last = entries.last().filter(|_| page.more);
        let last = last.map(|entry| parsed(&entry.id)).transpose()?;
        let next_cursor = last.map(|id| cursor::encode(Kind::Quarantine, &id)).unwrap_or_default();
        Ok(Response::new(QuarantineServiceListResponse { entries, next_cursor }))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<ShowResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let id = parsed(&request.get_ref().id)?;
        let read = self.hub.router.quarantine_entry(id, deadline).await.map_err(|error| status(&error))?;
        let row = read.ok_or_else(|| Refusal::not_found("there is no quarantine entry of this id"))?;
        Ok(Response::new(ShowResponse { entry: Some(entry(row)?) }))
    }

    async fn counts(&self, request: Request<CountsRequest>) -> Result<Response<CountsResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let counts = self.hub.router.count_quarantine(deadline).await.map_err(|error| status(&error))?;
        let counts = counts.into_iter().map(|count| QuarantineCounts {
            source: count.source,
            reason: count.reason,
            open: count.open,
            resolved: count.resolved,
        });
        Ok(Response::new(CountsResponse { counts: counts.collect() }))
    }

    async fn mend(&self, request: Request<MendRequest>) -> Result<Response<MendResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let id = parsed(&request.id)?;
        checked_by(&request.by)?;
        let change = match request.change {
            Some(mend_request::Change::Patch(text)) => {
                let patch = json::parse(text.as_bytes()).map_err(|error| {
                    Refusal::field("INVALID_PATCH", "patch", format!("is not JSON that can be used: {error}"))
                })?;
                Change::Patch(patch)
            }
            Some(mend_request::Change::Replacement(text)) => Change::Replacement(text),
            None => {
                let what = "is missing: send a patch, or a replacement";
                return Err(Refusal::field("INVALID_CHANGE", "change", what).into());
            }
        };
        let tries = vec![Try { id, entry: self.whole(id, deadline).await?, change }];
        let results = self.try_all(tries, ResolutionKind::Mended, &request.by, deadline).await?;
        let result = results.into_iter().next();
        if result.as_ref().is_some_and(|result| result.outcome() == QuarantineOutcome::NotFound) {
            return Err(Refusal::not_found("there is no quarantine entry of this id").into());
        }
        Ok(Response::new(MendResponse { result }))
    }

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<ReplayResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        checked_by(&request.by)?;
        let named = ids(&request.ids)?;
        if !named.is_empty() {
            if !(request.source.is_empty() && request.reason.is_empty() && request.cursor.is_empty()) {
                let what = "must not come with source, reason or cursor";
                return Err(Refusal::field("INVALID_IDS", "ids", what).into());
            }
            let results = self.replay_all(named, &request.by, deadline).await?;
            return Ok(Response::new(ReplayResponse { results, next_cursor: String::new() }));
        }
        if request.limit as usize > IDS_MAX {
            let what = format!("must be 1 to {IDS_MAX}, or 0 for {IDS_MAX}");
            return Err(Refusal::field("INVALID_LIMIT", "limit", what).into());
        }
        let limit = if request.limit == 0 { IDS_MAX as u32 } else { request.limit };
        let after = cursor::decode(Kind::Quarantine, &request.cursor)?;
        let filter = QuarantineFilter { source: request.source, reason: request.reason, resolved_too: false };
        let read = self.hub.router.list_quarantine(after, limit, filter, deadline);
        let page = read.await.map_err(|error| status(&error))?;
        let fit: Vec<_> = page
            .rows
            .into_iter()
            .map(|row| decoded(row).map(|entry| entry.id()))
            .collect::<Result<_, _>>()?;
        let last = fit.last().filter(|_| page.more);
        let next_cursor = last.map(|id| cursor::encode(Kind::Quarantine, id)).unwrap_or_default();
        let results = self.replay_all(fit, &request.by, deadline).await?;
        Ok(Response::new(ReplayResponse { results, next_cursor }))
    }

    async fn drop(&self, request: Request<DropRequest>) -> Result<Response<DropResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        checked_by(&request.by)?;
        let named = ids(&request.ids)?;
        if named.is_empty() {
            return Err(Refusal::field("INVALID_IDS", "ids", "is missing: name the entries to drop").into());
        }
        if request.reason.trim().is_empty() || request.reason.len() > NOTE_BYTES_MAX {
            let what = format!("must say why, in 1 to {NOTE_BYTES_MAX} bytes");
            return Err(Refusal::field("INVALID_REASON", "reason", what).into());
        }
        let results = self.give_up(named, request.reason.trim(), &request.by, deadline).await?;
        Ok(Response::new(DropResponse { results }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_and_read_back() {
        let id = [0x0f; 16];
        assert_eq!(parsed(&hex(&id)), Ok(id));
        for bad in ["", "0f", &"g".repeat(32), &"+".repeat(32)] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
