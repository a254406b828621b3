//! An engine made anew, from all events of a shard as of a stamp.
//!
//! Events are read facet by facet, each part at a moment of its own: those above the stamp are passed over. Homes are read
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
    feed::Place,
    read::{EventsPart, FeedPart},
};

use crate::{Engine, evaluator::Failure};

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
    let mut after = None;
    loop {
        let part = handle.segments_events(after).await?;
        after = part.next;
        let currency = currency.to_owned();
        engine = blocking(move || {
            load(&mut engine, part, at, &currency)?;
            Ok(engine)
        })
        .await?;
        if after.is_none() {
            break;
        }
    }
    let mut homes: HashMap<FacetId, FacetId> = handle.segments_homes().await?.into_iter().collect();
    for (facet, home) in left_since(handle, at).await? {
        homes.insert(facet, home);
    }
    blocking(move || {
        engine.load_homes(homes);
        engine.begin();
        Ok(engine)
    })
    .await
}

fn load(engine: &mut Engine, part: EventsPart, at: Stamp, currency: &str) -> Result<(), Failure> {
    for event in part.events.into_iter().filter(|event| event.stamp <= at) {
        let record = event.record.restored(event.key, currency).map_err(damaged)?.to_bytes();
        engine.load(event.facet, &RecordView::read(&record).map_err(damaged)?);
    }
    Ok(())
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

/// Does what takes processor time where nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::Shard(Error::Unavailable(error.to_string()))))
}
