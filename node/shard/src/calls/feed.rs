//! Reading the change feed: the leader answers, and waits for a change where there is none.

use std::time::Duration;

use isthmus_domain::{Slot, SlotRange, Stamp};
use isthmus_proto::internal::v1::{FeedRange, ReadFeedCall, ReadFeedReply};
use isthmus_raft::Role;
use tokio::time::{Instant, sleep_until};

use super::PAGE_MAX;
use crate::{
    Error, ShardHandle,
    feed::{Filter, Place},
    machine::blocking,
    read::{self, FeedPart, FeedQuery},
};

/// The longest wait for a change.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What is kept of a caller's time for the way back.
const MARGIN: Duration = Duration::from_millis(20);

impl ShardHandle {
    /// Reads changes behind places; waits for one as long as asked. A leader that has lost its place says so: what it has
    /// read by then was committed, so nothing of it is taken back.
    pub(super) async fn read_feed(
        &self,
        call: ReadFeedCall,
        deadline: Instant,
    ) -> Result<ReadFeedReply, Error> {
        self.must_lead()?;
        let wait = Duration::from_millis(u64::from(call.wait_ms)).min(WAIT_MAX);
        let until = (Instant::now() + wait).min(deadline.checked_sub(MARGIN).unwrap_or(deadline));
        let mut query = FeedQuery {
            ranges: call.ranges.iter().map(range).collect::<Option<_>>().ok_or(BAD_RANGE)?,
            filter: Filter::of(call.filter.unwrap_or_default())?,
            limit: (call.limit as usize).min(PAGE_MAX),
        };
        if query.ranges.is_empty() {
            return Err(BAD_RANGE);
        }
        if call.fresh {
            self.barrier(None, deadline).await?;
        }
        let (mut stamped, mut view) = (self.shared.stamped.subscribe(), self.group.watch());
        loop {
            stamped.mark_unchanged();
            let part = if read::feed_is_near(&self.shared, &query)? {
                // A bounded look at memory: that takes less than to have another thread do it.
                read::feed(&self.shared, &query)?
            } else {
                let (shared, asked) = (self.shared.clone(), query.clone());
                blocking(move || read::feed(&shared, &asked)).await?
            };
            let (changes, through, more, floor) = match part {
                FeedPart::Changes { changes, through, more, floor } => (changes, through, more, floor),
                FeedPart::NotOwned => {
                    return Ok(ReadFeedReply { not_owned: true, ..ReadFeedReply::default() });
                }
                FeedPart::TooOld(Stamp(floor_stamp)) => {
                    return Ok(ReadFeedReply { too_old: true, floor_stamp, ..ReadFeedReply::default() });
                }
                FeedPart::NotBegun => {
                    return Err(Error::Unavailable("the shard's feed is about to begin".to_owned()));
                }
            };
            if !changes.is_empty() || query.limit == 0 || (!more && Instant::now() >= until) {
                let names = if call.names { read::names(&self.shared, &changes)? } else { Vec::new() };
                return Ok(ReadFeedReply {
                    changes,
                    names,
                    through_stamp: through.stamp.0,
                    through_number: through.number,
                    floor_stamp: floor.0,
                    ..ReadFeedReply::default()
                });
            }
            query.advance(through);
            if more {
                continue;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return Err(Error::Unavailable("the replica is stopping".to_owned()));
                }
                () = sleep_until(until) => {}
                _ = stamped.changed() => {}
                _ = view.wait_for(|view| view.role != Role::Leader) => self.must_lead()?,
            }
        }
    }
}

const BAD_RANGE: Error = Error::Invalid("a part of the feed that is no range of slots");

fn range(range: &FeedRange) -> Option<(SlotRange, Place)> {
    let slot = |number: u32| u16::try_from(number).ok();
    let slots = SlotRange::new(slot(range.start_slot)?, slot(range.end_slot)?).ok()?;
    Slot::new(slots.start().number())?;
    Some((slots, Place { stamp: Stamp(range.stamp), number: range.number }))
}
