//! Scanning the quarantine.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::BytesMut;
use isthmus_domain::{QuarantineEntry, ResolutionKind, Stamp};
use isthmus_raft::Broken;

use super::{
    Part, Request, Snapshot,
    columns::Columns,
    control::Cursor,
    events::said,
    filter::Rule,
    schema::{event, quarantine},
    slots::Owned,
};
use crate::{error::broken, keys};

/// The only part of a scan of the quarantine.
pub(super) fn parts(snapshot: &Arc<Snapshot>, request: &Arc<Request>) -> Vec<Part> {
    let rows = Cursor::of_prefix(snapshot.clone(), &[keys::table::QUARANTINE]);
    let rule = Rule::of(&request.filters);
    vec![Part::of(OfQuarantine { snapshot: snapshot.clone(), request: request.clone(), rule, rows })]
}

struct OfQuarantine {
    snapshot: Arc<Snapshot>,
    request: Arc<Request>,
    rule: Rule,
    rows: Cursor,
}

impl OfQuarantine {
    fn fill(&mut self) -> Result<Option<RecordBatch>, Broken> {
        let mut owned = Owned::of(self.snapshot.owned());
        let mut columns = Columns::new(&self.request.schema());
        let with_payload = self.request.columns.contains(&quarantine::PAYLOAD);
        while columns.rows() < self.request.batch_rows {
            let Some(row) = self.rows.next() else { break };
            let entry = QuarantineEntry::from_bytes(row?.1).map_err(broken)?;
            let (id, received) = (entry.id(), Stamp(entry.received).as_micros());
            if !owned.has(&id)
                || !self.rule.time(event::RECEIVED_AT, received)
                || !self.rule.text(event::SOURCE, &entry.source)
            {
                continue;
            }
            let payload = match with_payload {
                true => self.payload(&id)?,
                false => None,
            };
            let resolution = entry.resolution.as_ref();
            for (place, column) in self.request.columns.iter().enumerate() {
                match *column {
                    quarantine::ID => columns.id(place, &id),
                    quarantine::SOURCE => columns.text(place, Some(&entry.source)),
                    quarantine::REASON => columns.text(place, Some(&entry.reason)),
                    quarantine::DETAIL => columns.text(place, said(&entry.message)),
                    quarantine::FIELD => columns.text(place, said(&entry.field)),
                    quarantine::ORIGIN => columns.text(place, said(&entry.origin)),
                    quarantine::MESSAGE_ID => columns.text(place, said(&entry.message_id)),
                    quarantine::RECEIVED_AT => columns.time(place, Some(received)),
                    quarantine::RESOLUTION => columns.text(place, resolution.and_then(|it| kind(it.kind))),
                    quarantine::RESOLVED_AT => {
                        columns.time(place, resolution.map(|it| Stamp(it.at).as_micros()));
                    }
                    quarantine::PAYLOAD => columns.text(place, payload.as_deref()),
                    _ => {}
                }
            }
            columns.end_row();
        }
        columns.finish_some()
    }

    /// What was sent, if it is text.
    fn payload(&self, id: &[u8; 16]) -> Result<Option<String>, Broken> {
        let first = keys::quarantine_part(id, 0);
        let prefix = first.get(..first.len().saturating_sub(2)).unwrap_or_default();
        let mut payload = BytesMut::new();
        for part in Cursor::of_prefix(self.snapshot.clone(), prefix) {
            payload.extend_from_slice(&part?.1);
        }
        Ok(String::from_utf8(payload.into()).ok())
    }
}

/// `None` of a kind that a later version knows.
fn kind(number: i32) -> Option<&'static str> {
    match ResolutionKind::try_from(number) {
        Ok(ResolutionKind::Mended) => Some("mended"),
        Ok(ResolutionKind::Replayed) => Some("replayed"),
        Ok(ResolutionKind::Dropped) => Some("dropped"),
        Ok(ResolutionKind::Unspecified) | Err(_) => None,
    }
}

impl Iterator for OfQuarantine {
    type Item = Result<RecordBatch, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill().transpose()
    }
}
