//! What a stream brings, and how many there may be.

use std::{sync::mpsc, time::Duration};

use futures::TryStreamExt as _;
use isthmus_client::{Client, WatchNews, WatchOptions};
use isthmus_proto::v1::{
    WatchFrom, WatchRequest, WatchResponse, change::What, profile_service_client::ProfileServiceClient,
};
use isthmus_tests::{
    ask,
    cluster::{Cluster, PATIENCE},
};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};

use super::{cli, field, folder, options, watched};

async fn open(cluster: &Cluster, node: usize, from: WatchFrom) -> Result<Streaming<WatchResponse>, Status> {
    let request = WatchRequest { start: from.into(), ..WatchRequest::default() };
    let mut client = ProfileServiceClient::new(cluster.channel(node));
    client.watch(request).await.map(tonic::Response::into_inner)
}

fn says(event: Value) -> isthmus_proto::v1::IngestItem {
    ask::json(event.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_pass_what_is_asked_for_from_memory_and_from_disk_and_merges_are_seen() {
    let folder = folder();
    let mut cluster = Cluster::start(options(folder.path(), 1)).await;
    let events = [
        json!({"type": "page", "anonymousId": "c1", "messageId": "page"}),
        json!({"type": "identify", "userId": "ann", "messageId": "name", "traits": {"first_name": "Ann"}}),
        json!({"type": "identify", "userId": "ann", "anonymousId": "c1", "messageId": "login",
               "traits": {"email": null}}),
        json!({"type": "track", "event": "Order Completed", "userId": "bob", "messageId": "order",
               "properties": {"revenue": "1.10"}}),
        json!({"type": "track", "event": "Seen", "anonymousId": "c1", "messageId": "seen"}),
    ];
    for event in events {
        ask::accepted(&cluster.channel(0), vec![says(event)]).await;
    }
    let found = |cluster: &Cluster, arguments: &[&str]| -> Vec<String> {
        let arguments = [&["--from", "beginning"], arguments].concat();
        let mut found: Vec<String> = watched(cluster, 0, &arguments)
            .iter()
            .map(|change| change["message_id"].as_str().unwrap_or("members").to_owned())
            .collect();
        found.sort();
        found
    };
    for stopped in [false, true] {
        if stopped {
            // Stopping writes everything out: afterwards it is served from runs.
            assert_eq!(cluster.stop(0), Some(0));
            cluster.launch(0);
            cluster.healthy().await;
        }
        let all = ["login", "members", "name", "order", "page", "seen"];
        assert_eq!(found(&cluster, &["--limit", "6"]), all);
        assert_eq!(found(&cluster, &["--limit", "1", "--event", "Order Completed"]), ["order"]);
        assert_eq!(found(&cluster, &["--limit", "1", "--trait", "firstName"]), ["name"]);
        assert_eq!(found(&cluster, &["--limit", "1", "--trait", "email"]), ["login"]);
        assert_eq!(found(&cluster, &["--limit", "2", "--type", "page", "--members"]), ["members", "page"]);
        let ann = ["login", "members", "name", "page", "seen"];
        assert_eq!(found(&cluster, &["--limit", "5", "--identifier", "user_id:ann"]), ann);
        assert_eq!(found(&cluster, &["--limit", "5", "--identifier", "anonymous_id:c1"]), ann);
        let seen =
            ["--limit", "1", "--identifier", "user_id:ann", "--event", "Seen", "--event", "Order Completed"];
        assert_eq!(found(&cluster, &seen), ["seen"]);
    }
    let changes = watched(&cluster, 0, &["--from", "beginning", "--limit", "6"]);
    let of = |what: &str| {
        let fits = |change: &&Value| change["message_id"] == what || change["change"] == what;
        changes.iter().find(fits).unwrap_or_else(|| panic!("no {what}"))
    };
    let came =
        json!([{"namespace": "anonymous_id", "value": "c1"}, {"namespace": "user_id", "value": "ann"}]);
    let mut members = of("members")["came"].as_array().unwrap().clone();
    members.sort_by_key(|member| member["namespace"].to_string());
    assert_eq!(Value::from(members), came);
    assert_eq!(of("members")["identifier"], json!({"namespace": "user_id", "value": "ann"}));
    assert_eq!(of("login")["traits"], json!(["email"]));
    assert_eq!(of("order")["properties"], json!({"revenue": "1.10"}));
    assert_eq!(of("page")["identifier"], json!({"namespace": "anonymous_id", "value": "c1"}));
    let profile = cli().json(&cluster.endpoints(), &["profile", "get", "user_id:ann"]).last();
    for what in ["page", "name", "login", "members", "seen"] {
        assert_eq!(
            of(what)["profile_id"],
            profile["profile_id"],
            "as it is called when it is served: {what}"
        );
    }
    let lines = cli().run(
        &cluster.endpoints(),
        &["profile", "watch", "user_id:ann", "--from", "beginning", "--limit", "5"],
    );
    assert!(
        lines.code == 0 && lines.out.contains("joined ") && lines.out.contains("track Seen"),
        "{}",
        lines.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_splits_up_is_seen_to_part() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path(), 1)).await;
    let login = json!({"type": "identify", "userId": "ann", "anonymousId": "kiosk", "messageId": "l"});
    ask::accepted(&cluster.channel(0), vec![says(login)]).await;
    let split = ["profile", "split", "user_id:ann", "anonymous_id:kiosk", "--never"];
    let ended = cli().json(&cluster.endpoints(), &split);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let found = watched(&cluster, 0, &["--from", "beginning", "--members", "--limit", "3"]);
    let parted: Vec<&Value> = found.iter().filter(|change| change["left_count"] == 1).collect();
    assert_eq!(parted.len(), 1, "{found:?}");
    assert_eq!(parted[0]["left"], json!([{"namespace": "anonymous_id", "value": "kiosk"}]));
    assert_eq!(parted[0]["identifier"]["value"], "ann");
    let alone = found.iter().find(|change| change["identifier"]["value"] == "kiosk").unwrap();
    assert_eq!((&alone["came_count"], field(alone, "change")), (&json!(1), "members"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_takes_nothing_has_nothing_made_ready_and_is_served_all_of_it_later() {
    const EVENTS: usize = 20_000;
    let folder = folder();
    let small = options(folder.path(), 1).with_environment(&[("ISTHMUS_STORAGE__MEMTABLES", "4MiB")]);
    let cluster = Cluster::start(small).await;
    let mut stream = open(&cluster, 0, WatchFrom::Now).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().changes.is_empty());
    let pad = "x".repeat(1_000);
    for batch in 0..EVENTS / 500 {
        let items = (0..500).map(|n| {
            let (user, message) = (n % 97, format!("{batch}-{n}"));
            says(json!({"type": "track", "event": "Seen", "userId": format!("u{user}"), "messageId": message,
                        "properties": {"pad": pad}}))
        });
        ask::accepted(&cluster.channel(0), items.collect()).await;
    }
    // What it does not take is not made ready for it either, but for what fits into the connection.
    let (_, metrics) = ask::http(cluster.nodes[0].http, "/metrics");
    let handed = metrics.lines().find_map(|line| line.strip_prefix("isthmus_watch_changes_total "));
    let handed: usize = handed.unwrap().parse().unwrap();
    assert!(handed < EVENTS / 4, "{handed} changes wait for a consumer that takes none");
    // More than was in memory at any time.
    let (mut found, mut largest) = (Vec::with_capacity(EVENTS), 0);
    while found.len() < EVENTS {
        let response = stream.message().await.unwrap().unwrap();
        largest = largest.max(response.changes.len());
        found.extend(response.changes.into_iter().map(|change| change.id));
    }
    let all: std::collections::BTreeSet<&String> = found.iter().collect();
    assert_eq!((all.len(), found.len()), (EVENTS, EVENTS), "each once");
    assert!(largest <= 256, "{largest} changes in one response");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_lives_through_a_restart_of_all_nodes_that_outlasts_any_call() {
    let folder = folder();
    let mut cluster = Cluster::start(options(folder.path(), 3)).await;
    // No call could wait for anything.
    let client =
        Client::builder().endpoints(cluster.endpoints().split(',')).deadline(Duration::from_nanos(1));
    let (sender, news) = mpsc::channel();
    let tell = WatchOptions::new().patience(PATIENCE).on_news(move |news| {
        let _over = sender.send(matches!(news, WatchNews::Waits(_)));
    });
    let now = WatchRequest { start: WatchFrom::Now.into(), ..WatchRequest::default() };
    let mut changes = client.connect_lazy().unwrap().watch_with(now, tell);
    assert!(changes.try_next().await.unwrap().unwrap().changes.is_empty());
    // Somebody reads while all nodes are away.
    let reading = tokio::spawn(async move {
        let mut found = Vec::new();
        while found.last().is_none_or(|last| last != "after") {
            let response = changes.try_next().await.unwrap().unwrap();
            found.extend(response.changes.into_iter().map(|change| match change.what {
                Some(What::Event(event)) => event.message_id,
                other => panic!("{other:?}"),
            }));
        }
        found
    });
    let seen = |message: &str| says(json!({"type": "page", "userId": "ann", "messageId": message}));
    ask::accepted(&cluster.channel(0), vec![seen("before")]).await;
    for index in 0..3 {
        cluster.kill(index);
    }
    assert!(news.recv_timeout(PATIENCE).unwrap(), "it says that it waits");
    for index in 0..3 {
        cluster.launch(index);
    }
    cluster.healthy().await;
    ask::accepted(&cluster.channel(0), vec![seen("after")]).await;
    let found = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(found, ["before", "after"], "everything, and once");
    assert!(!news.recv_timeout(PATIENCE).unwrap(), "it says that it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_end_cleanly_with_their_node() {
    let folder = folder();
    let few = options(folder.path(), 1).with_environment(&[("ISTHMUS_FEED__WATCHERS", "2")]);
    let mut cluster = Cluster::start(few).await;
    let mut first = open(&cluster, 0, WatchFrom::Now).await.unwrap();
    let second = open(&cluster, 0, WatchFrom::Now).await.unwrap();
    let refused = open(&cluster, 0, WatchFrom::Now).await.unwrap_err();
    assert_eq!(
        (refused.code(), ask::reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MANY_WATCHERS")
    );
    assert!(ask::says_when_to_come_back(&refused));
    drop(second);
    let mut third = loop {
        // The node hears of the end in a moment.
        match open(&cluster, 0, WatchFrom::Now).await {
            Ok(stream) => break stream,
            Err(error) => assert_eq!(ask::reason(&error), "TOO_MANY_WATCHERS"),
        }
    };
    for stream in [&mut first, &mut third] {
        assert!(stream.message().await.unwrap().is_some());
    }
    assert_eq!(cluster.stop(0), Some(0), "it waits for nobody who watches");
    for mut stream in [first, third] {
        let ended = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream that ends without a word"),
                Err(status) => break status,
            }
        };
        assert_eq!((ended.code(), ask::reason(&ended).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    }
}
