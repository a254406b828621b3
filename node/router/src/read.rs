//! Reads of facets and of their events, at the shards that own them.
//!
//! Promises: results stand in the order of the request; an answer comes from shards that owned what was asked for, or
//! there is none; a read that may be served by any replica is tried at the nearest first. A read over several shards
//! is of no single cut: each shard's part is exact at a stamp of its own, and the largest is told.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use isthmus_domain::{FacetId, Stamp};
use isthmus_proto::internal::v1::{
    FacetEntry, ReadEventsCall, ReadEventsReply, ReadFacetsCall, ReadFacetsReply, ReadLevel as WireLevel,
    StoredEvent, shard_call, shard_reply,
};
use tokio::time::Instant;

use crate::error::Error;
use crate::pursuit::Want;
use crate::router::Router;

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadLevel {
    /// Sees every write that was acknowledged before the read began. The leader answers.
    #[default]
    Linearizable,
    /// Sees at least what this stamp covers. Any replica answers; zero asks for nothing in particular.
    AtLeast(Stamp),
    /// May miss writes that are younger than this; whole milliseconds, at least one. Any replica answers.
    Stale(Duration),
}

impl ReadLevel {
    pub(crate) fn to_wire(self) -> Option<WireLevel> {
        match self {
            Self::Linearizable => None,
            // Zero means "not asked" on the wire; every shard is past stamp 1.
            Self::AtLeast(stamp) => Some(WireLevel { min_stamp: stamp.0.max(1), max_staleness_ms: 0 }),
            Self::Stale(age) => {
                let max_staleness_ms = u32::try_from(age.as_millis()).unwrap_or(u32::MAX).max(1);
                Some(WireLevel { min_stamp: 0, max_staleness_ms })
            }
        }
    }

    pub(crate) fn want(self) -> Want {
        match self {
            Self::Linearizable => Want::Leader,
            Self::AtLeast(_) | Self::Stale(_) => Want::Any,
        }
    }
}

/// A page of a facet's events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventsPage {
    /// Newest first.
    pub events: Vec<StoredEvent>,
    /// Whether there are older ones.
    pub more: bool,
    /// Whether anything is known under the facet.
    pub known: bool,
    /// Namespace and value of the identifier that the facet is of; `None` unless known.
    pub identifier: Option<(String, String)>,
    /// The stamp that the page is exact at.
    pub stamp: Stamp,
}

/// A facet, and where its customer is put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facet {
    /// The encoded [`FacetSummary`](isthmus_domain::FacetSummary); `None` where nothing was said under it.
    pub summary: Option<Bytes>,
    /// The facet of its home, and the epoch since which it has it; `None` when it was never linked.
    pub home: Option<(FacetId, u64)>,
}

impl Facet {
    pub(crate) fn of(entry: FacetEntry) -> Self {
        Self {
            home: FacetId::from_slice(&entry.home).map(|home| (home, entry.epoch)),
            summary: Some(entry.summary).filter(|bytes| !bytes.is_empty()),
        }
    }
}

/// Facets that one call asks for; more of one shard are several calls.
const FACETS_MAX: usize = 1_000;

/// Facets of one shard, by their index in the request.
struct FacetsPart {
    shard: u64,
    indexes: Vec<usize>,
}

impl FacetsPart {
    /// The same in pieces of which each fits into a call.
    fn pieces(self) -> impl Iterator<Item = Self> {
        let Self { shard, indexes } = self;
        let pieces: Vec<Self> =
            indexes.chunks(FACETS_MAX).map(|indexes| Self { shard, indexes: indexes.to_vec() }).collect();
        pieces.into_iter()
    }
}

impl Router {
    /// Reads facets, for each id, in order; and the largest stamp of the shards asked.
    ///
    /// # Errors
    /// As a whole, with the first error of a shard, when one does not answer by the deadline.
    pub async fn read_facets(
        &self,
        ids: &[FacetId],
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Vec<Facet>, Stamp), Error> {
        let (mut facets, mut stamp) = (vec![Facet::default(); ids.len()], Stamp::ZERO);
        let mut open: Vec<usize> = (0..ids.len()).collect();
        let mut attempt = 0;
        while !open.is_empty() {
            let routes = self.routes();
            let revision = routes.revision;
            let mut parts: BTreeMap<u64, FacetsPart> = BTreeMap::new();
            let mut elsewhere = Vec::new();
            for index in open {
                match ids.get(index).and_then(|id| routes.owner(id.slot())) {
                    Some(shard) => {
                        let part =
                            parts.entry(shard).or_insert_with(|| FacetsPart { shard, indexes: Vec::new() });
                        part.indexes.push(index);
                    }
                    None => elsewhere.push(index),
                }
            }
            drop(routes);
            let pieces = parts.into_values().flat_map(FacetsPart::pieces);
            let asked = pieces.map(|part| self.read_part(ids, part, level, deadline));
            for (part, reply) in try_join_all(asked).await? {
                let Some(reply) = reply else {
                    elsewhere.extend(part.indexes);
                    continue;
                };
                stamp = stamp.max(Stamp(reply.stamp));
                for (index, entry) in part.indexes.into_iter().zip(reply.facets) {
                    match facets.get_mut(index) {
                        Some(facet) if !entry.not_owned => *facet = Facet::of(entry),
                        _ => elsewhere.push(index),
                    }
                }
            }
            open = elsewhere;
            if !open.is_empty() {
                self.await_newer(revision, attempt, deadline).await?;
                attempt += 1;
            }
        }
        Ok((facets, stamp))
    }

    /// Reads one shard's part; no reply when the shard is no more.
    async fn read_part(
        &self,
        ids: &[FacetId],
        part: FacetsPart,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(FacetsPart, Option<ReadFacetsReply>), Error> {
        let facets = part.indexes.iter().filter_map(|index| ids.get(*index));
        let facets = facets.map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
        let body = shard_call::Body::ReadFacets(ReadFacetsCall { facets, level: level.to_wire() });
        let mut pursuit = self.pursuit(level.want());
        match self.reach(part.shard, &mut pursuit, &body, deadline).await {
            Ok(shard_reply::Body::ReadFacets(reply)) if reply.facets.len() == part.indexes.len() => {
                Ok((part, Some(reply)))
            }
            Ok(_) => Err(Error::BadReply { shard: part.shard, what: "not a facet for each id" }),
            Err(Error::NoShard { .. }) => Ok((part, None)),
            Err(error) => Err(error),
        }
    }

    /// Reads a page of a facet's events, newest first. `before` is a place in the facet's order (exclusive; see
    /// `ReadEventsCall`); absent, the page begins at the newest.
    pub async fn read_events(
        &self,
        facet: FacetId,
        before: Option<[u8; 24]>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<EventsPage, Error> {
        let body = shard_call::Body::ReadEvents(ReadEventsCall {
            facet: Bytes::copy_from_slice(facet.as_bytes()),
            before: before.map(|place| Bytes::copy_from_slice(&place)).unwrap_or_default(),
            limit,
            level: level.to_wire(),
        });
        let mut attempt = 0;
        loop {
            let routes = self.routes();
            let (revision, owner) = (routes.revision, routes.owner(facet.slot()));
            drop(routes);
            if let Some(shard) = owner {
                let mut pursuit = self.pursuit(level.want());
                match self.reach(shard, &mut pursuit, &body, deadline).await {
                    Ok(shard_reply::Body::ReadEvents(reply)) if !reply.not_owned => {
                        let ReadEventsReply { events, more, known, stamp, namespace, value, .. } = reply;
                        let identifier =
                            Some((namespace, value)).filter(|(namespace, _)| !namespace.is_empty());
                        return Ok(EventsPage { events, more, known, identifier, stamp: Stamp(stamp) });
                    }
                    Ok(shard_reply::Body::ReadEvents(_)) | Err(Error::NoShard { .. }) => {}
                    Ok(_) => return Err(Error::BadReply { shard, what: "not a page of events" }),
                    Err(error) => return Err(error),
                }
            }
            self.await_newer(revision, attempt, deadline).await?;
            attempt += 1;
        }
    }
}
