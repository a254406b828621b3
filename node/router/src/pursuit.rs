//! Where to ask next: the pure part of every retry.
//!
//! A [`Pursuit`] is one call on its way to a shard. It is asked where to go ([`Pursuit::pick`]), told what came of it
//! ([`Pursuit::judge`]), and says whether and when to go on. It knows no clock, no network and no deadline; the loop
//! around it (`reach`) does, and ends it.
//!
//! Promises:
//! 1. A leader that is named is followed at once, but at most [`FOLLOWS_MAX`] times in a row: two replicas that name
//!    each other can't keep a call spinning.
//! 2. Any other try is preceded by a wait that doubles from `wait_min` to `wait_max`, with jitter, so that the calls
//!    that one failure hit don't come back together.
//! 3. Every replica is asked in turn while no leader is known.
//! 4. Whether an earlier try may have been carried out is never forgotten ([`Pursuit::maybe_done`]). A call that must
//!    not be repeated is over once that is so.

use std::time::Duration;

use isthmus_proto::internal::v1::{CallError, CallErrorCode};

/// How many named leaders are followed without a wait.
const FOLLOWS_MAX: u32 = 3;

/// Which replicas can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The leader only.
    Leader,
    /// Any; the one on this node is nearest.
    Any,
}

/// What is known of a shard's replicas when a call goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidates<'a> {
    /// Peers by the shard map, the preferred leader first.
    pub(crate) replicas: &'a [u64],
    /// The peer on this node, if there is one.
    pub(crate) local: Option<u64>,
    /// Who leads, by the replica on this node.
    pub(crate) local_leader: Option<u64>,
    /// Who led when a call last learnt of it; 0 when unknown.
    pub(crate) hint: u64,
}

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) wait_min: Duration,
    pub(crate) wait_max: Duration,
    /// How often an overloaded shard is asked again.
    pub(crate) overloads_max: u32,
}

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after so long.
    After(Duration),
    /// Tell the caller.
    Over,
}

/// One call on its way.
#[derive(Debug)]
pub(crate) struct Pursuit {
    want: Want,
    repeatable: bool,
    patience: Patience,
    /// Where the next rotation begins.
    rotation: usize,
    waits: u32,
    follows: u32,
    overloads: u32,
    timeouts: u32,
    named: Option<u64>,
    avoid: Option<u64>,
    maybe_done: bool,
}

impl Pursuit {
    /// A call that may be repeated even if it may have been carried out, or not.
    pub(crate) fn new(want: Want, repeatable: bool, patience: Patience) -> Self {
        Self {
            want,
            repeatable,
            patience,
            rotation: 0,
            waits: 0,
            follows: 0,
            overloads: 0,
            timeouts: 0,
            named: None,
            avoid: None,
            maybe_done: false,
        }
    }

    /// Which replicas can answer.
    pub(crate) fn want(&self) -> Want {
        self.want
    }

    /// Whether it may be made again once it may have been carried out.
    pub(crate) fn repeatable(&self) -> bool {
        self.repeatable
    }

    /// Whether some try may have been carried out.
    pub(crate) fn maybe_done(&self) -> bool {
        self.maybe_done
    }

    /// How often no answer came in time: the patience with a try doubles with each.
    pub(crate) fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// The peer to ask; `None` when the shard has no replica that is known.
    pub(crate) fn pick(&mut self, known: Candidates<'_>) -> Option<u64> {
        if let Some(peer) = self.named.take() {
            return Some(peer);
        }
        let avoid = self.avoid;
        let usable = |peer: &u64| *peer != 0 && Some(*peer) != avoid;
        let guess = match self.want {
            Want::Any => known.local.filter(usable),
            Want::Leader => {
                let local = known.local_leader.filter(usable);
                local.or_else(|| Some(known.hint).filter(usable))
            }
        };
        guess.or_else(|| self.rotate(known.replicas))
    }

    fn rotate(&mut self, replicas: &[u64]) -> Option<u64> {
        let turns = (0..replicas.len()).map(|turn| self.rotation.wrapping_add(turn) % replicas.len());
        let index = turns
            .clone()
            .find(|index| Some(replicas[*index]) != self.avoid)
            .or_else(|| turns.clone().next())?;
        self.rotation = index + 1;
        Some(replicas[index])
    }

    /// What to do after `peer` refused, or did not answer (`OUTCOME_UNKNOWN`). `jitter` is any number.
    pub(crate) fn judge(&mut self, peer: u64, error: &CallError, jitter: u64) -> Next {
        match error.code() {
            CallErrorCode::NotLeader => {
                self.avoid = Some(peer);
                let named = Some(error.leader).filter(|leader| *leader != 0 && *leader != peer);
                if named.is_some() && self.follows < FOLLOWS_MAX {
                    self.follows += 1;
                    self.named = named;
                    return Next::After(Duration::ZERO);
                }
                self.wait(jitter)
            }
            CallErrorCode::NoLeader | CallErrorCode::NoReplica | CallErrorCode::Unavailable => {
                self.avoid = Some(peer);
                self.wait(jitter)
            }
            CallErrorCode::OutcomeUnknown => {
                self.maybe_done = true;
                if !self.repeatable {
                    return Next::Over;
                }
                self.avoid = Some(peer);
                self.wait(jitter)
            }
            CallErrorCode::Overloaded => {
                self.overloads += 1;
                if self.overloads > self.patience.overloads_max {
                    return Next::Over;
                }
                self.named = Some(peer);
                let asked = Duration::from_millis(u64::from(error.retry_after_ms));
                // Up to a quarter later than asked, never earlier.
                let wait = asked.max(self.patience.wait_min);
                Next::After(wait + part_of(wait / 4, jitter))
            }
            // Room on a disk is not made within a call's time.
            CallErrorCode::DiskFull | CallErrorCode::Invalid | CallErrorCode::Unspecified => Next::Over,
        }
    }

    /// As `judge`, for a try that was not answered in the time given to it.
    pub(crate) fn judge_timeout(&mut self, peer: u64, error: &CallError, jitter: u64) -> Next {
        self.timeouts = self.timeouts.saturating_add(1);
        self.judge(peer, error, jitter)
    }

    fn wait(&mut self, jitter: u64) -> Next {
        self.follows = 0;
        let wait = backoff(self.patience.wait_min, self.patience.wait_max, self.waits, jitter);
        self.waits = self.waits.saturating_add(1);
        Next::After(wait)
    }
}

/// A wait that doubles with every `attempt` up to a limit, of which at least half is kept and the rest is jitter.
pub(crate) fn backoff(min: Duration, max: Duration, attempt: u32, jitter: u64) -> Duration {
    let whole = min.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(max);
    whole / 2 + part_of(whole / 2, jitter)
}

/// From nothing up to `whole`, by a number that may be anything.
fn part_of(whole: Duration, jitter: u64) -> Duration {
    let parts = u32::try_from(jitter % 1_025).unwrap_or(0);
    whole.saturating_mul(parts) / 1_024
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::call_error;

    const PATIENCE: Patience = Patience {
        wait_min: Duration::from_millis(5),
        wait_max: Duration::from_millis(100),
        overloads_max: 2,
    };
    const REPLICAS: [u64; 3] = [11, 22, 33];

    fn known(hint: u64) -> Candidates<'static> {
        Candidates { replicas: &REPLICAS, local: None, local_leader: None, hint }
    }

    fn not_leader(leader: u64) -> CallError {
        CallError { leader, ..call_error(CallErrorCode::NotLeader, "") }
    }

    fn code() -> impl Strategy<Value = CallErrorCode> {
        prop::sample::select(vec![
            CallErrorCode::NotLeader,
            CallErrorCode::NoLeader,
            CallErrorCode::NoReplica,
            CallErrorCode::Unavailable,
            CallErrorCode::OutcomeUnknown,
        ])
    }

    proptest! {
        #[test]
        fn a_call_never_spins_and_never_waits_longer_than_it_may(
            script in prop::collection::vec((code(), 0_usize..4, any::<u64>()), 1..60),
        ) {
            let mut pursuit = Pursuit::new(Want::Leader, true, PATIENCE);
            let (mut at_once, mut unknown) = (0, false);
            for (code, leader, jitter) in script {
                let peer = pursuit.pick(known(0)).unwrap();
                prop_assert!(REPLICAS.contains(&peer));
                unknown |= code == CallErrorCode::OutcomeUnknown;
                let leader = REPLICAS.get(leader).copied().unwrap_or(0);
                let error = CallError { leader, ..call_error(code, "") };
                match pursuit.judge(peer, &error, jitter) {
                    Next::After(Duration::ZERO) => at_once += 1,
                    Next::After(wait) => {
                        at_once = 0;
                        prop_assert!(wait >= PATIENCE.wait_min / 2 && wait <= PATIENCE.wait_max);
                    }
                    Next::Over => prop_assert!(false, "these can all be repeated"),
                }
                prop_assert!(at_once <= FOLLOWS_MAX);
                prop_assert_eq!(pursuit.maybe_done(), unknown, "an unknown outcome is never forgotten");
            }
        }
    }

    #[test]
    fn all_replicas_are_asked_in_turn_the_preferred_one_first() {
        let mut pursuit = Pursuit::new(Want::Leader, true, PATIENCE);
        let asked: Vec<u64> = (0..7)
            .map(|_| {
                let peer = pursuit.pick(known(0)).unwrap();
                pursuit.judge(peer, &call_error(CallErrorCode::NoLeader, ""), 0);
                peer
            })
            .collect();
        assert_eq!(asked, [11, 22, 33, 11, 22, 33, 11]);
    }

    #[test]
    fn a_named_leader_is_asked_next_and_at_once() {
        let mut pursuit = Pursuit::new(Want::Leader, true, PATIENCE);
        let first = pursuit.pick(known(22)).unwrap();
        assert_eq!(first, 22, "what was learnt before comes first");
        assert_eq!(pursuit.judge(first, &not_leader(33), 9), Next::After(Duration::ZERO));
        assert_eq!(pursuit.pick(known(22)), Some(33));
    }

    #[test]
    fn the_replica_here_knows_best_who_leads_and_is_nearest_for_any() {
        let known = Candidates { replicas: &REPLICAS, local: Some(33), local_leader: Some(11), hint: 22 };
        assert_eq!(Pursuit::new(Want::Leader, true, PATIENCE).pick(known), Some(11));
        assert_eq!(Pursuit::new(Want::Any, true, PATIENCE).pick(known), Some(33));
    }

    #[test]
    fn a_leader_that_just_failed_is_not_asked_again_at_once() {
        let mut pursuit = Pursuit::new(Want::Leader, true, PATIENCE);
        let known = Candidates { replicas: &REPLICAS, local: Some(33), local_leader: Some(22), hint: 22 };
        assert_eq!(pursuit.pick(known), Some(22));
        pursuit.judge(22, &call_error(CallErrorCode::Unavailable, ""), 0);
        assert_eq!(pursuit.pick(known), Some(11));
    }

    #[test]
    fn an_overloaded_shard_is_asked_again_no_earlier_than_it_said_and_not_for_ever() {
        let mut pursuit = Pursuit::new(Want::Leader, true, PATIENCE);
        let error = CallError { retry_after_ms: 40, ..call_error(CallErrorCode::Overloaded, "") };
        for jitter in [0, u64::MAX] {
            assert_eq!(pursuit.pick(known(22)), Some(22));
            let Next::After(wait) = pursuit.judge(22, &error, jitter) else { panic!("given up too early") };
            assert!((40..=50).contains(&wait.as_millis()));
        }
        assert_eq!(pursuit.judge(22, &error, 0), Next::Over);
    }

    #[test]
    fn what_must_not_be_repeated_is_over_once_its_outcome_is_unknown() {
        let mut pursuit = Pursuit::new(Want::Leader, false, PATIENCE);
        assert!(matches!(pursuit.judge(11, &call_error(CallErrorCode::NoLeader, ""), 0), Next::After(_)));
        assert_eq!(pursuit.judge(22, &call_error(CallErrorCode::OutcomeUnknown, ""), 0), Next::Over);
        assert!(pursuit.maybe_done());
    }

    #[test]
    fn a_shard_without_replicas_has_nobody_to_ask() {
        let nobody = Candidates { replicas: &[], local: None, local_leader: None, hint: 0 };
        assert_eq!(Pursuit::new(Want::Leader, true, PATIENCE).pick(nobody), None);
    }
}
