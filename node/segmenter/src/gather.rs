//! An engine made anew, from all events of a shard as of a stamp.
//!
//! Events are read facet by facet in one pass, and only what the plan asks for: those above the stamp are passed over. One
//! shard's reading would take a processor for itself, so a node has a number of them at a time. Homes are read
//! as they are, and the feed says who had another one at the stamp: of the changes behind it, the first of an identifier
//! names the home that it left. So the feed has to reach back to the stamp.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use isthmus_domain::{FacetId, RecordView, Stamp};
use isthmus_proto::internal::v1::feed_change::Body;
use isthmus_segment::Plan;
use isthmus_shard::{
    Error, ShardHandle,
    background::lower_priority,
    feed::Place,
    read::{EventsWanted, FeedPart},
};

use tokio::sync::oneshot;

use crate::{Engine, engine::Missing, evaluator::Failure};

/// How much lower the priority of threads is that make engines, on Unix's scale.
const NICENESS: i32 = 10;

/// Makes an engine of all events up to a stamp.
///
/// # Errors
/// Storage that fails, an event that is damaged, or a feed that doesn't reach back to the stamp.
pub async fn gather(
    handle: &ShardHandle,
    plan: Arc<Plan>,
    version: u64,
    at: Stamp,
    currency: &str,
) -> Result<Box<Engine>, Failure> {
    let mut engine = Box::new(Engine::new(plan, version, at));
    engine.own(handle.owned());
    if engine.plan().definitions().is_empty() {
        return Ok(engine);
    }
    let mut homes: HashMap<FacetId, FacetId> = handle.segments_homes().await?.into_iter().collect();
    for (facet, home) in left_since(handle, at).await? {
        homes.insert(facet, home);
    }
    let (wanted, handle) = (wanted(engine.plan(), at, currency), handle.clone());
    beside(move |go_on| {
        let mut load = |event: &RecordView<'_>| engine.load(event.facet, event);
        if !handle.segments_events(&wanted, go_on, &mut load)? {
            return Err(Failure::NotLeading);
        }
        engine.load_homes(homes);
        engine.begin();
        Ok(engine)
    })
    .await
}

/// Completes an engine that was made of another one.
///
/// # Errors
/// As [`gather`].
pub async fn complete(
    handle: &ShardHandle,
    mut engine: Box<Engine>,
    mut missing: Missing,
    currency: &str,
) -> Result<Box<Engine>, Failure> {
    let (handle, currency) = (handle.clone(), currency.to_owned());
    beside(move |go_on| {
        if let Some(plan) = missing.plan.take() {
            let wanted = wanted(&plan, engine.at(), &currency);
            let mut load = |event: &RecordView<'_>| engine.load_missing(&plan, event.facet, event);
            if !handle.segments_events(&wanted, go_on, &mut load)? {
                return Err(Failure::NotLeading);
            }
        }
        engine.begin_missing(&missing);
        Ok(engine)
    })
    .await
}

fn wanted(plan: &Plan, at: Stamp, currency: &str) -> EventsWanted {
    let reads = plan.reads();
    EventsWanted {
        at,
        traits: reads.traits,
        revenue: reads.revenue,
        currency: currency.to_owned(),
        properties: reads.properties,
        context: reads.context,
        senders: reads.senders,
        keys: reads.keys,
    }
}

/// The homes that identifiers had at a stamp that have had another one since.
async fn left_since(handle: &ShardHandle, at: Stamp) -> Result<BTreeMap<FacetId, FacetId>, Failure> {
    let (mut homes, mut after) = (BTreeMap::new(), Place::end_of(at));
    loop {
        let (changes, through, more) = match handle.segments_feed(after).await? {
            FeedPart::Changes { changes, through, more, .. } => (changes, through, more),
            other => return Err(Failure::feed(&other)),
        };
        for change in &changes {
            if let Some(Body::LeftHome(home)) = &change.body
                && let (Some(facet), Some(home)) =
                    (FacetId::from_slice(&change.facet), FacetId::from_slice(home))
            {
                homes.entry(facet).or_insert(home);
            }
        }
        after = through;
        if !more {
            return Ok(homes);
        }
    }
}

pub(crate) fn damaged(error: isthmus_domain::Error) -> Failure {
    Failure::Damaged(error.to_string())
}

/// Does what takes seconds of a processor on a thread of low priority: where processors are short, clients and the heartbeats
/// of leaders come first. It is asked to end when nobody waits for it any more.
async fn beside<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (done, ended) = oneshot::channel();
    let run = move || {
        lower_priority(NICENESS);
        let made = work(&|| !done.is_closed());
        _ = done.send(made);
    };
    let thread = std::thread::Builder::new().name("segments".to_owned()).spawn(run);
    thread.map_err(|error| Failure::Shard(Error::Unavailable(error.to_string())))?;
    ended.await.unwrap_or_else(|error| Err(Failure::Shard(Error::Unavailable(error.to_string()))))
}

/// Does what takes processor time where nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Shard(Error::Unavailable(error.to_string()))))
}
