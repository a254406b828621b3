//! The way in that all doors share, and what must hold of each item.
//!
//! - What goes to a shard can be read back, as a record in both ways there are, and written again as the same bytes; it
//!   goes to the slot that it names.
//! - A record as the JSON that it was is accepted again, as the same event, and is then written as the same JSON. But for
//!   one that is too large in canonical form.
//! - What is refused has a known reason, a sentence, and, kept in quarantine, is refused for the same reason when it is
//!   tried again as it is.

use std::sync::{Arc, LazyLock};

use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, IdentityKey, Limits, LinkFact, QuarantineEntry, RawItem,
    Reason, RecordView, SourceView, accept,
    quarantine::mend::{Change, MendContext, try_again},
};
use isthmus_node::fuzzing::{Ready, ready, typed_fields};
use isthmus_proto::{
    internal::v1::command_item::Body,
    v1::{Event, IngestItem},
};
use isthmus_quality::{InForce, Policy, Registry, Schema, SchemaKey, TraitRules, read_document};
use prost::Message as _;

/// When everything happens: 2026-01-01T00:00:00Z.
pub const NOW: i64 = 1_767_225_600_000_000;
/// A message id where none was sent.
const MADE: &str = "made-1";
/// The reason of items that a client itself could not read.
const UNREADABLE: &str = "UNREADABLE";
/// Reasons that only rules and schemas give; trying again without them may give none.
const OF_THE_REGISTRY: [Reason; 2] = [Reason::SchemaViolation, Reason::EventUnknown];

const RULES: &[u8] = br#"{"traits":{"phone":["trim",{"rule":"phone","region":"DE"}],"email":["trim","email"],
    "address.country":["country"],"name":["trim",{"rule":"case","to":"lower"}]}}"#;
const SCHEMAS: [(&str, Policy, &[u8]); 3] = [
    ("track:Order Completed", Policy::Quarantine, br#"{"type":"object","required":["revenue"]}"#),
    ("track:Seen", Policy::Flag, br#"{"properties":{"n":{"type":"integer"}}}"#),
    ("page", Policy::Reject, br#"{"properties":{"url":{"type":"string","format":"uri"}}}"#),
];

/// What items are taken under.
pub struct Rules {
    key: IdentityKey,
    source: SourceView,
    blocked: BlockedValues,
    registry: Registry,
}

/// The same in every run.
pub static RULES_IN_FORCE: LazyLock<Rules> = LazyLock::new(|| {
    let document = read_document(RULES, RULES.len()).unwrap();
    let rules = TraitRules::read(&document).unwrap_or_else(|fault| panic!("{fault}"));
    let mut registry = Registry::new(Arc::new(rules));
    for (key, policy, schema) in SCHEMAS {
        let key: SchemaKey = key.parse().unwrap();
        let schema = Arc::new(Schema::read(schema).unwrap());
        registry.insert(&key, InForce { version: 1, policy, schema });
    }
    Rules {
        key: IdentityKey::new([7; 32]),
        source: SourceView::new("shop"),
        blocked: BlockedValues::default(),
        registry,
    }
});

impl Rules {
    /// What accepting depends on.
    pub fn context(&self, sent_at: Option<i64>) -> AcceptContext<'_> {
        AcceptContext {
            source: &self.source,
            key: &self.key,
            now_micros: NOW,
            sent_at,
            limits: Limits::default(),
            blocked: &self.blocked,
            make_message_id: &|| MADE.to_owned(),
        }
    }

    /// What trying an entry again depends on.
    pub fn mend(&self) -> MendContext<'_> {
        MendContext { source: &self.source, key: &self.key, blocked: &self.blocked }
    }
}

/// Takes items in and looks at what became of each.
pub fn take(items: Vec<IngestItem>, sent_at: Option<i64>) -> Vec<Ready> {
    let rules = &*RULES_IN_FORCE;
    let context = rules.context(sent_at);
    let taken = match ready(items.clone(), &context, &rules.registry) {
        Ok(taken) => taken,
        Err(reason) => {
            assert_eq!(reason, "BATCH_TOO_MANY");
            return Vec::new();
        }
    };
    assert_eq!(taken.len(), items.len());
    for ready in &taken {
        check(ready, rules);
    }
    taken
}

fn check(ready: &Ready, rules: &Rules) {
    assert!(ready.message_id.chars().count() <= 100, "{:?}", ready.message_id);
    if let Some((reason, message)) = &ready.refused {
        assert!(reason == UNREADABLE || Reason::parse(reason).is_some(), "{reason}");
        assert!(!message.is_empty(), "{reason}");
    }
    let Some((slot, item)) = &ready.command else {
        assert!(ready.refused.is_some(), "neither kept nor refused");
        return;
    };
    match item.body.as_ref().unwrap() {
        Body::Record(bytes) => {
            assert!(ready.refused.is_none());
            let record = EventRecord::from_bytes(bytes.clone()).unwrap();
            assert_eq!(record.to_bytes(), bytes);
            assert_eq!((record.slot(), &record.message_id), (*slot, &ready.message_id));
            let view = RecordView::read(bytes).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((view.facet, view.timestamp), (record.facet_id(), record.timestamp));
            for fact in record.link_facts() {
                let fact = fact.unwrap();
                assert_eq!(LinkFact::decode(&fact.encode()).unwrap(), fact);
            }
            accepted_again(&record, rules);
        }
        Body::Quarantine(bytes) => {
            let entry = QuarantineEntry::from_bytes(bytes.clone()).unwrap();
            let told = ready.refused.as_ref().unwrap();
            assert_eq!((entry.slot(), &entry.reason, &entry.message), (*slot, &told.0, &told.1));
            refused_again(entry, rules);
        }
    }
}

/// The event as JSON is the same event.
fn accepted_again(record: &EventRecord, rules: &Rules) {
    let (json, context) = (record.to_json(), rules.context(None));
    let again = match accept(RawItem::Json(&json), &context) {
        Ok(again) => again.record,
        Err(refused) => {
            let large =
                refused.reason == Reason::EventTooLarge && json.len() > Limits::default().event_bytes_max;
            assert!(large, "{refused} of {}", String::from_utf8_lossy(&json));
            return;
        }
    };
    let said = |record: &EventRecord| {
        let EventRecord {
            facet, dedup_key, kind, name, timestamp, revenue, currency, properties, links, ..
        } = record.clone();
        (facet, dedup_key, kind, name, timestamp, revenue, currency, properties, links)
    };
    assert!(said(record) == said(&again), "another event: {}", String::from_utf8_lossy(&json));
    let (once, twice) = (String::from_utf8_lossy(&json).into_owned(), again.to_json());
    assert_eq!(once, String::from_utf8_lossy(&twice), "written in another way");
}

/// An entry that is tried again as it is is refused for the same reason.
fn refused_again(mut entry: QuarantineEntry, rules: &Rules) {
    entry.received = NOW.cast_unsigned();
    let Some(reason) = Reason::parse(&entry.reason) else { return };
    if OF_THE_REGISTRY.contains(&reason) || entry.message.contains("are kept") {
        return;
    }
    let fields = (entry.content_type == isthmus_node::fuzzing::EVENT_CONTENT_TYPE)
        .then(|| typed_fields(&Event::decode(entry.payload.clone()).unwrap()));
    let again = try_again(&entry, fields, Change::None, rules.mend());
    let refused = again.err().unwrap_or_else(|| panic!("{reason}, and then accepted: {entry:?}"));
    assert_eq!(refused.reason, reason, "{}", refused.message);
}
