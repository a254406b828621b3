//! SQL on three real nodes: every door gives the same rows, nothing acknowledged is missing, and what asks for too much or
//! makes no sense is told so.
//!
//! One cluster serves all facts, one after the other; each uses events of its own name. Its nodes allow queries little
//! memory and little time, so that what runs away is stopped soon.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]
#![allow(clippy::disallowed_methods, reason = "tests own a clock, and tasks end with them")]

mod bounds;
mod doors;
mod flight;
mod programs;
mod stores;

use isthmus_client::{Client, Query};
use isthmus_tests::{
    ask,
    cli::Cli,
    cluster::{Cluster, ClusterOptions},
};
use tonic::transport::Channel;

/// What the nodes of these tests allow queries.
const BOUNDS: [(&str, &str); 3] = [
    ("ISTHMUS_QUERY__MEMORY", "32MiB"),
    ("ISTHMUS_QUERY__SPILL", "64MiB"),
    ("ISTHMUS_QUERY__TIMEOUT", "20s"),
];

/// The cluster, and ways to it.
struct Hub {
    cluster: Cluster,
    /// A connection to each node.
    nodes: Vec<Channel>,
    /// A client of each node alone.
    clients: Vec<Client>,
    cli: Cli,
    /// Where COPY may write to, if what serves it is installed.
    store: Option<stores::Store>,
}

impl Hub {
    async fn start(data: &std::path::Path) -> Self {
        let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, 3);
        let store = stores::Store::serve();
        let told = store.as_ref().map(stores::Store::environment).unwrap_or_default();
        let told: Vec<(&str, &str)> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let cluster = Cluster::start(options.with_environment(&BOUNDS).with_environment(&told)).await;
        let nodes: Vec<Channel> = (0..3).map(|index| cluster.channel(index)).collect();
        let client = |endpoint: &str| {
            let builder = Client::builder().endpoints([endpoint]).deadline(isthmus_tests::cluster::PATIENCE);
            builder.connect_lazy().unwrap()
        };
        let clients = cluster.endpoints().split(',').map(client).collect();
        let cli = Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]);
        Self { cluster, nodes, clients, cli, store }
    }

    /// Sends so many events of a name, by three users, through the nodes in turn.
    async fn fill(&self, name: &str, events: usize) {
        for (index, node) in self.nodes.iter().enumerate() {
            let items = (index..events).step_by(self.nodes.len()).map(|number| {
                let user = format!("{name}-{}", number % 3);
                ask::json(format!(
                    r#"{{"type":"track","event":"{name}","userId":"{user}","messageId":"{name}-{number:04}","properties":{{"number":{number}}}}}"#
                ))
            });
            ask::accepted(node, items.collect()).await;
        }
    }
}

/// The rows of a statement, as JSON.
async fn rows(client: &Client, query: impl Into<Query>) -> Vec<String> {
    use futures::TryStreamExt as _;
    let rows = client.query(query).await.unwrap();
    rows.map_ok(|row| row.as_json().to_owned()).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_known_can_be_asked_for_in_sql() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    doors::what_was_acknowledged_is_in_the_next_answer_of_any_node(&hub).await;
    doors::every_door_gives_the_same_rows(&hub).await;
    doors::tables_are_listed_with_their_columns(&hub).await;
    doors::a_plan_is_told(&hub).await;
    doors::the_command_line_prints_every_format(&hub).await;
    flight::a_client_finds_its_way_around(&hub).await;
    flight::values_are_bound_to_prepared_statements(&hub).await;
    flight::what_is_not_served_is_refused(&hub).await;
    flight::what_is_damaged_is_refused(&hub).await;
    bounds::what_makes_no_sense_is_told_with_its_place(&hub).await;
    bounds::too_many_rows_are_refused_and_what_came_is_no_answer(&hub).await;
    bounds::what_runs_away_is_stopped(&hub).await;
    bounds::who_hangs_up_ends_the_work(&hub).await;
    bounds::a_ticket_can_be_cancelled(&hub).await;
    stores::rows_are_written_into_an_object_store(&hub).await;
    stores::what_a_store_refuses_is_told_and_leaves_nothing(&hub).await;
    programs::others_clients_connect_and_load_frames(&hub).await;
}
