//! Read barriers: at most one ReadIndex round in flight, later reads wait for the next (Ongaro 2014, §6.4).
//!
//! A round proves that whoever it asked led the group *after* the round began. So a read may only join a round
//! that begins after the read was asked for; that is why reads that come during a round wait for the next one.
//! raft-rs drops rounds silently (before a term's first commit, on a step-down, with a lost message): a round
//! without an answer is begun again, under a new name, with the same readers.

/// Names a round. Unique among all peers and restarts: an answer to a round of a former life would be too old.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    peer: u64,
    incarnation: u64,
    number: u64,
}

impl Name {
    fn to_bytes(self) -> Vec<u8> {
        [self.peer, self.incarnation, self.number].iter().flat_map(|part| part.to_be_bytes()).collect()
    }
}

pub(super) struct Reads<R> {
    name: Name,
    waiting: Vec<R>,
    round: Vec<R>,
    begun_tick: u64,
}

impl<R> Reads<R> {
    pub(super) fn new(peer: u64, incarnation: u64) -> Self {
        let name = Name { peer, incarnation, number: 0 };
        Self { name, waiting: Vec::new(), round: Vec::new(), begun_tick: 0 }
    }

    pub(super) fn push(&mut self, reader: R) {
        self.waiting.push(reader);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.round.len()
    }

    /// Begins a round with all that wait, if none is in flight and anyone waits: the context to ask Raft with.
    pub(super) fn begin(&mut self, tick: u64) -> Option<Vec<u8>> {
        if !self.round.is_empty() || self.waiting.is_empty() {
            return None;
        }
        std::mem::swap(&mut self.round, &mut self.waiting);
        self.begun_tick = tick;
        self.name.number += 1;
        Some(self.name.to_bytes())
    }

    /// Gives up the round in flight; its readers go to the next.
    pub(super) fn abandon(&mut self) {
        self.round.append(&mut self.waiting);
        std::mem::swap(&mut self.round, &mut self.waiting);
    }

    /// Gives up the round in flight if it began `ticks` ago or earlier.
    pub(super) fn abandon_after(&mut self, tick: u64, ticks: u64) {
        if !self.round.is_empty() && tick.saturating_sub(self.begun_tick) >= ticks {
            self.abandon();
        }
    }

    /// The readers whose round was answered; none if it isn't the round in flight.
    pub(super) fn answered(&mut self, context: &[u8]) -> Vec<R> {
        if context == self.name.to_bytes() { std::mem::take(&mut self.round) } else { Vec::new() }
    }

    /// All readers, whether in a round or not.
    pub(super) fn take_all(&mut self) -> Vec<R> {
        self.abandon();
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_never_joins_a_round_that_began_before_it() {
        let mut reads = Reads::new(1, 7);
        reads.push("early");
        let round = reads.begin(0).unwrap();
        reads.push("late");
        assert_eq!(reads.begin(0), None);
        assert_eq!(reads.answered(&round), ["early"]);
        let next = reads.begin(0).unwrap();
        assert_ne!(round, next);
        assert_eq!(reads.answered(&next), ["late"]);
    }

    #[test]
    fn an_answer_to_an_abandoned_round_is_not_taken() {
        let mut reads = Reads::new(1, 7);
        reads.push("a");
        let first = reads.begin(0).unwrap();
        reads.push("b");
        reads.abandon_after(5, 6);
        assert_eq!(reads.begin(5), None);
        reads.abandon_after(6, 6);
        let second = reads.begin(6).unwrap();
        assert!(reads.answered(&first).is_empty());
        assert_eq!(reads.answered(&second), ["a", "b"]);
    }

    #[test]
    fn a_round_of_a_former_life_is_not_taken() {
        let mut before = Reads::new(1, 7);
        before.push("a");
        let old = before.begin(0).unwrap();
        let mut after = Reads::new(1, 8);
        after.push("b");
        after.begin(0);
        assert!(after.answered(&old).is_empty());
    }
}
