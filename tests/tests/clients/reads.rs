//! Reads of single profiles.

use isthmus_proto::v1::{
    BatchGetRequest, Consistency, GetRequest, IngestItem, Linearizable, Profile, ProfileKey,
    consistency::Level, profile_key::Key, profile_service_client::ProfileServiceClient,
};
use isthmus_tests::{ask, cluster::PATIENCE};
use tokio::time::Instant;
use tonic::{Code, Request, Status, transport::Channel};

use crate::{Hub, refused};

/// Writes through each node are seen by linearizable reads through each, whoever leads the shards.
pub async fn any_node_takes_any_request(hub: &Hub) {
    for (pair, (write, read)) in hub.pairs().enumerate() {
        for number in 0..8 {
            let user = format!("pair-{pair}-{number}");
            ask::accepted(write, vec![ask::json(ask::seen(&user, &user))]).await;
            let profile = ask::profile(read, "user_id", &user).await.unwrap();
            assert_eq!(profile.event_counts["Seen"], 1, "{user}");
        }
    }
}

fn by(namespace: &str, id: &str, message: &str) -> IngestItem {
    ask::json(format!(
        r#"{{"type":"track","event":"Seen","messageId":"{message}","context":{{"externalIds":[{{"type":"{namespace}","id":"{id}","collection":"users","encoding":"none"}}]}}}}"#
    ))
}

/// However an identifier is spelled, in ingest and in reads, it is the same customer.
pub async fn identifiers_are_normalised_as_in_ingest(hub: &Hub) {
    let spellings: [(&str, &[&str]); 5] = [
        ("email", &["A@B.de", " a@b.DE ", "a@b.de"]),
        ("phone", &["+49 30 12-34 (5)", "0049.30.12345", "+493012345"]),
        ("user_id", &["Zoe\u{0308}", " Zo\u{00eb}"]),
        ("crm.id", &["K 1", " K 1  "]),
        ("anonymousId", &["c-1", "c-1\t"]),
    ];
    for (namespace, spellings) in spellings {
        for (number, spelling) in spellings.iter().enumerate() {
            let written = spelling.replace('\t', " ");
            let item = by(namespace, &written, &format!("{namespace}-{number}"));
            ask::accepted(&hub.nodes[number % 3], vec![item]).await;
        }
        let mut ids = Vec::new();
        for spelling in spellings {
            for node in &hub.nodes {
                let profile = ask::profile(node, namespace, spelling).await.unwrap();
                assert_eq!(profile.event_counts["Seen"], spellings.len() as u64, "{namespace}:{spelling}");
                ids.push(profile.profile_id);
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
    let profile = ask::profile(&hub.nodes[0], "crmId", "K 1").await.unwrap();
    assert_eq!(
        (profile.identifiers[0].namespace.as_str(), profile.identifiers[0].value.as_str()),
        ("crm_id", "K 1")
    );
    let cli = hub.cli.json(&hub.cluster.endpoints(), &["profile", "get", "email: A@b.De "]);
    assert_eq!(cli.last()["event_counts"]["Seen"], 3, "{}", cli.err);
    // Upper case is lower case in an e-mail address alone.
    refused(ask::profile(&hub.nodes[1], "crm_id", "k 1").await, Code::NotFound, "NOT_FOUND");

    for (namespace, value) in
        [("email", " "), ("user_id", "null"), ("user_id", "a\u{0}"), ("a:b", "1"), ("", "1")]
    {
        refused(
            ask::profile(&hub.nodes[0], namespace, value).await,
            Code::InvalidArgument,
            "INVALID_IDENTIFIER",
        );
    }
    let id = |text: &str| Some(ProfileKey { key: Some(Key::ProfileId(text.to_owned())) });
    refused(get(&hub.nodes[0], id("12"), None).await, Code::InvalidArgument, "INVALID_PROFILE_ID");
    refused(get(&hub.nodes[0], id(&"0".repeat(32)), None).await, Code::NotFound, "NOT_FOUND");
    refused(get(&hub.nodes[0], None, None).await, Code::InvalidArgument, "INVALID_KEY");
}

async fn get(node: &Channel, key: Option<ProfileKey>, level: Option<Level>) -> Result<Profile, Status> {
    let consistency = level.map(|level| Consistency { level: Some(level) });
    let mut request = Request::new(GetRequest { key, consistency, fields: None });
    request.set_timeout(PATIENCE);
    Ok(ProfileServiceClient::new(node.clone()).get(request).await?.into_inner().profile.unwrap())
}

/// The token of a batch over all shards lets any node show every one of its items, whichever replica answers.
pub async fn a_version_token_covers_its_batch_on_any_node_and_shard(hub: &Hub) {
    for round in 0..6_u64 {
        let users: Vec<String> = (0..12).map(|number| format!("token-{number}")).collect();
        let items = users.iter().map(|user| ask::json(ask::seen(user, &format!("{user}-{round}")))).collect();
        let token = ask::accepted(&hub.nodes[round as usize % 3], items).await;
        assert!(token.len() == 16 && token.bytes().all(|b| b.is_ascii_hexdigit()), "{token}");
        for user in &users {
            for node in &hub.nodes {
                let level = Level::MinVersion(token.clone());
                let profile = get(node, ask::key("user_id", user), Some(level)).await.unwrap();
                assert_eq!(
                    profile.event_counts["Seen"],
                    round + 1,
                    "{user} misses a write that the token covers"
                );
            }
        }
    }
    for bad in ["", "7", "000000000000000g", &"0".repeat(17)] {
        let level = Level::MinVersion(bad.to_owned());
        let answer = get(&hub.nodes[0], ask::key("user_id", "token-0"), Some(level)).await;
        refused(answer, Code::InvalidArgument, "INVALID_VERSION");
    }
}

/// A bounded-staleness read may miss what is young, and sees it once it is not.
pub async fn a_read_that_may_be_stale_comes_to_see_everything(hub: &Hub) {
    ask::accepted(&hub.nodes[0], vec![ask::json(ask::seen("stale", "stale-1"))]).await;
    for node in &hub.nodes {
        for bound in [1, 100, 3_600_000] {
            let until = Instant::now() + PATIENCE;
            loop {
                match get(node, ask::key("user_id", "stale"), Some(Level::MaxStalenessMs(bound))).await {
                    Ok(profile) => break assert_eq!(profile.event_counts["Seen"], 1),
                    Err(status) => assert_eq!(status.code(), Code::NotFound, "{bound} ms: {status}"),
                }
                assert!(Instant::now() < until, "it never comes to see it");
            }
        }
    }
    let profile =
        get(&hub.nodes[2], ask::key("user_id", "stale"), Some(Level::Linearizable(Linearizable {}))).await;
    assert_eq!(profile.unwrap().event_counts["Seen"], 1);
    for bad in [0, 3_600_001] {
        let answer = get(&hub.nodes[0], ask::key("user_id", "stale"), Some(Level::MaxStalenessMs(bad))).await;
        refused(answer, Code::InvalidArgument, "INVALID_STALENESS");
    }
}

pub async fn many_profiles_come_in_the_order_asked_for_with_gaps(hub: &Hub) {
    let there = (0..50).map(|number| format!("batch-{number}"));
    let items = there.clone().map(|user| ask::json(ask::seen(&user, &user))).collect();
    ask::accepted(&hub.nodes[1], items).await;
    // Every third one is of nobody, and one comes twice.
    let mut asked: Vec<String> =
        there.enumerate().map(|(n, user)| if n % 3 == 0 { format!("no-{n}") } else { user }).collect();
    asked.push("batch-1".to_owned());
    let request = |asked: &[String]| BatchGetRequest {
        keys: asked.iter().filter_map(|user| ask::key("user_id", user)).collect(),
        ..BatchGetRequest::default()
    };
    for node in &hub.nodes {
        let mut client = ProfileServiceClient::new(node.clone());
        let entries = client.batch_get(request(&asked)).await.unwrap().into_inner().entries;
        assert_eq!(entries.len(), asked.len());
        for (user, entry) in asked.iter().zip(entries) {
            let found = entry.profile.map(|profile| profile.identifiers[0].value.clone());
            assert_eq!(found, Some(user.clone()).filter(|user| user.starts_with("batch-")));
        }
        let many: Vec<String> = (0..1_001).map(|number| number.to_string() + "x").collect();
        refused(client.batch_get(request(&many)).await, Code::InvalidArgument, "BATCH_TOO_MANY");
        let entries = client.batch_get(request(&many[..1_000])).await.unwrap().into_inner().entries;
        assert!(entries.len() == 1_000 && entries.iter().all(|entry| entry.profile.is_none()));
    }
}

pub async fn a_field_mask_leaves_the_rest_out(hub: &Hub) {
    let item = r#"{"type":"identify","userId":"mask","messageId":"mask","traits":{"name":"Ann","age":7},"timestamp":"2024-01-01T00:00:00Z"}"#;
    ask::accepted(&hub.nodes[0], vec![ask::json(item)]).await;
    let request = |paths: &[&str]| GetRequest {
        key: ask::key("user_id", "mask"),
        fields: Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        consistency: None,
    };
    let mut client = ProfileServiceClient::new(hub.nodes[1].clone());
    let all = client.get(request(&[])).await.unwrap().into_inner().profile.unwrap();
    assert_eq!(
        (all.traits.len(), all.type_counts["identify"], all.sources.as_slice()),
        (2, 1, &["default".to_owned()][..])
    );
    let some = client.get(request(&["traits", "profile_id"])).await.unwrap().into_inner().profile.unwrap();
    let expected = Profile { traits: all.traits, profile_id: all.profile_id, ..Profile::default() };
    assert_eq!(some, expected);
    refused(client.get(request(&["traits.name"])).await, Code::InvalidArgument, "INVALID_FIELD_MASK");
}
