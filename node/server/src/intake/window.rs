//! The server's side of an ingest stream, without clock and network: sequences, credits, lanes, acknowledgements. Pure.
//!
//! Invariants, for any order of calls:
//! 1. What is on its way is at most [`Limits::items`] items and [`Limits::bytes`] bytes; credits promise no more, and
//!    never less than before.
//! 2. An item is acknowledged when it and all before it have their results, and results come once, in order.
//! 3. Of each lane one chunk is out at a time. Items leave a lane in the order of their sequences; those that have to be
//!    tried again come before all that wait. So an item is out only when all before it in its lane are answered, or out
//!    in the same chunk.
//! 4. What was refused as a violation leaves everything else as it was.
//!
//! `T` is an item that is ready for its shard, `R` a result.

use std::collections::VecDeque;

/// Lanes of a stream. Each takes an equal part of the slots.
pub const LANES: usize = 16;
/// Items and bytes of a chunk, so that what of it goes to one shard goes into one command: a command is applied as a
/// whole or not at all. An item that is larger makes a chunk alone.
const CHUNK_ITEMS: usize = 1_000;
const CHUNK_BYTES: u64 = 192 << 10;

/// What may be on its way in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub items: u64,
    /// Bytes of items, as they came; an item of the largest size fits.
    pub bytes: u64,
    /// Bytes of one item.
    pub item_bytes: u64,
}

/// What a client must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Items don't begin with the sequence that is next.
    Gap {
        /// The next one.
        expected: u64,
        /// Theirs.
        given: u64,
    },
    /// An item beyond the credits.
    Items {
        /// The last sequence that might be sent.
        sequence_max: u64,
        /// The last one that was.
        given: u64,
    },
    /// More bytes than the credits.
    Bytes {
        /// How many might be sent.
        bytes_max: u64,
        /// How many were.
        given: u64,
    },
    /// An item over the limit.
    TooLarge {
        /// Its sequence.
        sequence: u64,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
}

/// Items of one lane that go out together.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk<T> {
    /// The lane.
    pub lane: usize,
    /// The items with their sequences, in order.
    pub items: Vec<(u64, T)>,
}

/// What came of an item that was out.
#[derive(Debug)]
pub enum Landing<T, R> {
    /// It has its result.
    Answered(R),
    /// It has to be tried again.
    Again(T),
}

/// What a client is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct News<R> {
    /// The last sequence up to which all have results.
    pub acknowledged: u64,
    /// The results since the last news, in order.
    pub results: Vec<R>,
    /// The last sequence that may be sent.
    pub sequence_max: u64,
    /// Bytes that may have been sent, in all.
    pub bytes_max: u64,
}

/// A stream's items on their way. See the [module](self).
pub struct Window<T, R> {
    limits: Limits,
    /// The last sequence that was told as acknowledged.
    acknowledged: u64,
    /// The items behind it.
    entries: VecDeque<Entry<R>>,
    lanes: [Lane<T>; LANES],
    /// Bytes of items that came, and of those that were acknowledged.
    bytes_received: u64,
    bytes_acknowledged: u64,
    closed: bool,
}

struct Entry<R> {
    bytes: u64,
    result: Option<R>,
}

struct Lane<T> {
    /// Sequence, bytes, item.
    waiting: VecDeque<(u64, u64, T)>,
    /// Bytes of the items of the chunk that is out, by sequence; empty when none is.
    out: Vec<(u64, u64)>,
    resting: bool,
}

impl<T, R> Window<T, R> {
    /// A stream whose first item has this sequence, 1 at least.
    pub fn new(first_sequence: u64, limits: Limits) -> Self {
        let lane = |_| Lane { waiting: VecDeque::new(), out: Vec::new(), resting: false };
        Self {
            limits,
            acknowledged: first_sequence.saturating_sub(1),
            entries: VecDeque::new(),
            lanes: std::array::from_fn(lane),
            bytes_received: 0,
            bytes_acknowledged: 0,
            closed: false,
        }
    }

    /// The sequence of the next item.
    pub fn next_sequence(&self) -> u64 {
        self.acknowledged + self.entries.len() as u64 + 1
    }

    fn sequence_max(&self) -> u64 {
        self.acknowledged + self.limits.items
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_acknowledged + self.limits.bytes
    }

    /// Lets items of these sizes in, each of which has to be [placed](Self::place) or [answered](Self::answer) then.
    ///
    /// # Errors
    /// [`Violation`], and then none of them is let in.
    pub fn receive(&mut self, first_sequence: u64, sizes: &[u64]) -> Result<(), Violation> {
        let expected = self.next_sequence();
        if first_sequence != expected {
            return Err(Violation::Gap { expected, given: first_sequence });
        }
        let (last, sequence_max) = (expected - 1 + sizes.len() as u64, self.sequence_max());
        if last > sequence_max {
            return Err(Violation::Items { sequence_max, given: last });
        }
        let bytes_max = self.limits.item_bytes;
        if let Some((sequence, bytes)) = (expected..).zip(sizes).find(|(_, bytes)| **bytes > bytes_max) {
            return Err(Violation::TooLarge { sequence, bytes: *bytes, bytes_max });
        }
        let given = self.bytes_received + sizes.iter().sum::<u64>();
        if given > self.bytes_max() {
            return Err(Violation::Bytes { bytes_max: self.bytes_max(), given });
        }
        self.bytes_received = given;
        self.entries.extend(sizes.iter().map(|bytes| Entry { bytes: *bytes, result: None }));
        Ok(())
    }

    /// Puts an item that was let in behind those of its lane. `bytes` is what it weighs on its way. Items are placed in
    /// the order of their sequences.
    pub fn place(&mut self, sequence: u64, lane: usize, bytes: u64, item: T) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            debug_assert!(lane.waiting.back().is_none_or(|(last, _, _)| *last < sequence), "out of order");
            lane.waiting.push_back((sequence, bytes, item));
        }
    }

    /// Gives an item its result.
    pub fn answer(&mut self, sequence: u64, result: R) {
        let index = sequence.checked_sub(self.acknowledged + 1).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) {
            debug_assert!(entry.result.is_none(), "an item is answered once");
            entry.result = Some(result);
        }
    }

    /// The next chunk that may go out, if there is one.
    pub fn start(&mut self) -> Option<Chunk<T>> {
        if self.closed {
            return None;
        }
        let free = |lane: &Lane<T>| lane.out.is_empty() && !lane.resting && !lane.waiting.is_empty();
        let (number, lane) = self.lanes.iter_mut().enumerate().find(|(_, lane)| free(lane))?;
        let (mut items, mut size) = (Vec::new(), 0);
        while let Some((sequence, bytes, item)) = lane.waiting.pop_front_if(|(_, bytes, _)| {
            items.is_empty() || (items.len() < CHUNK_ITEMS && size + *bytes <= CHUNK_BYTES)
        }) {
            size += bytes;
            lane.out.push((sequence, bytes));
            items.push((sequence, item));
        }
        Some(Chunk { lane: number, items })
    }

    /// Takes what came of the chunk that was out of a lane, an item each. True when some are to be tried again: the lane
    /// then rests until it is [woken](Self::wake).
    pub fn land(&mut self, lane: usize, landings: impl IntoIterator<Item = (u64, Landing<T, R>)>) -> bool {
        let Some(out) = self.lanes.get_mut(lane).map(|lane| std::mem::take(&mut lane.out)) else {
            return false;
        };
        let mut again = Vec::new();
        for (sequence, landing) in landings {
            match landing {
                Landing::Answered(result) => self.answer(sequence, result),
                Landing::Again(item) => again.push((sequence, item)),
            }
        }
        let rests = !again.is_empty();
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.resting = rests;
            for (sequence, item) in again.into_iter().rev() {
                let bytes = out.iter().find(|(other, _)| *other == sequence).map_or(0, |(_, bytes)| *bytes);
                lane.waiting.push_front((sequence, bytes, item));
            }
        }
        rests
    }

    /// Lets a lane that rested go on.
    pub fn wake(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.resting = false;
        }
    }

    /// Lets nothing go out any more. What is out comes back.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether a chunk is out.
    pub fn is_busy(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.out.is_empty())
    }

    /// Whether every item that came was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the client may be told now that it was not told before; `None` when that is nothing.
    pub fn news(&mut self) -> Option<News<R>> {
        let mut results = Vec::new();
        while let Some(Entry { result: Some(_), .. }) = self.entries.front()
            && let Some(Entry { bytes, result: Some(result) }) = self.entries.pop_front()
        {
            self.acknowledged += 1;
            self.bytes_acknowledged += bytes;
            results.push(result);
        }
        if results.is_empty() { None } else { Some(News { results, ..self.stand() }) }
    }

    /// Where the stream stands: news without results.
    pub fn stand(&self) -> News<R> {
        News {
            acknowledged: self.acknowledged,
            results: Vec::new(),
            sequence_max: self.sequence_max(),
            bytes_max: self.bytes_max(),
        }
    }
}

#[cfg(test)]
mod tests;
