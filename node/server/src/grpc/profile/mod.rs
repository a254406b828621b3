//! `ProfileService`: what is known of customers.
//!
//! **What it promises.** An identifier is normalised as ingest does, so whatever was filed under it is found. A read is
//! linearizable unless it asks for less. Lists are in one exact order, whatever happens between two pages.
//!
//! **How.** A profile is the fold of the summaries of its members' facets; a timeline is their events, merged. The router
//! says who the members are and reads what lies under each.

mod explain;
mod fields;
pub(in crate::grpc) mod segments;
mod split;
mod timeline;
pub mod watch;
mod wire;

use std::sync::Arc;

use isthmus_domain::{FacetId, Profile, Stamp, facet::TraitState};
use isthmus_proto::v1::{
    self, BatchGetEntry, BatchGetRequest, BatchGetResponse, ExplainRequest, ExplainResponse, GetRequest,
    GetResponse, ProfileKey, ProfileServiceListRequest, ProfileServiceListResponse, SplitRequest,
    SplitResponse, TimelineRequest, TimelineResponse, WatchRequest, profile_service_server::ProfileService,
};
use isthmus_router::{ProfileParts, ReadLevel};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use self::fields::Fields;
pub use self::fields::NAMES as PROFILE_FIELDS;
use super::{
    cursor::{self, Kind},
    hub::{Hub, page_limit, read_level},
    status::{Refusal, status},
};

/// A page ends with the item that takes it to so many bytes: most clients take 4 MiB unless told otherwise.
pub(super) const PAGE_BYTES: usize = 3 << 20;
/// The most profiles of a `BatchGet`.
const KEYS_MAX: usize = 1_000;

/// Traits by name, each with who said it when.
pub type Traits = std::collections::BTreeMap<String, TraitState<'static>>;

/// The service.
pub struct Profiles {
    hub: Arc<Hub>,
}

impl Profiles {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// The profile of a customer's parts; `None` when nothing is known of them.
    fn fold(&self, parts: Option<&ProfileParts>, stamp: Stamp) -> Result<Option<Profile>, Status> {
        let Some(parts) = parts else { return Ok(None) };
        let folded = parts.fold(&self.hub.identity_key, isthmus_coordinator::DEFAULT_CURRENCY, stamp);
        folded.map_err(|_| damaged("a facet's summary"))
    }

    fn shown(
        &self,
        parts: Option<&ProfileParts>,
        stamp: Stamp,
        fields: Fields,
    ) -> Result<Option<v1::Profile>, Status> {
        let profile = self.fold(parts, stamp)?;
        let rules_version = parts.and_then(|parts| parts.rules_version);
        let shown = profile.map(|profile| wire::profile(profile, rules_version, fields));
        shown.transpose().map_err(|_| damaged("a trait"))
    }

    /// A profile, and its traits with who said them when.
    ///
    /// # Errors
    /// As `Get`.
    pub async fn known(&self, key: &ProfileKey) -> Result<(v1::Profile, Traits), Status> {
        let facet = self.hub.facet(Some(key))?;
        let deadline = Instant::now() + self.hub.deadline;
        let read = self.hub.router.read_profiles(&[facet], ReadLevel::Linearizable, deadline).await;
        let (parts, stamp) = read.map_err(|error| status(&error))?;
        let parts = parts.first().and_then(|parts| parts.as_ref());
        let profile = self.fold(parts, stamp)?.ok_or_else(nothing_known)?;
        let traits = profile.traits.clone();
        let rules_version = parts.and_then(|parts| parts.rules_version);
        let shown =
            wire::profile(profile, rules_version, Fields::of(None)?).map_err(|_| damaged("a trait"))?;
        Ok((shown, traits))
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
        let found = self.read(&facets, level, fields, deadline).await?;
        let entries = found.into_iter().map(|profile| BatchGetEntry { profile });
        Ok(BatchGetResponse { entries: entries.collect() })
    }

    /// Profiles by facets, with the fields that are wanted.
    async fn read(
        &self,
        facets: &[FacetId],
        level: ReadLevel,
        fields: Fields,
        deadline: Instant,
    ) -> Result<Vec<Option<v1::Profile>>, Status> {
        let (parts, stamp) = match fields.has_segments() {
            true => segments::standing(&self.hub, facets, level, deadline).await?,
            false => {
                let read = self.hub.router.read_profiles(facets, level, deadline).await;
                let (parts, stamp) = read.map_err(|error| status(&error))?;
                (parts.into_iter().map(|parts| (parts, None)).collect(), stamp)
            }
        };
        let shown = parts.into_iter().map(|(parts, segments)| {
            let shown = self.shown(parts.as_ref(), stamp, fields)?;
            Ok(shown.map(|profile| v1::Profile { segments, ..profile }))
        });
        shown.collect()
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
        let read = self.hub.router.list_profiles(after, limit, level, deadline).await;
        let page = read.map_err(|error| status(&error))?;
        let mut profiles = Vec::with_capacity(page.profiles.len());
        let (mut bytes, mut last, mut more) = (0, None, page.more);
        for (id, parts) in &page.profiles {
            if bytes >= PAGE_BYTES {
                more = true;
                break;
            }
            // A customer comes with each of its facets, and is listed with the one that names it.
            let profile = self.fold(parts.as_ref(), page.stamp)?.filter(|profile| profile.profile_id == *id);
            if let Some(profile) = profile {
                let rules_version = parts.as_ref().and_then(|parts| parts.rules_version);
                let shown = wire::profile(profile, rules_version, fields).map_err(|_| damaged("a trait"))?;
                bytes += shown.encoded_len();
                profiles.push(shown);
            }
            last = Some(id);
        }
        let last = last.filter(|_| more);
        let next_cursor = last.map(|id| cursor::encode(Kind::Profiles, id.as_bytes())).unwrap_or_default();
        Ok(ProfileServiceListResponse { profiles, next_cursor })
    }
}

pub(super) fn nothing_known() -> Status {
    Refusal::not_found("nothing is known under this identifier").into()
}

pub(super) fn damaged(what: &str) -> Status {
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
        let found = self.read(&[facet], level, fields, deadline).await?.into_iter().next().flatten();
        Ok(Response::new(GetResponse { profile: Some(found.ok_or_else(nothing_known)?) }))
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

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Ok(Response::new(self.explained(request).await?))
    }

    type WatchStream = watch::WatchStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(self.watching(request).await?))
    }

    async fn split(&self, request: Request<SplitRequest>) -> Result<Response<SplitResponse>, Status> {
        Ok(Response::new(self.split_up(request).await?))
    }
}
