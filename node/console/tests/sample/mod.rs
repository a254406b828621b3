//! What a node might know, made up, for tests and to look at.

mod sql;

use std::collections::BTreeMap;

use isthmus_console::{
    Shell, Theme,
    customer::{Customer, Trait},
    customers::Listing,
    ingest::{Ingest, Source},
    overview::Overview,
    quarantine::{self, Content, Entry},
};
use isthmus_proto::v1::{
    EventType, ExplainResponse, Identifier, JudgedFact, LinkFact, Node, NodeState, Profile, ProfileChange,
    QuarantineCounts, QuarantineEntry, Replica, ReplicaRole, StatusResponse, TimelineEvent, TimelineResponse,
    Value, value::Kind,
};
use prost_types::Timestamp;

pub use self::sql::{sql_answered, sql_refused, sql_unasked};

/// Midnight at which 2026 begins, microseconds since 1970.
pub const NOW: i64 = 1_767_225_600_000_000;

/// The frame of pages.
pub fn shell(here: &'static str) -> Shell<'static> {
    Shell { theme: Theme::System, query: "", node: 1, version: "0.1.0", form_token: "token", here, now: NOW }
}

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOW / 1_000_000 - seconds, nanos: 0 })
}

/// An identifier.
pub fn id(namespace: &str, value: &str) -> Identifier {
    Identifier { namespace: namespace.to_owned(), value: value.to_owned() }
}

/// Three nodes, four shards; one replica is behind.
pub fn overview() -> Overview {
    let node = |node_id: u32| Node {
        node_id,
        state: NodeState::Active.into(),
        alive: true,
        grpc_address: format!("127.0.0.1:74{node_id}0"),
        http_address: format!("127.0.0.1:74{node_id}1"),
        peer_address: format!("127.0.0.1:74{node_id}2"),
        replicas: 4,
        leaders: if node_id == 1 { 2 } else { 1 },
        version: "0.1.0".to_owned(),
    };
    let replica = |shard: u64, node: u32| {
        let leads = shard % 3 + 1 == u64::from(node);
        Replica {
            shard: 16 + shard,
            node,
            role: if leads { ReplicaRole::Leader } else { ReplicaRole::Follower }.into(),
            term: 3,
            applied_index: if (shard, node) == (2, 1) { 1_200 } else { 1_234 + shard },
            slots: format!("{}-{}", shard * 4_096, shard * 4_096 + 4_095),
            ..Replica::default()
        }
    };
    Overview {
        status: StatusResponse {
            cluster_id: "0f".repeat(16),
            healthy: true,
            nodes: 3,
            nodes_alive: 3,
            shards: 4,
            shards_with_leader: 4,
            replicas: 3,
            metadata_leader: 2,
            ..StatusResponse::default()
        },
        nodes: (1..=3).map(node).collect(),
        replicas: (0..4).flat_map(|shard| (1..=3).map(move |node| replica(shard, node))).collect(),
        events_a_second: 1_234.4,
    }
}

/// The same with a node that is away.
pub fn overview_in_trouble() -> Overview {
    let mut told = overview();
    told.status.healthy = false;
    told.status.nodes_alive = 2;
    told.status.shards_with_leader = 3;
    told.status.problems = vec!["shard 18 has no leader".to_owned(), "node 3 does not answer".to_owned()];
    told.nodes[2].alive = false;
    for replica in &mut told.replicas {
        if replica.node == 3 {
            replica.role = ReplicaRole::Unspecified.into();
        } else if replica.shard == 18 {
            replica.role = ReplicaRole::Candidate.into();
        }
    }
    told
}

/// Sources that send, one that is silent, one that is disabled.
pub fn ingest() -> Ingest {
    let source = |name: &str, height: u64, quarantined: u64| {
        let zero = vec![0; 180];
        let wave = |step: u64| height * (60 + (step * 7 % 40) + (step / 9 % 5) * 10) / 100;
        Source {
            name: name.to_owned(),
            accepted: (0..180).map(wave).collect(),
            quarantined: (0..180).map(|step| if step % 60 == 7 { quarantined } else { 0 }).collect(),
            duplicate: zero.clone(),
            rejected: zero.clone(),
            unknown: zero,
            age_p50_ms: (height > 0).then_some(64),
            age_p95_ms: (height > 0).then_some(2_048),
            last_at: (height > 0).then_some(NOW - 1_000_000),
            newest_event: (height > 0).then_some(NOW - 3_000_000),
            ..Source::default()
        }
    };
    let sources = vec![
        source("app", 900, 0),
        Source { disabled: true, ..source("crm", 0, 0) },
        source("newsletter", 120, 3),
        source("till", 0, 0),
        source("web", 2_400, 41),
    ];
    Ingest { step_seconds: 5, from_second: NOW / 1_000_000 - 900, sources, silent_nodes: vec![] }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn fact(verdict: &str, a: Identifier, b: Identifier, seconds: i64) -> JudgedFact {
    let fact = LinkFact {
        a: Some(a),
        b: Some(b),
        timestamp: ago(seconds),
        source: "web".to_owned(),
        message_id: "m-1".to_owned(),
        alias: false,
    };
    JudgedFact { fact: Some(fact), verdict: verdict.to_owned(), namespace: "user_id".to_owned() }
}

/// A customer with a bit of everything.
pub fn customer() -> Customer {
    let (ada, cookie, mail) =
        (id("user_id", "42"), id("anonymous_id", "c-91f0"), id("email", "ada@example.org"));
    let traits = [
        ("address", r#"{"city":"London","country":"GB","postcode":"NW1 6XE"}"#),
        ("email", r#""ada@example.org""#),
        ("firstName", r#""Ada""#),
        ("lastName", r#""King""#),
        ("newsletter", "true"),
        ("nickname", r#""""#),
        ("visits", "18446744073709551615"),
    ];
    let event = |kind: EventType, name: &str, properties: &str, seconds: i64| TimelineEvent {
        r#type: kind.into(),
        message_id: format!("m-{seconds}"),
        source: "web".to_owned(),
        name: name.to_owned(),
        timestamp: ago(seconds),
        received_at: ago(seconds - 1),
        primary: Some(ada.clone()),
        properties_json: properties.to_owned(),
        context_json: r#"{"page":{"path":"/checkout"}}"#.to_owned(),
        notes: vec![],
    };
    let mut flagged =
        event(EventType::Track, "Order Completed", r#"{"revenue":"44.02","quantity":2}"#, 3_000);
    flagged.notes = vec!["TRAIT_STANDARDISED traits.address.country \"GB\"".to_owned()];
    Customer {
        profile: Profile {
            profile_id: "3272f3b19dfea6dda66ddab55ea56939".to_owned(),
            identifiers: vec![ada.clone(), mail.clone(), cookie.clone()],
            traits: BTreeMap::from([("firstName".into(), text("Ada")), ("lastName".into(), text("King"))]),
            event_counts: BTreeMap::from([("Order Completed".into(), 3), ("Product Viewed".into(), 1_204)]),
            type_counts: BTreeMap::from([("identify".into(), 2), ("page".into(), 14)]),
            revenue: "132.06".to_owned(),
            revenue_by_currency: BTreeMap::from([
                ("EUR".into(), "12.00".into()),
                ("USD".into(), "132.06".into()),
            ]),
            first_seen: ago(86_400 * 400),
            last_seen: ago(3_000),
            sources: vec!["app".into(), "crm".into(), "web".into()],
            version: "000660d1f64148b2".to_owned(),
            rules_version: Some(1),
            segments: None,
        },
        traits: traits
            .into_iter()
            .map(|(name, json)| Trait {
                name: name.to_owned(),
                json: json.to_owned(),
                source: "crm".to_owned(),
                message_id: "m-7".to_owned(),
                said_at: NOW - 86_400_000_000,
            })
            .collect(),
        timeline: TimelineResponse {
            events: vec![
                flagged,
                event(EventType::Page, "Checkout", r#"{"path":"/checkout","title":"Your basket"}"#, 3_100),
                event(EventType::Identify, "", r#"{"email":"ada@example.org","firstName":"Ada"}"#, 90_000),
                event(EventType::Track, "Product Viewed", r#"{"sku":"A-17","price":"22.01"}"#, 90_100),
                event(EventType::Alias, "", "{}", 180_000),
            ],
            next_cursor: "0102".to_owned(),
        },
        further: false,
        why: Ok(ExplainResponse {
            together: true,
            facts: vec![
                fact("JOINED", ada.clone(), mail.clone(), 90_000),
                fact("JOINED", cookie.clone(), mail.clone(), 89_000),
                fact("CONFIRMED", ada.clone(), cookie.clone(), 88_000),
                fact("OVER_LIMIT", id("user_id", "43"), mail.clone(), 3_000),
                fact("BLOCKED_VALUE", ada.clone(), id("email", "null"), 2_000),
            ],
            history: vec![
                ProfileChange { at: ago(90_000), came: vec![ada, mail], left: vec![], rules_version: 1 },
                ProfileChange { at: ago(89_000), came: vec![cookie], left: vec![], rules_version: 1 },
            ],
            rules_version: 1,
            ..ExplainResponse::default()
        }),
    }
}

/// A page of customers.
pub fn customers() -> Listing {
    let one = customer().profile;
    let named = |n: usize| Profile {
        profile_id: format!("{n:032x}"),
        identifiers: vec![id("user_id", &format!("{n}"))],
        traits: BTreeMap::new(),
        event_counts: BTreeMap::from([("Order Completed".into(), n as u64)]),
        type_counts: BTreeMap::new(),
        ..one.clone()
    };
    let profiles = std::iter::once(one.clone()).chain((2..9).map(named)).collect();
    Listing { profiles, next_cursor: "0a0b".to_owned(), further: false }
}

/// An open entry of the quarantine.
pub fn kept(n: u32) -> QuarantineEntry {
    QuarantineEntry {
        id: format!("{n:032x}"),
        reason: if n.is_multiple_of(2) { "EVENT_NAME_MISSING" } else { "SCHEMA_VIOLATION" }.to_owned(),
        message: if n.is_multiple_of(2) {
            "a track event needs a name: send it in the field event".to_owned()
        } else {
            "breaks version 1 of the schema track:Order Completed: /properties/quantity: the value is less than the minimum of 1".to_owned()
        },
        source: "web".to_owned(),
        origin: format!("orders.jsonl:{n}"),
        received_at: ago(i64::from(n) * 100),
        message_id: format!("m-{n}"),
        content_type: "application/json".to_owned(),
        field: if n.is_multiple_of(2) { "event" } else { "/properties/quantity" }.to_owned(),
        ..QuarantineEntry::default()
    }
}

/// The list of what is in quarantine.
pub fn quarantine() -> quarantine::Listing {
    let count = |source: &str, reason: &str, open, resolved| QuarantineCounts {
        source: source.to_owned(),
        reason: reason.to_owned(),
        open,
        resolved,
    };
    quarantine::Listing {
        counts: vec![
            count("newsletter", "NO_IDENTIFIER", 3, 0),
            count("web", "EVENT_NAME_MISSING", 1_041, 12),
            count("web", "SCHEMA_VIOLATION", 7, 0),
        ],
        entries: (1..7).map(kept).collect(),
        next_cursor: "0c0d".to_owned(),
        ..quarantine::Listing::default()
    }
}

/// The page of an entry.
pub fn entry() -> Entry {
    let json = r#"{"type":"track","userId":"42","messageId":"m-2","properties":{"revenue":"44.02","items":[{"sku":"A-17"}]}}"#;
    Entry { entry: kept(2), content: Content::Json(json.to_owned()), sent: None }
}
