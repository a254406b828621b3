//! Thousands of made-up items, good and odd: no panic, and what is accepted is sound.

use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, Limits, RawItem, SourceView, accept, value::json,
};
use proptest::prelude::*;

use crate::{KEY, NOW, assert_told_again};

/// Fields of an item as JSON: usable ones for the most part, so that most items are accepted, and odd ones.
fn fields() -> impl Strategy<Value = Vec<String>> {
    let field = |name: &'static str, usual: &'static [&'static str]| {
        let odd = &[
            "null",
            "0",
            "-1",
            "\" \"",
            "\"a\\u0000\"",
            "1e300",
            "{}",
            "[]",
            "true",
            "99999999999999999",
        ][..];
        let value = prop_oneof![12 => prop::sample::select(usual), 1 => prop::sample::select(odd)];
        prop::option::weighted(0.6, value.prop_map(move |v| format!("\"{name}\":{v}")))
    };
    let ids = &["\"u\"", "\"ü \"", "\"a\"", "7"][..];
    let times = &[
        "\"2024-01-01\"",
        "\"2024-05-31T17:00:00.5+02:00\"",
        "1717000000000",
        "\"2024-05-31T17:00:00Z\"",
    ][..];
    let kinds = &["track", "identify", "page", "screen", "group", "alias"][..];
    let rest = (
        field("event", &["\"E\"", "\" E \""]),
        field("name", &["\"N\""]),
        field("userId", ids),
        field("anonymousId", ids),
        field("previous_id", ids),
        field("groupId", ids),
        field("messageId", &["\"m\"", "1"]),
        field("timestamp", times),
        (field("sentAt", times), field("originalTimestamp", times)),
        field(
            "properties",
            &[r#"{"revenue":"1e5"}"#, r#"{"revenue":-0.10,"currency":"eur"}"#, r#"{"x":[{"b":null}]}"#],
        ),
        field(
            "traits",
            &[r#"{"email":"X@y","a":null}"#, r#"{"first_name":"f","firstName":"g","phone":"00 1"}"#],
        ),
        field(
            "context",
            &[
                r#"{"externalIds":[{"type":"user_id","id":"a"}]}"#,
                r#"{"externalIds":[{"type":"z","id":5}],"traits":{"email":"e"}}"#,
            ],
        ),
    );
    (prop::sample::select(kinds), rest).prop_map(|(kind, r)| {
        let all = [r.0, r.1, r.2, r.3, r.4, r.5, r.6, r.7, r.8.0, r.8.1, r.9, r.10, r.11];
        all.into_iter().flatten().chain([format!("\"type\":\"{kind}\"")]).collect()
    })
}

#[test]
fn what_is_accepted_is_sound_and_no_item_makes_it_panic() {
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
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
    let good = std::cell::Cell::new(0);
    proptest::test_runner::TestRunner::new(config)
        .run(&fields(), |fields| {
            let item = format!("{{{}}}", fields.join(","));
            if let Ok(accepted) = accept(RawItem::Json(item.as_bytes()), &ctx) {
                good.set(good.get() + 1);
                let record = accepted.record;
                prop_assert!(record.check().is_ok());
                prop_assert_eq!(&EventRecord::from_bytes(record.to_bytes()).unwrap(), &record);
                for blob in [&record.properties, &record.context] {
                    prop_assert!(blob.is_empty() || json::parse(blob).unwrap().to_json() == blob[..]);
                }
                prop_assert!(record.link_facts().all(|f| f.is_ok()));
                assert_told_again(&record, &ctx);
            }
            Ok(())
        })
        .unwrap();
    assert!(
        good.get() > 1_000,
        "only {} of 4,000 items were good: the generator has gone astray",
        good.get()
    );
}
