//! The writer against scripted nodes: what is sent again, what waits, and how it ends.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Fake, refusal, stream::Plan};
use futures::{future::join_all, poll};
use isthmus_client::{
    Client, Error, ITEM_BYTES_MAX, IngestWriter, IngestWriterBuilder, Reason,
    proto::{Event, EventType, IngestItem, ItemOutcome, ingest_item::Body},
};
use tokio::sync::Notify;
use tonic::{Code, Status};

const HOUR: Duration = Duration::from_secs(3_600);

fn client(fakes: &[&Fake]) -> Client {
    let endpoints = fakes.iter().map(|fake| fake.endpoint());
    Client::builder().endpoints(endpoints).write_key("k1").connect_lazy().expect("addresses")
}

fn writer(fake: &Fake, options: impl FnOnce(IngestWriterBuilder) -> IngestWriterBuilder) -> IngestWriter {
    options(client(&[fake]).writer()).start().expect("options that make sense")
}

/// An event with a message id.
fn event(number: usize) -> Event {
    Event {
        r#type: EventType::Track.into(),
        message_id: format!("m{number}"),
        user_id: "42".into(),
        name: "Seen".into(),
        ..Event::default()
    }
}

fn ids(items: &[IngestItem]) -> Vec<String> {
    let id = |item: &IngestItem| match &item.body {
        Some(Body::Event(event)) => event.message_id.clone(),
        _ => String::new(),
    };
    items.iter().map(id).collect()
}

fn numbered(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("m{number}")).collect()
}

fn stopping() -> Option<Status> {
    Some(refusal(Code::Unavailable, "UNAVAILABLE", "this node is stopping"))
}

#[tokio::test]
async fn everything_arrives_once_and_in_order_whatever_breaks_the_streams() {
    const EVENTS: usize = 300;
    let fake = Fake::start();
    let no_leader = || Some(refusal(Code::Unavailable, "NO_LEADER", "an election is under way"));
    fake.state().plans.extend([
        Plan { ends_after: Some(0), end: no_leader(), ..Plan::default() },
        // Stored, and not all of it acknowledged.
        Plan { items: 7, ends_after: Some(20), acknowledges: 13, end: stopping(), ..Plan::default() },
        Plan { ends_after: Some(0), end: None, ..Plan::default() },
        Plan { items: 5, ends_after: Some(5), acknowledges: 0, end: None, ..Plan::default() },
        Plan { items: 1, bytes: 60, ends_after: Some(4), end: stopping(), ..Plan::default() },
        Plan { bytes: 300, ends_after: Some(50), end: stopping(), ..Plan::default() },
    ]);
    let writer = writer(&fake, |options| options.linger(Duration::ZERO).batch_items(8).window_items(40));
    let mut receipts = Vec::new();
    for number in 0..EVENTS {
        receipts.push(writer.send(event(number)).await.expect("it goes on"));
    }
    let flushed = writer.flush().await.expect("everything is acknowledged");
    {
        let state = fake.state();
        assert_eq!(state.streamed.violations, [""; 0]);
        assert_eq!(state.streamed.stored, numbered(0..EVENTS));
        let counts = flushed.counts;
        assert_eq!(
            (counts.accepted + counts.duplicate, flushed.problems.len()),
            (EVENTS as u64, 0),
            "{counts:?}"
        );
        assert!(counts.duplicate >= 7, "what was stored and not acknowledged came again: {counts:?}");
        assert_eq!(flushed.version.as_deref(), Some(format!("{EVENTS:016x}").as_str()));
        let opened = &state.streamed.opened;
        assert!(opened.iter().all(|open| open.stream_id == opened[0].stream_id && open.write_key == "k1"));
        let firsts: Vec<u64> = opened.iter().map(|open| open.first_sequence).collect();
        assert_eq!(firsts[..5], [1, 1, 14, 14, 14], "{firsts:?}");
    }
    for result in join_all(receipts).await {
        let outcome = result.expect("each has its own").outcome();
        assert!(matches!(outcome, ItemOutcome::Accepted | ItemOutcome::Duplicate));
    }
}

#[tokio::test]
async fn a_burst_that_is_larger_than_what_is_taken_at_a_stretch_arrives_whole() {
    const EVENTS: usize = 5_000;
    let fake = Fake::start();
    fake.state().plans.push_back(Plan { items: 10_000, ..Plan::default() });
    let writer = writer(&fake, |options| options.window_items(2 * EVENTS));
    // Without the budget of this task, which would let the writer's task take a part in between.
    tokio::task::unconstrained(async {
        for number in 0..EVENTS {
            writer.send(event(number)).await.expect("there is room");
        }
    })
    .await;
    let flushed = writer.close().await.expect("acknowledged");
    assert_eq!(flushed.counts.accepted, EVENTS as u64);
    assert_eq!(fake.state().streamed.stored, numbered(0..EVENTS));
}

#[tokio::test]
async fn send_waits_for_room_and_a_future_that_is_dropped_has_taken_nothing() {
    let (fake, hold) = (Fake::start(), Arc::new(Notify::new()));
    fake.state().plans.push_back(Plan { hold: Some(hold.clone()), ..Plan::default() });
    let writer = writer(&fake, |options| options.linger(HOUR).window_items(5).batch_items(5));
    for number in 0..5 {
        writer.send(event(number)).await.expect("there is room");
    }
    {
        let mut dropped = Box::pin(writer.send(event(100)));
        assert!(poll!(&mut dropped).is_pending(), "there is no room");
    }
    let mut waiting = Box::pin(writer.send(event(5)));
    assert!(poll!(&mut waiting).is_pending());
    hold.notify_one();
    waiting.await.expect("there is room again");
    hold.notify_one();
    let flushed = writer.close().await.expect("acknowledged");
    assert_eq!(flushed.counts.accepted, 6);
    assert_eq!(fake.state().streamed.stored, numbered(0..6));
}

#[tokio::test]
async fn bytes_are_room_too() {
    let (fake, hold) = (Fake::start(), Arc::new(Notify::new()));
    fake.state().plans.push_back(Plan { hold: Some(hold.clone()), bytes: 8 << 20, ..Plan::default() });
    let writer = writer(&fake, |options| options.linger(HOUR).window_bytes(ITEM_BYTES_MAX));
    let large = |number, bytes| Event { name: "x".repeat(bytes), ..event(number) };
    writer.send(large(0, ITEM_BYTES_MAX / 2)).await.expect("half of it");
    let mut waiting = Box::pin(writer.send(large(1, ITEM_BYTES_MAX * 3 / 4)));
    assert!(poll!(&mut waiting).is_pending(), "that is more than the rest");
    let error = writer.send(large(2, ITEM_BYTES_MAX)).await.expect_err("too large at any time");
    assert!(matches!(error, Error::Usage(_)), "{error:?}");
    hold.notify_one();
    waiting.await.expect("room");
    hold.notify_one();
    assert_eq!(writer.close().await.expect("acknowledged").counts.accepted, 2);
}

#[tokio::test]
async fn events_wait_for_each_other_until_a_message_is_full_or_somebody_flushes() {
    let fake = Fake::start();
    let writer = writer(&fake, |options| options.linger(HOUR).batch_items(4));
    let first: Vec<_> = join_all((0..4).map(|number| writer.send(event(number)))).await;
    for receipt in first {
        receipt.expect("taken").await.expect("a full message goes out");
    }
    for number in 4..7 {
        writer.send(event(number)).await.expect("taken");
    }
    assert_eq!(writer.flush().await.expect("acknowledged").counts.accepted, 7);
    assert_eq!(fake.state().streamed.messages, [4, 3]);
    let nothing = writer.flush().await.expect("there is nothing to wait for");
    assert_eq!((nothing.counts.accepted, nothing.version.is_some()), (0, true));
}

#[tokio::test]
async fn what_is_not_stored_is_told_with_its_reason() {
    let fake = Fake::start();
    let writer = writer(&fake, |options| options);
    let bad = writer.send(Event { user_id: String::new(), ..event(0) }).await.expect("taken");
    writer.send(serde_json::json!({"type": "page", "userId": "1"})).await.expect("taken");
    let flushed = writer.flush().await.expect("acknowledged");
    assert_eq!((flushed.counts.accepted, flushed.counts.quarantined), (1, 1));
    assert_eq!((flushed.problems.len(), flushed.problems[0].reason.as_str()), (1, "NO_IDENTIFIER"));
    assert_eq!(bad.await.expect("a result").outcome(), ItemOutcome::Quarantined);
    assert_eq!(fake.state().streamed.stored[0].len(), 32, "the writer made an id");
}

#[tokio::test]
async fn a_key_that_is_not_in_force_ends_the_writer_and_nothing_is_lost_with_it() {
    let fake = Fake::start();
    let good = client(&[&fake]);
    let writer = good.with_write_key("wrong").writer().linger(HOUR).start().expect("options");
    let receipts =
        [writer.send(event(0)).await, writer.send(event(1)).await].map(|sent| sent.expect("taken"));
    let error = writer.flush().await.expect_err("the key");
    assert_eq!(error.reason(), Some(&Reason::WriteKeyInvalid));
    for receipt in receipts {
        assert_eq!(receipt.await.expect_err("not sent").reason(), Some(&Reason::WriteKeyInvalid));
    }
    let refused = writer.send(event(2)).await.expect_err("it goes on no longer");
    assert_eq!(refused.reason(), Some(&Reason::WriteKeyInvalid));
    let left = writer.unacknowledged();
    assert_eq!((ids(&left), writer.unacknowledged().len()), (numbered(0..2), 0));
    let another = good.writer().start().expect("options");
    for item in left {
        another.send(item).await.expect("taken");
    }
    assert_eq!(another.close().await.expect("acknowledged").counts.accepted, 2);
}

#[tokio::test]
async fn a_hub_that_stays_away_is_told_and_what_was_sent_is_called_unknown() {
    let fake = Fake::start();
    let lost = Plan { ends_after: Some(2), acknowledges: 0, end: stopping(), ..Plan::default() };
    let away = || Plan { ends_after: Some(0), end: stopping(), ..Plan::default() };
    fake.state().plans.extend([lost].into_iter().chain((0..10_000).map(|_| away())));
    let writer =
        writer(&fake, |options| options.batch_items(2).linger(HOUR).patience(Duration::from_millis(300)));
    let sent = [writer.send(event(0)).await, writer.send(event(1)).await, writer.send(event(2)).await];
    let [first, second, third] = sent.map(|sent| sent.expect("taken"));
    let error = writer.flush().await.expect_err("nobody takes anything");
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(matches!(first.await, Err(Error::OutcomeUnknown(_))), "it was sent");
    assert!(matches!(second.await, Err(Error::OutcomeUnknown(_))));
    // The third may have been sent with the second try.
    assert!(third.await.is_err());
    let left = writer.unacknowledged();
    assert_eq!(ids(&left), numbered(0..3), "those that are stored, too: they are duplicates then");
    fake.state().plans.clear();
    let another = client(&[&fake]).writer().start().expect("options");
    for item in left {
        another.send(item).await.expect("taken");
    }
    let counts = another.close().await.expect("acknowledged").counts;
    assert_eq!((counts.accepted, counts.duplicate), (1, 2));
}

#[tokio::test]
async fn a_writer_that_is_closed_takes_nothing_and_one_that_is_dropped_goes_on() {
    let fake = Fake::start();
    let first = writer(&fake, |options| options.linger(HOUR));
    let clone = first.clone();
    first.send(event(0)).await.expect("taken");
    assert_eq!(first.close().await.expect("acknowledged").counts.accepted, 1);
    for error in [clone.send(event(1)).await.map(drop), clone.flush().await.map(drop)] {
        assert!(matches!(error, Err(Error::Usage(_))), "{error:?}");
    }
    let dropped = writer(&fake, |options| options.linger(HOUR));
    let receipt = dropped.send(event(2)).await.expect("taken");
    drop(dropped);
    assert_eq!(receipt.await.expect("it is sent all the same").outcome(), ItemOutcome::Accepted);
}

#[tokio::test]
async fn a_node_that_stops_is_left_for_another() {
    let (first, second) = (Fake::start(), Fake::start());
    for fake in [&first, &second] {
        let plan = Plan { ends_after: Some(3), acknowledges: 2, end: stopping(), ..Plan::default() };
        fake.state().plans.push_back(plan);
    }
    let writer = client(&[&first, &second]).writer().batch_items(3).start().expect("options");
    for number in 0..20 {
        writer.send(event(number)).await.expect("taken");
    }
    let counts = writer.close().await.expect("acknowledged").counts;
    assert_eq!(counts.accepted + counts.duplicate, 20);
    let opened = |fake: &Fake| fake.state().streamed.opened.len();
    assert!(opened(&first) > 0 && opened(&second) > 0);
}

#[tokio::test]
async fn options_out_of_their_bounds_are_refused() {
    let fake = Fake::start();
    let client = client(&[&fake]);
    for builder in [
        client.writer().batch_items(0),
        client.writer().batch_items(2_501),
        client.writer().batch_bytes(4 << 20),
        client.writer().window_items(0),
        client.writer().window_bytes(1),
    ] {
        let error = builder.start().expect_err("out of bounds");
        assert!(matches!(&error, Error::Usage(text) if text.contains("has to be")), "{error}");
    }
}
