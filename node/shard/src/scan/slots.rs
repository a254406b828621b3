//! Cutting what a shard owns into parts, and leaving out what it doesn't.

use isthmus_domain::{FacetId, Slot, SlotRange, SlotRanges};

/// The slots from one on up to but not including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotSpan {
    pub start: u16,
    /// Behind the last; 16,384 behind all.
    pub end: u16,
}

impl SlotSpan {
    /// The smallest facet of its first slot.
    pub fn from(self) -> [u8; 16] {
        first_of(self.start)
    }

    /// The smallest facet behind it; `None` behind all.
    pub fn to(self) -> Option<[u8; 16]> {
        Slot::new(self.end).map(|_| first_of(self.end))
    }
}

fn first_of(slot: u16) -> [u8; 16] {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&(slot << 2).to_be_bytes());
    id
}

/// Spans that hold all of these slots once and about as many of them each; at most `parts`. What lies between owned
/// ranges may be in a span, too.
pub(super) fn spans(owned: &SlotRanges, parts: usize) -> Vec<SlotSpan> {
    let slots: Vec<u16> = owned.slots().map(|slot| slot.number()).collect();
    let size = slots.len().div_ceil(parts.max(1)).max(1);
    let span =
        |slots: &[u16]| Some(SlotSpan { start: *slots.first()?, end: slots.last()?.saturating_add(1) });
    slots.chunks(size).filter_map(span).collect()
}

/// Spans of at most so many slots that hold all of these once, where multiples of that begin: always the same ones.
pub(super) fn blocks(owned: &SlotRanges, slots: u16) -> Vec<SlotSpan> {
    let mut blocks: Vec<SlotSpan> = Vec::new();
    for slot in owned.slots().map(|slot| slot.number()) {
        match blocks.last_mut() {
            Some(last) if last.start / slots == slot / slots => last.end = slot.saturating_add(1),
            _ => blocks.push(SlotSpan { start: slot, end: slot.saturating_add(1) }),
        }
    }
    blocks
}

/// Whether a shard owns facets; looks first where the last one was.
pub(super) struct Owned<'a> {
    all: &'a SlotRanges,
    last: Option<SlotRange>,
}

impl<'a> Owned<'a> {
    pub fn of(all: &'a SlotRanges) -> Self {
        Self { all, last: all.as_slice().first().copied() }
    }

    pub fn has(&mut self, id: &[u8; 16]) -> bool {
        let slot = Slot::of_hash(id);
        if self.last.is_some_and(|last| last.contains(slot)) {
            return true;
        }
        let found = self.all.as_slice().iter().find(|range| range.contains(slot)).copied();
        self.last = found.or(self.last);
        found.is_some()
    }

    /// Whether all from one to another are owned, both included.
    pub fn has_all(&self, first: &FacetId, last: &FacetId) -> bool {
        self.all.as_slice().iter().any(|range| range.contains(first.slot()) && range.contains(last.slot()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_each_owned_slot_once() {
        let mut owned = SlotRanges::new();
        for (start, end) in [(0, 5), (100, 1_000), (16_000, 16_384)] {
            owned.insert(SlotRange::new(start, end).unwrap());
        }
        for parts in [1, 2, 7, 2_000] {
            let spans = spans(&owned, parts);
            assert!(spans.len() <= parts);
            for slot in owned.slots() {
                let id = FacetId::from_bytes(first_of(slot.number()));
                let holding = spans.iter().filter(|span| {
                    span.from() <= *id.as_bytes() && span.to().is_none_or(|to| *id.as_bytes() < to)
                });
                assert_eq!(holding.count(), 1, "{slot}");
            }
        }
        assert!(spans(&SlotRanges::new(), 4).is_empty());
        let blocks = blocks(&owned, 16);
        for slot in owned.slots().map(|slot| slot.number()) {
            let holding = blocks.iter().filter(|block| block.start <= slot && slot < block.end);
            assert_eq!(holding.count(), 1, "{slot}");
        }
        assert!(blocks.iter().all(|block| block.start / 16 == (block.end - 1) / 16));
        assert_eq!(blocks.len(), 1 + 57 + 24);
    }
}
