//! A part of the change feed: from runs, from the frozen memtable or from the active one, never of two at once that
//! could be out of step.
//!
//! Runs, frozen and active memtable follow each other in time. A part ends where the look at its source ends; the next
//! one begins behind that place, in whatever source then holds it.

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_domain::{RecordView, Slot, SlotRange, SlotRanges, Stamp};
use isthmus_proto::internal::v1::{FeedChange, FeedMembers, FeedSegment, Member, feed_change::Body};
use isthmus_raft::Broken;
use prost::Message as _;

use super::{events::event_at, identity};
use crate::{
    error::broken,
    feed::{Filter, Place, Row, What},
    machine::Shared,
    memtable::{FeedItem, Memtable},
    state::Lower,
    tables::FEED,
};

/// Rows of runs and of the frozen memtable that one part looks at.
const LOOKED_AT_MAX: usize = 1_024;
/// The same of the active memtable, which apply waits for meanwhile.
const LOOKED_AT_ACTIVE_MAX: usize = 256;
/// So many rows that are no events, and that nobody asked for, are looked at in the time of one other.
const PASSED_OVER: usize = 32;
/// A part ends with the change that takes it to so many bytes.
const BYTES_MAX: usize = 128 << 10;
/// Members that a change names, of each sort; it counts all.
const MEMBERS_MAX: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct FeedQuery {
    /// Slots, each with the place behind which it goes on.
    pub ranges: Vec<(SlotRange, Place)>,
    /// Which changes.
    pub filter: Filter,
    /// At most so many.
    pub limit: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedPart {
    /// Changes, and where the shard's feed begins.
    Changes {
        /// The changes, in order.
        changes: Vec<FeedChange>,
        /// There are no others that were asked for up to here.
        through: Place,
        /// Whether the look ended before all that there is.
        more: bool,
        /// Changes of this stamp and older ones are not kept.
        floor: Stamp,
    },
    /// A place that was asked for is not kept any more.
    TooOld(Stamp),
    /// The shard doesn't own all the slots.
    NotOwned,
    /// The shard's feed has not begun yet.
    NotBegun,
}

impl FeedQuery {
    /// Where the first of the ranges goes on.
    fn after(&self) -> Place {
        self.ranges.iter().map(|(_, place)| *place).min().unwrap_or_default()
    }

    /// Takes note that all up to a place is known.
    pub(crate) fn advance(&mut self, through: Place) {
        for (_, place) in &mut self.ranges {
            *place = through.max(*place);
        }
    }

    fn asks_for(&self, slot: Slot, place: Place) -> bool {
        self.ranges.iter().any(|(range, after)| range.contains(slot) && place > *after)
    }
}

/// Whether all that is behind the places of a query is in the active memtable, so that reading it waits for no disk.
///
/// # Errors
/// Storage that is damaged.
pub(crate) fn feed_is_near(shared: &Shared, query: &FeedQuery) -> Result<bool, Broken> {
    let lower = shared.lower.read().clone();
    Ok(end(&lower)?.is_none_or(|end| query.after() >= end))
}

/// Reads a part of the feed. May wait for a disk.
///
/// # Errors
/// Storage that fails or is damaged.
pub fn feed(shared: &Shared, query: &FeedQuery) -> Result<FeedPart, Broken> {
    let after = query.after();
    if query.limit == 0 {
        return Ok(stand(shared, query));
    }
    loop {
        let lower = shared.lower.read().clone();
        let below = match end(&lower)?.filter(|end| after < *end) {
            Some(end) => Some(from_below(shared, &lower, query, after, end)?),
            None => None,
        };
        let view = shared.view(|state| {
            let meta = &state.meta;
            let owned = query.ranges.iter().all(|(range, _)| covers(&meta.owned, *range));
            let active = below.is_none().then(|| from_active(&state.active, query, after, meta.stamp));
            (owned, meta.feed_floor, active)
        });
        let (owned, floor, active) = view.active;
        // The floor is looked at after the rows: it rises before they go.
        match floor {
            _ if !owned => return Ok(FeedPart::NotOwned),
            None => return Ok(FeedPart::NotBegun),
            Some(floor) if after < Place::end_of(floor) => return Ok(FeedPart::TooOld(floor)),
            Some(_) => {}
        }
        let floor = floor.unwrap_or_default();
        if let Some((changes, through)) = below {
            return Ok(FeedPart::Changes { changes, through, more: true, floor });
        }
        // What was active when the look at the lower part was taken may be frozen by now.
        if end(&view.lower)?.is_some_and(|end| after < end) {
            continue;
        }
        let Some(active) = active else { continue };
        let (found, through, more) = active?;
        let mut changes = Vec::with_capacity(found.len());
        for (row, event) in found {
            changes.extend(change((shared, &view.lower), query, &row, event)?);
        }
        return Ok(FeedPart::Changes { changes, through, more, floor });
    }
}

/// Where the feed begins, and how far it has come.
fn stand(shared: &Shared, query: &FeedQuery) -> FeedPart {
    let state = shared.state.read();
    let meta = &state.meta;
    match meta.feed_floor {
        _ if !query.ranges.iter().all(|(range, _)| covers(&meta.owned, *range)) => FeedPart::NotOwned,
        None => FeedPart::NotBegun,
        Some(floor) => {
            let through = Place::end_of(meta.stamp);
            FeedPart::Changes { changes: Vec::new(), through, more: false, floor }
        }
    }
}

fn covers(owned: &SlotRanges, wanted: SlotRange) -> bool {
    let holds = |range: &SlotRange| {
        range.start() <= wanted.start() && wanted.end_exclusive() <= range.end_exclusive()
    };
    owned.as_slice().iter().any(holds)
}

/// The place of the oldest change that is kept above the floor; `None` when there is none.
///
/// # Errors
/// Storage that is damaged.
pub(crate) fn oldest(shared: &Shared) -> Result<Option<Place>, Broken> {
    let view = shared.view(|state| {
        let floor = Place::end_of(state.meta.feed_floor.unwrap_or_default());
        (state.active.feed(floor).next().map(|item| item.row().place), floor)
    });
    let (active, floor) = view.active;
    let runs = view.lower.runs.sequence(FEED).map_err(broken)?;
    let of_runs = runs.iter().find(|(_, last, _)| Place::of_key(last) > floor);
    if let Some((first, ..)) = of_runs {
        return Ok(Some(Place::of_key(first).max(Place { number: 0, stamp: Stamp::next(0, floor.stamp) })));
    }
    let frozen =
        view.lower.frozen.as_ref().and_then(|frozen| frozen.feed(floor).next().map(|item| item.row().place));
    Ok(frozen.or(active))
}

/// The place of the last change below the active memtable.
fn end(lower: &Lower) -> Result<Option<Place>, Broken> {
    let frozen = lower.frozen.as_ref().and_then(|frozen| frozen.feed_end());
    if frozen.is_some() {
        return Ok(frozen);
    }
    let runs = lower.runs.sequence(FEED).map_err(broken)?;
    Ok(runs.last().map(|(_, last, _)| Place::of_key(last)))
}

/// Rows with an encoded event where it was at hand, and how far the look went.
type Found = (Vec<(Row, Option<Bytes>)>, Place, bool);

fn from_active(active: &Memtable, query: &FeedQuery, after: Place, stamp: Stamp) -> Result<Found, Broken> {
    let (mut found, mut bytes, mut last) = (Vec::new(), 0, after);
    let mut items = active.feed(after);
    let mut left = LOOKED_AT_ACTIVE_MAX * PASSED_OVER;
    while left > 0 {
        let Some(item) = items.next() else { return Ok((found, Place::end_of(stamp).max(after), false)) };
        let row = item.row();
        last = row.place;
        if matches!(&item, FeedItem::Other(row) if !query.filter.may_take(row)) {
            left -= 1;
            continue;
        }
        left = left.saturating_sub(PASSED_OVER);
        if query.asks_for(row.slot(), row.place)
            && let Some(event) = taken(active, &item, query)?
        {
            bytes += event.as_ref().map_or(0, Bytes::len);
            found.push((row, event));
            if found.len() >= query.limit || bytes >= BYTES_MAX {
                break;
            }
        }
    }
    Ok((found, last, true))
}

/// The event of an item that is wanted, or nothing of one that is none; `None` when it isn't.
fn taken(
    memtable: &Memtable,
    item: &FeedItem<'_>,
    query: &FeedQuery,
) -> Result<Option<Option<Bytes>>, Broken> {
    match item {
        FeedItem::Event(event, _) => {
            let record = memtable.record(event);
            let view = RecordView::read(record).map_err(broken)?;
            Ok(query.filter.takes_view(&view).then(|| Some(Bytes::copy_from_slice(record))))
        }
        FeedItem::Other(row) => Ok(query.filter.may_take(row).then_some(None)),
    }
}

/// The same from runs and the frozen memtable, up to their end.
fn from_below(
    shared: &Shared,
    lower: &Lower,
    query: &FeedQuery,
    after: Place,
    end: Place,
) -> Result<(Vec<FeedChange>, Place), Broken> {
    let stored = lower.runs.sequence_after(FEED, &after.key(), LOOKED_AT_MAX).map_err(broken)?;
    let mut rows: Vec<(Row, Option<Bytes>)> = Vec::with_capacity(stored.len());
    let (mut last, mut whole) = (after, stored.len() < LOOKED_AT_MAX);
    for row in &stored {
        last = Place::of_key(
            row.key.as_ref().try_into().map_err(|_| broken("a key of the feed is not 16 bytes"))?,
        );
        // One of a later version means nothing to this one.
        let Some(row) = Row::read(&row.key, &row.value) else { continue };
        if query.asks_for(row.slot(), row.place) && query.filter.may_take(&row) {
            rows.push((row, None));
        }
    }
    if whole && let Some(frozen) = &lower.frozen {
        let mut left = LOOKED_AT_MAX * PASSED_OVER;
        for item in frozen.feed(last) {
            if left == 0 {
                whole = false;
                break;
            }
            let row = item.row();
            last = row.place;
            if matches!(&item, FeedItem::Other(row) if !query.filter.may_take(row)) {
                left -= 1;
                continue;
            }
            left = left.saturating_sub(PASSED_OVER);
            if query.asks_for(row.slot(), row.place)
                && let Some(event) = taken(frozen, &item, query)?
            {
                rows.push((row, event));
            }
        }
    }
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for (row, event) in rows {
        if let Some(change) = change((shared, lower), query, &row, event)? {
            bytes += change.encoded_len();
            changes.push(change);
        }
        if changes.len() >= query.limit || bytes >= BYTES_MAX {
            return Ok((changes, row.place));
        }
    }
    Ok((changes, if whole { end.max(last) } else { last }))
}

/// A change with what it says; `None` when it isn't wanted after all.
fn change(
    (shared, lower): (&Shared, &Lower),
    query: &FeedQuery,
    row: &Row,
    event: Option<Bytes>,
) -> Result<Option<FeedChange>, Broken> {
    let linked = || identity::record(shared, &row.facet).map(|record| record.is_some());
    if !query.filter.takes_facet(&row.facet, linked)? {
        return Ok(None);
    }
    let body = match (row.what, event) {
        (What::Event { .. }, Some(event)) => Body::Event(event),
        (What::Event { timestamp, key, .. }, None) => {
            let Some(mut event) = event_at(lower, &row.facet, (timestamp, key))? else {
                return Err(Broken::new("an event that the feed names is missing"));
            };
            if !query.filter.takes_event(&event) {
                return Ok(None);
            }
            event.dedup_key = Bytes::copy_from_slice(&key);
            Body::Event(event.to_bytes())
        }
        (What::Members { before, epoch }, _) => {
            match members(&identity::history_between(shared, &row.facet, before, epoch)?) {
                Some(members) => Body::Members(members),
                None => return Ok(None),
            }
        }
        (What::Segment { segment, from_to: [from, to], cause: (place, slot), .. }, _) => {
            Body::Segment(FeedSegment {
                segment,
                from: from.into(),
                to: to.into(),
                cause_stamp: place.stamp.0,
                cause_number: place.number,
                cause_slot: slot.into(),
            })
        }
        (What::Home(home), _) => Body::Home(Bytes::copy_from_slice(home.as_bytes())),
        (What::LeftHome(home), _) => Body::LeftHome(Bytes::copy_from_slice(home.as_bytes())),
    };
    Ok(Some(FeedChange {
        facet: Bytes::copy_from_slice(row.facet.as_bytes()),
        stamp: row.place.stamp.0,
        number: row.place.number,
        body: Some(body),
    }))
}

/// Who came and left over some epochs, each once; `None` when it comes to nothing.
fn members(epochs: &[isthmus_identity::stored::Epoch]) -> Option<FeedMembers> {
    let mut net: BTreeMap<&[u8], (i32, &Member)> = BTreeMap::new();
    for epoch in epochs {
        for (step, members) in [(1, &epoch.came), (-1, &epoch.left)] {
            for member in members {
                net.entry(&member.facet).or_insert((0, member)).0 += step;
            }
        }
    }
    let of = |sign: i32| net.values().filter(move |(sum, _)| sum.signum() == sign);
    let listed = |sign| of(sign).take(MEMBERS_MAX).map(|(_, member)| (*member).clone()).collect();
    let count = |sign| u32::try_from(of(sign).count()).unwrap_or(u32::MAX);
    let (came_count, left_count) = (count(1), count(-1));
    let found = FeedMembers { came: listed(1), left: listed(-1), came_count, left_count };
    (came_count + left_count > 0).then_some(found)
}
