//! `ExpireFeed`: changes of the feed that are as old as the leader says go, and a feed that has not begun begins.

use isthmus_domain::Stamp;
use isthmus_proto::internal::v1::ExpireFeedCommand;

use super::Outcome;
use crate::state::State;

/// Raises the floor; an older one changes nothing but the stamp. The rows go later, by whole runs.
pub(super) fn apply(state: &mut State, stamp: u64, expire: &ExpireFeedCommand) -> Outcome {
    let last = state.meta.stamp;
    let stamp = state.next_stamp(stamp, Stamp::ZERO);
    let floor = match state.meta.feed_floor {
        Some(floor) => floor.max(Stamp(expire.through_stamp).min(last)),
        // Not all that was applied before has its row.
        None => stamp,
    };
    state.meta.feed_floor = Some(floor);
    Outcome::FeedExpired(floor)
}
