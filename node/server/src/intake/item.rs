//! One item of a batch: a record for its shard, an entry for the quarantine, or, where its schema's policy says so, a
//! refusal.

use bytes::Bytes;
use isthmus_domain::{
    AcceptContext, Accepted, QuarantineEntry, RawItem, Reason, Refused, accept, value::check_map,
};
use isthmus_proto::{
    internal::v1::{CommandItem, command_item},
    v1::{Event, IngestItem, UnreadableItem, ingest_item::Body},
};
use isthmus_quality::{Registry, Verdict};
use isthmus_router::RoutedItem;
use prost::Message as _;

use super::typed;

/// The media type of typed events that are kept as they came.
pub const EVENT_CONTENT_TYPE: &str = "application/x-protobuf; messageType=isthmus.v1.Event";
/// The reason of items that a client itself could not read.
const UNREADABLE: &str = "UNREADABLE";
/// How much of something unreadable is kept.
const UNREADABLE_BYTES_MAX: usize = 32 << 10;
/// How much of a refused event is kept: an entry has to fit into one entry of the log.
const PAYLOAD_BYTES_MAX: usize = 512 << 10;
/// How much is kept of where an item came from, of a media type and of a client's problem.
const ORIGIN_BYTES_MAX: usize = 256;
const CONTENT_TYPE_BYTES_MAX: usize = 128;
const PROBLEM_BYTES_MAX: usize = 512;

/// An item that is ready for its shard.
pub(crate) struct Prepared {
    /// `None` when it was refused and is kept nowhere.
    pub(crate) routed: Option<RoutedItem>,
    pub(crate) told: Told,
}

/// What is known of an item's answer before its shard has spoken.
#[derive(Default)]
pub(crate) struct Told {
    /// Given or made; empty when it has none.
    pub(crate) message_id: String,
    /// The event's own time, microseconds since 1970; `None` when it has none that could be read.
    pub(crate) happened: Option<i64>,
    /// Code and sentence, if it goes to quarantine or is refused.
    pub(crate) refused: Option<(String, String)>,
    /// Whether it is refused.
    pub(crate) rejected: bool,
}

/// Makes an item ready. `attempt` is its alone.
pub(crate) fn prepare(
    item: IngestItem,
    context: &AcceptContext<'_>,
    registry: &Registry,
    attempt: u64,
) -> Prepared {
    let origin = cut(&item.origin, ORIGIN_BYTES_MAX);
    let entry = match item.body {
        Some(Body::Json(text)) => match taken(RawItem::Json(&text), context, registry) {
            Taken::Record(accepted) => return record(*accepted, attempt, origin),
            Taken::Rejected(refused) => return rejected(refused),
            Taken::Refused(refused) => entry(&refused, context, origin, "application/json", text),
        },
        Some(Body::Event(event)) => {
            let fields = typed::fields(&event);
            match taken(RawItem::Typed(fields), context, registry) {
                Taken::Record(accepted) => return record(*accepted, attempt, origin),
                Taken::Rejected(refused) => return rejected(refused),
                Taken::Refused(refused) => {
                    let (content_type, payload) = as_sent(&event);
                    entry(&refused, context, origin, content_type, payload)
                }
            }
        }
        Some(Body::Unreadable(unreadable)) => unreadable_entry(unreadable, context, origin),
        None => {
            let message = "the item is empty: send an event, json or unreadable";
            let refused = Refused::new(Reason::Malformed, "", message);
            entry(&refused, context, origin, "application/octet-stream", Bytes::new())
        }
    };
    quarantine(entry, attempt)
}

/// What becomes of an event.
enum Taken {
    Record(Box<Accepted>),
    /// It is kept in quarantine.
    Refused(Refused),
    /// It is kept nowhere.
    Rejected(Refused),
}

fn taken(raw: RawItem<'_>, context: &AcceptContext<'_>, registry: &Registry) -> Taken {
    let mut accepted = match accept(raw, context) {
        Ok(accepted) => accepted,
        Err(refused) => return Taken::Refused(refused),
    };
    match registry.examine(&mut accepted.record) {
        Verdict::Take => Taken::Record(Box::new(accepted)),
        Verdict::Quarantine(refused) => Taken::Refused(refused),
        Verdict::Reject(refused) => Taken::Rejected(refused),
    }
}

fn rejected(refused: Refused) -> Prepared {
    let message_id = refused.message_id.unwrap_or_default();
    let refused = Some((refused.reason.code().to_owned(), refused.message));
    Prepared { routed: None, told: Told { message_id, happened: None, refused, rejected: true } }
}

fn record(accepted: Accepted, attempt: u64, origin: &str) -> Prepared {
    let body = Some(command_item::Body::Record(accepted.record.to_bytes()));
    let item = CommandItem { attempt, body, origin: origin.to_owned(), ..CommandItem::default() };
    Prepared {
        routed: Some(RoutedItem { slot: accepted.facet.slot(), item }),
        told: Told {
            message_id: accepted.record.message_id,
            happened: Some(accepted.record.timestamp),
            refused: None,
            rejected: false,
        },
    }
}

fn quarantine(entry: QuarantineEntry, attempt: u64) -> Prepared {
    let told = Told {
        message_id: entry.message_id.clone(),
        happened: None,
        refused: Some((entry.reason.clone(), entry.message.clone())),
        rejected: false,
    };
    let slot = entry.slot();
    let body = command_item::Body::Quarantine(entry.encode_to_vec().into());
    // The entry says itself where it came from.
    let item = CommandItem { attempt, body: Some(body), ..CommandItem::default() };
    Prepared { routed: Some(RoutedItem { slot, item }), told }
}

/// The entry of a refused item. Its id is of all that was sent, so two that differ behind the cut are two entries.
fn entry(
    refused: &Refused,
    context: &AcceptContext<'_>,
    origin: &str,
    content_type: &str,
    payload: Bytes,
) -> QuarantineEntry {
    let mut entry =
        QuarantineEntry::new(context.key, refused, &context.source.name, origin, content_type, payload);
    entry.batch_sent_at = context.sent_at;
    if entry.payload.len() > PAYLOAD_BYTES_MAX {
        entry.message.push_str(&format!(
            " (of {} bytes that were sent the first {PAYLOAD_BYTES_MAX} are kept)",
            entry.payload.len()
        ));
        entry.payload.truncate(PAYLOAD_BYTES_MAX);
    }
    entry
}

fn unreadable_entry(item: UnreadableItem, context: &AcceptContext<'_>, origin: &str) -> QuarantineEntry {
    let problem = match cut(item.problem.trim(), PROBLEM_BYTES_MAX) {
        "" => "the sender could not read it as an event",
        problem => problem,
    };
    let refused = Refused::new(Reason::Malformed, "", problem);
    let content_type = match cut(item.content_type.trim(), CONTENT_TYPE_BYTES_MAX) {
        "" => "application/octet-stream",
        given => given,
    };
    let mut entry =
        QuarantineEntry::new(context.key, &refused, &context.source.name, origin, content_type, item.content);
    entry.batch_sent_at = context.sent_at;
    entry.reason = UNREADABLE.to_owned();
    entry.payload.truncate(UNREADABLE_BYTES_MAX);
    entry
}

/// A typed event as it is kept in quarantine: as the JSON item that it stands for, or as it came where JSON can't say
/// it (NaN, nesting without end).
fn as_sent(event: &Event) -> (&'static str, Bytes) {
    let fields = typed::fields(event);
    if check_map(&fields).is_ok() {
        let mut text = Vec::new();
        isthmus_domain::value::write_json_map(&fields, &mut text);
        return ("application/json", text.into());
    }
    (EVENT_CONTENT_TYPE, event.encode_to_vec().into())
}

/// The first bytes of a text, at most so many, never half a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use isthmus_domain::{BlockedValues, IdentityKey, Limits, SourceView};
    use isthmus_proto::v1::{EventType, Value, value::Kind};

    use super::*;

    fn prepared(item: IngestItem) -> Prepared {
        let (source, key, blocked) =
            (SourceView::new("shop"), IdentityKey::new([7; 32]), BlockedValues::default());
        let context = AcceptContext {
            source: &source,
            key: &key,
            now_micros: 1_700_000_000_000_000,
            sent_at: None,
            limits: Limits::default(),
            blocked: &blocked,
            make_message_id: &|| "made-1".to_owned(),
        };
        prepare(item, &context, &Registry::default(), 5)
    }

    fn kept(item: IngestItem) -> QuarantineEntry {
        let prepared = prepared(item);
        let routed = prepared.routed.unwrap();
        assert_eq!(routed.item.attempt, 5);
        let Some(command_item::Body::Quarantine(bytes)) = routed.item.body else { panic!("accepted") };
        let entry = QuarantineEntry::from_bytes(bytes).unwrap();
        assert_eq!(prepared.told.refused, Some((entry.reason.clone(), entry.message.clone())));
        assert_eq!(routed.slot, entry.slot());
        entry
    }

    fn json(text: impl Into<Vec<u8>>) -> IngestItem {
        IngestItem { body: Some(Body::Json(text.into().into())), origin: "orders.jsonl:17".into() }
    }

    #[test]
    fn json_becomes_a_record_under_its_message_id() {
        let taken = prepared(json(r#"{"type":"track","event":"Seen","userId":"1","messageId":"m"}"#));
        assert!(matches!(taken.routed.unwrap().item.body, Some(command_item::Body::Record(_))));
        assert_eq!((taken.told.message_id.as_str(), taken.told.refused), ("m", None));
        let made = prepared(json(r#"{"type":"track","event":"Seen","userId":"1"}"#));
        assert_eq!(made.told.message_id, "made-1");
    }

    #[test]
    fn what_is_refused_is_kept_as_it_was_sent() {
        let text = br#"{"type":"track","event":"Seen","messageId":"m"}"#;
        let entry = kept(json(text.as_slice()));
        assert_eq!((entry.reason.as_str(), entry.message_id.as_str()), ("NO_IDENTIFIER", "m"));
        assert_eq!((entry.payload.as_ref(), entry.origin.as_str()), (text.as_slice(), "orders.jsonl:17"));
        assert_eq!(kept(json("{")).reason, "MALFORMED");
        assert_eq!(kept(IngestItem::default()).reason, "MALFORMED");
    }

    #[test]
    fn what_is_too_large_is_kept_up_to_a_bound_and_told_apart_behind_it() {
        let large = |last: char| {
            let text = format!(r#"{{"type":"track","event":"{}{last}"}}"#, "x".repeat(PAYLOAD_BYTES_MAX));
            kept(json(text))
        };
        let (one, other) = (large('a'), large('b'));
        assert_eq!((one.reason.as_str(), one.payload.len()), ("EVENT_TOO_LARGE", PAYLOAD_BYTES_MAX));
        assert!(one.message.contains("are kept") && one.payload == other.payload && one.id != other.id);
    }

    #[test]
    fn a_typed_event_is_kept_as_json_where_json_can_say_it() {
        let value = |kind| Value { kind: Some(kind) };
        let event = |number: f64| Event {
            r#type: EventType::Track.into(),
            name: "Seen".into(),
            properties: [("n".to_owned(), value(Kind::DoubleValue(number)))].into(),
            ..Event::default()
        };
        let item = |number| IngestItem { body: Some(Body::Event(event(number))), origin: String::new() };
        let plain = kept(item(1.5));
        assert_eq!(plain.content_type, "application/json");
        assert_eq!(plain.payload.as_ref(), br#"{"event":"Seen","properties":{"n":1.5},"type":"track"}"#);
        let odd = kept(item(f64::NAN));
        assert_eq!(odd.reason, "NOT_FINITE");
        assert!(Event::decode(odd.payload).unwrap().properties["n"].kind.is_some());
    }

    #[test]
    fn what_a_client_could_not_read_is_kept_with_its_problem() {
        let unreadable = UnreadableItem {
            content: vec![0xff; 40 << 10].into(),
            content_type: "text/csv".into(),
            problem: "line 17: 3 columns, not 5".into(),
        };
        let entry = kept(IngestItem { body: Some(Body::Unreadable(unreadable)), origin: "a.csv:17".into() });
        assert_eq!((entry.reason.as_str(), entry.payload.len()), (UNREADABLE, UNREADABLE_BYTES_MAX));
        assert_eq!(
            (entry.content_type.as_str(), entry.message.as_str()),
            ("text/csv", "line 17: 3 columns, not 5")
        );
    }
}
