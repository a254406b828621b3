//! Random events, late ones and doubled ones, merges, unmerges and killed leaders: in the end, and at every look between,
//! who is live is who a plain model of all that was sent says.

use std::collections::{BTreeMap, BTreeSet};

use isthmus_tests::cluster::{Cluster, ClusterOptions};
use serde_json::{Value, json};

use crate::{members, options, run};

/// How many rounds of events; each has some hundred.
const ROUNDS: &str = "ISTHMUS_TEST_SEGMENTS_ROUNDS";
const USERS: u64 = 40;
const SEED: u64 = 20_260_101;

/// SplitMix64.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What was said under an identifier.
#[derive(Default, Clone)]
struct Facet {
    orders: u64,
    spent: u64,
    tickets: u64,
    plan: Option<(u64, String, String)>,
}

#[derive(Default)]
struct Model {
    facets: BTreeMap<String, Facet>,
    /// Of cookies: whose they are.
    linked: BTreeMap<String, String>,
    /// Cookies that were taken back: what is older than that doesn't link them again, whenever it comes.
    parted: BTreeSet<String>,
    sent: Vec<Value>,
}

impl Model {
    fn take(&mut self, event: &Value, who: &str, second: u64) {
        let facet = self.facets.entry(who.to_owned()).or_default();
        match event["event"].as_str() {
            Some("Order Completed") => {
                facet.orders += 1;
                facet.spent += event["properties"]["revenue"].as_u64().unwrap();
            }
            Some(_) => facet.tickets += 1,
            None => {
                if let Some(plan) = event["traits"]["plan"].as_str() {
                    let said = (second, event["messageId"].as_str().unwrap().to_owned(), plan.to_owned());
                    facet.plan = facet.plan.clone().max(Some(said));
                }
                if let Some(cookie) = event["anonymousId"].as_str().filter(|_| event["userId"].is_string()) {
                    let cookie = format!("anonymous_id:{cookie}");
                    if !self.parted.contains(&cookie) {
                        self.linked.insert(cookie, who.to_owned());
                    }
                }
            }
        }
    }

    /// Profiles by the identifier that leads them.
    fn profiles(&self) -> BTreeMap<String, Facet> {
        let mut profiles: BTreeMap<String, Facet> = BTreeMap::new();
        for (who, facet) in &self.facets {
            let home = self.linked.get(who).unwrap_or(who);
            let sum = profiles.entry(home.clone()).or_default();
            sum.orders += facet.orders;
            sum.spent += facet.spent;
            sum.tickets += facet.tickets;
            sum.plan = sum.plan.clone().max(facet.plan.clone());
        }
        profiles
    }

    fn check(&self, cluster: &Cluster) {
        let profiles = self.profiles();
        let of = |holds: &dyn Fn(&Facet) -> bool| -> BTreeSet<String> {
            profiles.iter().filter(|(_, facet)| holds(facet)).map(|(home, _)| home.clone()).collect()
        };
        let is_pro = |facet: &Facet| facet.plan.as_ref().is_some_and(|(.., plan)| plan == "pro");
        for (expression, wanted) in [
            ("often", of(&|it| it.orders >= 3)),
            ("spender", of(&|it| it.spent >= 100)),
            ("pro", of(&is_pro)),
            ("calm", of(&|it| it.tickets == 0)),
            ("best", of(&|it| is_pro(it) && it.spent >= 100)),
            ("often and pro not calm", of(&|it| it.orders >= 3 && is_pro(it) && it.tickets > 0)),
            ("not often", of(&|it| it.orders < 3)),
        ] {
            let found: BTreeSet<String> = members(cluster, expression).into_iter().collect();
            assert_eq!(found, wanted, "{expression}");
        }
    }
}

fn round(number: u64, numbers: &mut Numbers, model: &mut Model) -> Vec<Value> {
    let mut events = Vec::new();
    for n in 0..150 {
        let user = numbers.below(USERS);
        // A customer's cookies are its own.
        let cookie = format!("c{user}-{}", numbers.below(3));
        let second = numbers.below(86_400);
        let time = format!("2025-06-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
        let message = format!("m{number}-{n}");
        let (who, field, value) = match numbers.below(3) {
            0 => (format!("anonymous_id:{cookie}"), "anonymousId", cookie.clone()),
            _ => (format!("user_id:u{user}"), "userId", format!("u{user}")),
        };
        let mut event = json!({"messageId": message, "timestamp": time, field: value});
        match numbers.below(6) {
            0 | 1 => {
                event["type"] = json!("track");
                event["event"] = json!("Order Completed");
                event["properties"] = json!({"revenue": numbers.below(40)});
            }
            2 if numbers.below(4) == 0 => {
                event["type"] = json!("track");
                event["event"] = json!("Support Ticket");
            }
            3 if field == "userId" && numbers.below(3) == 0 => {
                event["type"] = json!("identify");
                event["anonymousId"] = json!(cookie);
            }
            _ => {
                event["type"] = json!("identify");
                let plan = if numbers.below(2) == 0 { "pro" } else { "free" };
                event["traits"] = json!({ "plan": plan });
            }
        }
        model.take(&event, &who, second);
        events.push(event);
    }
    // What was sent before comes again.
    for _ in 0..20 {
        if !model.sent.is_empty() {
            let again = numbers.below(model.sent.len() as u64) as usize;
            events.push(model.sent[again].clone());
        }
    }
    model.sent.extend(events.iter().cloned());
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_live_is_who_a_plain_model_says_whatever_merges_and_whoever_dies() {
    agrees_with_the_model(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_identifiers_of_a_customer_lie_in_several_shards() {
    agrees_with_the_model(4).await;
}

async fn agrees_with_the_model(shards: u32) {
    let folder = tempfile::tempdir().unwrap();
    let options = ClusterOptions { shards, ..options(folder.path(), 3) };
    let mut cluster = Cluster::start(options).await;
    let rounds: u64 = std::env::var(ROUNDS).map_or(6, |rounds| rounds.parse().unwrap());
    for (name, expression) in [
        ("often", "events('Order Completed') >= 3"),
        ("spender", "sum(revenue, 'Order Completed') >= 100"),
        ("pro", "plan = 'pro'"),
        ("calm", "NOT did('Support Ticket')"),
        ("best", "segment('pro') AND segment('spender')"),
    ] {
        run(&cluster, &["segment", "put", name, expression]);
    }
    let (mut numbers, mut model) = (Numbers(SEED), Model::default());
    let file = folder.path().join("events.jsonl");
    for number in 0..rounds {
        let events = round(number, &mut numbers, &mut model);
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let sent = crate::ended(&cluster, &["ingest", file.to_str().unwrap(), "--timeout", "60s"]);
        assert_eq!(sent.code, 0, "{} {}", sent.out, sent.err);
        // Two cookies are somebody else's from here on.
        for _ in 0..2 {
            let linked: Vec<(String, String)> =
                model.linked.iter().map(|(cookie, user)| (cookie.clone(), user.clone())).collect();
            if linked.is_empty() {
                continue;
            }
            let (cookie, user) = &linked[numbers.below(linked.len() as u64) as usize];
            run(&cluster, &["profile", "split", user, cookie]);
            model.linked.remove(cookie);
            model.parted.insert(cookie.clone());
        }
        model.check(&cluster);
        let victim = cluster.busiest().await;
        cluster.kill(victim);
        cluster.serving().await;
        model.check(&cluster);
        cluster.launch(victim);
        cluster.healthy().await;
    }
    for name in ["often", "spender", "pro", "calm", "best"] {
        let verified = &run(&cluster, &["segment", "verify", name])[0];
        assert_eq!(verified["same"], true, "{name}: {verified}");
    }
}
