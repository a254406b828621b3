//! Rules and schemas against real nodes: put through one, in force on the others, kept over a restart.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

mod policies;
mod refold;

use std::path::Path;

use isthmus_proto::v1::{
    IngestResponse, ItemOutcome, TimelineRequest, profile_service_client::ProfileServiceClient,
};
use isthmus_tests::{
    ask,
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions},
};
use serde_json::{Value, json};

struct World {
    cluster: Cluster,
    cli: Cli,
    folder: tempfile::TempDir,
}

impl World {
    fn run(&self, arguments: &[&str]) -> Ended {
        self.cli.json(&self.cluster.endpoints(), arguments)
    }

    /// A file with this content.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn schema(&self, value: &Value) -> String {
        self.file("schema.json", &value.to_string())
    }

    /// Sends events to a node until it answers the first of them like this: other nodes hear of a change within
    /// moments.
    async fn until(&self, node: usize, event: &str, outcome: ItemOutcome) -> IngestResponse {
        loop {
            let items = vec![ask::json(event)];
            let answer = ask::send(&self.cluster.channel(node), items).await.unwrap();
            if answer.results[0].outcome() == outcome {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn order(n: u32, properties: &str) -> String {
    format!(
        r#"{{"type":"track","event":"Order Completed","userId":"q{n}","messageId":"o-{n}","properties":{properties}}}"#
    )
}

async fn start(folder: tempfile::TempDir, nodes: u32) -> World {
    let data: &Path = &folder.path().join("data");
    let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), data, nodes);
    let cluster = Cluster::start(options).await;
    World { cluster, cli: Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]), folder }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_schemas_hold_on_all_nodes_and_over_a_restart() {
    let mut world = start(tempfile::tempdir().unwrap(), 3).await;
    a_schema_is_put_checked_and_shown(&world);
    violations_follow_the_policy(&world).await;
    traits_are_standardised_and_what_was_sent_is_kept(&world).await;
    rules_are_changed_on_the_version_that_they_were_made_from(&world);
    bad_documents_get_a_clear_answer(&world);
    for index in 0..3 {
        world.cluster.kill(index);
    }
    for index in 0..3 {
        world.cluster.launch(index);
    }
    world.cluster.healthy().await;
    let listed = world.run(&["schema", "list"]).objects();
    assert_eq!(listed.iter().map(|s| s["version"].as_u64().unwrap()).collect::<Vec<_>>(), [3], "{listed:?}");
    assert_eq!(world.run(&["identity", "rules", "get"]).last()["version"], 2);
    world.until(2, &order(100, "{}"), ItemOutcome::Rejected).await;
}

fn a_schema_is_put_checked_and_shown(world: &World) {
    let name = ["--name", "track:Order Completed"];
    let first =
        world.schema(&json!({"required":["revenue"],"properties":{"revenue":{"type":["number","string"]}}}));
    let put = world.run(&["schema", "put", &first, name[0], name[1]]);
    assert_eq!((put.code, &put.last()["version"]), (0, &json!(1)), "{}", put.err);
    assert_eq!(put.last()["policy"], "quarantine");
    // The same again is nothing new.
    assert_eq!(world.run(&["schema", "put", &first, name[0], name[1]]).last()["version"], 1);

    let narrower = world.schema(&json!({"required":["revenue"],"properties":{"revenue":{"type":"number"}}}));
    let check = world.run(&["schema", "check", &narrower, name[0], name[1]]);
    assert_eq!(
        (check.code, &check.last()["valid"], &check.last()["compatible"]),
        (1, &json!(true), &json!(false))
    );
    assert_eq!(check.last()["problems"][0]["at"], "/properties/revenue/type");
    let refused = world.run(&["schema", "put", &narrower, name[0], name[1]]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert!(
        refused.err.contains("INCOMPATIBLE_SCHEMA") && refused.err.contains("/properties/revenue/type"),
        "{}",
        refused.err
    );
    let put = world.run(&["schema", "put", &narrower, name[0], name[1], "--compatibility", "none"]);
    assert_eq!((put.code, &put.last()["version"]), (0, &json!(2)), "{}", put.err);

    // What `get` prints `put` takes: with another policy it is another version.
    let shown = world.run(&["schema", "get", name[1]]);
    let file = world.file("got.json", &shown.out);
    let again = world.run(&["schema", "put", &file]);
    assert_eq!((again.code, &again.last()["version"]), (0, &json!(2)), "{}", again.err);
    // Made from a version that isn't in force any more: nobody's change is lost.
    let stale = world.run(&["schema", "put", &file, "--policy", "reject", "--based-on", "1"]);
    assert_eq!((stale.code, stale.out.as_str()), (1, ""));
    assert!(stale.err.contains("STALE_VIEW") && stale.err.contains("version 2 is in force"), "{}", stale.err);
    let rejecting = world.run(&["schema", "put", &file, "--policy", "reject", "--based-on", "2"]);
    assert_eq!((&rejecting.last()["version"], &rejecting.last()["policy"]), (&json!(3), &json!("reject")));
    let old = world.run(&["schema", "get", name[1], "--version", "1"]).last();
    assert_eq!(old["schema"]["properties"]["revenue"]["type"], json!(["number", "string"]));
    assert_eq!(world.run(&["schema", "get", name[1], "--version", "9"]).code, 1);
}

async fn violations_follow_the_policy(world: &World) {
    // Through any node, each after it has heard of version 3.
    for node in 0..3 {
        let answer =
            world.until(node, &order(node as u32, r#"{"revenue":"1"}"#), ItemOutcome::Rejected).await;
        let result = &answer.results[0];
        assert_eq!((result.reason.as_str(), result.retryable), ("SCHEMA_VIOLATION", false));
        for part in ["version 3", "/properties/revenue", "number"] {
            assert!(result.message.contains(part), "{part}: {}", result.message);
        }
        let mixed = vec![ask::json(order(10, "{}")), ask::json(order(11 + node as u32, r#"{"revenue":2}"#))];
        let answer = ask::send(&world.cluster.channel(node), mixed).await.unwrap();
        let outcomes: Vec<_> = answer.results.iter().map(|result| result.outcome()).collect();
        assert_eq!(outcomes, [ItemOutcome::Rejected, ItemOutcome::Accepted], "one bad item spoils no other");
    }
    let kept = ask::quarantined(&world.cluster.channel(0), Default::default()).await;
    assert!(
        kept.iter().all(|entry| entry.message.contains("version 1") || entry.message.contains("version 2"))
    );
}

async fn traits_are_standardised_and_what_was_sent_is_kept(world: &World) {
    let rules = world.file(
        "rules.toml",
        "unknown_events = \"quarantine\"\n[traits]\nphone = [{ rule = \"phone\", region = \"DE\" }]\ncountry = [\"country\"]\n",
    );
    let put = world.run(&["schema", "rules", "put", &rules]);
    assert_eq!((put.code, &put.last()["version"]), (0, &json!(1)), "{}", put.err);
    let kept = world.until(1, &ask::seen("q200", "s-1"), ItemOutcome::Quarantined).await;
    assert_eq!(kept.results[0].reason, "EVENT_UNKNOWN");
    let channel = world.cluster.channel(1);
    let event = r#"{"type":"identify","userId":"q201","messageId":"i-1","traits":{"phone":"0171 1234567","country":"nowhere"}}"#;
    ask::accepted(&channel, vec![ask::json(event)]).await;
    let profile = world.run(&["profile", "get", "user_id:q201"]).last();
    assert_eq!(profile["traits"], json!({"country":"nowhere","phone":"+491711234567"}));
    let request = TimelineRequest { key: ask::key("user_id", "q201"), ..Default::default() };
    let events = ProfileServiceClient::new(channel).timeline(request).await.unwrap().into_inner().events;
    assert!(events[0].properties_json.contains("0171 1234567"), "{}", events[0].properties_json);
    assert_eq!(
        events[0].notes,
        [
            r#"TRAIT_NOT_STANDARDISED traits.country "country""#,
            r#"TRAIT_STANDARDISED traits.phone "+491711234567""#
        ]
    );
    let shown = world.run(&["schema", "rules", "get"]);
    let again = world.run(&["schema", "rules", "put", &world.file("got.json", &shown.out)]);
    assert_eq!((again.code, &again.last()["changed"]), (0, &json!(false)), "{}", again.err);
}

fn rules_are_changed_on_the_version_that_they_were_made_from(world: &World) {
    let get = || world.run(&["identity", "rules", "get"]).last();
    let mut rules = get();
    assert_eq!((&rules["version"], &rules["shared_above"]), (&json!(0), &json!(32)), "the defaults");
    rules["shared_above"] = json!(8);
    let file = world.file("rules.json", &rules.to_string());
    let put = world.run(&["identity", "rules", "put", &file]);
    assert_eq!((put.code, &put.last()["version"]), (0, &json!(1)), "{}", put.err);
    assert_eq!(world.run(&["identity", "rules", "put", &file]).last()["changed"], false, "sent again");
    rules["shared_above"] = json!(9);
    let stale = world.run(&["identity", "rules", "put", &world.file("rules.json", &rules.to_string())]);
    assert!(stale.code == 1 && stale.err.contains("STALE_VIEW"), "{}", stale.err);
    // As people get it, too.
    let toml = world.cli.run(&world.cluster.endpoints(), &["identity", "rules", "get"]);
    let edited = toml.out.replace("shared_above = 8", "shared_above = 9");
    let put = world.run(&["identity", "rules", "put", &world.file("rules.toml", &edited)]);
    assert_eq!((put.code, &put.last()["version"]), (0, &json!(2)), "{}\n{edited}", put.err);
    assert_eq!(get()["shared_above"], 9);
}

fn bad_documents_get_a_clear_answer(world: &World) {
    let name = ["--name", "track:Bad"];
    for (schema, what) in [
        (r#"{"type":"objekt"}"#, "/type"),
        ("{", "malformed JSON"),
        (r#"{"$ref":"https://example.org/x"}"#, "leads elsewhere"),
        (r#"{"pattern":"((a{1,100}){1,100}){1,100}"}"#, "/pattern"),
        (&format!(r#"{{"title":"{}"}}"#, "x".repeat(70_000)), "are the most"),
    ] {
        let file = world.file("bad.json", schema);
        let put = world.run(&["schema", "put", &file, name[0], name[1]]);
        assert!(put.code == 1 && put.out.is_empty(), "{}", put.out);
        assert!(put.err.contains("INVALID_SCHEMA") && put.err.contains(what), "{what}: {}", put.err);
        let check = world.run(&["schema", "check", &file, name[0], name[1]]);
        assert_eq!((check.code, &check.last()["valid"]), (1, &json!(false)));
    }
    let good = world.schema(&json!({}));
    assert_eq!(world.run(&["schema", "put", &good]).code, 2, "a name is missing");
    assert_eq!(world.run(&["schema", "put", &good, "--name", "Order Completed"]).code, 1);
    let rules = world.file("bad.toml", "[traits]\nphone = [\"fone\"]\n");
    let put = world.run(&["schema", "rules", "put", &rules]);
    assert!(put.code == 1 && put.err.contains("/traits/phone/0"), "{}", put.err);
    // What is wrong is told before that it is old.
    let rules = world.file("bad.json", r#"{"version":7,"limits":{"user_id":0}}"#);
    let put = world.run(&["identity", "rules", "put", &rules]);
    assert!(put.code == 1 && put.err.contains("/limits"), "{}", put.err);
}
