//! A customer's events: those of all members, merged, newest first.

use futures::future::try_join_all;
use isthmus_domain::{EventRecord, FacetId, Stamp};
use isthmus_proto::{
    internal::v1::StoredEvent,
    v1::{TimelineEvent, TimelineRequest, TimelineResponse},
};
use prost::Message as _;
use tonic::{Request, Status};

use super::{PAGE_BYTES, Profiles, damaged, nothing_known, wire};
use crate::grpc::{
    cursor::{self, Kind},
    hub::{page_limit, read_level},
    status::{Refusal, status},
};

/// An event's place among a customer's: its time with the sign bit flipped, then its key, big-endian. The same order
/// in every facet, so pages of several merge.
type Place = [u8; 24];

impl Profiles {
    pub(super) async fn events(&self, request: Request<TimelineRequest>) -> Result<TimelineResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let facet = self.hub.facet(request.key.as_ref())?;
        let before = before(&facet, &request.cursor)?;
        let router = &self.hub.router;
        let membership =
            router.membership(facet, false, level, deadline).await.map_err(|error| status(&error))?;
        let members: Vec<(FacetId, (String, String))> = match membership {
            Some(membership) => {
                let members = membership.members.into_iter();
                members
                    .filter_map(|m| Some((FacetId::from_slice(&m.facet)?, (m.namespace, m.value))))
                    .collect()
            }
            None => vec![(facet, (String::new(), String::new()))],
        };
        let read =
            members.iter().map(|(facet, _)| router.read_events(*facet, before, limit, level, deadline));
        let pages = try_join_all(read).await.map_err(|error| status(&error))?;
        if members.len() == 1 && !pages.iter().any(|page| page.known) {
            return Err(nothing_known());
        }
        let mut more = pages.iter().any(|page| page.more);
        let mut found: Vec<(Place, EventRecord, Stamp, (String, String))> = Vec::new();
        for (page, (_, name)) in pages.into_iter().zip(members) {
            let name = page.identifier.unwrap_or(name);
            for StoredEvent { record, stamp } in page.events {
                let record = EventRecord::decode(record).map_err(|_| damaged("an event"))?;
                found.push((place(&record), record, Stamp(stamp), name.clone()));
            }
        }
        found.sort_unstable_by_key(|event| std::cmp::Reverse(event.0));
        more |= found.len() > limit as usize;
        found.truncate(limit as usize);
        let mut events: Vec<TimelineEvent> = Vec::with_capacity(found.len());
        let (mut bytes, mut last) = (0, None);
        for (place, record, stamp, name) in found {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            bytes += record.encoded_len();
            last = Some(place);
            events.push(wire::event(record, stamp, &name));
        }
        let last = last.filter(|_| more);
        let next_cursor =
            last.map(|place| cursor::encode(Kind::Timeline, &[facet.as_bytes().as_slice(), &place].concat()));
        Ok(TimelineResponse { events, next_cursor: next_cursor.unwrap_or_default() })
    }
}

/// Where a cursor points: behind events at this place, as `ReadEventsCall` has it.
fn before(facet: &FacetId, cursor: &str) -> Result<Option<Place>, Refusal> {
    let Some(bytes) = cursor::decode::<40>(Kind::Timeline, cursor)? else { return Ok(None) };
    let (of, place) = bytes.split_at(16);
    match place.try_into() {
        Ok(place) if of == facet.as_bytes() => Ok(Some(place)),
        _ => Err(Refusal::field("INVALID_CURSOR", "cursor", "it is a cursor of another customer's timeline")),
    }
}

/// An event's place; shards put its key where a record has its deduplication key.
fn place(record: &EventRecord) -> Place {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&(record.timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    place[8..].copy_from_slice(&record.dedup_key());
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timelines_cursor_is_its_customers_alone() {
        let (one, other) = (FacetId::from_bytes([1; 16]), FacetId::from_bytes([2; 16]));
        let cursor = cursor::encode(Kind::Timeline, &[one.as_bytes().as_slice(), &[9; 24]].concat());
        assert_eq!(before(&one, &cursor), Ok(Some([9; 24])));
        assert!(before(&other, &cursor).is_err());
        assert_eq!(before(&other, ""), Ok(None));
    }
}
