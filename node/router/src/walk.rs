//! A walk over all slots in order, for what is added up: counts and the like.
//!
//! One shard is asked after the other, a bounded piece at a time. A piece counts only if the shard owned all the slots
//! that it was asked about, else it is asked for again by a newer map. So every slot is counted once, also while slots
//! move; each piece is exact at a stamp of its own.

use isthmus_domain::Slot;
use isthmus_proto::internal::v1::{shard_call, shard_reply};
use tokio::time::Instant;

use crate::error::Error;
use crate::pages::{Key, owned};
use crate::pursuit::Want;
use crate::router::Router;

/// A shard's answer for a part of its slots.
pub(crate) struct Piece<T> {
    /// What it found there.
    pub(crate) found: T,
    /// The key behind which it goes on; `None` when it has told all.
    pub(crate) next: Option<Key>,
    /// The slots that it owned.
    pub(crate) owned_bounds: Vec<u32>,
}

impl Router {
    /// Asks (`call`: behind a key, in slots below a number) for piece after piece and hands each on.
    pub(crate) async fn walk<T>(
        &self,
        call: impl Fn(Option<Key>, u32) -> shard_call::Body,
        read: impl Fn(shard_reply::Body) -> Option<Piece<T>>,
        mut take: impl FnMut(u64, T) -> Result<(), Error>,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.walk_from(None, call, read, |shard, found| take(shard, found).map(|()| true), deadline)
            .await
            .map(|_| ())
    }

    /// The same behind a key, until `take` says that it has enough: then the key behind which the rest lies; `None` when
    /// there is none.
    pub(crate) async fn walk_from<T>(
        &self,
        mut after: Option<Key>,
        call: impl Fn(Option<Key>, u32) -> shard_call::Body,
        read: impl Fn(shard_reply::Body) -> Option<Piece<T>>,
        mut take: impl FnMut(u64, T) -> Result<bool, Error>,
        deadline: Instant,
    ) -> Result<Option<Key>, Error> {
        let mut slot = after.as_ref().map_or(Slot::of_hash(&[0; 16]), Slot::of_hash);
        let mut attempt = 0;
        loop {
            let routes = self.routes();
            let revision = routes.revision;
            let segment = routes.segments_from(slot).and_then(|rest| rest.first().copied());
            drop(routes);
            let Some(segment) = segment else {
                self.await_newer(revision, attempt, deadline).await?;
                attempt += 1;
                continue;
            };
            let (shard, end) = (segment.shard, segment.slots.end_exclusive());
            let body = call(after.or_else(|| crate::pages::before(slot)), u32::from(end));
            let piece = match self.reach(shard, &mut self.pursuit(Want::Leader), &body, deadline).await {
                Ok(reply) => {
                    Some(read(reply).ok_or(Error::BadReply { shard, what: "not a piece of a count" })?)
                }
                Err(Error::NoShard { .. }) => None,
                Err(error) => return Err(error),
            };
            let piece = match piece {
                Some(piece) => {
                    let covers = owned(shard, &piece.owned_bounds)?
                        .as_slice()
                        .iter()
                        .any(|range| range.start().number() <= slot.number() && end <= range.end_exclusive());
                    covers.then_some(piece)
                }
                None => None,
            };
            let Some(piece) = piece else {
                self.await_newer(revision, attempt, deadline).await?;
                attempt += 1;
                continue;
            };
            let more = take(shard, piece.found)?;
            attempt = 0;
            match piece.next {
                Some(next) => {
                    if after.is_some_and(|after| after >= next) {
                        return Err(Error::BadReply { shard, what: "a piece that leads back" });
                    }
                    (slot, after) = (Slot::of_hash(&next), Some(next));
                }
                None => match Slot::new(end) {
                    Some(next) => (slot, after) = (next, None),
                    None => return Ok(None),
                },
            }
            if !more {
                return Ok(after.or_else(|| crate::pages::before(slot)));
            }
        }
    }
}
