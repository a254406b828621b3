//! Pages over all shards, in one exact order: facets by id, groups by id, quarantine
//! entries by id.
//!
//! Both ids begin with their slot, so their order is the order of slots, and the shard map cut into *segments* (slots
//! in a row that belong to one shard) says which shard to ask next, however scattered a shard's ranges are. A page is
//! the concatenation of what the segments hold from where the page begins.
//!
//! Promises:
//! 1. The order is exact, nothing is left out and nothing comes twice: also while slots move. A shard tells which slots
//!    it owned when it answered; an answer from one that did not own the whole segment is not used.
//! 2. A page costs one call where the first segment fills it. Where segments hold little, the next ones are asked
//!    together, twice as many each time, up to [`WIDTH_MAX`].
//! 3. What is held at any time is bounded by `WIDTH_MAX` pages.
//!
//! Left out: one cut over all shards. Each segment is exact at a stamp of its own.

mod kind;

use bytes::Bytes;
use futures::future::join_all;
use isthmus_domain::{FacetId, Slot, SlotRanges, Stamp};
use isthmus_proto::internal::v1::{GroupRow, QuarantineRow, ReadQuarantineCall, shard_call, shard_reply};
use tokio::time::Instant;

use self::kind::{Facets, Groups, Kind, Quarantine};
pub(crate) use self::kind::{Key, before};
use crate::error::Error;
use crate::profiles::ProfileParts;
use crate::pursuit::Want;
use crate::read::{Facet, ReadLevel};
use crate::router::Router;
use crate::topology::Segment;

/// How many segments are asked at once, at most.
const WIDTH_MAX: usize = 8;

/// The most rows that a page may have.
const LIMIT_MAX: u32 = 10_000;

/// A page of all facets.
#[derive(Clone, Debug, PartialEq)]
pub struct FacetsPage {
    /// Ids, rising, with the facet of each.
    pub facets: Vec<(FacetId, Facet)>,
    /// Whether there are more.
    pub more: bool,
    /// The largest stamp of the shards asked.
    pub stamp: Stamp,
}

/// A page of all facets, each with its customer.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfilesPage {
    /// Ids of facets, rising, with the customer of each.
    pub profiles: Vec<(FacetId, Option<ProfileParts>)>,
    /// Whether there are more.
    pub more: bool,
    /// The largest stamp of the shards asked.
    pub stamp: Stamp,
}

/// A page of the quarantine.
#[derive(Clone, Debug, PartialEq)]
pub struct QuarantinePage {
    /// By rising id, without content.
    pub rows: Vec<QuarantineRow>,
    /// Whether there are more.
    pub more: bool,
}

/// Which quarantine entries are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// Only entries of this source; empty: all.
    pub source: String,
    /// Only entries with this reason; empty: all.
    pub reason: String,
    /// Also entries that are resolved.
    pub resolved_too: bool,
}

/// Where a page goes on.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first slot that may hold more.
    slot: Slot,
    /// Only ids above this one.
    after: Option<Key>,
}

/// What one segment gave.
struct Scanned<R> {
    rows: Vec<R>,
    /// Whether the segment has no more.
    complete: bool,
    stamp: Stamp,
}

impl Router {
    /// Reads a page of all facets, by rising id, from the first above `after`. `limit` is 1 to 10,000.
    pub async fn list_facets(
        &self,
        after: Option<FacetId>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<FacetsPage, Error> {
        let kind = Facets { level };
        let (facets, more, stamp) = self.page(&kind, after.map(|id| *id.as_bytes()), limit, deadline).await?;
        Ok(FacetsPage { facets, more, stamp })
    }

    /// Reads a page of all facets, as [`Router::list_facets`], with the customer that each belongs to: a customer comes
    /// as often as it has facets.
    pub async fn list_profiles(
        &self,
        after: Option<FacetId>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<ProfilesPage, Error> {
        let page = self.list_facets(after, limit, level, deadline).await?;
        let ids: Vec<FacetId> = page.facets.iter().map(|(id, _)| *id).collect();
        let known = page.facets.into_iter().collect();
        let (profiles, stamp) = self.complete(&ids, known, page.stamp, level, deadline).await?;
        Ok(ProfilesPage { profiles: ids.into_iter().zip(profiles).collect(), more: page.more, stamp })
    }

    /// Reads a page of the facets of one shard, by rising id, each with its customer, and where the next page begins.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline, or this one is no more.
    pub async fn profiles_of(
        &self,
        shard: u64,
        after: Option<FacetId>,
        limit: u32,
        deadline: Instant,
    ) -> Result<ProfilesPage, Error> {
        let kind = Facets { level: ReadLevel::Linearizable };
        let body = kind.call(after.as_ref().map(FacetId::as_bytes), limit);
        let reply = self.reach(shard, &mut self.pursuit(kind.want()), &body, deadline).await?;
        let page = kind.read(reply).ok_or(Error::BadReply { shard, what: "not a page of facets" })?;
        let ids: Vec<FacetId> = page.rows.iter().map(|(_, (id, _))| *id).collect();
        let known = page.rows.into_iter().map(|(_, row)| row).collect();
        let (profiles, stamp) =
            self.complete(&ids, known, page.stamp, ReadLevel::Linearizable, deadline).await?;
        Ok(ProfilesPage { profiles: ids.into_iter().zip(profiles).collect(), more: page.more, stamp })
    }

    /// Reads a page of all groups, by rising id, from the first above `after`, and whether there are more. `limit` is 1
    /// to 10,000.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn list_groups(
        &self,
        after: Option<FacetId>,
        limit: u32,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<(Vec<(FacetId, GroupRow)>, bool, Stamp), Error> {
        self.page(&Groups { level }, after.map(|id| *id.as_bytes()), limit, deadline).await
    }

    /// Reads a page of the quarantine, by rising id, from the first above `after`. `limit` is 1 to 10,000. An empty
    /// `source` or `reason` means any; resolved entries come only if asked for.
    pub async fn list_quarantine(
        &self,
        after: Option<[u8; 16]>,
        limit: u32,
        filter: QuarantineFilter,
        deadline: Instant,
    ) -> Result<QuarantinePage, Error> {
        let kind = Quarantine(filter);
        let (rows, more, _) = self.page(&kind, after, limit, deadline).await?;
        Ok(QuarantinePage { rows, more })
    }

    /// One quarantine entry with its content; `None` when there is none under this id.
    pub async fn quarantine_entry(
        &self,
        id: [u8; 16],
        deadline: Instant,
    ) -> Result<Option<QuarantineRow>, Error> {
        let slot = Slot::of_hash(&id);
        let only = Bytes::copy_from_slice(&id);
        let body =
            shard_call::Body::ReadQuarantine(ReadQuarantineCall { only, limit: 1, ..Default::default() });
        let mut attempt = 0;
        loop {
            let routes = self.routes();
            let (revision, owner) = (routes.revision, routes.owner(slot));
            drop(routes);
            if let Some(shard) = owner {
                match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await {
                    Ok(shard_reply::Body::ReadQuarantine(reply)) => {
                        if owned(shard, &reply.owned_bounds)?.contains(slot) {
                            return Ok(reply.rows.into_iter().find(|row| row.id == id.as_slice()));
                        }
                    }
                    Ok(_) => return Err(Error::BadReply { shard, what: "not a page of the quarantine" }),
                    Err(Error::NoShard { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            self.await_newer(revision, attempt, deadline).await?;
            attempt += 1;
        }
    }

    async fn page<K: Kind>(
        &self,
        kind: &K,
        after: Option<Key>,
        limit: u32,
        deadline: Instant,
    ) -> Result<(Vec<K::Row>, bool, Stamp), Error> {
        if limit == 0 || limit > LIMIT_MAX {
            return Err(Error::Invalid { message: format!("a page has 1 to {LIMIT_MAX} rows") });
        }
        let first = after.as_ref().map_or(Slot::of_hash(&[0; 16]), Slot::of_hash);
        let mut place = Place { slot: first, after };
        // One more than asked for tells whether there are more.
        let wanted = limit as usize + 1;
        let (mut rows, mut stamp) = (Vec::new(), Stamp::ZERO);
        let (mut width, mut attempt) = (1, 0);
        loop {
            let routes = self.routes();
            let segments = routes.segments_from(place.slot).map(|rest| rest.iter().take(width).copied());
            let segments: Vec<Segment> = segments.into_iter().flatten().collect();
            let missing = wanted - rows.len();
            let asked = segments.iter().enumerate().map(|(nth, segment)| {
                // Only the first goes on where the page stands; the others begin at their first slot.
                let begin = if nth == 0 { place } else { Place { slot: segment.slots.start(), after: None } };
                self.scan(kind, *segment, begin, missing, deadline)
            });
            let scans = join_all(asked).await;
            let mut stale = segments.is_empty();
            for (segment, scanned) in segments.iter().zip(scans) {
                let Some(scanned) = scanned? else {
                    stale = true;
                    break;
                };
                stamp = stamp.max(scanned.stamp);
                rows.extend(scanned.rows);
                if rows.len() >= wanted {
                    rows.truncate(limit as usize);
                    return Ok((rows, true, stamp));
                }
                debug_assert!(scanned.complete, "a scan ends at its limit or at the end of the segment");
                match Slot::new(segment.slots.end_exclusive()) {
                    Some(slot) => place = Place { slot, after: None },
                    None => return Ok((rows, false, stamp)),
                }
            }
            if stale {
                self.await_newer(routes.revision, attempt, deadline).await?;
                attempt += 1;
            } else {
                (width, attempt) = ((width * 2).min(WIDTH_MAX), 0);
            }
        }
    }

    /// Reads a segment from a place in it, until its end or until there are `missing` rows. `None` when the shard does
    /// not own all of it.
    async fn scan<K: Kind>(
        &self,
        kind: &K,
        segment: Segment,
        begin: Place,
        missing: usize,
        deadline: Instant,
    ) -> Result<Option<Scanned<K::Row>>, Error> {
        let shard = segment.shard;
        let mut scanned = Scanned { rows: Vec::new(), complete: false, stamp: Stamp::ZERO };
        let mut after = begin.after.or_else(|| before(begin.slot));
        while scanned.rows.len() < missing && !scanned.complete {
            let left = u32::try_from(missing - scanned.rows.len()).unwrap_or(u32::MAX);
            let body = kind.call(after.as_ref(), left);
            let reply = match self.reach(shard, &mut self.pursuit(kind.want()), &body, deadline).await {
                Ok(reply) => reply,
                Err(Error::NoShard { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let page = kind.read(reply).ok_or(Error::BadReply { shard, what: "not a page of rows" })?;
            let owned = owned(shard, &page.owned_bounds)?;
            let needed = begin.slot.number()..segment.slots.end_exclusive();
            if !owned
                .as_slice()
                .iter()
                .any(|range| range.start().number() <= needed.start && needed.end <= range.end_exclusive())
            {
                return Ok(None);
            }
            scanned.stamp = scanned.stamp.max(page.stamp);
            // A page without a row that says there are more would be asked for ever.
            scanned.complete = !page.more;
            if page.more && page.rows.is_empty() {
                return Err(Error::BadReply { shard, what: "no row, yet more" });
            }
            for (key, row) in page.rows {
                if after.is_some_and(|after| after >= key) {
                    return Err(Error::BadReply { shard, what: "rows out of order" });
                }
                if !segment.slots.contains(Slot::of_hash(&key)) {
                    // The shard's next range: another segment, whose turn may come.
                    scanned.complete = true;
                    break;
                }
                if scanned.rows.len() == missing {
                    scanned.complete = false;
                    break;
                }
                scanned.rows.push(row);
                after = Some(key);
            }
        }
        Ok(Some(scanned))
    }
}

/// The slots that a shard said it owned.
pub(crate) fn owned(shard: u64, bounds: &[u32]) -> Result<SlotRanges, Error> {
    SlotRanges::from_bounds(bounds).map_err(|_| Error::BadReply { shard, what: "not a set of slots" })
}
