//! What a writer holds: items from the moment they are taken until they are acknowledged. Pure: no clock, no network.
//!
//! Invariants:
//! 1. Items have rising sequences, are sent in that order, and leave in that order, each with its result.
//! 2. Nothing is sent beyond the credits of the stream that is open.
//! 3. When a stream is opened anew, everything that is not acknowledged is sent again, from the first one.

use std::collections::VecDeque;

/// An item that was taken.
struct Entry<T> {
    bytes: u64,
    item: T,
}

/// What a response of the server says, but for the results themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) acknowledged: u64,
    pub(super) results: usize,
    pub(super) sequence_max: u64,
    pub(super) bytes_max: u64,
}

/// How large a message may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    pub(super) items: usize,
    pub(super) bytes: u64,
}

/// See the [module](self).
pub(super) struct Queue<T> {
    /// The sequence of the first entry.
    first: u64,
    entries: VecDeque<Entry<T>>,
    /// How many of the entries were sent by the stream that is open.
    sent: usize,
    unsent_bytes: u64,
    /// Bytes sent since it was opened.
    sent_bytes: u64,
    sequence_max: u64,
    bytes_max: u64,
}

impl<T> Queue<T> {
    /// Nothing was taken yet.
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            sent: 0,
            unsent_bytes: 0,
            sent_bytes: 0,
            sequence_max: 0,
            bytes_max: 0,
        }
    }

    /// Takes an item; `bytes` is its encoded size.
    pub(super) fn push(&mut self, item: T, bytes: u64) {
        self.unsent_bytes += bytes;
        self.entries.push_back(Entry { bytes, item });
    }

    /// The sequence of the first item that is not acknowledged.
    pub(super) fn first_sequence(&self) -> u64 {
        self.first
    }

    /// The sequence of the last item that was taken.
    pub(super) fn last_sequence(&self) -> u64 {
        self.first - 1 + self.entries.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Items and bytes that the open stream was not sent yet.
    pub(super) fn unsent(&self) -> (usize, u64) {
        (self.entries.len() - self.sent, self.unsent_bytes)
    }

    /// A stream is opened, from [`Self::first_sequence`] on. There are no credits yet.
    pub(super) fn opened(&mut self) {
        (self.sent, self.sent_bytes) = (0, 0);
        (self.sequence_max, self.bytes_max) = (0, 0);
        self.unsent_bytes = self.entries.iter().map(|entry| entry.bytes).sum();
    }

    /// How many items the next message may have: as far as credits and limits go.
    pub(super) fn sendable(&self, limits: BatchLimits) -> usize {
        let (mut count, mut bytes) = (0, 0);
        let next = self.first + self.sent as u64;
        for (sequence, entry) in (next..).zip(self.entries.iter().skip(self.sent)) {
            bytes += entry.bytes;
            let full = count == limits.items || (count > 0 && bytes > limits.bytes);
            if full || sequence > self.sequence_max || self.sent_bytes + bytes > self.bytes_max {
                break;
            }
            count += 1;
        }
        count
    }

    /// So many items leave for the open stream: the sequence of the first one, and the items.
    pub(super) fn send(&mut self, count: usize) -> (u64, impl Iterator<Item = &T>) {
        let (from, to) = (self.sent, (self.sent + count).min(self.entries.len()));
        let bytes: u64 = self.entries.range(from..to).map(|entry| entry.bytes).sum();
        self.sent = to;
        self.sent_bytes += bytes;
        self.unsent_bytes -= bytes;
        (self.first + from as u64, self.entries.range(from..to).map(|entry| &entry.item))
    }

    /// Takes what the server says: the items that have their results now, in order.
    ///
    /// # Errors
    /// When it makes no sense; nothing is taken of it then.
    pub(super) fn told(&mut self, told: Told) -> Result<Vec<T>, &'static str> {
        let Told { acknowledged, results, sequence_max, bytes_max } = told;
        if acknowledged.checked_sub(self.first - 1) != Some(results as u64) {
            return Err("not one result for each acknowledged item");
        }
        if results > self.sent {
            return Err("items are acknowledged that were not sent");
        }
        self.sequence_max = self.sequence_max.max(sequence_max);
        self.bytes_max = self.bytes_max.max(bytes_max);
        self.first += results as u64;
        self.sent -= results;
        Ok(self.entries.drain(..results).map(|entry| entry.item).collect())
    }

    /// Everything that is not acknowledged, in order; the queue is empty then.
    pub(super) fn give_up(&mut self) -> Vec<T> {
        (self.sent, self.unsent_bytes) = (0, 0);
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { items: 3, bytes: 25 };

    fn told(acknowledged: u64, results: usize, sequence_max: u64, bytes_max: u64) -> Told {
        Told { acknowledged, results, sequence_max, bytes_max }
    }

    fn sent(queue: &mut Queue<u64>) -> (u64, Vec<u64>) {
        let count = queue.sendable(LIMITS);
        let (first, items) = queue.send(count);
        (first, items.copied().collect())
    }

    #[test]
    fn items_go_out_as_far_as_credits_and_messages_go() {
        let mut queue = Queue::new();
        (1..=8).for_each(|item| queue.push(item, 10));
        queue.opened();
        assert_eq!(sent(&mut queue), (1, vec![]), "no credits yet");
        assert_eq!(queue.told(told(0, 0, 5, 1_000)), Ok(vec![]));
        assert_eq!(sent(&mut queue), (1, vec![1, 2]), "25 bytes in a message");
        assert_eq!(sent(&mut queue), (3, vec![3, 4]));
        assert_eq!(sent(&mut queue), (5, vec![5]), "five items may be on their way");
        assert_eq!((queue.unsent(), queue.last_sequence()), ((3, 30), 8));
        assert_eq!(queue.told(told(2, 2, 8, 65)), Ok(vec![1, 2]));
        assert_eq!(sent(&mut queue), (6, vec![6, 7]), "credits are never taken back");
    }

    #[test]
    fn a_stream_that_is_opened_anew_gets_all_that_is_not_acknowledged() {
        let mut queue = Queue::new();
        (1..=4).for_each(|item| queue.push(item, 1));
        queue.opened();
        queue.told(told(0, 0, 9, 9)).unwrap();
        assert_eq!(sent(&mut queue), (1, vec![1, 2, 3]));
        assert_eq!(queue.told(told(1, 1, 9, 9)), Ok(vec![1]));
        queue.opened();
        assert_eq!((queue.first_sequence(), queue.unsent()), (2, (3, 3)));
        assert_eq!(queue.sendable(LIMITS), 0, "the new one has to give its own credits");
        queue.told(told(1, 0, 9, 9)).unwrap();
        assert_eq!(sent(&mut queue), (2, vec![2, 3, 4]));
        assert_eq!(queue.told(told(4, 3, 9, 9)), Ok(vec![2, 3, 4]));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut queue = Queue::new();
        (1..=3).for_each(|item| queue.push(item, 1));
        queue.opened();
        queue.told(told(0, 0, 2, 9)).unwrap();
        assert_eq!(sent(&mut queue).1, [1, 2]);
        for wrong in [told(2, 1, 9, 9), told(3, 3, 9, 9), told(0, 1, 9, 9)] {
            assert!(queue.told(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(queue.told(told(2, 2, 9, 9)), Ok(vec![1, 2]), "and nothing was taken of it");
        assert_eq!(queue.give_up(), [3]);
    }

    proptest! {
        /// Whatever breaks when: each item leaves once, in order, and no server is sent more than it allowed.
        #[test]
        fn every_item_leaves_once_and_in_order(
            sizes in prop::collection::vec(1..20_u64, 1..60),
            steps in prop::collection::vec((0..4_u8, 0..8_usize), 1..200),
        ) {
            let mut queue = Queue::new();
            let mut taken = (1..).zip(sizes);
            let (mut left, mut server) = (Vec::new(), None::<(u64, u64, u64, u64)>);
            for (kind, number) in steps.into_iter().chain((0..400_u32).map(|n| ((n % 4) as u8, 7))) {
                match kind {
                    0 => taken.by_ref().take(number).for_each(|(item, bytes)| queue.push(item, bytes)),
                    1 if number < 2 || server.is_none() => {
                        queue.opened();
                        // Received up to, bytes received, and the credits.
                        let first = queue.first_sequence();
                        server = Some((first - 1, 0, first + 4, 40));
                        prop_assert_eq!(queue.told(told(first - 1, 0, first + 4, 40)), Ok(vec![]));
                    }
                    2 => if let Some((received, bytes, sequence_max, bytes_max)) = &mut server {
                        let before = queue.unsent().1;
                        let count = queue.sendable(LIMITS);
                        let (first, items) = queue.send(count);
                        let items: Vec<u64> = items.copied().collect();
                        prop_assert_eq!(first, *received + 1);
                        prop_assert_eq!(&items, &(first..first + items.len() as u64).collect::<Vec<_>>());
                        *received += items.len() as u64;
                        *bytes += before - queue.unsent().1;
                        prop_assert!(*received <= *sequence_max && *bytes <= *bytes_max);
                    }
                    _ => if let Some((received, bytes, sequence_max, bytes_max)) = &mut server {
                        let first = queue.first_sequence();
                        let count = (*received + 1 - first).min(number as u64);
                        (*sequence_max, *bytes_max) = (first + count + 4, *bytes + 40);
                        let news = told(first - 1 + count, count as usize, *sequence_max, *bytes_max);
                        left.extend(queue.told(news).unwrap());
                    }
                }
            }
            prop_assert_eq!(&left, &(1..=left.len() as u64).collect::<Vec<_>>());
            prop_assert!(queue.is_empty() && taken.next().is_none(), "all of it came through");
        }
    }
}
