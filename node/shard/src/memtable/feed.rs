//! The change feed of what is in memory: events where they lie, and other changes beside them.

use isthmus_domain::{FacetId, Stamp};

use super::{EventRow, Memtable};
use crate::feed::{self, Place, What};

/// A change for the feed that is no event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    row: feed::Row,
    /// Events here that came before it.
    events: usize,
}

/// A change for the feed.
#[derive(Clone, Copy, Debug)]
pub enum FeedItem<'a> {
    /// An event, with its number among the changes of its command.
    Event(&'a EventRow, u32),
    /// Another change.
    Other(feed::Row),
}

impl FeedItem<'_> {
    /// Its row, but for what only the record of an event tells: type and name.
    pub fn row(&self) -> feed::Row {
        match self {
            Self::Event(event, number) => {
                let what = What::Event { timestamp: event.timestamp, key: event.key, kind: 0, name: 0 };
                let place = Place { stamp: event.entry.stamp, number: *number };
                feed::Row { place, facet: event.facet, what }
            }
            Self::Other(row) => *row,
        }
    }
}

impl Memtable {
    /// Adds a change for the feed that is no event, of a command with this stamp.
    pub fn push_change(&mut self, stamp: Stamp, facet: FacetId, what: What) {
        let number = match self.changes.last().filter(|last| last.row.place.stamp == stamp) {
            Some(last) => {
                let events = u32::try_from(self.events.len() - last.events).unwrap_or(u32::MAX);
                last.row.place.number.saturating_add(1).saturating_add(events)
            }
            None => self.changes_of(stamp),
        };
        let place = Place { stamp, number };
        self.changes.push(Change { row: feed::Row { place, facet, what }, events: self.events.len() });
    }

    /// How many changes the last command has made, whose stamp this is.
    fn changes_of(&self, stamp: Stamp) -> u32 {
        let events = self.events.before(stamp);
        let others = self.changes.partition_point(|change| change.row.place.stamp < stamp);
        let count = self.events.len() - events + self.changes.len() - others;
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The changes behind a place, in order: events and others together. All changes of a command are in one memtable,
    /// so their numbers follow from where they stand.
    pub fn feed(&self, after: Place) -> impl Iterator<Item = FeedItem<'_>> {
        // From the first change of that command on, whose numbers have to be counted.
        let mut event = self.events.before(after.stamp);
        let mut other = self.changes.partition_point(|change| change.row.place.stamp < after.stamp);
        if self.events.get(event).is_none_or(|event| event.entry.stamp > after.stamp) {
            // A command without events: each change stands at its number.
            let of_it = &self.changes[other..];
            let number = (after.number as usize).saturating_add(1);
            let is_of_it = |change: &Change| change.row.place.stamp == after.stamp;
            other += match of_it.get(number - 1).is_some_and(is_of_it) {
                true => number,
                false => of_it.partition_point(is_of_it),
            };
        }
        let mut last: Option<Place> = None;
        let next = move || {
            let next_other = self.changes.get(other);
            let found = self.events.get(event);
            if let Some(change) = next_other.filter(|change| found.is_none() || change.events <= event) {
                other += 1;
                last = Some(change.row.place);
                return Some(FeedItem::Other(change.row));
            }
            let found = found?;
            event += 1;
            let stamp = found.entry.stamp;
            let number = last.filter(|last| last.stamp == stamp).map_or(0, |last| last.number + 1);
            last = Some(Place { stamp, number });
            Some(FeedItem::Event(found, number))
        };
        std::iter::from_fn(next).skip_while(move |item| item.row().place <= after)
    }

    /// The place of the last change.
    pub fn feed_end(&self) -> Option<Place> {
        let event = self.events.last().map(|event| event.entry.stamp);
        let stamp = event.max(self.changes.last().map(|change| change.row.place.stamp))?;
        Some(Place { stamp, number: self.changes_of(stamp).saturating_sub(1) })
    }
}

#[cfg(test)]
mod tests {
    use isthmus_domain::FacetId;

    use super::super::DedupEntry;
    use super::super::tests::{key, record};
    use super::*;

    #[test]
    fn changes_are_numbered_by_command_in_the_order_in_which_they_came() {
        let mut memtable = Memtable::default();
        let facet = FacetId::from_bytes([1; 16]);
        let mut put = |stamp: u64, is_event: bool| {
            let stamp = Stamp(stamp);
            if !is_event {
                return memtable.push_change(stamp, facet, What::Members { before: 0, epoch: stamp.0 });
            }
            let number = memtable.events().count() as u64;
            let entry = DedupEntry { stamp, attempt: 1, body_hash: [0; 16], outcome: 1 };
            memtable.push_event(facet, key(number), 1, entry, &record(1, number).to_bytes()).unwrap();
        };
        let all =
            [(5, true), (5, false), (5, true), (7, false), (7, false), (9, true), (9, true), (9, false)];
        all.iter().for_each(|(stamp, is_event)| put(*stamp, *is_event));
        let place = |stamp: u64, number| Place { stamp: Stamp(stamp), number };
        let expected = [(5, 0), (5, 1), (5, 2), (7, 0), (7, 1), (9, 0), (9, 1), (9, 2)];
        let behind = |after: Place| -> Vec<(u64, u32, bool)> {
            let items = memtable.feed(after);
            let shown = items.map(|item| {
                let place = item.row().place;
                (place.stamp.0, place.number, matches!(item, FeedItem::Event(..)))
            });
            shown.collect()
        };
        for (count, (stamp, number)) in expected.iter().enumerate() {
            let rest = expected.iter().zip(&all).skip(count + 1);
            let rest: Vec<_> = rest.map(|((stamp, number), (_, event))| (*stamp, *number, *event)).collect();
            assert_eq!(behind(place(*stamp, *number)), rest);
        }
        assert_eq!(behind(Place::default()).len(), 8);
        assert_eq!(memtable.feed_end(), Some(place(9, 2)));
        assert_eq!(Memtable::default().feed_end(), None);
    }
}
