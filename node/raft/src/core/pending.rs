//! Proposals that wait for their entry to be committed, by `(term, index)`.
//!
//! Only a leader has any, all of one term: when it stops leading that term, what becomes of the rest is unknown
//! (a later leader may still commit them), and they are answered so.

use std::collections::VecDeque;

pub(super) struct Pending<P> {
    term: u64,
    /// Sorted by index, since a leader only appends.
    waiting: VecDeque<(u64, P)>,
}

impl<P> Pending<P> {
    pub(super) fn new() -> Self {
        Self { term: 0, waiting: VecDeque::new() }
    }

    /// Remembers who waits for the entry. All of one term: [`fail_unless`](Self::fail_unless) comes before.
    pub(super) fn push(&mut self, term: u64, index: u64, token: P) {
        debug_assert!(self.waiting.is_empty() || self.term == term);
        debug_assert!(self.waiting.back().is_none_or(|(last, _)| *last < index));
        self.term = term;
        self.waiting.push_back((index, token));
    }

    /// Who waits for the entry that was committed at `(term, index)`, if anyone. Committed indexes only rise.
    pub(super) fn take(&mut self, term: u64, index: u64) -> Option<P> {
        if term != self.term {
            return None;
        }
        match self.waiting.front() {
            Some((first, _)) if *first == index => self.waiting.pop_front().map(|(_, token)| token),
            _ => None,
        }
    }

    /// All that wait, unless this replica still leads the term they were proposed in.
    pub(super) fn fail_unless(&mut self, leads_term: Option<u64>) -> impl Iterator<Item = P> {
        let keep = self.waiting.is_empty() || leads_term == Some(self.term);
        let failed = if keep { VecDeque::new() } else { std::mem::take(&mut self.waiting) };
        failed.into_iter().map(|(_, token)| token)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_only_to_the_entry_of_its_own_term() {
        let mut pending = Pending::new();
        pending.push(3, 10, "a");
        pending.push(3, 12, "b");
        assert_eq!(pending.take(2, 10), None);
        assert_eq!(pending.take(3, 10), Some("a"));
        assert_eq!(pending.take(3, 11), None);
        assert_eq!(pending.take(3, 12), Some("b"));
    }

    #[test]
    fn who_stops_leading_a_term_fails_what_waits() {
        let mut pending = Pending::new();
        pending.push(3, 10, "a");
        assert_eq!(pending.fail_unless(Some(3)).count(), 0);
        assert_eq!(pending.fail_unless(Some(4)).collect::<Vec<_>>(), ["a"]);
        pending.push(5, 10, "b");
        assert_eq!(pending.fail_unless(None).collect::<Vec<_>>(), ["b"]);
        assert_eq!(pending.len(), 0);
    }
}
