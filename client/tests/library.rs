//! The library against scripted nodes: what is repeated, what never is, and under which ids.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Fake, Step, dead_endpoint, refusal};
use isthmus_client::{
    Client, Error, Reason,
    proto::{self, EventType, IngestItem, ItemOutcome, ingest_item::Body},
};
use tokio::sync::Notify;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

fn client(endpoints: &[String]) -> Client {
    let builder = Client::builder().endpoints(endpoints.to_vec()).deadline(Duration::from_secs(20));
    builder.connect_lazy().expect("addresses")
}

/// An event without a message id.
fn order(user: &str) -> IngestItem {
    let event = proto::Event {
        r#type: EventType::Track.into(),
        user_id: user.into(),
        name: "Order Completed".into(),
        ..Default::default()
    };
    IngestItem { body: Some(Body::Event(event)), ..Default::default() }
}

fn ids(batch: &proto::IngestRequest) -> Vec<String> {
    let id = |item: &IngestItem| match &item.body {
        Some(Body::Event(event)) => event.message_id.clone(),
        _ => String::new(),
    };
    batch.items.iter().map(id).collect()
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_skipped() {
    let fake = Fake::start();
    let client = client(&[dead_endpoint(), fake.endpoint(), dead_endpoint()]);
    for _ in 0..6 {
        let stored = client.ingest(vec![order("1")]).await.expect("the one that runs answers");
        assert_eq!(stored.count().accepted, 1);
    }
}

#[tokio::test]
async fn nothing_reachable_is_said_to_be_unreachable() {
    let client = client(&[dead_endpoint(), dead_endpoint()]).with_deadline(Duration::from_millis(300));
    let error = client.ingest(vec![order("1")]).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(error.advice().expect("there is something to do").contains("--endpoint"));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_message_ids() {
    let fake = Fake::start();
    fake.script([
        Step::LoseAnswer(Status::unavailable("the connection broke")),
        Step::LoseAnswer(refusal(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "no quorum answered in time")),
    ]);
    let stored =
        client(&[fake.endpoint()]).ingest(vec![order("1"), order("2")]).await.expect("the third answers");
    assert_eq!(stored.count().duplicate, 2, "they were stored by the first try");
    let state = fake.state();
    assert_eq!(state.message_ids.len(), 2);
    assert_eq!(state.batches.len(), 3);
    assert!(ids(&state.batches[0]).iter().all(|id| id.len() == 32));
    assert_eq!(ids(&state.batches[0]), ids(&state.batches[2]));
    assert!(state.request_ids.iter().all(|id| *id == state.request_ids[0] && id.len() == 32));
}

#[tokio::test]
async fn only_items_that_can_end_better_are_sent_again() {
    use ItemOutcome::{Accepted, OutcomeUnknown, Quarantined, Rejected};
    let fake = Fake::start();
    let outcomes = vec![
        (Accepted, false),
        (OutcomeUnknown, true),
        (Quarantined, false),
        (Rejected, true),
        (Rejected, false),
    ];
    fake.script([Step::Outcomes(outcomes)]);
    let items = (1..=5).map(|user| order(&user.to_string())).collect();
    let stored = client(&[fake.endpoint()]).ingest(items).await.expect("answered");
    let outcomes: Vec<ItemOutcome> = stored.results.iter().map(|result| result.outcome()).collect();
    assert_eq!(outcomes, [Accepted, Accepted, Quarantined, Accepted, Rejected]);
    assert_eq!(stored.version.as_deref(), Some("0000000000000002"), "the largest token covers all");
    let state = fake.state();
    let first = ids(&state.batches[0]);
    assert_eq!(ids(&state.batches[1]), [first[1].clone(), first[3].clone()]);
}

#[tokio::test]
async fn what_stays_unknown_until_the_deadline_is_said_to_be_unknown() {
    let fake = Fake::start();
    fake.script((0..1_000).map(|_| Step::Outcomes(vec![(ItemOutcome::OutcomeUnknown, true)])));
    let client = client(&[fake.endpoint()]).with_deadline(Duration::from_millis(400));
    let stored = client.ingest(vec![order("1")]).await.expect("answered, though nothing is known");
    assert_eq!(stored.count().unknown, 1);
    assert!(fake.state().batches.len() > 1);
}

#[tokio::test]
async fn a_refusal_for_good_is_not_repeated() {
    let fake = Fake::start();
    let client = client(&[fake.endpoint()]).with_write_key("wrong");
    let error = client.ingest(vec![order("1")]).await.expect_err("a wrong key");
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    assert_eq!(error.reason(), Some(&Reason::Other("WRITE_KEY_UNKNOWN".into())));
    assert_eq!(fake.state().calls.len(), 1);
    assert!(!format!("{client:?} {error:?}").contains("wrong\""), "a key never shows");
}

#[tokio::test]
async fn overload_is_repeated_when_the_hub_says_and_never_past_the_deadline() {
    let overloaded = |after: u64| {
        let mut details =
            ErrorDetails::with_error_info("OVERLOADED", "isthmus.v1", [] as [(String, String); 0]);
        details.set_retry_info(Some(Duration::from_secs(after)));
        Step::Fail(Status::with_error_details(Code::ResourceExhausted, "too much", details))
    };
    let fake = Fake::start();
    let client = client(&[fake.endpoint()]);
    fake.script([overloaded(0), overloaded(0)]);
    client.ingest(vec![order("1")]).await.expect("the third is taken");
    fake.script([overloaded(3_600)]);
    let error = client.ingest(vec![order("2")]).await.expect_err("an hour is past the deadline");
    assert_eq!(error.reason(), Some(&Reason::Overloaded));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
    assert_eq!(fake.state().calls.len(), 4, "it isn't tried before its time");
}

#[tokio::test]
async fn a_source_is_never_made_twice() {
    let fake = Fake::start();
    let client = client(&[fake.endpoint()]);
    let request = || proto::CreateRequest { name: "shop".into(), ..Default::default() };
    fake.script([Step::Fail(refusal(Code::Unavailable, "NO_LEADER", "an election is under way"))]);
    let (source, key) = client.create_source(request()).await.expect("what can't have happened is repeated");
    assert_eq!((source.name.as_str(), key.as_str()), ("shop", "k1-secret"));
    fake.script([Step::Fail(Status::unavailable("the connection broke"))]);
    let error = client.create_source(request()).await.expect_err("it may have happened");
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error:?}");
    assert_eq!(fake.state().calls.len(), 3);
}

#[tokio::test]
async fn a_node_that_hangs_does_not_use_up_the_deadline() {
    let (hanging, running) = (Fake::start(), Fake::start());
    let never = Arc::new(Notify::new());
    hanging.script((0..100).map(|_| Step::Hold(never.clone())));
    let client = Client::builder()
        .endpoints([hanging.endpoint(), running.endpoint()])
        .deadline(Duration::from_secs(60))
        .try_limit(Duration::from_millis(200))
        .connect_lazy()
        .expect("addresses");
    for _ in 0..4 {
        client.ingest(vec![order("1")]).await.expect("the other one answers");
    }
    assert_eq!(running.state().calls.len(), 4);
    assert!(!hanging.state().calls.is_empty());
}

#[tokio::test]
async fn calls_are_spread_over_the_endpoints() {
    let fakes = [Fake::start(), Fake::start(), Fake::start()];
    let client = client(&fakes.each_ref().map(Fake::endpoint));
    for _ in 0..30 {
        client.sources().await.expect("answered");
    }
    assert_eq!(fakes.each_ref().map(|fake| fake.state().calls.len()), [10, 10, 10]);
}

#[tokio::test]
async fn a_node_that_stopped_is_left_for_one_that_runs() {
    let (first, second) = (Fake::start(), Fake::start());
    let client = client(&[first.endpoint(), second.endpoint()]);
    client.ingest(vec![order("1")]).await.expect("answered");
    client.ingest(vec![order("1")]).await.expect("answered");
    drop(first);
    for _ in 0..4 {
        client.ingest(vec![order("1")]).await.expect("the second answers");
    }
    assert!(second.state().calls.len() >= 4);
}

#[tokio::test]
async fn pages_are_walked_to_the_end_or_to_the_limit() {
    let fake = Fake::start();
    let profile = |n: u32| proto::Profile { profile_id: format!("{n:032x}"), ..Default::default() };
    fake.state().profiles = (0..2_500).map(profile).collect();
    let client = client(&[fake.endpoint()]);
    for (limit, expected, more, calls) in
        [(None, 2_500, false, 3), (Some(1_200), 1_200, true, 2), (Some(0), 0, false, 0)]
    {
        fake.state().calls.clear();
        let mut pages = client.profile_pages(Default::default(), limit);
        let mut seen = Vec::new();
        while let Some(page) = pages.next().await.expect("answered") {
            seen.extend(page.into_iter().map(|profile| profile.profile_id));
        }
        assert_eq!((seen.len(), pages.has_more(), fake.state().calls.len()), (expected, more, calls));
        assert!(seen.is_sorted());
    }
}
