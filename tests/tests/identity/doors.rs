//! Odd identifiers at the doors: each is answered with what is wrong with it, and nothing is lost.

use isthmus_proto::v1::{
    ExplainRequest, ExplainResponse, Identifier, ItemOutcome, Profile, ProfileKey,
    QuarantineServiceListRequest, SplitFact, SplitPair, SplitRequest, SplitScope, profile_key::Key,
    profile_service_client::ProfileServiceClient, split_scope::Scope,
};
use isthmus_tests::{ask, cluster::Cluster};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{folder, options};

/// Values that are no identifier, with a part of what is said of them, and the reason at ingest.
fn odd_values() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("control character", "canary\u{7}".to_owned(), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        ("NUL", "canary\0canary".to_owned(), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        ("bidirectional character", "canary\u{202e}".to_owned(), "IDENTIFIER_FORBIDDEN_CHARACTER"),
        ("300 bytes", "canary".repeat(50), "IDENTIFIER_TOO_LONG"),
        ("300 bytes of two each", "ü".repeat(150), "IDENTIFIER_TOO_LONG"),
        ("blank", " \t".to_owned(), "IDENTIFIER_BLANK"),
        ("blocked", "undefined".to_owned(), "NO_IDENTIFIER"),
        ("zeros", "0000".to_owned(), "NO_IDENTIFIER"),
    ]
}

fn id(namespace: &str, value: &str) -> Identifier {
    Identifier { namespace: namespace.to_owned(), value: value.to_owned() }
}

fn key_of(identifier: Identifier) -> Option<ProfileKey> {
    Some(ProfileKey { key: Some(Key::Identifier(identifier)) })
}

async fn explain(channel: &Channel, x: Identifier, y: Option<Identifier>) -> Result<ExplainResponse, Status> {
    let request = ExplainRequest { key: key_of(x), other: y.and_then(key_of) };
    Ok(ProfileServiceClient::new(channel.clone()).explain(request).await?.into_inner())
}

async fn split(channel: &Channel, scope: Scope) -> Result<String, Status> {
    let scope = Some(SplitScope { scope: Some(scope) });
    sent_split(channel, SplitRequest { scope, ..SplitRequest::default() }).await
}

async fn sent_split(channel: &Channel, request: SplitRequest) -> Result<String, Status> {
    Ok(ProfileServiceClient::new(channel.clone()).split(request).await?.into_inner().id)
}

/// A refusal says in code, reason, field and words what is wrong, and quotes nothing that could be personal.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, reason: &str, field: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), ask::reason(&status).as_str()), (Code::InvalidArgument, reason), "{status}");
    assert!(status.message().len() > 10 && !status.message().contains("canary"), "{status}");
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    assert!(violations.iter().any(|v| v.field == field), "{field} is not named: {violations:?}");
}

/// The identifiers of a profile.
fn ids(profile: &Profile) -> Vec<String> {
    profile.identifiers.iter().map(|id| format!("{}:{}", id.namespace, id.value)).collect()
}

fn event(message_id: &str, time: &str, fields: &str) -> String {
    format!(
        r#"{{"type":"track","event":"Seen","messageId":"{message_id}","timestamp":"2026-01-{time}Z",{fields}}}"#
    )
}

async fn take(channel: &Channel, text: String) {
    ask::accepted(channel, vec![ask::json(text)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_identifier_is_refused_at_every_door_and_kept_where_it_was_an_event() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path().join("nodes"), 1)).await;
    let channel = &cluster.channel(0);
    take(channel, event("good-1", "01T00:00:00", r#""userId":"ann","anonymousId":"cookie""#)).await;

    for (what, value, reason) in odd_values() {
        // Alone on an event: the event is kept in quarantine, with its neighbours taken.
        let text = serde_json::json!({"type": "page", "userId": value, "messageId": format!("odd {what}")});
        let origin = format!("odd:{what}");
        let good = ask::json(ask::seen("ann", &format!("beside {what}")));
        let items = vec![good.clone(), ask::from(text.to_string(), &origin)];
        let results = ask::send(channel, items).await.unwrap().results;
        assert_eq!(results[0].outcome(), ItemOutcome::Accepted, "{what}");
        let result = &results[1];
        assert_eq!((result.outcome(), result.reason.as_str()), (ItemOutcome::Quarantined, reason), "{what}");
        assert!(result.message.len() > 10 && !result.message.contains("canary"), "{}", result.message);
        let list = QuarantineServiceListRequest { reason: reason.to_owned(), ..Default::default() };
        let kept = ask::quarantined(channel, list).await;
        let kept = kept.iter().find(|entry| entry.origin == origin).unwrap();
        assert_eq!(ask::shown(channel, &kept.id).await.content, text.to_string(), "{what}");

        // In a question, and in what is to be taken back.
        let odd = id("user_id", &value);
        let ann = || Some(id("user_id", "ann"));
        refused(explain(channel, odd.clone(), None).await, "INVALID_IDENTIFIER", "key.identifier.value");
        refused(
            explain(channel, id("user_id", "ann"), Some(odd.clone())).await,
            "INVALID_IDENTIFIER",
            "other.identifier.value",
        );
        let one = Scope::Identifier(odd.clone());
        refused(split(channel, one).await, "INVALID_IDENTIFIER", "scope.identifier");
        let pair = Scope::Pair(SplitPair { a: ann(), b: Some(odd.clone()) });
        refused(split(channel, pair).await, "INVALID_IDENTIFIER", "scope.pair");
        let (source, message_id) = ("default".to_owned(), "m".to_owned());
        let fact = Scope::Fact(SplitFact { a: Some(odd), b: ann(), source, message_id });
        refused(split(channel, fact).await, "INVALID_IDENTIFIER", "scope.fact");
    }

    let cookie = || Some(id("anonymous_id", "cookie"));
    let same = Scope::Pair(SplitPair { a: cookie(), b: cookie() });
    refused(split(channel, same).await, "INVALID_SCOPE", "scope.pair");
    let half = Scope::Pair(SplitPair { a: cookie(), b: None });
    refused(split(channel, half).await, "INVALID_SCOPE", "scope.pair");
    refused(split(channel, Scope::Source(String::new())).await, "INVALID_SCOPE", "scope.source");
    refused(sent_split(channel, SplitRequest::default()).await, "INVALID_SCOPE", "scope");
    let whole = Some(SplitScope { scope: Some(Scope::Source("default".to_owned())) });
    let preview = SplitRequest { scope: whole.clone(), preview: true, ..SplitRequest::default() };
    refused(sent_split(channel, preview).await, "INVALID_SCOPE", "preview");
    let until = Some(prost_types::Timestamp::default());
    let both = SplitRequest { scope: whole.clone(), never: true, until, ..SplitRequest::default() };
    refused(sent_split(channel, both).await, "INVALID_UNTIL", "until");
    let long = SplitRequest { scope: whole, reason: "canary".repeat(200), ..SplitRequest::default() };
    refused(sent_split(channel, long).await, "TOO_LONG", "reason");
    refused(explain(channel, id("", "canary"), None).await, "INVALID_IDENTIFIER", "key.identifier.namespace");
    let unknown = explain(channel, id("user_id", "nobody"), None).await.unwrap_err();
    assert_eq!((unknown.code(), ask::reason(&unknown).as_str()), (Code::NotFound, "NOT_FOUND"));

    // None of it parted or lost anything.
    let profile = ask::profile(channel, "anonymous_id", "cookie").await.unwrap();
    assert_eq!(ids(&profile), ["user_id:ann", "anonymous_id:cookie"]);
    assert_eq!(profile.event_counts["Seen"], 1 + odd_values().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_may_not_be_followed_are_told_with_the_reason_and_their_events_count() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path().join("nodes"), 1)).await;
    let channel = &cluster.channel(0);

    // To itself: the alias says nothing of two, but for the id that it also is as a cookie.
    let alias = r#"{"type":"alias","userId":"self","previousId":"self","messageId":"self-1"}"#;
    take(channel, alias.to_owned()).await;
    let profile = ask::profile(channel, "user_id", "self").await.unwrap();
    assert_eq!(ids(&profile), ["user_id:self", "anonymous_id:self"]);
    let twice = r#""userId":"twice","context":{"externalIds":[{"type":"user_id","id":"twice"}]}"#;
    take(channel, event("twice-1", "01T00:00:00", twice)).await;
    assert_eq!(ids(&ask::profile(channel, "user_id", "twice").await.unwrap()), ["user_id:twice"]);
    let to_itself = explain(channel, id("user_id", "twice"), Some(id("user_id", "twice"))).await.unwrap();
    assert!(to_itself.together && to_itself.facts.is_empty(), "{to_itself:?}");

    // Blocked beside a good one: it is left out, and links nobody.
    for (user, message) in [("one", "blocked-1"), ("two", "blocked-2")] {
        let fields = format!(r#""userId":"{user}","anonymousId":"undefined","traits":{{"email":"n/a"}}"#);
        take(channel, event(message, "01T00:00:00", &fields)).await;
        let profile = ask::profile(channel, "user_id", user).await.unwrap();
        assert_eq!((ids(&profile), profile.event_counts["Seen"]), (vec![format!("user_id:{user}")], 1));
    }

    // A second user behind one address: the older fact is followed, the younger one is refused and kept.
    let shared = r#""context":{"traits":{"email":"both@example.org"}}"#;
    take(channel, event("limit-2", "03T00:00:00", &format!(r#""userId":"late",{shared}"#))).await;
    take(channel, event("limit-1", "02T00:00:00", &format!(r#""userId":"early",{shared}"#))).await;
    let early = ask::profile(channel, "email", "both@example.org").await.unwrap();
    assert_eq!(ids(&early), ["user_id:early", "email:both@example.org"]);
    let late = ask::profile(channel, "user_id", "late").await.unwrap();
    assert_eq!((ids(&late), late.event_counts["Seen"]), (vec!["user_id:late".to_owned()], 1));
    let told = explain(channel, id("user_id", "late"), Some(id("user_id", "early"))).await.unwrap();
    assert!(!told.together && told.chain.is_empty());
    let verdicts = told.facts.iter().map(|f| (f.verdict.as_str(), f.namespace.as_str()));
    assert_eq!(verdicts.collect::<Vec<_>>(), [("JOINED", ""), ("OVER_LIMIT", "user_id")]);

    // More cards than a profile may have: each event counts, twenty are its own.
    for card in 0..25 {
        let fields = format!(
            r#""userId":"cards","context":{{"externalIds":[{{"type":"crm_id","id":"card-{card:02}"}}]}}"#
        );
        take(channel, event(&format!("card-{card}"), &format!("01T00:00:{card:02}"), &fields)).await;
    }
    let cards = ask::profile(channel, "user_id", "cards").await.unwrap();
    assert_eq!((cards.identifiers.len(), cards.event_counts["Seen"]), (21, 25));
    let told = explain(channel, id("user_id", "cards"), None).await.unwrap();
    let over = told.facts.iter().filter(|f| f.verdict == "OVER_LIMIT" && f.namespace == "crm_id").count();
    assert_eq!((told.facts.len(), over), (25, 5));

    // A kiosk: nobody's, once more than 32 users were seen at it.
    for user in 0..33 {
        let fields = format!(r#""userId":"guest-{user}","anonymousId":"kiosk""#);
        take(channel, event(&format!("kiosk-{user}"), "01T00:00:00", &fields)).await;
    }
    let guest = ask::profile(channel, "user_id", "guest-0").await.unwrap();
    assert_eq!((ids(&guest), guest.event_counts["Seen"]), (vec!["user_id:guest-0".to_owned()], 1));
    let told = explain(channel, id("user_id", "guest-0"), Some(id("anonymous_id", "kiosk"))).await.unwrap();
    assert!(!told.together);
    let shared = told.facts.iter().filter(|fact| fact.verdict == "SHARED_IDENTIFIER").count();
    assert!(shared > 0 && shared == told.facts.len(), "{:?}", told.facts);

    // More identifiers than an event may carry: kept, and nobody is linked by it.
    let many: Vec<_> = (0..101).map(|n| serde_json::json!({"type": "badge", "id": n.to_string()})).collect();
    let crowded = serde_json::json!({"type": "page", "userId": "badges", "context": {"externalIds": many}});
    let result = ask::send(channel, vec![ask::json(crowded.to_string())]).await.unwrap().results.remove(0);
    assert_eq!(
        (result.outcome(), result.reason.as_str()),
        (ItemOutcome::Quarantined, "TOO_MANY_IDENTIFIERS")
    );
    assert_eq!(ask::profile(channel, "user_id", "badges").await.unwrap_err().code(), Code::NotFound);

    // The same retraction again changes nothing, and says the same.
    let pair = SplitPair { a: Some(id("user_id", "early")), b: Some(id("email", "both@example.org")) };
    let scope = Some(SplitScope { scope: Some(Scope::Pair(pair)) });
    let request = SplitRequest { scope, id: "retraction-1".to_owned(), ..SplitRequest::default() };
    for _ in 0..2 {
        assert_eq!(sent_split(channel, request.clone()).await.unwrap(), "retraction-1");
        let late = ask::profile(channel, "email", "both@example.org").await.unwrap();
        assert_eq!(ids(&late), ["user_id:late", "email:both@example.org"]);
    }
    let told = explain(channel, id("user_id", "early"), None).await.unwrap();
    assert_eq!(told.retractions.len(), 1, "{:?}", told.retractions);

    // Of somebody who was never seen: it stands, and holds for what comes late.
    let stranger = Scope::Identifier(id("user_id", "stranger"));
    split(channel, stranger).await.unwrap();
    let unknown = ask::profile(channel, "user_id", "stranger").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    take(channel, event("stranger", "01T00:00:00", r#""userId":"stranger","anonymousId":"strange""#)).await;
    let stranger = ask::profile(channel, "user_id", "stranger").await.unwrap();
    assert_eq!((ids(&stranger), stranger.event_counts["Seen"]), (vec!["user_id:stranger".to_owned()], 1));
    let told =
        explain(channel, id("user_id", "stranger"), Some(id("anonymous_id", "strange"))).await.unwrap();
    assert!(!told.together && told.retractions.len() == 1, "{told:?}");
}
