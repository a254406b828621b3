//! What clients are promised, against three nodes: any node takes any request and gives the same answer.
//!
//! One cluster serves all facts, one after the other; each uses customers of its own. The rolling restart comes last.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod grpcurl;
mod keys;
mod pages;
mod python;
mod reads;
mod rolling;
mod standard;

use isthmus_tests::{
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};
use tonic::{Code, Status, transport::Channel};

/// The cluster, and a connection to each node.
struct Hub {
    cluster: Cluster,
    nodes: Vec<Channel>,
    cli: Cli,
}

impl Hub {
    async fn start(data: &std::path::Path) -> Self {
        let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, 3);
        let cluster = Cluster::start(options).await;
        let nodes = (0..3).map(|index| cluster.channel(index)).collect();
        Self { cluster, nodes, cli: Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]) }
    }

    /// All ordered pairs of nodes, the same node twice included.
    fn pairs(&self) -> impl Iterator<Item = (&Channel, &Channel)> {
        self.nodes.iter().flat_map(|one| self.nodes.iter().map(move |other| (one, other)))
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), isthmus_tests::ask::reason(&status).as_str()), (code, reason), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_what_they_are_promised_from_any_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path()).await;
    reads::any_node_takes_any_request(&hub).await;
    reads::identifiers_are_normalised_as_in_ingest(&hub).await;
    reads::a_version_token_covers_its_batch_on_any_node_and_shard(&hub).await;
    reads::a_read_that_may_be_stale_comes_to_see_everything(&hub).await;
    reads::many_profiles_come_in_the_order_asked_for_with_gaps(&hub).await;
    reads::a_field_mask_leaves_the_rest_out(&hub).await;
    pages::a_list_shows_every_profile_once_in_order_while_others_come_in(&hub).await;
    pages::a_timeline_shows_every_event_once_newest_first(&hub).await;
    pages::pages_that_make_no_sense_are_refused(&hub).await;
    keys::a_write_key_says_which_source_sends(&hub).await;
    keys::a_new_key_is_taken_at_once_by_every_node(&hub).await;
    keys::keys_are_managed_through_any_node(&hub).await;
    standard::reflection_lists_the_services_in_both_versions(&hub).await;
    standard::health_is_told_over_grpc_and_http(&hub).await;
    grpcurl::it_lists_describes_and_calls_by_reflection(&hub).await;
    rolling::a_rolling_restart_fails_no_request(&mut hub).await;
}
