//! How streams end: by the client's mistakes, by the source, by the node. What was acknowledged stays.

use std::time::Instant;

use isthmus_proto::v1::{
    CreateRequest, DisableRequest, IngestItem, IngestStreamOpen, RotateRequest,
    ingest_stream_request::Message, source_service_client::SourceServiceClient,
};
use isthmus_tests::{
    ask,
    cluster::{Cluster, PATIENCE},
};
use tonic::{Code, transport::Channel};

use super::{
    folder, one_node,
    raw::{Raw, opening},
};

fn seen(message: &str) -> IngestItem {
    ask::json(ask::seen("ann", message))
}

fn large(bytes: usize) -> IngestItem {
    ask::json(format!(r#"{{"type":"page","userId":"big","pad":"{}"}}"#, "x".repeat(bytes)))
}

/// What a client that opens a stream so hears.
async fn opened(node: &Channel, open: IngestStreamOpen) -> (Code, String) {
    let stream = Raw::call(node).await;
    stream.say(Some(Message::Open(open)));
    let (_, code, reason) = stream.end().await;
    (code, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_must_not_do_ends_its_stream_and_nothing_else() {
    let folder = folder();
    // Room for eight items and the largest one.
    let few = [("ISTHMUS_GRPC__INGEST_STREAM_ITEMS", "8"), ("ISTHMUS_GRPC__INGEST_STREAM_BYTES", "1MiB")];
    let cluster = one_node(folder.path(), &few).await;
    let node = cluster.channel(0);
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());

    let silent = Raw::call(&node).await;
    silent.say(None);
    assert_eq!(silent.end().await.2, "STREAM_NOT_OPEN");
    let hasty = Raw::call(&node).await;
    hasty.send(1, vec![seen("hasty")]);
    assert_eq!(hasty.end().await.2, "STREAM_NOT_OPEN");
    let mut mute = Raw::call(&node).await;
    mute.done();
    assert_eq!(mute.end().await.2, "STREAM_NOT_OPEN");
    for id in ["", "no spaces", "ä", &"x".repeat(65)] {
        assert_eq!(opened(&node, opening(id)).await, invalid("INVALID_STREAM_ID"), "{id}");
    }
    for first_sequence in [0, (1 << 62) + 1] {
        let open = IngestStreamOpen { first_sequence, ..opening("a") };
        assert_eq!(opened(&node, open).await, invalid("INVALID_SEQUENCE"));
    }
    let keyed = IngestStreamOpen { write_key: "made up".into(), ..opening("a") };
    assert_eq!(opened(&node, keyed).await, (Code::Unauthenticated, "WRITE_KEY_INVALID".to_owned()));
    let named = IngestStreamOpen { source: "nobody".into(), ..opening("a") };
    assert_eq!(opened(&node, named).await, (Code::NotFound, "SOURCE_NOT_FOUND".to_owned()));

    let nine = || (0..9).map(|n| seen(&format!("nine-{n}"))).collect::<Vec<_>>();
    type Mistake = Box<dyn Fn(&Raw)>;
    let mistakes: Vec<(Mistake, Code, &str)> = vec![
        (Box::new(|raw| raw.send(3, vec![seen("gap")])), Code::InvalidArgument, "SEQUENCE_GAP"),
        (Box::new(|raw| raw.send(1, vec![seen("again")])), Code::InvalidArgument, "SEQUENCE_GAP"),
        (Box::new(move |raw| raw.send(2, nine())), Code::InvalidArgument, "CREDITS_EXCEEDED"),
        (
            Box::new(|raw| raw.send(2, vec![large(600 << 10), large(600 << 10)])),
            Code::InvalidArgument,
            "CREDITS_EXCEEDED",
        ),
        (Box::new(|raw| raw.send(2, vec![large(1 << 20)])), Code::OutOfRange, "TOO_LARGE"),
        (Box::new(|raw| raw.send(2, vec![large(5 << 20)])), Code::OutOfRange, "TOO_LARGE"),
        (
            Box::new(|raw| raw.send(2, vec![IngestItem::default(); 2_501])),
            Code::InvalidArgument,
            "BATCH_TOO_MANY",
        ),
        (
            Box::new(|raw| raw.say(Some(Message::Open(opening("again"))))),
            Code::InvalidArgument,
            "STREAM_OPEN_ALREADY",
        ),
        (Box::new(|raw| raw.say(None)), Code::InvalidArgument, "MALFORMED"),
    ];
    let count = mistakes.len() as u64;
    for (number, (mistake, code, reason)) in mistakes.into_iter().enumerate() {
        let (mut stream, first) = Raw::open(&node, opening(&format!("mistake-{number}"))).await;
        assert_eq!((first.sequence_max, first.bytes_max), (8, 1 << 20));
        stream.send(1, vec![seen(&format!("good-{number}"))]);
        assert_eq!(stream.acknowledged(1).await.results.len(), 1);
        mistake(&stream);
        let (_, ended, why) = stream.end().await;
        assert_eq!((ended, why.as_str()), (code, reason), "mistake {number}");
    }
    // Within the credits it is taken, though it is nothing that the hub can use.
    let (mut stream, _) = Raw::open(&node, opening("large")).await;
    stream.send(1, vec![large(900 << 10)]);
    assert_eq!(stream.acknowledged(1).await.results[0].reason, "EVENT_TOO_LARGE");
    assert_eq!(ask::profile(&node, "user_id", "ann").await.unwrap().event_counts["Seen"], count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_rotated_away_and_a_source_that_is_disabled_end_their_streams() {
    let folder = folder();
    let cluster = one_node(folder.path(), &[]).await;
    let node = cluster.channel(0);
    let mut sources = SourceServiceClient::new(node.clone());
    let mut made = async |name: &str| {
        let request = CreateRequest { name: name.to_owned(), ..CreateRequest::default() };
        sources.create(request).await.unwrap().into_inner().write_key
    };
    let (rotated, disabled) = (made("rotated").await, made("disabled").await);
    let open = |key: &str| IngestStreamOpen { write_key: key.to_owned(), ..opening("s") };
    let (mut one, _) = Raw::open(&node, open(&rotated)).await;
    let (mut other, _) = Raw::open(&node, open(&disabled)).await;
    let named = IngestStreamOpen { source: "disabled".into(), ..opening("named") };
    let (named, _) = Raw::open(&node, named).await;
    let (mut unconcerned, _) = Raw::open(&node, opening("s")).await;
    for stream in [&mut one, &mut other] {
        stream.send(1, vec![seen("kept")]);
        stream.acknowledged(1).await;
    }
    let newer =
        sources.rotate(RotateRequest { name: "rotated".into() }).await.unwrap().into_inner().write_key;
    let invalid = (Code::Unauthenticated, "WRITE_KEY_INVALID".to_owned());
    let (_, code, reason) = one.end().await;
    assert_eq!((code, reason), invalid);
    sources.disable(DisableRequest { name: "disabled".into() }).await.unwrap();
    let (_, code, reason) = other.end().await;
    assert_eq!((code, reason), invalid);
    let (_, code, reason) = named.end().await;
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "SOURCE_DISABLED"));
    // Others go on, and the newer key takes the stream further.
    unconcerned.send(1, vec![seen("default")]);
    unconcerned.acknowledged(1).await;
    let (mut again, _) = Raw::open(&node, IngestStreamOpen { first_sequence: 2, ..open(&newer) }).await;
    again.send(2, vec![seen("more")]);
    again.acknowledged(2).await;
    assert_eq!(ask::profile(&node, "user_id", "ann").await.unwrap().event_counts["Seen"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_a_newer_one_takes_the_place_of_the_older() {
    let folder = folder();
    let cluster = one_node(folder.path(), &[("ISTHMUS_GRPC__INGEST_STREAMS", "2")]).await;
    let node = cluster.channel(0);
    let (older, _) = Raw::open(&node, opening("a")).await;
    let (other, _) = Raw::open(&node, opening("b")).await;
    let full = (Code::ResourceExhausted, "TOO_MANY_STREAMS".to_owned());
    assert_eq!(opened(&node, opening("c")).await, full);
    drop(other);
    // The node hears of the end in a moment.
    let until = Instant::now() + PATIENCE;
    let newer = loop {
        let mut stream = Raw::call(&node).await;
        stream.say(Some(Message::Open(opening("a"))));
        match stream.hear().await {
            Ok(_) => break stream,
            Err(status) => assert!(ask::reason(&status) == full.1 && Instant::now() < until, "{status}"),
        }
    };
    let (_, code, reason) = older.end().await;
    assert_eq!((code, reason.as_str()), (Code::Aborted, "STREAM_SUPERSEDED"));
    let mut newer = newer;
    newer.send(1, vec![seen("1")]);
    newer.acknowledged(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_acknowledges_what_it_has_and_sends_its_clients_elsewhere() {
    let folder = folder();
    let mut cluster: Cluster = one_node(folder.path(), &[]).await;
    let node = cluster.channel(0);
    let (idle, _) = Raw::open(&node, opening("idle")).await;
    let (busy, _) = Raw::open(&node, opening("busy")).await;
    busy.send(1, (0..2_000).map(|n| seen(&n.to_string())).collect());
    let (idle, busy) = (tokio::spawn(idle.end()), tokio::spawn(busy.end()));
    assert_eq!(cluster.stop(0), Some(0), "it waits for no stream");
    let away = |ended: &(u64, Code, String)| (ended.1, ended.2.clone());
    let (idle, busy) = (idle.await.unwrap(), busy.await.unwrap());
    assert_eq!(away(&idle), (Code::Unavailable, "UNAVAILABLE".to_owned()));
    assert_eq!(away(&busy), away(&idle));
    // Whatever was acknowledged is there; the rest comes again.
    cluster.launch(0);
    cluster.healthy().await;
    let node = cluster.channel(0);
    let open = IngestStreamOpen { first_sequence: busy.0 + 1, ..opening("busy") };
    let (mut stream, _) = Raw::open(&node, open).await;
    if busy.0 < 2_000 {
        stream.send(busy.0 + 1, (busy.0..2_000).map(|n| seen(&n.to_string())).collect());
        stream.acknowledged(2_000).await;
    }
    assert_eq!(ask::profile(&node, "user_id", "ann").await.unwrap().event_counts["Seen"], 2_000);
}
