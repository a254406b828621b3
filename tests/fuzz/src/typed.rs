//! Typed events: a protobuf `IngestRequest` through the whole pure way in.
//!
//! The message reads the same when it was written again; a typed event that can be kept is the JSON that it stands for;
//! each item is [`crate::intake`]'s to check.

use isthmus_domain::value::{self, check_map, json};
use isthmus_node::fuzzing::typed_fields;
use isthmus_proto::v1::{
    Event, EventType, Identifier, IngestItem, IngestRequest, ListValue, MapValue, UnreadableItem, Value,
    ingest_item::Body, value::Kind,
};
use prost::Message as _;

use crate::{intake, pieces::stable_message};

/// The target.
pub fn run(bytes: &[u8]) {
    let Some(request) = stable_message::<IngestRequest>(bytes) else { return };
    for item in &request.items {
        if let Some(Body::Event(event)) = &item.body {
            let fields = typed_fields(event);
            if check_map(&fields).is_ok() {
                let mut text = Vec::new();
                value::write_json_map(&fields, &mut text);
                let read = json::parse(&text).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(read.to_json(), text);
            }
        }
    }
    let sent_at = request.sent_at.as_ref().map(|time| time.seconds.saturating_mul(1_000_000));
    intake::take(request.items, sent_at);
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let value = |kind| Value { kind: Some(kind) };
    let list = ListValue { values: vec![value(Kind::IntValue(-1)), value(Kind::UintValue(u64::MAX))] };
    let map = MapValue { fields: [("k".to_owned(), value(Kind::ListValue(list)))].into() };
    let time = |seconds| Some(at(seconds));
    let event = Event {
        r#type: EventType::Track.into(),
        message_id: "m-1".to_owned(),
        user_id: "42".to_owned(),
        anonymous_id: "a-1".to_owned(),
        name: "Order Completed".to_owned(),
        identifiers: vec![Identifier { namespace: "crm_id".to_owned(), value: "7".to_owned() }],
        properties: [
            ("revenue".to_owned(), value(Kind::StringValue("44.02".to_owned()))),
            ("m".to_owned(), value(Kind::MapValue(map))),
            ("t".to_owned(), value(Kind::TimestampValue(at(1_767_000_000)))),
            ("d".to_owned(), value(Kind::DoubleValue(0.1))),
        ]
        .into(),
        timestamp: time(1_767_000_000),
        sent_at: time(1_767_000_001),
        ..Event::default()
    };
    let identify = Event {
        r#type: EventType::Identify.into(),
        user_id: " 42 ".to_owned(),
        traits: [
            ("email".to_owned(), value(Kind::StringValue("A@B.de".to_owned()))),
            ("age".to_owned(), value(Kind::NullValue(isthmus_proto::v1::Null {}))),
        ]
        .into(),
        context: [("ip".to_owned(), value(Kind::BoolValue(true)))].into(),
        ..Event::default()
    };
    let odd = Event {
        properties: [("n".to_owned(), value(Kind::DoubleValue(f64::NAN)))].into(),
        timestamp: time(i64::MAX),
        ..event.clone()
    };
    let unreadable = UnreadableItem {
        content: b"\xff,1".to_vec().into(),
        problem: "bad".to_owned(),
        ..Default::default()
    };
    let json = br#"{"type":"page","name":"Home","anonymousId":"a-1"}"#;
    let bodies = [
        Body::Event(event),
        Body::Event(identify),
        Body::Event(odd),
        Body::Unreadable(unreadable),
        Body::Json(json.to_vec().into()),
    ];
    let item = |body| IngestItem { body: Some(body), origin: "a.jsonl:1".to_owned() };
    let items: Vec<IngestItem> = bodies.into_iter().map(item).chain([IngestItem::default()]).collect();
    let one = |item: &IngestItem| IngestRequest { items: vec![item.clone()], ..IngestRequest::default() };
    let mut seeds: Vec<Vec<u8>> = items.iter().map(|item| one(item).encode_to_vec()).collect();
    let all = IngestRequest { items, sent_at: time(1_767_225_599), ..IngestRequest::default() };
    seeds.push(all.encode_to_vec());
    seeds
}

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 500_000_000 }
}
