//! Bad input: one case for each kind of item that is kept in quarantine, and none missing.
//!
//! Each case goes in as JSON and, where the typed interface can express it, as typed values, and must be refused for
//! the same reason both ways, with a message that quotes nothing of what was sent.

use std::collections::BTreeSet;

use isthmus_domain::value::json;
use isthmus_domain::{
    AcceptContext, Accepted, BlockedValues, IdentityKey, Limits, Map, QuarantineEntry, RawItem, Reason,
    Refused, SourceView, Value, accept,
};

/// 2024-05-31T18:00:00Z.
const NOW: i64 = 1_717_178_400_000_000;
const KEY: IdentityKey = IdentityKey::new([3; 32]);
/// Stands in every value that is personal; must not stand in any answer.
const CANARY: &str = "canary";

fn try_accept(raw: RawItem<'_>) -> Result<Accepted, Refused> {
    let source = SourceView::new("web");
    let ctx = AcceptContext {
        source: &source,
        key: &KEY,
        now_micros: NOW,
        sent_at: None,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &|| "made".to_owned(),
    };
    accept(raw, &ctx)
}

/// A track event that would be fine, with one more field. Repeats a field that is there already.
fn track(field: &str) -> String {
    format!(r#"{{"type":"track","event":"Seen","userId":"{CANARY}",{field}}}"#)
}

/// An event that has this instead of a `userId`.
fn by(field: &str) -> String {
    format!(r#"{{"type":"track","event":"Seen",{field}}}"#)
}

/// The rows of the table, in its words, with a case or more for each.
fn rows() -> Vec<(&'static str, Reason, Vec<String>)> {
    use Reason::*;
    let long = |n| format!("{CANARY}{}", "x".repeat(n));
    let ids = |id: &str| {
        vec![
            by(&format!(r#""userId":"{id}""#)),
            by(&format!(r#""anonymousId":"{id}""#)),
            track(&format!(r#""context":{{"externalIds":[{{"type":"crm","id":"{id}"}}]}}"#)),
            track(&format!(r#""context":{{"traits":{{"email":"{id}"}}}}"#)),
        ]
    };
    vec![
        (
            "event over 32 KB",
            EventTooLarge,
            vec![track(&format!(r#""properties":{{"p":"{}"}}"#, long(32 * 1024)))],
        ),
        ("malformed", Malformed, vec![track("\"a\":"), "[]".into(), "\"text\"".into(), String::new()]),
        (
            "depth over 32",
            TooDeep,
            vec![track(&format!(r#""properties":{}1{}"#, r#"{"a":"#.repeat(32), "}".repeat(32)))],
        ),
        (
            "no identifier",
            NoIdentifier,
            vec![
                by(r#""x":1"#),
                by(r#""userId":null"#),
                by(r#""userId":"NULL","anonymousId":"0""#),
                by(r#""userId":" ","anonymousId":"undefined""#),
            ],
        ),
        ("blank id", IdentifierBlank, vec![by(r#""userId":"""#), by(r#""userId":" \t","anonymousId":"""#)]),
        ("over-long id (256 B)", IdentifierTooLong, ids(&long(256))),
        ("control characters in an id", IdentifierForbiddenCharacter, ids(&format!("{CANARY}\\u0007x"))),
        ("NUL in an id", IdentifierForbiddenCharacter, ids(&format!("{CANARY}\\u0000x"))),
        ("bidi characters in an id", IdentifierForbiddenCharacter, ids(&format!("{CANARY}\\u202ex"))),
        (
            "missing event name",
            EventNameMissing,
            vec![
                r#"{"type":"track","userId":"u"}"#.into(),
                r#"{"type":"track","userId":"u","event":null}"#.into(),
                r#"{"type":"track","userId":"u","event":" "}"#.into(),
            ],
        ),
        (
            "unknown type",
            TypeUnknown,
            vec![
                r#"{"userId":"u"}"#.into(),
                r#"{"userId":"u","type":"canary"}"#.into(),
                r#"{"userId":"u","type":7}"#.into(),
            ],
        ),
        (
            "NaN or infinity",
            NotFinite,
            ["NaN", "Infinity", "-Infinity", "1e400"]
                .map(|n| track(&format!(r#""properties":{{"p":{n}}}"#)))
                .into(),
        ),
        (
            "integer beyond 64 bits",
            IntegerTooLarge,
            vec![
                track(r#""properties":{"p":18446744073709551616}"#),
                track(r#""properties":{"p":-9223372036854775809}"#),
            ],
        ),
        (
            "duplicate JSON key",
            DuplicateKey,
            vec![
                track(r#""userId":"other""#),
                track(r#""user_id":"other""#),
                track(r#""properties":{"a":[{"b":1,"b":1}]}"#),
                track(r#""context":{"externalIds":[],"external_ids":[]}"#),
            ],
        ),
        (
            "unparsable time",
            TimestampInvalid,
            vec![
                track(r#""timestamp":"canary""#),
                track(r#""timestamp":"2024-02-30T00:00:00Z""#),
                track(r#""timestamp":true"#),
                track(r#""timestamp":9223372036854775807"#),
                track(r#""sentAt":"canary""#),
                track(r#""originalTimestamp":{}"#),
            ],
        ),
        (
            "more than 24 h in the future",
            TimestampInFuture,
            vec![
                track(r#""timestamp":"2024-06-01T18:00:00.000001Z""#),
                track(r#""sentAt":"2024-01-01T00:00:00Z","originalTimestamp":"2024-01-03T00:00:00Z""#),
            ],
        ),
        (
            "before 1970",
            TimestampBefore1970,
            vec![track(r#""timestamp":"1969-12-31T23:59:59.999999Z""#), track(r#""timestamp":-1"#)],
        ),
        (
            "message id over 100 characters",
            MessageIdTooLong,
            vec![track(&format!(r#""messageId":"{}""#, "ä".repeat(101)))],
        ),
        (
            "forbidden characters in a message id",
            IdentifierForbiddenCharacter,
            vec![track(r#""messageId":"canary\u0000""#)],
        ),
        (
            "a field of the wrong type",
            FieldInvalid,
            vec![
                track(r#""properties":"canary""#),
                track(r#""context":[]"#),
                track(r#""integrations":true"#),
                track(r#""messageId":{}"#),
                track(r#""context":{"externalIds":{"type":"crm","id":"canary"}}"#),
                track(r#""context":{"externalIds":["canary"]}"#),
                track(r#""context":{"externalIds":[{"type":"crm","id":{}}]}"#),
                track(r#""context":{"externalIds":[{"type":1,"id":"canary"}]}"#),
                by(r#""userId":1.5"#),
                by(r#""userId":{}"#),
                r#"{"type":"track","event":7,"userId":"u"}"#.into(),
                r#"{"type":"identify","traits":"canary","userId":"u"}"#.into(),
            ],
        ),
        (
            "a field that its type needs is missing",
            FieldMissing,
            vec![
                r#"{"type":"group","userId":"u"}"#.into(),
                r#"{"type":"alias","userId":"u"}"#.into(),
                r#"{"type":"alias","userId":"u","previousId":"null"}"#.into(),
                track(r#""context":{"externalIds":[{"id":"canary"}]}"#),
            ],
        ),
        (
            "an external id's type that is no namespace",
            IdentifierNamespaceInvalid,
            vec![
                track(r#""context":{"externalIds":[{"type":"a:b","id":"canary"}]}"#),
                track(r#""context":{"externalIds":[{"type":"","id":"canary"}]}"#),
            ],
        ),
        (
            "too many identifiers",
            TooManyIdentifiers,
            vec![{
                let entries: Vec<String> =
                    (0..100).map(|i| format!(r#"{{"type":"crm","id":"c{i}"}}"#)).collect();
                track(&format!(r#""context":{{"externalIds":[{}]}}"#, entries.join(",")))
            }],
        ),
        (
            "revenue that is no decimal",
            InvalidRevenue,
            ["\"canary\"", "\"1,50\"", "true", "[1]", "{}", "1e41", "\"1e-41\""]
                .map(|r| track(&format!(r#""properties":{{"revenue":{r}}}"#)))
                .into(),
        ),
        (
            "currency that is not three letters",
            InvalidCurrency,
            ["\"EURO\"", "\"€\"", "7"]
                .map(|c| track(&format!(r#""properties":{{"revenue":1,"currency":{c}}}"#)))
                .into(),
        ),
    ]
}

/// Reasons of those who know more than the item: a shard's state, a schema, the rules for events without one.
const DECIDED_ELSEWHERE: [Reason; 3] =
    [Reason::MessageIdConflict, Reason::SchemaViolation, Reason::EventUnknown];

#[test]
fn every_bad_item_is_refused_for_its_reason_both_ways() {
    for (row, reason, cases) in rows() {
        for case in cases {
            let refused = try_accept(RawItem::Json(case.as_bytes())).expect_err(row);
            assert_eq!(refused.reason, reason, "{row}: {}", refused.message);
            assert!(!refused.to_string().contains(CANARY), "{row} quotes a value: {refused}");
            assert!(refused.message.len() > 15, "{row}: {}", refused.message);
            if let Ok(Value::Map(typed)) = json::parse(case.as_bytes()) {
                let again = try_accept(RawItem::Typed(typed)).expect_err(row);
                assert_eq!((again.reason, &again.field), (refused.reason, &refused.field), "{row}");
            }
            let entry = QuarantineEntry::new(
                &KEY,
                &refused,
                "web",
                "f.jsonl:7",
                "application/json",
                case.clone().into(),
            );
            assert_eq!((entry.reason.as_str(), entry.payload.as_ref()), (reason.code(), case.as_bytes()));
            assert!(!format!("{entry:?} {refused:?}").contains(CANARY), "{row}");
        }
    }
}

#[test]
fn no_reason_lacks_a_row() {
    let covered: BTreeSet<Reason> =
        rows().iter().map(|(_, reason, _)| *reason).chain(DECIDED_ELSEWHERE).collect();
    assert_eq!(covered, Reason::ALL.iter().copied().collect());
}

#[test]
fn typed_values_that_json_cannot_say_are_refused_too() {
    let with = |value: Value| {
        let mut item = match json::parse(track(r#""x":1"#).as_bytes()) {
            Ok(Value::Map(item)) => item,
            other => unreachable!("{other:?}"),
        };
        item.insert("properties".to_owned(), Value::Map(Map::from([("p".to_owned(), value)])));
        try_accept(RawItem::Typed(item)).unwrap_err()
    };
    let nan = with(Value::Float(f64::NAN));
    assert_eq!((nan.reason, nan.field.as_str()), (Reason::NotFinite, "properties.p"));
    assert_eq!(with(Value::Timestamp(i64::MAX)).reason, Reason::TimestampInvalid);
    let deep = (0..40).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert_eq!(with(deep).reason, Reason::TooDeep);
    assert_eq!(with(Value::String("x".repeat(40_000))).reason, Reason::EventTooLarge);
}

#[test]
fn what_is_just_within_a_limit_is_taken() {
    for fine in [
        track(r#""timestamp":"2024-06-01T18:00:00Z""#),
        track(r#""timestamp":"1970-01-01T00:00:00Z""#),
        track(&format!(r#""messageId":"{}""#, "ä".repeat(100))),
        track(&format!(r#""anonymousId":"{}""#, "x".repeat(256))),
        track(&format!(r#""properties":{}1{}"#, r#"{"a":"#.repeat(31), "}".repeat(31))),
        track(r#""properties":{"p":18446744073709551615}"#),
        track(r#""properties":{"currency":"none","revenue":null}"#),
    ] {
        let taken = try_accept(RawItem::Json(fine.as_bytes()));
        assert!(taken.is_ok(), "{fine}: {}", taken.unwrap_err());
    }
    let frame = track(r#""p":"""#).len();
    let full = track(&format!(r#""p":"{}""#, "x".repeat(32 * 1024 - frame)));
    assert!(try_accept(RawItem::Json(full.as_bytes())).is_ok());
    let over = full.replace("xx", "xxx");
    assert_eq!(try_accept(RawItem::Json(over.as_bytes())).unwrap_err().reason, Reason::EventTooLarge);
}

#[test]
fn a_refusal_carries_the_message_id_when_it_is_usable() {
    let refused =
        try_accept(RawItem::Json(br#"{"messageId":"m1","type":"track","userId":"u"}"#)).unwrap_err();
    assert_eq!(refused.message_id.as_deref(), Some("m1"));
}

#[test]
fn the_same_bad_line_is_the_same_quarantine_entry() {
    let refused = try_accept(RawItem::Json(b"{")).unwrap_err();
    let entry =
        |origin: &str| QuarantineEntry::new(&KEY, &refused, "web", origin, "application/json", "{".into());
    assert_eq!(entry("f:1").id(), entry("f:1").id());
    assert_ne!(entry("f:1").id(), entry("f:2").id());
    let bytes = prost::Message::encode_to_vec(&entry("f:1"));
    assert_eq!(QuarantineEntry::from_bytes(bytes.into()).unwrap(), entry("f:1"));
    assert!(QuarantineEntry::from_bytes("\x01".into()).is_err());
}
