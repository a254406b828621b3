//! What the part in segments that stands beside the leader needs of its replica.

use std::{collections::BTreeMap, sync::Arc};

use isthmus_domain::{FacetId, RecordView, Stamp};
use isthmus_proto::internal::v1::{SegmentsCommand, ShardCommand, shard_command::Command};
use prost::Message as _;
use tokio::{sync::watch, time::Instant};

use crate::{
    Error, ShardHandle,
    apply::{Outcome, segments::fault},
    feed::{Filter, Place},
    machine::blocking,
    read::{self, EventsWanted, FeedPart, FeedQuery},
    segments::{Key, Row, Through},
};

/// Changes that one look at the feed brings, at most.
const FEED_PAGE: usize = 1_000;
/// Rows of members that one look brings, about.
const MEMBERS_PAGE: usize = 20_000;

impl ShardHandle {
    /// How far segments have been worked out.
    pub fn segments_through(&self) -> Through {
        self.shared.state.read().meta.segments
    }

    /// The stamp of the last command that this replica has applied.
    pub fn stamp(&self) -> Stamp {
        self.shared.state.read().meta.stamp
    }

    /// The same, as it rises.
    pub fn stamps(&self) -> watch::Receiver<u64> {
        self.shared.stamped.subscribe()
    }

    /// The stamp below which the feed is not kept; `None`: it has not begun.
    pub fn feed_floor(&self) -> Option<Stamp> {
        self.shared.state.read().meta.feed_floor
    }

    /// Makes sure that this replica leads and has applied all that was acknowledged before, and tells its stamp.
    ///
    /// # Errors
    /// It doesn't lead, or that can't be made sure of by the deadline.
    pub async fn settle(&self, deadline: Instant) -> Result<Stamp, Error> {
        self.must_lead()?;
        self.group.read_index(deadline).await?;
        self.must_lead()?;
        Ok(self.stamp())
    }

    /// What segments follow: events and who has another home, behind a place, as far as one look goes. No wait.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn segments_feed(&self, after: Place) -> Result<FeedPart, Error> {
        let handle = self.clone();
        tokio::task::spawn_blocking(move || handle.segments_feed_part(after))
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// The same, for whoever may wait for a disk.
    ///
    /// # Errors
    /// Storage that fails.
    pub fn segments_feed_part(&self, after: Place) -> Result<FeedPart, Error> {
        let owned = self.owned();
        let ranges = owned.as_slice().iter().map(|range| (*range, after)).collect();
        let query = FeedQuery { ranges, filter: Filter::of_segments(), limit: FEED_PAGE };
        Ok(read::feed(&self.shared, &query)?)
    }

    /// Hands all events up to a stamp to `take`, with what it takes them into, which comes back. On a thread of its own,
    /// which ends when nobody waits for it any more, or the replica doesn't lead.
    ///
    /// # Errors
    /// Storage that fails; a replica that ends, or leads no more.
    pub async fn segments_events<T: Send + 'static>(
        &self,
        wanted: EventsWanted,
        mut into: T,
        mut take: impl FnMut(&mut T, &RecordView<'_>) + Send + 'static,
    ) -> Result<T, Error> {
        let (handle, waited_for) = (self.clone(), Arc::new(()));
        let waits = Arc::downgrade(&waited_for);
        let all = blocking(move || {
            let go_on = || handle.leads() && !handle.stop.is_cancelled() && waits.strong_count() > 0;
            read::all_events(&handle.shared, &wanted, &go_on, &mut |event| take(&mut into, event))?;
            Ok(go_on().then_some(into))
        });
        let done = all.await?;
        drop(waited_for);
        done.ok_or_else(|| Error::Unavailable("the replica leads no more".to_owned()))
    }

    /// Identifiers that have another home than themselves, and that home.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn segments_homes(&self) -> Result<Vec<(FacetId, FacetId)>, Error> {
        let shared = self.shared.clone();
        let all = blocking(move || {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (mut some, next) = read::homes(&shared, after)?;
                found.append(&mut some);
                match next {
                    Some(next) => after = Some(next),
                    None => return Ok(found),
                }
            }
        });
        Ok(all.await?)
    }

    /// Who is in which segment, as it is kept.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn segments_members(&self) -> Result<BTreeMap<Key, Row>, Error> {
        let shared = self.shared.clone();
        let all = blocking(move || {
            let (mut found, mut after) = (BTreeMap::new(), None);
            loop {
                let (mut some, next) = read::segment_members(&shared, after, MEMBERS_PAGE)?;
                some.retain(|_, row| row.membership > 0);
                found.append(&mut some);
                match next {
                    Some(next) => after = Some(next),
                    None => return Ok(found),
                }
            }
        });
        Ok(all.await?)
    }

    /// Ends when the replica does.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Puts into the log what was worked out; the stamp of the command, or how far segments have been worked out by somebody
    /// else.
    ///
    /// # Errors
    /// What makes no sense, or can't be committed by the deadline: then it may be taken yet.
    pub async fn propose_segments(
        &self,
        command: SegmentsCommand,
        deadline: Instant,
    ) -> Result<Result<Stamp, Through>, Error> {
        self.must_lead()?;
        if let Some(fault) = fault(&command) {
            return Err(Error::Invalid(fault));
        }
        let stamp = self.clock.now_micros().max(0).cast_unsigned();
        let command = ShardCommand { stamp, command: Some(Command::Segments(command)) };
        match self.group.propose(command.encode_to_vec().into(), deadline).await?.outcome {
            Outcome::Segmented(stamp) => Ok(Ok(stamp)),
            Outcome::NotThere(through) => Ok(Err(through)),
            _ => Err(Error::Invalid("the log answered segments with something else")),
        }
    }
}
