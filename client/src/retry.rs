//! Whether a failed try may be made again, where, and when. Pure: no clock, no randomness, no I/O.
//!
//! A try ends in one of four ways ([`Ending`]). What follows depends on that, on the hub's code and reason, and on
//! what kind of call it is ([`Kind`]):
//!
//! - never sent (no connection): any call goes to another endpoint at once;
//! - broken or timed out on the way: reads and repeatable writes are made again; a write that must happen once is
//!   not, for it may have happened;
//! - refused for now (UNAVAILABLE, overload with a time to come back, NOT_LEADER, STALE_SHARD_MAP): made again after
//!   the time the hub named, or a growing, jittered one;
//! - refused for good: reported.
//!
//! Waits grow as in "Exponential Backoff And Jitter" (M. Brooker, AWS Architecture Blog, 2015): full jitter, so that
//! many clients that failed together don't come back together.
//!
//! Left out: hedged requests; a retry budget over several calls (each call's deadline bounds its own).

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};

use crate::error::{Reason, Refusal};

/// The first wait's upper bound; each further one doubles.
const WAIT_FIRST: Duration = Duration::from_millis(50);
/// The upper bound of any wait that the hub did not ask for.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What repeating a call would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Changes nothing.
    Read,
    /// Changes something, and means the same when it arrives twice.
    RepeatableWrite,
    /// Changes something each time it arrives.
    OnceWrite,
}

/// How a try ended, as far as this side can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// No connection: nothing was sent.
    NotSent,
    /// The connection broke underway.
    Broken,
    /// No answer in time.
    TimedOut,
    /// The hub answered with an error.
    Answered,
}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try another endpoint at once.
    Elsewhere,
    /// Try again after a wait, at least as long as the hub asked for.
    Later(Option<Duration>),
    /// Give up.
    Stop,
}

/// How the try that gave this status ended.
pub(crate) fn ending_of(status: &Status) -> Ending {
    let mut cause = status.source();
    let local = cause.is_some();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return Ending::NotSent;
        }
        if error.is::<tonic::TimeoutExpired>() {
            return Ending::TimedOut;
        }
        cause = error.source();
    }
    // tonic's generated clients report a channel that never became ready in this form, and drop the cause.
    if status.code() == Code::Unknown && status.message().starts_with("Service was not ready") {
        return Ending::NotSent;
    }
    if local { Ending::Broken } else { Ending::Answered }
}

/// Whether the call may have taken effect although it failed.
pub(crate) fn may_have_happened(ending: Ending, refusal: &Refusal) -> bool {
    match ending {
        Ending::NotSent => false,
        Ending::Broken | Ending::TimedOut => true,
        Ending::Answered => match refusal.code {
            Code::DeadlineExceeded | Code::Cancelled => true,
            // A proxy's UNAVAILABLE has no reason; then nobody knows how far the call came.
            Code::Unavailable => refusal.reason == Reason::Unsaid,
            _ => refusal.reason == Reason::OutcomeUnknown,
        },
    }
}

/// What to do after a try that ended so.
pub(crate) fn verdict(kind: Kind, ending: Ending, refusal: &Refusal) -> Verdict {
    if kind == Kind::OnceWrite && may_have_happened(ending, refusal) {
        return Verdict::Stop;
    }
    match ending {
        Ending::NotSent | Ending::TimedOut => Verdict::Elsewhere,
        Ending::Broken => Verdict::Later(None),
        Ending::Answered => match (&refusal.reason, refusal.code) {
            (Reason::NotLeader | Reason::StaleShardMap | Reason::NoLeader, _)
            | (Reason::Overloaded | Reason::OutcomeUnknown, _)
            | (_, Code::Unavailable | Code::DeadlineExceeded) => Verdict::Later(refusal.retry_after),
            (_, Code::ResourceExhausted) if refusal.retry_after.is_some() => {
                Verdict::Later(refusal.retry_after)
            }
            _ => Verdict::Stop,
        },
    }
}

/// How long to wait before try number `attempt` (1 is the first repetition).
///
/// `random` lies in `0.0..1.0`. What the hub asked for is kept to and jittered upwards only.
pub(crate) fn wait(attempt: u32, asked: Option<Duration>, random: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = WAIT_FIRST.saturating_mul(1 << doublings).min(WAIT_MAX);
    asked.unwrap_or_default() + ceiling.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt as _};

    fn answered(code: Code, reason: &str, after: Option<Duration>) -> Refusal {
        let mut details = ErrorDetails::new();
        if !reason.is_empty() {
            details.set_error_info(reason, "isthmus.v1", [] as [(String, String); 0]);
        }
        if after.is_some() {
            details.set_retry_info(after);
        }
        Refusal::of(&Status::with_error_details(code, "x", details), "")
    }

    #[test]
    fn each_answer_has_its_verdict() {
        use Code::*;
        use Kind::*;
        let second = Some(Duration::from_secs(1));
        let later = Verdict::Later(None);
        let table = [
            (Read, Unavailable, "NO_LEADER", None, later),
            (OnceWrite, Unavailable, "NO_LEADER", None, later),
            (OnceWrite, Unavailable, "", None, Verdict::Stop),
            (RepeatableWrite, Unavailable, "", None, later),
            (RepeatableWrite, DeadlineExceeded, "OUTCOME_UNKNOWN", None, later),
            (OnceWrite, DeadlineExceeded, "OUTCOME_UNKNOWN", None, Verdict::Stop),
            (Read, FailedPrecondition, "NOT_LEADER", None, later),
            (Read, FailedPrecondition, "STALE_SHARD_MAP", None, later),
            (Read, FailedPrecondition, "QUORUM_AT_RISK", None, Verdict::Stop),
            (OnceWrite, ResourceExhausted, "OVERLOADED", second, Verdict::Later(second)),
            (Read, ResourceExhausted, "QUERY_LIMIT", None, Verdict::Stop),
            (Read, InvalidArgument, "MALFORMED", None, Verdict::Stop),
            (Read, NotFound, "NOT_FOUND", None, Verdict::Stop),
            (RepeatableWrite, Unauthenticated, "", None, Verdict::Stop),
            (RepeatableWrite, Internal, "", None, Verdict::Stop),
        ];
        for (kind, code, reason, after, expected) in table {
            let refusal = answered(code, reason, after);
            assert_eq!(verdict(kind, Ending::Answered, &refusal), expected, "{kind:?} {code:?} {reason}");
        }
    }

    #[test]
    fn a_write_that_must_happen_once_is_repeated_only_when_it_was_never_sent() {
        let refusal = answered(Code::Unavailable, "", None);
        assert_eq!(verdict(Kind::OnceWrite, Ending::NotSent, &refusal), Verdict::Elsewhere);
        assert_eq!(verdict(Kind::OnceWrite, Ending::Broken, &refusal), Verdict::Stop);
        assert_eq!(verdict(Kind::OnceWrite, Ending::TimedOut, &refusal), Verdict::Stop);
        assert_eq!(verdict(Kind::RepeatableWrite, Ending::TimedOut, &refusal), Verdict::Elsewhere);
    }

    #[test]
    fn a_failed_connection_is_never_sent() {
        let connect = tonic::ConnectError("refused".into());
        assert_eq!(ending_of(&Status::from_error(Box::new(connect))), Ending::NotSent);
        assert_eq!(ending_of(&Status::from_error(Box::new(tonic::TimeoutExpired(())))), Ending::TimedOut);
        assert_eq!(ending_of(&Status::from_error("reset".into())), Ending::Broken);
        assert_eq!(ending_of(&Status::unavailable("from the hub")), Ending::Answered);
    }

    #[test]
    fn waits_grow_to_their_bound_and_never_undercut_the_hub() {
        assert_eq!(wait(1, None, 1.0), WAIT_FIRST);
        assert_eq!(wait(3, None, 1.0), WAIT_FIRST * 4);
        assert_eq!(wait(u32::MAX, None, 1.0), WAIT_MAX);
        assert_eq!(wait(9, None, 0.0), Duration::ZERO);
        let asked = Duration::from_secs(7);
        assert!(wait(1, Some(asked), 0.0) >= asked);
    }
}
