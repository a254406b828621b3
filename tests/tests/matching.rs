//! Profiles that share no identifier, compared by real nodes.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use isthmus_tests::{
    ask,
    cli::{Cli, Ended},
    cluster::{Cluster, ClusterOptions},
    drills::matching::{People, full_pass, links, live, send},
};
use serde_json::{Value, json};

async fn start(folder: &std::path::Path) -> (Cluster, Cli) {
    let options = ClusterOptions::small(env!("CARGO_BIN_EXE_node-under-test"), folder.join("data"), 3);
    (Cluster::start(options).await, Cli(vec![env!("CARGO_BIN_EXE_cli-under-test").to_owned()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_without_a_shared_identifier_are_found_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (mut cluster, cli) = start(folder.path()).await;
    let people = People::of("febrl1.csv");
    send(&cluster, &cli, folder.path(), &people);
    let pass = full_pass(&cluster, &cli, folder.path(), &people, &[]);
    let accuracy = people.accuracy(&pass.links);
    assert!(accuracy.f1() >= 1.0, "{accuracy}");
    let blind = full_pass(&cluster, &cli, folder.path(), &people, &["soc_sec_id"]);
    let accuracy = people.accuracy(&blind.links);
    assert!(accuracy.f1() >= 1.0, "without soc_sec_id: {accuracy}");

    // Pairs are kept, and so is the model; what a leader held in memory is brought to the next one.
    cluster.kill(0);
    let found = cli.json(&cluster.nodes[1].grpc.to_string(), &["identity", "match", "--wait"]);
    assert_eq!((found.code, &found.last()["complete"]), (0, &Value::Bool(true)), "{}", found.err);
    assert_eq!(found.last()["model_version"], 2);
    cluster.launch(0);
    cluster.healthy().await;
    assert_eq!(links(&cluster, &cli), blind.links);
    // Blocks of all shards have been brought anew: whoever comes meets everybody.
    let copies = people.copies(60);
    let found = live(&cluster, &cli, &copies).await;
    let accuracy = people.and(&copies).accuracy(&found.links);
    assert!(accuracy.f1() >= 1.0, "copies: {accuracy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_makes_the_pairs_that_a_full_pass_makes() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, cli) = start(folder.path()).await;
    let (first, second) = (People::of("febrl4a.csv").below(600), People::of("febrl4b.csv").below(600));
    let both = first.and(&second);
    send(&cluster, &cli, folder.path(), &first);
    full_pass(&cluster, &cli, folder.path(), &both, &[]);
    let live = live(&cluster, &cli, &second).await;
    let accuracy = both.accuracy(&live.links);
    assert!(accuracy.f1() >= 0.999, "live: {accuracy}");
    let again = full_pass(&cluster, &cli, folder.path(), &both, &[]);
    assert_eq!(live.links, again.links);
}

/// A few hundred people, so that there is something to learn from; and two records of Ada and of Bob.
fn town() -> Vec<Value> {
    const FIRST: [&str; 12] = [
        "anna", "berta", "carl", "dora", "emil", "frida", "georg", "hanna", "ida", "jonas", "karla", "lukas",
    ];
    const LAST: [&str; 11] = [
        "adler", "brandt", "clausen", "dietrich", "ebert", "fuchs", "gruber", "huber", "iven", "jung",
        "keller",
    ];
    let mut people: Vec<Value> = (0..300_usize)
        .map(|n| {
            json!({
                "userId": format!("u{n}"),
                "traits": {
                    "firstName": FIRST[n % 12], "lastName": LAST[n * 7 % 11],
                    "birthday": format!("19{:02}-{:02}-{:02}", 40 + n * 13 % 60, 1 + n * 5 % 12, 1 + n * 11 % 28),
                    "address": {
                        "street": format!("{} weg", LAST[n * 3 % 11]),
                        "postalCode": format!("{:05}", 10_000 + n * 7919 % 80_000),
                    },
                },
            })
        })
        .collect();
    for (user, first) in
        [("ada-1", "adelheid"), ("ada-2", "adelhaid"), ("bob-1", "boguslaw"), ("bob-2", "bogoslaw")]
    {
        let last = if user.starts_with("ada") { "lovelaar" } else { "martinek" };
        people.push(json!({
            "userId": user,
            "traits": {
                "firstName": first, "lastName": last,
                "birthday": if user.starts_with("ada") { "1975-12-10" } else { "1961-02-03" },
                "address": { "street": format!("{last} platz"), "postalCode": "20095" },
            },
        }));
    }
    people
}

struct World {
    cluster: Cluster,
    cli: Cli,
}

impl World {
    fn run(&self, arguments: &[&str]) -> Ended {
        self.cli.json(&self.cluster.endpoints(), arguments)
    }

    fn well(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        ended
    }

    async fn say(&self, events: Vec<Value>) {
        let items = events.into_iter().enumerate().map(|(n, mut event)| {
            let id = format!("m{n}-{}-{}-{}", event["userId"], event["context"], event["traits"]);
            if event["type"].is_null() {
                event["type"] = "identify".into();
            }
            event["messageId"] =
                id.chars().filter(char::is_ascii_alphanumeric).take(90).collect::<String>().into();
            ask::json(event.to_string())
        });
        ask::accepted(&self.cluster.channel(0), items.collect()).await;
    }

    fn profile(&self, user: &str) -> Value {
        self.well(&["profile", "get", &format!("user_id:{user}")]).last()
    }

    fn candidates(&self) -> Vec<Value> {
        self.well(&["identity", "match", "--wait"]);
        self.well(&["identity", "candidates", "--min-score", "0.9"]).objects()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_taken_for_one_person_or_for_two_and_the_former_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, cli) = start(folder.path()).await;
    let world = World { cluster, cli };
    let none = world.run(&["identity", "match", "--full", "--wait"]);
    assert_eq!(none.code, 1);
    assert!(
        none.err.contains("NOTHING_TO_LEARN_FROM") || none.err.contains("no profile has a trait"),
        "{}",
        none.err
    );
    world.say(town()).await;
    // Without a configuration: by the names of the traits.
    let status = world.well(&["identity", "match", "--full", "--wait"]).last();
    assert_eq!((&status["profiles"], &status["complete"]), (&json!(304), &json!(true)), "{status}");

    let pairs = world.candidates();
    assert_eq!(pairs.len(), 2, "{pairs:?}");
    assert!(
        pairs.iter().all(|pair| pair["decision"] == "open" && pair["weights"].as_array().unwrap().len() >= 4)
    );

    let accepted =
        world.well(&["identity", "accept", "user_id:ada-2", "user_id:ada-1", "--by", "eve"]).last();
    assert_eq!((&accepted["decision"], &accepted["decided_by"]), (&json!("accepted"), &json!("eve")));
    let ada = world.profile("ada-1");
    assert_eq!(ada["profile_id"], world.profile("ada-2")["profile_id"]);
    let why = world.well(&["profile", "explain", "user_id:ada-1", "user_id:ada-2"]).out;
    assert!(why.contains("matcher") && why.contains("match-"), "{why}");

    world.well(&["identity", "refuse", "user_id:bob-1", "user_id:bob-2", "--note", "father and son"]);
    assert!(world.candidates().is_empty());
    // Neither is proposed again by another pass, and both are remembered.
    world.well(&["identity", "match", "--full", "--wait"]);
    assert!(world.candidates().is_empty());
    let all = world.well(&["identity", "pairs", "--min-score", "0.9"]).objects();
    let decisions: Vec<&str> = all.iter().map(|pair| pair["decision"].as_str().unwrap()).collect();
    assert_eq!((all.len(), decisions.contains(&"accepted"), decisions.contains(&"refused")), (2, true, true));

    // What was linked is not refused, but taken back like any link.
    let late = world.run(&["identity", "refuse", "user_id:ada-1", "user_id:ada-2"]);
    assert_eq!(late.code, 1);
    assert!(late.err.contains("profile split"), "{}", late.err);
    world.well(&["profile", "split", "user_id:ada-1", "user_id:ada-2"]);
    assert_ne!(world.profile("ada-1")["profile_id"], world.profile("ada-2")["profile_id"]);
    // Two again: it is decided anew.
    let again = world.well(&["identity", "accept", "user_id:ada-1", "user_id:ada-2"]);
    assert!(!again.err.contains("nothing has changed"), "{}", again.err);
    assert_eq!(world.profile("ada-1")["profile_id"], world.profile("ada-2")["profile_id"]);
    world.well(&["profile", "split", "user_id:ada-1", "user_id:ada-2"]);

    for (arguments, said) in [
        (&["identity", "accept", "user_id:u1", "user_id:u2"][..], "not listed as a pair"),
        (&["identity", "accept", "user_id:nobody", "user_id:u2"], "nothing is known under a"),
        (&["source", "create", "matcher"], "matcher"),
    ] {
        let ended = world.run(arguments);
        assert_eq!(ended.code, 1, "{arguments:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sure_pairs_link_by_themselves_if_that_is_asked_for_and_changed_people_part_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, cli) = start(folder.path()).await;
    let world = World { cluster, cli };
    world.say(town()).await;
    let config = |text: &str| {
        let path = folder.path().join("matching.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let traits = [
        ("firstName", "name"),
        ("lastName", "name"),
        ("birthday", "date"),
        ("address.street", "address"),
        ("address.postalCode", "postcode"),
    ];
    let traits: String = traits
        .iter()
        .map(|(name, kind)| format!("[[traits]]\nname = \"{name}\"\nkind = \"{kind}\"\n"))
        .collect();
    for (text, said) in [
        ("link_at = 2.0\n".to_owned() + &traits, "link_at"),
        ("nonsense = 1\n".to_owned() + &traits, "nonsense"),
        ("[[traits]]\nname = \"a\"\nkind = \"shoe\"\n".to_owned(), "shoe"),
    ] {
        let ended = world.run(&["identity", "match", "--full", "--config", &config(&text)]);
        assert_eq!(ended.code, 1, "{text}");
        assert!(ended.err.contains(said), "{}", ended.err);
    }
    world.well(&["identity", "match", "--full", "--wait", "--config", &config(&traits)]);
    assert_eq!(world.candidates().len(), 2);

    // An identifier says the same: one profile is no pair. Taken back, somebody has said that they are two.
    world.say(vec![json!({ "type": "alias", "userId": "bob-1", "previousId": "bob-2" })]).await;
    assert_eq!(world.candidates().len(), 1);
    world.well(&["profile", "split", "user_id:bob-1", "user_id:bob-2"]);
    assert_eq!(world.candidates().len(), 1);
    assert_eq!(world.well(&["identity", "pairs", "--only", "refused"]).objects().len(), 1);
    // That holds under another name, too: a cookie turns out to have been Bob's first.
    let earlier = json!({
        "userId": "bob-1", "anonymousId": "cookie", "timestamp": "2001-01-01T00:00:00Z", "traits": { "vip": true },
    });
    let before = world.profile("bob-1");
    world.say(vec![earlier]).await;
    let seen = json!({ "type": "page", "anonymousId": "cookie", "timestamp": "2000-01-01T00:00:00Z" });
    world.say(vec![seen]).await;
    assert_ne!(world.profile("bob-1")["profile_id"], before["profile_id"]);
    assert_eq!(world.candidates().len(), 1);

    // Ada's second record turns out to be somebody else's, and then hers again.
    let other = json!({
        "userId": "ada-2",
        "traits": {
            "firstName": "wilhelmina", "lastName": "overbeek", "birthday": "2001-07-30",
            "address": { "street": "haven 4", "postalCode": "99999" },
        },
    });
    world.say(vec![other]).await;
    assert!(world.candidates().is_empty());
    let again = town().into_iter().find(|person| person["userId"] == "ada-2").unwrap();
    world
        .say(vec![json!({ "userId": "ada-2", "traits": again["traits"], "context": { "again": true } })])
        .await;
    assert_eq!(world.candidates().len(), 1);

    // What a new model doesn't find any more is dropped.
    let strict = "link_at = 1.0\nreview_at = 1.0\n".to_owned() + &traits;
    world.well(&["identity", "match", "--full", "--wait", "--config", &config(&strict)]);
    assert!(world.well(&["identity", "pairs", "--only", "open"]).objects().is_empty());

    let by_themselves = config(&("links = true\n".to_owned() + &traits));
    world.well(&["identity", "match", "--full", "--wait", "--config", &by_themselves]);
    while world.profile("ada-1")["profile_id"] != world.profile("ada-2")["profile_id"] {
        tokio::task::yield_now().await;
    }
    let pairs = world.well(&["identity", "pairs", "--only", "accepted"]).objects();
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0]["decided_by"], "matcher");
    assert_ne!(world.profile("bob-1")["profile_id"], world.profile("bob-2")["profile_id"]);
}
