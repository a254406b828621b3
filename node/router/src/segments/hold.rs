//! All shards' segments at one stamp, in three rounds to all shards at once.
//!
//! 1. *Stop*: each shard's evaluator says a stamp that it is not beyond, above all that was acknowledged before, and goes no
//!    further. The largest of these is the stamp that all come to.
//! 2. *Reach*: each comes to exactly that, and has what others have to know by then brought to them.
//! 3. The question: each takes up what it was brought, answers, and goes on.
//!
//! Whoever is asked by several at a time serves them by rising stamps, so nobody waits in a circle. When a leader goes or
//! slots move in between, all is done again, a bounded number of times. Answers are of one version of the definitions: the
//! newest that all shards can answer by. So whoever holds all shards brings newer definitions in force, for all at this
//! stamp; shards that didn't hear of it anymore still offer them, and those that did offer nothing else.
//!
//! A hold that is dropped is released in the background; what is lost on the way ends with its lease.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use isthmus_domain::Stamp;
use isthmus_domain::slot::SLOT_COUNT;
use isthmus_proto::internal::v1::{
    SegmentCall, SegmentReachAsk, SegmentReleaseAsk, SegmentReply, SegmentStopAsk, segment_call::Ask,
    shard_call, shard_reply,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::error::Error;
use crate::pages::owned;
use crate::router::Router;

/// How long evaluators stay where they are for somebody who isn't heard of any more after the first round.
const LEASE: Duration = Duration::from_secs(1);
/// How long a release may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pauses before it is tried again.
const AGAIN_MIN: Duration = Duration::from_millis(2);
const AGAIN_MAX: Duration = Duration::from_millis(50);
/// How often it is tried.
const TRIES_MAX: u32 = 1_000;

/// Answers of all shards, of one stamp and of one version of the definitions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentAnswers {
    /// The stamp.
    pub at: Stamp,
    /// The version.
    pub version: u64,
    /// By shard.
    pub replies: Vec<(u64, SegmentReply)>,
}

/// By what definitions to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The newest that all can answer by.
    InForce,
    /// Those that are worked out under this number.
    Beside(u64),
}

/// All shards held at one stamp.
pub(crate) struct Hold {
    router: Router,
    runtime: Handle,
    id: u64,
    shards: Vec<u64>,
    /// The stamp.
    pub(crate) at: Stamp,
    /// By which definitions they answer.
    pub(crate) version: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (router, shards, id) = (self.router.clone(), std::mem::take(&mut self.shards), self.id);
        if shards.is_empty() {
            return;
        }
        self.router
            .tracker()
            .spawn_on(async move { router.release_segments(&shards, id).await }, &self.runtime);
    }
}

impl Hold {
    fn call(&self, ask: Ask) -> SegmentCall {
        SegmentCall { document_version: self.version, hold: self.id, ask: Some(ask) }
    }

    /// What all answer; `None`: to be held anew. Where it is answered, the hold has ended.
    pub(crate) async fn ask(
        mut self,
        ask: impl Fn(u64) -> Ask,
        deadline: Instant,
    ) -> Result<Option<SegmentAnswers>, Error> {
        let asked = self.shards.iter().map(|shard| async {
            (*shard, self.router.ask_segments_once(*shard, self.call(ask(*shard)), deadline).await)
        });
        let (mut replies, mut slots, mut open) = (Vec::new(), 0_u32, Vec::new());
        let mut failed = None;
        for (shard, reply) in join_all(asked).await {
            match reply {
                Ok(reply) if !reply.gone && reply.stamp == self.at.0 => {
                    slots += u32::from(owned(shard, &reply.owned_bounds)?.len());
                    replies.push((shard, reply));
                }
                Err(error @ (Error::Invalid { .. } | Error::Expression { .. })) => failed = Some(error),
                other => {
                    tracing::debug!(shard, error = ?other.err(), "a hold of segments was lost");
                    open.push(shard);
                }
            }
        }
        self.shards = open;
        if let Some(error) = failed {
            return Err(error);
        }
        let is_whole = self.shards.is_empty() && slots == u32::from(SLOT_COUNT);
        Ok(is_whole.then(|| SegmentAnswers { at: self.at, version: self.version, replies }))
    }
}

impl Router {
    /// Asks all shards, each of which answers for its own slots: at one stamp, by one version of the definitions.
    ///
    /// # Errors
    /// When one doesn't answer by the deadline, or what is asked makes no sense.
    pub async fn segments(&self, ask: Ask, deadline: Instant) -> Result<SegmentAnswers, Error> {
        self.segments_by(By::InForce, |_| ask.clone(), deadline).await
    }

    /// Has newer definitions of segments take over where all shards are ready.
    ///
    /// # Errors
    /// When a shard doesn't answer by the deadline.
    pub async fn settle_segments(&self, deadline: Instant) -> Result<(), Error> {
        let ask = Ask::Settle(isthmus_proto::internal::v1::SegmentSettleAsk {});
        self.segments(ask, deadline).await.map(|_| ())
    }

    pub(crate) async fn segments_by(
        &self,
        by: By,
        ask: impl Fn(u64) -> Ask,
        deadline: Instant,
    ) -> Result<SegmentAnswers, Error> {
        let mut pause = AGAIN_MIN;
        let mut version = 0;
        for _ in 0..TRIES_MAX {
            if let ([shard], By::InForce) = (&self.segment_shards()[..], by) {
                // Its evaluator knows all there is.
                let call = SegmentCall { document_version: 0, hold: 0, ask: Some(ask(*shard)) };
                let reply = self.ask_segments(*shard, call, deadline).await?;
                if !reply.gone && owned(*shard, &reply.owned_bounds)?.len() == SLOT_COUNT {
                    let (at, version) = (Stamp(reply.stamp), reply.document_version);
                    return Ok(SegmentAnswers { at, version, replies: vec![(*shard, reply)] });
                }
            } else if let Some(hold) = self.hold_segments(by, &mut version, Stamp::ZERO, deadline).await?
                && let Some(answers) = hold.ask(&ask, deadline).await?
            {
                return Ok(answers);
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = AGAIN_MAX.min(pause * 2);
        }
        Err(Error::Unavailable { shard: self.segment_shards().first().copied().unwrap_or_default() })
    }

    /// Holds all shards at one stamp, which is not below `at_least`; `None`: to be tried again. `version` is what they have
    /// to answer by at least, which rises as they tell more.
    pub(crate) async fn hold_segments(
        &self,
        by: By,
        version: &mut u64,
        at_least: Stamp,
        deadline: Instant,
    ) -> Result<Option<Hold>, Error> {
        let shards = self.segment_shards();
        let mut hold = Hold {
            router: self.clone(),
            runtime: Handle::current(),
            id: self.next_attempt(),
            shards,
            at: at_least,
            version: if let By::Beside(number) = by { number } else { *version },
        };
        let lease_ms = u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX);
        let Some(stopped) = hold.round(Ask::Stop(SegmentStopAsk { lease_ms }), deadline).await? else {
            return Ok(None);
        };
        hold.at = stopped.iter().map(|reply| Stamp(reply.stamp)).max().unwrap_or_default().max(at_least);
        if by == By::InForce {
            match common(&stopped) {
                Some(found) => hold.version = found,
                None => {
                    *version = stopped.iter().map(|reply| reply.document_version).max().unwrap_or_default();
                    return Ok(None);
                }
            }
        }
        let reach = Ask::Reach(SegmentReachAsk { stamp: hold.at.0 });
        Ok(hold.round(reach, deadline).await?.map(|_| hold))
    }

    async fn release_segments(&self, shards: &[u64], id: u64) {
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        let calls = shards.iter().map(|shard| {
            let ask = Some(Ask::Release(SegmentReleaseAsk {}));
            self.ask_segments_once(*shard, SegmentCall { document_version: 0, hold: id, ask }, deadline)
        });
        for released in join_all(calls).await {
            if let Err(error) = released {
                tracing::debug!(%error, "a hold of segments waits for its lease's end");
            }
        }
    }

    /// Asks a shard's leader, and not again once it may have been answered.
    async fn ask_segments_once(
        &self,
        shard: u64,
        call: SegmentCall,
        deadline: Instant,
    ) -> Result<SegmentReply, Error> {
        let body = shard_call::Body::Segment(call);
        match self.reach(shard, &mut self.pursuit_once(), &body, deadline).await? {
            shard_reply::Body::Segment(reply) => Ok(reply),
            _ => Err(Error::BadReply { shard, what: "not an answer about segments" }),
        }
    }
}

impl Hold {
    /// A round; `None` where a shard has lost the hold, or is none any more.
    async fn round(&self, ask: Ask, deadline: Instant) -> Result<Option<Vec<SegmentReply>>, Error> {
        let asked = self.shards.iter().map(|shard| {
            let call = self.call(ask.clone());
            self.router.ask_segments(*shard, call, deadline)
        });
        let mut replies = Vec::with_capacity(self.shards.len());
        for reply in join_all(asked).await {
            match reply {
                Ok(reply) if !reply.gone => replies.push(reply),
                Ok(_) | Err(Error::NoShard { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(replies))
    }
}

/// The newest version that all can answer by.
fn common(stopped: &[SegmentReply]) -> Option<u64> {
    let of = |reply: &SegmentReply| BTreeSet::from([reply.document_version, reply.ready_version]);
    let mut all = stopped.iter().map(of);
    let first = all.next()?;
    let common = all.fold(first, |known, next| &known & &next);
    // A version of 0 that is ready is none.
    let is_now = |version: &u64| *version > 0 || stopped.iter().all(|reply| reply.document_version == 0);
    common.into_iter().rev().find(is_now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(document_version: u64, ready_version: u64) -> SegmentReply {
        SegmentReply { document_version, ready_version, ..SegmentReply::default() }
    }

    #[test]
    fn the_newest_version_that_all_can_answer_by_is_chosen() {
        assert_eq!(common(&[reply(3, 0), reply(3, 4)]), Some(3));
        assert_eq!(common(&[reply(3, 4), reply(3, 4)]), Some(4));
        // One has changed over, and whoever asked it to is gone.
        assert_eq!(common(&[reply(4, 0), reply(3, 4)]), Some(4));
        assert_eq!(common(&[reply(4, 5), reply(3, 0)]), None);
        assert_eq!(common(&[reply(0, 0), reply(0, 1)]), Some(0));
        assert_eq!(common(&[reply(0, 0), reply(1, 0)]), None);
    }
}
