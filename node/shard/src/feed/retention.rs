//! How long changes are kept: the leader raises the floor, and every replica drops what lies below.
//!
//! What counts is the floor, which is replicated: a reader hears the same from any replica that leads. The leader
//! raises it in few steps, by time and by the bytes that its own runs take, and only when changes that are kept are
//! older than that; so an idle shard writes nothing.

use std::time::Duration;

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::{ExpireFeedCommand, shard_command::Command};
use tokio::time::Instant;

use super::Place;
use crate::{Error, ShardHandle, apply::Outcome, error::broken, machine::blocking, read, tables::FEED};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two looks: a part of the retention, within these bounds.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// Steps of the floor in one retention.
const STEPS: u32 = 20;
/// The pause after a command that failed, and before the feed has begun.
const AGAIN: Duration = Duration::from_millis(100);

/// What is kept of a shard's feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedRetention {
    /// Changes are kept at least so long, unless they take too much room; and at most a twentieth longer, but for what
    /// shares a run with younger ones.
    pub age: Duration,
    /// Bytes of runs that changes may take; the oldest go first. What is not written out yet comes on top.
    pub bytes: u64,
}

/// Looks from time to time for as long as the replica lives.
pub(crate) async fn run(handle: ShardHandle, retention: FeedRetention) {
    let pause = (retention.age / STEPS).clamp(PAUSE[0], PAUSE[1]);
    loop {
        let leads = handle.leadership().is_leader;
        let looked = match leads {
            true => raise(&handle, retention).await,
            false => Ok(()),
        };
        let looked = match looked {
            Ok(()) => handle.shared.drop_expired().await.map_err(Error::from),
            failed => failed,
        };
        let begun = handle.shared.state.read().meta.feed_floor.is_some();
        let pause = match looked {
            Ok(()) if begun => pause,
            // Whoever comes to lead begins it soon.
            Ok(()) => pause.min(AGAIN),
            Err(error) => {
                tracing::debug!(shard = handle.shard(), %error, "old changes of the feed wait");
                pause.min(AGAIN)
            }
        };
        tokio::select! {
            biased;
            () = handle.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Proposes a higher floor, if one is due.
async fn raise(handle: &ShardHandle, retention: FeedRetention) -> Result<(), Error> {
    let begun = handle.shared.state.read().meta.feed_floor.is_some();
    let (shared, now) = (handle.shared.clone(), handle.clock.now_micros());
    let through = blocking(move || {
        let oldest = read::oldest(&shared)?.map(|place| place.stamp);
        let runs = shared.lower.read().runs.clone();
        let sizes = runs.sequence(FEED).map_err(broken)?.into_iter();
        let sizes = sizes.map(|(_, last, run)| (Place::of_key(&last).stamp, run.meta().bytes));
        Ok(due(oldest, &sizes.collect::<Vec<_>>(), retention, now))
    })
    .await?;
    let Some(through) = through.or((!begun).then_some(Stamp::ZERO)) else { return Ok(()) };
    let command = Command::ExpireFeed(ExpireFeedCommand { through_stamp: through.0 });
    match handle.propose(command, Instant::now() + TIMEOUT).await? {
        Outcome::FeedExpired(floor) => {
            tracing::debug!(shard = handle.shard(), %floor, "the floor of the feed was raised");
            Ok(())
        }
        _ => Err(Error::Invalid("the log answered an expiry of the feed with something else")),
    }
}

/// The floor that is due; `None`: it stays. `runs` are the runs' last stamps and bytes, in order.
fn due(oldest: Option<Stamp>, runs: &[(Stamp, u64)], retention: FeedRetention, now: i64) -> Option<Stamp> {
    let oldest = oldest?;
    let micros = |age: Duration| i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let before = |age: Duration| Stamp(now.saturating_sub(micros(age)).max(0).cast_unsigned());
    // A step later than at once, so that steps are few.
    let old = before(retention.age.saturating_add(retention.age / STEPS));
    let by_age = (oldest <= old).then(|| before(retention.age));
    let mut left: u64 = runs.iter().map(|(_, bytes)| bytes).sum();
    let mut by_bytes = None;
    for (last, bytes) in runs {
        if left <= retention.bytes {
            break;
        }
        left -= bytes;
        by_bytes = Some(*last).filter(|last| *last >= oldest);
    }
    by_age.max(by_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: FeedRetention = FeedRetention { age: Duration::from_secs(100), bytes: 1_000 };
    const SECOND: i64 = 1_000_000;

    #[test]
    fn the_floor_rises_in_steps_when_something_is_old() {
        let at =
            |oldest: i64, now: i64| due(Some(Stamp((oldest * SECOND) as u64)), &[], RETENTION, now * SECOND);
        assert_eq!(due(None, &[], RETENTION, 1_000 * SECOND), None);
        assert_eq!(at(1_000, 1_104), None, "a twentieth longer");
        assert_eq!(at(1_000, 1_105), Some(Stamp(1_005 * SECOND as u64)));
    }

    #[test]
    fn what_takes_too_much_room_goes_by_whole_runs_the_oldest_first() {
        let runs = |sizes: [u64; 3]| [(Stamp(10), sizes[0]), (Stamp(20), sizes[1]), (Stamp(30), sizes[2])];
        let over = |sizes, oldest| due(Some(Stamp(oldest)), &runs(sizes), RETENTION, 0);
        assert_eq!(over([400, 300, 300], 1), None);
        assert_eq!(over([400, 300, 301], 1), Some(Stamp(10)));
        assert_eq!(over([1, 700, 301], 1), Some(Stamp(20)));
        assert_eq!(over([400, 300, 301], 11), None, "that run is below the floor already");
    }
}
