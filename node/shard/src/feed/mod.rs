//! The change feed: every change of a profile, in the order in which this shard made it.
//!
//! **What a change is.** An event that was accepted, at the slot of its facet; and a change of who belongs to a
//! profile, at the slot of the profile's home, when it is in force. Both are references: what an event says is read
//! when the feed is served, and so is who came and left. So a change costs 64 bytes on the disk, and an event costs
//! apply nothing, since the memtable has events in the order of arrival already.
//!
//! **Order.** A [`Place`] is the stamp of the command that made a change, and its number among the changes of that
//! command. Stamps rise strictly in a shard, so places order all changes of a shard; they are the same on every
//! replica, since apply is. With its slot a place names a change for good: slots that move to another shard take their
//! changes with them, and the stamps there go on above.
//!
//! **What is kept.** Rows of a sequence, in the same write-outs as everything else, down to a *floor* that a command
//! raises (`retention`). Whole runs below the floor go when a replica comes to it; what counts is the floor. A shard
//! that a version without a feed has made begins its feed with the first such command.
//!
//! **Left out.** Rows are not part of the state's hash: they follow from rows that are, and go without leaving a trace.

mod filter;
pub(crate) mod retention;

use isthmus_domain::{FacetId, Slot, Stamp};
use isthmus_storage::runs::PointKey;
use xxhash_rust::xxh3::xxh3_64;

pub use self::filter::Filter;
use crate::memtable::DedupKey;

/// A place in a shard's feed: all changes up to and including it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The stamp of the command.
    pub stamp: Stamp,
    /// The number among the changes of that command, from 0.
    pub number: u32,
}

impl Place {
    /// Behind all changes of a command.
    pub const fn end_of(stamp: Stamp) -> Self {
        Self { stamp, number: u32::MAX }
    }

    /// The key that all rows up to this place are not above, whatever their slot.
    pub(crate) fn key(self) -> PointKey {
        let mut key = [0xff; 16];
        key[..8].copy_from_slice(&self.stamp.0.to_be_bytes());
        key[8..12].copy_from_slice(&self.number.to_be_bytes());
        key
    }

    /// The place of the row with a key.
    pub(crate) fn of_key(key: &PointKey) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *key;
        let stamp = Stamp(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        Self { stamp, number: u32::from_be_bytes([i, j, k, l]) }
    }
}

/// A change as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// The facet that it is filed under.
    pub facet: FacetId,
    /// What it is.
    pub what: What,
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An event was accepted.
    Event {
        /// When it happened, microseconds since the epoch.
        timestamp: i64,
        /// Its key, which with the facet and the time finds it.
        key: DedupKey,
        /// The number of `isthmus.v1.EventType`.
        kind: u8,
        /// Hash of its name.
        name: u32,
    },
    /// Others belong to the profile of this home than before.
    Members {
        /// The epoch that was served before.
        before: u64,
        /// The epoch that is served now.
        epoch: u64,
    },
    /// The profile of this home has entered a segment or left it.
    Segment {
        /// The segment's name in what is stored.
        segment: u64,
        /// Hash of its name.
        name: u32,
        /// Whether it was in it, and is: see `SegmentTransition`.
        from_to: [u8; 2],
        /// The change that brought it about, and its slot; at the stamp 0 there is none.
        cause: (Place, u16),
    },
    /// The facet has left this home. For the shard itself: nobody else is told.
    LeftHome(FacetId),
    /// The facet has this home from here on. For the shard itself.
    Home(FacetId),
}

/// The row's kind where it is no event: above all numbers of types.
const MEMBERS: u8 = 100;
const SEGMENT: u8 = 101;
const LEFT_HOME: u8 = 102;
const HOME: u8 = 103;

impl Row {
    /// Bytes of the stored value; the key has 16.
    pub const VALUE_BYTES: usize = 48;

    /// Stored form, numbers big-endian. Key: stamp (8), number (4), slot (2), zeros (2). Value: facet (16), the event's
    /// key (16) or the epochs before and now (8 each) or a home (16), time (8), kind (1), zeros (3), hash of the name (4).
    /// Of segments, behind the facet: segment (8), stamp (8), number (4) and slot (2) of the cause, zeros (2), kind (1),
    /// before (1), now (1), zeros (1), hash of the name (4). Rows of kinds to come have the same length.
    pub fn to_bytes(self) -> [u8; 16 + Self::VALUE_BYTES] {
        let mut bytes = [0; 16 + Self::VALUE_BYTES];
        bytes[..12].copy_from_slice(&self.place.key()[..12]);
        bytes[12..14].copy_from_slice(&self.facet.slot().number().to_be_bytes());
        bytes[16..32].copy_from_slice(self.facet.as_bytes());
        match self.what {
            What::Event { timestamp, key, kind, name } => {
                bytes[32..48].copy_from_slice(&key);
                bytes[48..56].copy_from_slice(&timestamp.to_be_bytes());
                bytes[56] = kind;
                bytes[60..64].copy_from_slice(&name.to_be_bytes());
            }
            What::Members { before, epoch } => {
                bytes[32..40].copy_from_slice(&before.to_be_bytes());
                bytes[40..48].copy_from_slice(&epoch.to_be_bytes());
                bytes[56] = MEMBERS;
            }
            What::Segment { segment, name, from_to, cause: (place, slot) } => {
                bytes[60..64].copy_from_slice(&name.to_be_bytes());
                bytes[32..40].copy_from_slice(&segment.to_be_bytes());
                bytes[40..48].copy_from_slice(&place.stamp.0.to_be_bytes());
                bytes[48..52].copy_from_slice(&place.number.to_be_bytes());
                bytes[52..54].copy_from_slice(&slot.to_be_bytes());
                bytes[56] = SEGMENT;
                bytes[57..59].copy_from_slice(&from_to);
            }
            What::LeftHome(home) => {
                bytes[32..48].copy_from_slice(home.as_bytes());
                bytes[56] = LEFT_HOME;
            }
            What::Home(home) => {
                bytes[32..48].copy_from_slice(home.as_bytes());
                bytes[56] = HOME;
            }
        }
        bytes
    }

    /// From the stored form; `None` for bytes of another length, or a kind of a later version.
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (key, value): (&[u8; 16], &[u8; Self::VALUE_BYTES]) =
            (key.try_into().ok()?, value.try_into().ok()?);
        let number = |range: std::ops::Range<usize>| value[range].try_into().ok().map(u64::from_be_bytes);
        let what = match value[40] {
            MEMBERS => What::Members { before: number(16..24)?, epoch: number(24..32)? },
            SEGMENT => {
                let number_at = u32::from_be_bytes(value[32..36].try_into().ok()?);
                let place = Place { stamp: Stamp(number(24..32)?), number: number_at };
                let slot = u16::from_be_bytes([value[36], value[37]]);
                What::Segment {
                    segment: number(16..24)?,
                    name: u32::from_be_bytes(value[44..48].try_into().ok()?),
                    from_to: [value[41], value[42]],
                    cause: (place, slot),
                }
            }
            LEFT_HOME => What::LeftHome(FacetId::from_slice(&value[16..32])?),
            HOME => What::Home(FacetId::from_slice(&value[16..32])?),
            kind if kind < MEMBERS => What::Event {
                timestamp: number(32..40)?.cast_signed(),
                key: value[16..32].try_into().ok()?,
                kind,
                name: u32::from_be_bytes(value[44..48].try_into().ok()?),
            },
            _ => return None,
        };
        let facet = FacetId::from_slice(&value[..16])?;
        Some(Self { place: Place::of_key(key), facet, what })
    }

    /// The slot that it goes with.
    pub fn slot(&self) -> Slot {
        self.facet.slot()
    }
}

/// A part of a hash of an event's name: two names of one hash only cost a look at the event.
pub fn name_hash(name: &str) -> u32 {
    xxh3_64(name.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_read_back_and_lie_in_the_order_of_their_places(
            stamps: [u64; 2], numbers: [u32; 2], facets: [[u8; 16]; 2], key: [u8; 16], timestamp: i64,
            kind in 1..=6_u8, name: u32, before: u64, epoch: u64,
        ) {
            let row = |n: usize, what| {
                let place = Place { stamp: Stamp(stamps[n]), number: numbers[n] };
                Row { place, facet: FacetId::from_bytes(facets[n]), what }
            };
            let rows = [
                row(0, What::Event { timestamp, key, kind, name }),
                row(1, What::Members { before, epoch }),
            ];
            for row in rows {
                let bytes = row.to_bytes();
                prop_assert_eq!(Row::read(&bytes[..16], &bytes[16..]), Some(row));
                prop_assert!(bytes[..16] <= row.place.key()[..]);
            }
            let [a, b] = rows;
            if a.place < b.place {
                prop_assert!(a.to_bytes()[..16] < b.to_bytes()[..16] && a.place.key()[..] < b.to_bytes()[..16]);
            }
        }
    }

    #[test]
    fn a_row_of_a_later_version_is_told_apart() {
        let row = Row {
            place: Place::default(),
            facet: FacetId::from_bytes([1; 16]),
            what: What::Members { before: 1, epoch: 2 },
        };
        let mut bytes = row.to_bytes();
        bytes[56] = HOME + 1;
        assert_eq!(Row::read(&bytes[..16], &bytes[16..]), None);
        assert_eq!(Row::read(&bytes[..16], &bytes[16..63]), None);
    }
}
