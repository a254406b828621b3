//! Slots: the 16,384 parts of the hash space, and sets of them.
//!
//! A slot is the smallest thing that can be owned, split off or moved. A shard owns a set of slots, which is kept as
//! sorted, disjoint, non-adjacent ranges: the same set has one form only, so equal sets are equal bytes.

use std::fmt;

use crate::error::Error;

/// How many slots there are: the top 14 bits of a hash.
pub const SLOT_COUNT: u16 = 1 << 14;

/// One slot, 0 up to but not including [`SLOT_COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number; `None` from 16,384 on.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The slot of a 128-bit hash: its top 14 bits.
    pub const fn of_hash(hash: &[u8; 16]) -> Self {
        Self(u16::from_be_bytes([hash[0], hash[1]]) >> 2)
    }

    /// 0 up to but not including [`SLOT_COUNT`].
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The smallest hash in this slot: where a scan of the slot starts.
    pub const fn first_hash(self) -> [u8; 16] {
        let [high, low] = (self.0 << 2).to_be_bytes();
        [high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slots from `start` up to but not including `end_exclusive`; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotRange {
    start: u16,
    end_exclusive: u16,
}

impl SlotRange {
    /// All slots.
    pub const ALL: Self = Self { start: 0, end_exclusive: SLOT_COUNT };

    /// The range `[start, end_exclusive)`; an error unless `start < end_exclusive <= 16,384`.
    pub const fn new(start: u16, end_exclusive: u16) -> Result<Self, Error> {
        if start < end_exclusive && end_exclusive <= SLOT_COUNT {
            Ok(Self { start, end_exclusive })
        } else {
            Err(Error::Invalid { what: "slot range", why: "start must be below end, and end at most 16384" })
        }
    }

    /// The first slot in the range.
    pub const fn start(self) -> Slot {
        Slot(self.start)
    }

    /// One past the number of the last slot; up to 16,384.
    pub const fn end_exclusive(self) -> u16 {
        self.end_exclusive
    }

    /// How many slots; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u16 {
        self.end_exclusive - self.start
    }

    /// Whether the slot is in the range.
    pub const fn contains(self, slot: Slot) -> bool {
        self.start <= slot.0 && slot.0 < self.end_exclusive
    }
}

impl fmt::Display for SlotRange {
    /// `0-1023`, both ends inclusive, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end_exclusive - 1)
    }
}

/// A set of slots.
///
/// Invariant: ranges are sorted and neither overlap nor touch, so `Eq` is equality of sets.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct SlotRanges(Vec<SlotRange>);

impl SlotRanges {
    /// The empty set.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The set of all slots.
    pub fn all() -> Self {
        SlotRange::ALL.into()
    }

    /// The ranges, sorted and disjoint.
    pub fn as_slice(&self) -> &[SlotRange] {
        &self.0
    }

    /// How many slots are in the set.
    pub fn len(&self) -> u16 {
        self.0.iter().map(|r| r.len()).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the slot is in the set. Logarithmic in the number of ranges.
    pub fn contains(&self, slot: Slot) -> bool {
        let after = self.0.partition_point(|r| r.start <= slot.0);
        after > 0 && slot.0 < self.0[after - 1].end_exclusive
    }

    /// All slots of the set, in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().flat_map(|r| (r.start..r.end_exclusive).map(Slot))
    }

    /// Puts every slot of the range into the set.
    pub fn insert(&mut self, range: SlotRange) {
        // Everything that overlaps or touches the range melts into it.
        let first = self.0.partition_point(|r| r.end_exclusive < range.start);
        let last = self.0.partition_point(|r| r.start <= range.end_exclusive);
        let mut whole = range;
        if let Some(r) = self.0.get(first).filter(|_| first < last) {
            whole.start = whole.start.min(r.start);
        }
        if last > first {
            whole.end_exclusive = whole.end_exclusive.max(self.0[last - 1].end_exclusive);
        }
        self.0.splice(first..last, [whole]);
    }

    /// Takes every slot of the range out of the set.
    pub fn remove(&mut self, range: SlotRange) {
        let first = self.0.partition_point(|r| r.end_exclusive <= range.start);
        let last = self.0.partition_point(|r| r.start < range.end_exclusive);
        if first >= last {
            return;
        }
        let left = SlotRange { start: self.0[first].start, end_exclusive: range.start };
        let right = SlotRange { start: range.end_exclusive, end_exclusive: self.0[last - 1].end_exclusive };
        let kept = [left, right].into_iter().filter(|r| r.start < r.end_exclusive);
        self.0.splice(first..last, kept);
    }

    /// Puts every slot of the other set into this one.
    pub fn union(&mut self, other: &Self) {
        for range in &other.0 {
            self.insert(*range);
        }
    }

    /// Takes every slot of the other set out of this one.
    pub fn subtract(&mut self, other: &Self) {
        for range in &other.0 {
            self.remove(*range);
        }
    }

    /// Whether the two sets share a slot.
    pub fn intersects(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.start < y.end_exclusive && y.start < x.end_exclusive {
                return true;
            }
            if x.end_exclusive <= y.end_exclusive {
                a.next()
            } else {
                b.next()
            };
        }
        false
    }

    /// `start, end_exclusive, start, end_exclusive, …`: the form inside messages.
    pub fn to_bounds(&self) -> Vec<u32> {
        self.0.iter().flat_map(|r| [u32::from(r.start), u32::from(r.end_exclusive)]).collect()
    }

    /// Reads [`Self::to_bounds`] back; refuses what is not sorted, disjoint and within bounds.
    pub fn from_bounds(bounds: &[u32]) -> Result<Self, Error> {
        const BAD: Error =
            Error::Invalid { what: "set of slots", why: "its bounds must rise and be at most 16384" };
        if !bounds.len().is_multiple_of(2) || !bounds.is_sorted_by(|a, b| a < b) {
            return Err(BAD);
        }
        let narrow = |n: u32| u16::try_from(n).map_err(|_| BAD);
        bounds
            .chunks_exact(2)
            .map(|pair| SlotRange::new(narrow(pair[0])?, narrow(pair[1])?))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<SlotRange> for SlotRanges {
    fn from(range: SlotRange) -> Self {
        Self(vec![range])
    }
}

impl FromIterator<SlotRange> for SlotRanges {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut all = Self::new();
        for range in ranges {
            all.insert(range);
        }
        all
    }
}

impl fmt::Display for SlotRanges {
    /// `0-1023,4096-5119`, both ends inclusive, for people; `none` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}
