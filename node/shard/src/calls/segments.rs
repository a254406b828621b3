//! What the part in segments that stands beside the leader needs of its replica.

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

    /// Hands out all events up to a stamp; whether it came to the end. `go_on` is asked now and then. It ends, too, when the
    /// replica doesn't lead any more. For whoever may wait for a disk.
    ///
    /// # Errors
    /// Storage that fails.
    pub fn segments_events(
        &self,
        wanted: &EventsWanted,
        go_on: &dyn Fn() -> bool,
        take: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<bool, Error> {
        let go_on = || self.leads() && !self.stop.is_cancelled() && go_on();
        read::all_events(&self.shared, wanted, &go_on, take)?;
        Ok(go_on())
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

    /// Who is in which segment, as it is kept, by rising key.
    ///
    /// # Errors
    /// Storage that fails.
    pub async fn segments_members(&self) -> Result<Vec<(Key, Row)>, Error> {
        let shared = self.shared.clone();
        let all = blocking(move || {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let (some, next) = read::segment_members(&shared, after, MEMBERS_PAGE)?;
                found.extend(some.into_iter().filter(|(_, row)| row.membership > 0));
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
