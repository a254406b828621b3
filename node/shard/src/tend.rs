//! What the leader does beside apply for identity resolution: it goes on with a sweep, step by step, and searches
//! facts among an identifier's events in the place of retracted ones. Both come back by commands, and doing them twice
//! changes nothing, so that a new leader just begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use isthmus_domain::identity::{Retraction, Retractions, RowKey};
use isthmus_domain::{FacetId, LinkFact};
use isthmus_proto::internal::v1::{FoundCommand, FoundFact, SweepCommand, shard_command::Command};
use isthmus_raft::{Broken, Role};
use tokio::time::Instant;

use crate::{PAGE_MAX, ShardHandle, Shared, error::broken, identity_calls::copied, machine::blocking, read};

/// Identifiers that one step of a sweep looks at: some milliseconds of apply.
const SWEEP_STEP: u32 = 64;
/// How long a command may be under way.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a command that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Works for as long as the replica lives; rests while another replica leads.
pub(crate) async fn run(handle: ShardHandle) {
    let mut view = handle.group.watch();
    loop {
        let leads = view.borrow_and_update().role == Role::Leader;
        let done = match leads {
            true => step(&handle).await,
            false => Ok(false),
        };
        match done {
            Ok(true) => continue,
            Ok(false) => {
                tokio::select! {
                    biased;
                    () = handle.stop.cancelled() => return,
                    () = handle.shared.tend.notified(), if leads => {}
                    changed = view.changed() => if changed.is_err() { return },
                }
            }
            Err(error) => {
                tracing::debug!(shard = handle.shard(), %error, "tending identifiers");
                tokio::select! {
                    biased;
                    () = handle.stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}

/// Does the next thing; whether there was any.
async fn step(handle: &ShardHandle) -> Result<bool, crate::Error> {
    let (sweep, search) = {
        let state = handle.shared.state.read();
        // A shard that has never swept begins with that, once it has been told what it owns.
        let first = state.meta.sweep.wanted == 0 && state.meta.config_version > 0;
        let sweep = (first || !state.meta.sweep.is_done()).then_some(state.meta.sweep.wanted);
        (sweep, state.searches.first_key_value().map(|(facet, search)| (*facet, *search)))
    };
    let command = match (search, sweep) {
        (Some((facet, search)), _) => {
            let shared = handle.shared.clone();
            let facts = blocking(move || search_events(&shared, facet)).await?;
            Command::Found(FoundCommand { facet: copied(&facet), search, facts })
        }
        (None, Some(sweep)) => Command::Sweep(SweepCommand { sweep, limit: SWEEP_STEP }),
        (None, None) => return Ok(false),
    };
    handle.propose(command, Instant::now() + TIMEOUT).await?;
    Ok(true)
}

/// Of each row of a facet the oldest fact among its events that no retraction suppresses. Waits for a disk, for long if
/// there are many events.
fn search_events(shared: &Arc<Shared>, facet: FacetId) -> Result<Vec<FoundFact>, Broken> {
    let mut retractions = Retractions::default();
    for bytes in read::root(shared, &facet)?.retractions {
        retractions.add(Retraction::decode(&bytes).map_err(broken)?);
    }
    let mut oldest: BTreeMap<RowKey, LinkFact> = BTreeMap::new();
    let mut before = None;
    loop {
        let page = read::events(shared, &facet, before, PAGE_MAX)?;
        for (place, _, record) in &page.events {
            before = Some(*place);
            // An event that was written out has lost the name of its own identifier, which its facet has.
            for (link, fact) in record.links.iter().zip(link_facts(shared, &facet, record)?) {
                let b =
                    FacetId::from_slice(&link.facet).ok_or_else(|| broken("a link's facet is not one"))?;
                let source_and_kind = isthmus_identity::source_and_kind(&fact.source, fact.kind);
                let known = oldest.entry(RowKey { a: facet, b, source_and_kind });
                if retractions.suppressing(&fact).is_none() {
                    known.and_modify(|known| *known = fact.clone().min(known.clone())).or_insert(fact);
                }
            }
        }
        if !page.more {
            break;
        }
    }
    let found = oldest
        .into_iter()
        .map(|(key, fact)| FoundFact { counterpart: copied(&key.b), fact: fact.encode().into() });
    Ok(found.collect())
}

fn link_facts(
    shared: &Shared,
    facet: &FacetId,
    record: &isthmus_domain::EventRecord,
) -> Result<Vec<LinkFact>, Broken> {
    let mut record = record.clone();
    if record.namespace.is_empty()
        && let Some(own) = read::record(shared, facet)?
    {
        (record.namespace, record.value) = (own.namespace, own.value);
    }
    record.link_facts().map(|fact| fact.map_err(broken)).collect()
}
