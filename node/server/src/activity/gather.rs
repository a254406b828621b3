//! What came in through all nodes: each is asked, and what they tell is added up step by step.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use isthmus_console::ingest::{Ingest, Source};
use isthmus_proto::internal::v1::{
    ActivityRequest, ActivityResponse, SourceActivity, activity_service_client::ActivityServiceClient,
};
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::{STEP_SECONDS, STEPS, age_below, first_step};
use crate::grpc::hub::Hub;

/// How long a node is waited for.
const PATIENCE: Duration = Duration::from_millis(1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

type Client = ActivityServiceClient<Channel>;

/// The way to the other nodes' services: a connection for each address, made when it is first used.
#[derive(Default)]
pub struct Gather {
    clients: Mutex<BTreeMap<String, Client>>,
}

impl Gather {
    /// What came in through all nodes, and which of them did not tell.
    pub async fn all(&self, hub: &Hub) -> Ingest {
        let view = hub.view();
        self.retain(view.nodes.values().map(|node| node.peer_address.as_str()).collect());
        let cluster_id = Bytes::copy_from_slice(&hub.coordinator.cluster_id());
        let asked = view.nodes.values().map(|node| {
            let request = ActivityRequest { cluster_id: cluster_id.clone(), to_node: node.node_id };
            async move {
                let told = match node.node_id == hub.node {
                    true => Some(hub.activity.told(hub.clock.now_micros())),
                    false => self.ask(&node.peer_address, request).await,
                };
                (node.node_id, told)
            }
        });
        let mut sum = Sum::new(first_step(hub.clock.now_micros()));
        let mut silent_nodes = Vec::new();
        for (node, told) in join_all(asked).await {
            match told {
                Some(told) => sum.add(told),
                None => silent_nodes.push(node),
            }
        }
        let known = view.sources.values().map(|source| (source.name.as_str(), source.disabled));
        Ingest { silent_nodes, ..sum.told(known) }
    }

    fn retain(&self, addresses: BTreeSet<&str>) {
        self.clients.lock().retain(|address, _| addresses.contains(address.as_str()));
    }

    fn client(&self, address: &str) -> Option<Client> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(address) {
            return Some(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        let client = Client::new(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).connect_lazy());
        clients.insert(address.to_owned(), client.clone());
        Some(client)
    }

    /// What a node tells; `None` when it doesn't in time, and people are shown that.
    async fn ask(&self, address: &str, request: ActivityRequest) -> Option<ActivityResponse> {
        let mut client = self.client(address)?;
        let answered = timeout(PATIENCE, client.activity(request)).await.ok()?;
        answered
            .inspect_err(|status| tracing::debug!(%status, "a node doesn't tell what came in"))
            .ok()
            .map(|answer| answer.into_inner())
    }
}

/// What several nodes told, on one axis of time.
struct Sum {
    first_step: i64,
    sources: BTreeMap<String, SourceActivity>,
}

impl Sum {
    fn new(first_step: i64) -> Self {
        Self { first_step, sources: BTreeMap::new() }
    }

    fn add(&mut self, told: ActivityResponse) {
        if told.step_seconds != STEP_SECONDS {
            // Of another version: its steps don't fit.
            return;
        }
        let ahead = told.first_step - self.first_step;
        for from in told.sources {
            let sum = self.sources.entry(from.source).or_default();
            for (sum, from) in [
                (&mut sum.accepted, &from.accepted),
                (&mut sum.duplicate, &from.duplicate),
                (&mut sum.quarantined, &from.quarantined),
                (&mut sum.rejected, &from.rejected),
                (&mut sum.unknown, &from.unknown),
            ] {
                add_steps(sum, from, ahead);
            }
            sum.ages.resize(sum.ages.len().max(from.ages.len()), 0);
            sum.ages.iter_mut().zip(&from.ages).for_each(|(sum, more)| *sum += more);
            sum.last_at = sum.last_at.max(from.last_at);
            sum.newest_event = sum.newest_event.max(from.newest_event);
        }
    }

    /// With the sources that exist, whether or not they sent something.
    fn told<'a>(mut self, known: impl Iterator<Item = (&'a str, bool)>) -> Ingest {
        let mut disabled = BTreeSet::new();
        for (name, is_disabled) in known {
            self.sources.entry(name.to_owned()).or_default();
            if is_disabled {
                disabled.insert(name);
            }
        }
        let sources =
            self.sources.into_iter().map(|(name, told)| source(disabled.contains(name.as_str()), name, told));
        Ingest {
            step_seconds: STEP_SECONDS,
            from_second: self.first_step * i64::from(STEP_SECONDS),
            sources: sources.collect(),
            silent_nodes: Vec::new(),
        }
    }
}

/// Adds steps to others whose first is so many steps older.
fn add_steps(sum: &mut Vec<u64>, from: &[u64], ahead: i64) {
    sum.resize(STEPS, 0);
    for (place, count) in (ahead..).zip(from) {
        // The other node's clock may be ahead of this one's, or behind: what lies beyond the edge counts at the edge,
        // or is past.
        let place = usize::try_from(place).ok().map(|place| place.min(STEPS - 1));
        if let Some(step) = place.and_then(|place| sum.get_mut(place)) {
            *step += count;
        }
    }
}

fn source(disabled: bool, name: String, told: SourceActivity) -> Source {
    let steps = |mut of: Vec<u64>| {
        of.resize(STEPS, 0);
        of
    };
    Source {
        name,
        disabled,
        age_p50_ms: age_below(&told.ages, 50),
        age_p95_ms: age_below(&told.ages, 95),
        last_at: Some(told.last_at).filter(|at| *at > 0),
        newest_event: told.newest_event,
        accepted: steps(told.accepted),
        duplicate: steps(told.duplicate),
        quarantined: steps(told.quarantined),
        rejected: steps(told.rejected),
        unknown: steps(told.unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(first_step: i64, last_accepted: &[u64]) -> ActivityResponse {
        let mut accepted = vec![0; STEPS - last_accepted.len()];
        accepted.extend_from_slice(last_accepted);
        let web = SourceActivity {
            source: "web".to_owned(),
            duplicate: vec![0; STEPS],
            quarantined: vec![0; STEPS],
            rejected: vec![0; STEPS],
            unknown: vec![0; STEPS],
            ages: vec![last_accepted.iter().sum(), 0],
            last_at: first_step,
            newest_event: None,
            accepted,
        };
        ActivityResponse { first_step, step_seconds: STEP_SECONDS, sources: vec![web] }
    }

    #[test]
    fn what_nodes_tell_is_added_up_by_the_time_at_which_it_came() {
        let mut sum = Sum::new(100);
        sum.add(told(100, &[1, 2]));
        sum.add(told(99, &[10, 20]));
        sum.add(told(101, &[100, 200]));
        let ingest = sum.told([("web", false), ("till", true)].into_iter());
        let [till, web] = &ingest.sources[..] else { panic!("{ingest:?}") };
        assert!(till.disabled && till.last_at.is_none() && till.accepted.iter().all(|n| *n == 0));
        assert_eq!(web.accepted[STEPS - 3..], [10, 21, 302], "what is ahead counts in the newest step");
        assert_eq!((web.last_at, web.age_p95_ms), (Some(101), Some(1)));
        assert_eq!(ingest.from_second, 500);
    }

    #[test]
    fn steps_of_another_length_are_left_out() {
        let mut sum = Sum::new(100);
        sum.add(ActivityResponse { step_seconds: 7, ..told(100, &[1]) });
        assert!(sum.told(std::iter::empty()).sources.is_empty());
    }
}
