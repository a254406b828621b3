//! `ProfileService`: what is known of customers.
//!
//! **What it promises.** An identifier is normalised as ingest does, so whatever was filed under it is found. A read is
//! linearizable unless it asks for less. Lists are in one exact order, whatever happens between two pages.
//!
//! **How.** A profile is the fold of its facets' summaries. For now that is one facet: the one of the identifier asked
//! for; identity resolution puts more of them together, behind the same interface.

mod fields;
mod wire;

use std::sync::Arc;

use isthmus_domain::{EventRecord, FacetId, FacetSummary, Profile, Stamp};
use isthmus_proto::{
    internal::v1::StoredEvent,
    v1::{
        self, BatchGetEntry, BatchGetRequest, BatchGetResponse, GetRequest, GetResponse,
        ProfileServiceListRequest, ProfileServiceListResponse, TimelineEvent, TimelineRequest,
        TimelineResponse, profile_service_server::ProfileService,
    },
};
use prost::Message as _;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use self::fields::Fields;
use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit, read_level},
    status::{Refusal, status},
};

/// A page ends with the item that takes it to so many bytes: most clients take 4 MiB unless told otherwise.
const PAGE_BYTES: usize = 3 << 20;
/// The most profiles of a `BatchGet`.
const KEYS_MAX: usize = 1_000;

/// The service.
pub struct Profiles {
    hub: Arc<Hub>,
}

impl Profiles {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// The profile of a facet's summary; `None` when nothing is known under it.
    fn fold(
        &self,
        summary: Option<&[u8]>,
        stamp: Stamp,
        fields: Fields,
    ) -> Result<Option<v1::Profile>, Status> {
        let Some(bytes) = summary else { return Ok(None) };
        let summary = FacetSummary::from_bytes(bytes).map_err(|_| damaged("a facet's summary"))?;
        if summary.is_empty() {
            return Ok(None);
        }
        let identifier = summary.identifier().map_err(|_| damaged("a facet's identifier"))?;
        let currency = isthmus_coordinator::DEFAULT_CURRENCY;
        let profile = Profile::fold(&self.hub.identity_key, [(identifier, &summary)], currency, stamp);
        profile.map(|profile| wire::profile(profile, fields).map_err(|_| damaged("a trait"))).transpose()
    }

    async fn get_many(&self, request: Request<BatchGetRequest>) -> Result<BatchGetResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        if request.keys.len() > KEYS_MAX {
            let refusal = Refusal::field("BATCH_TOO_MANY", "keys", format!("at most {KEYS_MAX} keys"));
            return Err(refusal.into());
        }
        let level = read_level(request.consistency.as_ref())?;
        let fields = Fields::of(request.fields.as_ref())?;
        let facets = request.keys.iter().map(|key| self.hub.facet(Some(key)));
        let facets: Vec<FacetId> = facets.collect::<Result<_, _>>()?;
        let read = self.hub.router.read_facets(&facets, level, deadline).await;
        let (summaries, stamp) = read.map_err(|error| status(&error))?;
        let entries = summaries
            .iter()
            .map(|summary| Ok(BatchGetEntry { profile: self.fold(summary.as_deref(), stamp, fields)? }));
        Ok(BatchGetResponse { entries: entries.collect::<Result<_, Status>>()? })
    }

    async fn page(
        &self,
        request: Request<ProfileServiceListRequest>,
    ) -> Result<ProfileServiceListResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let fields = Fields::of(request.fields.as_ref())?;
        let after = cursor::decode(Kind::Profiles, &request.cursor)?.map(FacetId::from_bytes);
        let read = self.hub.router.list_facets(after, limit, level, deadline).await;
        let page = read.map_err(|error| status(&error))?;
        let mut profiles = Vec::with_capacity(page.facets.len());
        let (mut bytes, mut last, mut more) = (0, None, page.more);
        for (id, summary) in &page.facets {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            if let Some(profile) = self.fold(Some(summary), page.stamp, fields)? {
                bytes += profile.encoded_len();
                profiles.push(profile);
            }
            last = Some(id);
        }
        let last = last.filter(|_| more);
        let next_cursor = last.map(|id| cursor::encode(Kind::Profiles, id.as_bytes())).unwrap_or_default();
        Ok(ProfileServiceListResponse { profiles, next_cursor })
    }

    async fn events(&self, request: Request<TimelineRequest>) -> Result<TimelineResponse, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let limit = page_limit(request.limit)?;
        let level = read_level(request.consistency.as_ref())?;
        let facet = self.hub.facet(request.key.as_ref())?;
        let before = before(&facet, &request.cursor)?;
        let read = self.hub.router.read_events(facet, before, limit, level, deadline).await;
        let page = read.map_err(|error| status(&error))?;
        if !page.known {
            return Err(nothing_known());
        }
        let mut events: Vec<TimelineEvent> = Vec::with_capacity(page.events.len());
        let (mut bytes, mut last, mut more) = (0, None, page.more);
        for StoredEvent { record, stamp } in page.events {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            bytes += record.len();
            let record = EventRecord::decode(record).map_err(|_| damaged("an event"))?;
            last = Some(place(&record));
            events.push(wire::event(record, Stamp(stamp), page.identifier.as_ref()));
        }
        let last = last.filter(|_| more);
        let next_cursor =
            last.map(|place| cursor::encode(Kind::Timeline, &[facet.as_bytes().as_slice(), &place].concat()));
        Ok(TimelineResponse { events, next_cursor: next_cursor.unwrap_or_default() })
    }
}

/// Where in a facet's order a cursor points: behind events at this place, as `ReadEventsCall` has it.
fn before(facet: &FacetId, cursor: &str) -> Result<Option<[u8; 24]>, Refusal> {
    let Some(bytes) = cursor::decode::<40>(Kind::Timeline, cursor)? else { return Ok(None) };
    let (of, place) = bytes.split_at(16);
    match place.try_into() {
        Ok(place) if of == facet.as_bytes() => Ok(Some(place)),
        _ => Err(Refusal::field("INVALID_CURSOR", "cursor", "it is a cursor of another customer's timeline")),
    }
}

/// An event's place in its facet's order: its time with the sign bit flipped, then its key, which shards put
/// where a record has its deduplication key.
fn place(record: &EventRecord) -> [u8; 24] {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&(record.timestamp.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    place[8..].copy_from_slice(&record.dedup_key());
    place
}

fn nothing_known() -> Status {
    Refusal::not_found("nothing is known under this identifier").into()
}

fn damaged(what: &str) -> Status {
    Refusal::new(
        Code::Internal,
        "INTERNAL",
        format!("{what} can't be read: it is damaged, or of a newer version"),
    )
    .into()
}

#[tonic::async_trait]
impl ProfileService for Profiles {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let deadline = self.hub.deadline(request.metadata());
        let request = request.into_inner();
        let level = read_level(request.consistency.as_ref())?;
        let fields = Fields::of(request.fields.as_ref())?;
        let facet = self.hub.facet(request.key.as_ref())?;
        let read = self.hub.router.read_facets(&[facet], level, deadline).await;
        let (summaries, stamp) = read.map_err(|error| status(&error))?;
        let summary = summaries.first().and_then(|summary| summary.as_deref());
        let profile = self.fold(summary, stamp, fields)?.ok_or_else(nothing_known)?;
        Ok(Response::new(GetResponse { profile: Some(profile) }))
    }

    async fn batch_get(
        &self,
        request: Request<BatchGetRequest>,
    ) -> Result<Response<BatchGetResponse>, Status> {
        let span =
            tracing::debug_span!("query.scatter", node = self.hub.node, keys = request.get_ref().keys.len());
        Ok(Response::new(self.get_many(request).instrument(span).await?))
    }

    async fn list(
        &self,
        request: Request<ProfileServiceListRequest>,
    ) -> Result<Response<ProfileServiceListResponse>, Status> {
        let span = tracing::debug_span!("query.scatter", node = self.hub.node);
        Ok(Response::new(self.page(request).instrument(span).await?))
    }

    async fn timeline(
        &self,
        request: Request<TimelineRequest>,
    ) -> Result<Response<TimelineResponse>, Status> {
        Ok(Response::new(self.events(request).await?))
    }
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
