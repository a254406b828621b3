//! Identity rules put at run time: they reach every shard, change who is one customer, and change it back; how far they
//! have come is told.

use std::collections::BTreeSet;

use isthmus_tests::{ask, cli::Ended, look};
use serde_json::{Value, json};

use crate::{World, start};

/// Families: two users each who share a cookie. More identifiers in each shard than one step of a sweep goes over.
const FAMILIES: usize = 150;

fn second(n: usize) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3_600, n / 60 % 60, n % 60)
}

fn seen(message_id: &str, n: usize, fields: &str) -> String {
    format!(r#"{{"type":"page","messageId":"{message_id}","timestamp":"{}",{fields}}}"#, second(n))
}

impl World {
    async fn take(&self, events: Vec<String>) {
        let items = events.into_iter().map(ask::json).collect();
        ask::accepted(&self.cluster.channel(0), items).await;
    }

    /// Puts identity rules, by changing what is in force, and waits until all is as they say.
    fn put_rules(&self, change: impl FnOnce(&mut Value)) -> Ended {
        let mut rules = self.run(&["identity", "rules", "get"]).last();
        change(&mut rules);
        let file = self.file("identity.json", &rules.to_string());
        let put = self.run(&["identity", "rules", "put", &file, "--wait", "60s"]);
        assert_eq!((put.code, put.err.as_str()), (0, ""), "{}", put.out);
        put
    }

    /// All profiles as JSON, without what changes with every write.
    fn profiles(&self) -> Vec<Value> {
        let mut profiles = self.run(&["profile", "list"]).objects();
        for profile in &mut profiles {
            let profile = profile.as_object_mut().unwrap();
            profile.remove("version");
            profile.remove("rules_version");
        }
        profiles
    }

    fn profile(&self, key: &str) -> Value {
        self.run(&["profile", "get", key]).last()
    }
}

/// The identifiers of a profile, as `namespace:value`.
fn names(profile: &Value) -> BTreeSet<String> {
    let name =
        |id: &Value| format!("{}:{}", id["namespace"].as_str().unwrap(), id["value"].as_str().unwrap());
    profile["identifiers"].as_array().unwrap().iter().map(name).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Every shard is done under this version.
fn assert_done(status: &Value, version: u64, shards: usize) {
    assert_eq!((&status["version"], &status["done"]), (&json!(version), &json!(true)), "{status}");
    assert_eq!(status["messages_under_way"], 0, "{status}");
    let rows = status["shards"].as_array().unwrap();
    assert_eq!(rows.len(), shards, "{status}");
    for row in rows {
        assert_eq!((&row["version"], &row["done"]), (&json!(version), &json!(true)), "{status}");
        assert_eq!(row["swept_slots"], row["slots"], "{status}");
    }
    assert_eq!(rows.iter().map(|row| row["slots"].as_u64().unwrap()).sum::<u64>(), 16_384);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_put_change_who_is_one_customer_and_put_back_give_back_what_was() {
    let mut world = start(tempfile::tempdir().unwrap(), 3).await;
    let families = (0..FAMILIES).flat_map(|n| {
        let member = |user: &str, at: usize| {
            let fields = format!(r#""userId":"{user}-{n}","anonymousId":"tablet-{n}""#);
            seen(&format!("{user}-{n}"), 2 * n + at, &fields)
        };
        [member("ann", 0), member("bob", 1)]
    });
    let cards = ["red", "blue"].map(|card| {
        let fields = format!(
            r#""anonymousId":"Shop-Tablet","context":{{"externalIds":[{{"type":"card","id":"{card}"}}]}}"#
        );
        seen(card, 0, &fields)
    });
    world.take(families.chain(cards).collect()).await;

    // By default a profile has one user: the second one's link is refused. Whoever shows a card at the shop's tablet is the same one.
    let before = world.profiles();
    assert_eq!(before.len(), 2 * FAMILIES + 1);
    let ann = world.profile("user_id:ann-7");
    assert_eq!(names(&ann), set(["user_id:ann-7", "anonymous_id:tablet-7"]));
    assert_eq!(names(&world.profile("user_id:bob-7")), set(["user_id:bob-7"]));
    let cards = set(["card:red", "card:blue", "anonymous_id:Shop-Tablet"]);
    assert_eq!(names(&world.profile("card:red")), cards);
    assert_eq!(ann["rules_version"], 0, "formed under the defaults");
    let status = world.run(&["identity", "rules", "status", "--wait", "60s"]);
    assert_eq!(status.code, 0, "{}", status.err);
    assert_done(&status.last(), 0, 4);

    // Two users may be one customer, and the shop's tablet is nobody's.
    let put = world.put_rules(|rules| {
        rules["limits"]["user_id"] = json!(2);
        rules["blocked"] = json!({"anonymous_id": {"values": ["SHOP-tablet"]}});
    });
    assert_eq!((&put.objects()[0]["version"], &put.objects()[0]["changed"]), (&json!(1), &json!(true)));
    assert_done(&put.last(), 1, 4);
    assert_eq!(world.profiles().len(), FAMILIES + 2);
    for n in [0, 7, FAMILIES - 1] {
        let family =
            [format!("user_id:ann-{n}"), format!("user_id:bob-{n}"), format!("anonymous_id:tablet-{n}")];
        for member in &family {
            let profile = world.profile(member);
            assert_eq!(names(&profile), family.iter().cloned().collect(), "{member}");
            assert_eq!((&profile["rules_version"], &profile["type_counts"]["page"]), (&json!(1), &json!(2)));
        }
    }
    for card in ["card:red", "card:blue"] {
        assert_eq!(names(&world.profile(card)), set([card]), "parted");
    }
    // Who comes now comes under these rules, with no more to be done.
    let late = [("ann-late", 900), ("bob-late", 901)]
        .map(|(user, at)| seen(user, at, &format!(r#""userId":"{user}","anonymousId":"tablet-late""#)));
    world.take(late.into()).await;
    assert_eq!(names(&world.profile("user_id:ann-late")).len(), 3);

    // Put back while a node is down: what was refused is refused again, also by the node that comes back, and every
    // profile is as it was.
    world.cluster.kill(2);
    let put = world.put_rules(|rules| {
        rules["limits"]["user_id"] = json!(1);
        rules["blocked"] = json!({});
    });
    assert_done(&put.last(), 2, 4);
    world.cluster.launch(2);
    world.cluster.healthy().await;
    assert_eq!(names(&world.profile("user_id:bob-late")), set(["user_id:bob-late"]));
    let late = |profile: &Value| names(profile).iter().any(|name| name.ends_with("-late"));
    let mut after = world.profiles();
    after.retain(|profile| !late(profile));
    assert_eq!(after, before);
    let ann = world.profile("user_id:ann-7");
    assert_eq!(ann["rules_version"], 2, "formed anew");
    let told = world.run(&["profile", "explain", "user_id:ann-7"]).last();
    let versions = told["history"].as_array().unwrap().iter().map(|change| change["rules_version"].clone());
    assert_eq!(versions.collect::<Vec<_>>(), [0, 1, 2], "{told}");
    assert_eq!(names(&world.profile("card:red")), cards);
    assert_eq!(look::replicas_agree(world.cluster.channel(2), 3).await, 12);
}
