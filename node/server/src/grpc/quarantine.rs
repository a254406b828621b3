//! `QuarantineService`: what could not be applied, to be looked at.

use std::sync::Arc;

use isthmus_domain::QuarantineEntry;
use isthmus_proto::{
    internal::v1::QuarantineRow,
    v1::{
        self, QuarantineServiceListRequest, QuarantineServiceListResponse, ShowRequest, ShowResponse,
        quarantine_service_server::QuarantineService,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit},
    status::{Refusal, status},
    value::timestamp,
};

/// The service.
pub struct Quarantine {
    hub: Arc<Hub>,
}

impl Quarantine {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

/// An entry as clients get it; a page's rows have no content.
fn entry(row: QuarantineRow) -> Result<v1::QuarantineEntry, Status> {
    let entry = QuarantineEntry::from_bytes(row.entry).map_err(|_| {
        Refusal::new(Code::Internal, "INTERNAL", "a quarantine entry can't be read: it is damaged")
    })?;
    Ok(v1::QuarantineEntry {
        id: hex(&entry.id()),
        reason: entry.reason,
        message: entry.message,
        source: entry.source,
        origin: entry.origin,
        received_at: Some(timestamp(isthmus_domain::Stamp(row.stamp).as_micros())),
        message_id: entry.message_id,
        content_type: entry.content_type,
        content: entry.payload,
    })
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
        let read = self.hub.router.list_quarantine(after, limit, &request.source, &request.reason, deadline);
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
