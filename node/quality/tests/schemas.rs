//! Schemas: what is taken, what is refused and why, and what becomes of events.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use std::sync::Arc;

use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, IdentityKey, Limits, RawItem, Reason, SourceView, accept,
};
use isthmus_quality::{
    Fault, InForce, Policy, RULES_BYTES_MAX, Registry, Schema, TraitRules, Verdict, read_document,
    schema::SCHEMA_BYTES_MAX,
};
use serde_json::json;

fn refused(text: &str) -> Fault {
    Schema::read(text.as_bytes()).expect_err(text)
}

fn record(event: &str) -> EventRecord {
    let (source, key, blocked) =
        (SourceView::new("shop"), IdentityKey::new([7; 32]), BlockedValues::default());
    let context = AcceptContext {
        source: &source,
        key: &key,
        now_micros: 1_700_000_000_000_000,
        sent_at: None,
        limits: Limits::default(),
        blocked: &blocked,
        make_message_id: &|| "made".to_owned(),
    };
    accept(RawItem::Json(event.as_bytes()), &context).unwrap().record
}

fn registry(rules: &str, schemas: &[(&str, Policy, serde_json::Value)]) -> Registry {
    let rules = TraitRules::read(&read_document(rules.as_bytes(), RULES_BYTES_MAX).unwrap()).unwrap();
    let mut registry = Registry::new(Arc::new(rules));
    for (key, policy, schema) in schemas {
        let schema = Arc::new(Schema::read(schema.to_string().as_bytes()).unwrap());
        registry.insert(&key.parse().unwrap(), InForce { version: 3, policy: *policy, schema });
    }
    registry
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    let wide: Vec<String> = (0..300).map(|n| format!(r##""p{n}":{{"$ref":"#/$defs/x"}}"##)).collect();
    let wide = format!(
        r#"{{"$defs":{{"x":{{"allOf":[{}]}}}},"properties":{{{}}}}}"#,
        vec!["true"; 20].join(","),
        wide.join(",")
    );
    let large = format!(r#"{{"title":"{}"}}"#, "x".repeat(SCHEMA_BYTES_MAX));
    for (text, at, what) in [
        ("7", "", "an object, true or false"),
        ("{", "", "malformed JSON"),
        (r#"{"type":"object","type":"string"}"#, "", "duplicate key"),
        (r#"{"type":"objekt"}"#, "/type", "no schema"),
        (r#"{"properties":{"a":{"minimum":"1"}}}"#, "/properties/a/minimum", "no schema"),
        (r#"{"properties":{"a":7}}"#, "/properties/a", "an object, true or false"),
        (r#"{"$schema":"http://json-schema.org/draft-04/schema#"}"#, "/$schema", "2020-12"),
        (r#"{"$ref":"https://example.org/schema"}"#, "/$ref", "leads elsewhere"),
        (r#"{"$ref":"file:///etc/passwd"}"#, "/$ref", "leads elsewhere"),
        (r##"{"$ref":"#/$defs/x"}"##, "/$ref", "leads nowhere"),
        (r##"{"$ref":"#"}"##, "/$ref/$ref", "leads back to itself"),
        (
            r##"{"properties":{"a":{"$ref":"#"}}}"##,
            "/properties/a/$ref/properties/a/$ref",
            "leads back to itself",
        ),
        (r#"{"$dynamicRef":"x"}"#, "/$dynamicRef", "not taken"),
        (r#"{"properties":{"a":{"$id":"http://x"}}}"#, "/properties/a/$id", "not taken"),
        (r#"{"pattern":"(?=a)"}"#, "/pattern", "no schema"),
        (r#"{"pattern":"((a{1,100}){1,100}){1,100}"}"#, "/pattern", "no schema"),
        (wide.as_str(), "/properties/p96/$ref", "more than 2000 parts"),
        (large.as_str(), "", "are the most"),
    ] {
        let fault = refused(text);
        let shown = text.get(..80).unwrap_or(text);
        assert!(fault.what.contains(what), "{shown}: {fault}");
        if !text.contains("p96") {
            assert_eq!(fault.at, at, "{shown}: {fault}");
        }
    }
}

#[test]
fn a_pattern_that_others_would_choke_on_takes_linear_time() {
    let schema = Schema::read(br#"{"pattern":"^(a+)+$"}"#).unwrap();
    assert!(!schema.is_valid(&json!(format!("{}!", "a".repeat(30_000)))));
    assert!(schema.is_valid(&json!("aaa")));
}

#[test]
fn references_in_the_document_and_draft_07_are_taken() {
    let schema = Schema::read(
        br##"{"$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n","minimum":1}}}"##,
    )
    .unwrap();
    assert!(
        schema.is_valid(&json!({"a": 1}))
            && !schema.is_valid(&json!({"a": 0}))
            && !schema.is_valid(&json!({"a": "x"}))
    );
    let schema = Schema::read(
        br##"{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/definitions/n","minimum":1}}}"##,
    )
    .unwrap();
    assert!(schema.is_valid(&json!({"a": 0})), "beside a reference nothing counts in draft-07");
}

#[test]
fn a_violation_says_where_and_what_was_expected_and_quotes_no_value() {
    let schema = json!({"required":["revenue"],"properties":{"revenue":{"type":"number"},"mail":{"format":"email"}},"additionalProperties":false});
    let registry = registry("{}", &[("track:Order Completed", Policy::Quarantine, schema)]);
    let mut event = record(
        r#"{"type":"track","event":"Order Completed","userId":"1","messageId":"m","properties":{"mail":"secret","extra":1}}"#,
    );
    let Verdict::Quarantine(refused) = registry.examine(&mut event) else { panic!("taken") };
    assert_eq!((refused.reason, refused.message_id.as_deref()), (Reason::SchemaViolation, Some("m")));
    for part in [
        "version 3 of the schema track:Order Completed",
        "/properties: \"revenue\" is required",
        "/properties/mail",
        "email",
        "'extra'",
    ] {
        assert!(refused.message.contains(part), "{part}: {}", refused.message);
    }
    assert!(!refused.message.contains("secret"));
    let mut good =
        record(r#"{"type":"track","event":"Order Completed","userId":"1","properties":{"revenue":1.5}}"#);
    assert_eq!(
        (registry.examine(&mut good), good.notes.len()),
        (Verdict::Take, 1),
        "the note of a made id alone"
    );
}

#[test]
fn a_policy_says_what_becomes_of_an_event() {
    let event =
        || record(r#"{"type":"page","name":"Home","userId":"1","messageId":"m","properties":{"a":"x"}}"#);
    let of = |policy| registry("{}", &[("page", policy, json!({"properties":{"a":{"type":"integer"}}}))]);
    assert!(matches!(of(Policy::Reject).examine(&mut event()), Verdict::Reject(_)));
    assert!(matches!(of(Policy::Quarantine).examine(&mut event()), Verdict::Quarantine(_)));
    let mut flagged = event();
    assert_eq!(of(Policy::Flag).examine(&mut flagged), Verdict::Take);
    assert_eq!(
        flagged.notes,
        [
            r#"SCHEMA_VIOLATED /properties/a {"expected":"the value is not of type \"integer\"","schema":"page","version":3}"#
        ]
    );
}

#[test]
fn a_schema_of_a_name_comes_before_that_of_its_type() {
    let registry = registry(
        "{}",
        &[("track", Policy::Reject, json!(false)), ("track:Seen", Policy::Reject, json!(true))],
    );
    let event = |name: &str| record(&format!(r#"{{"type":"track","event":"{name}","userId":"1"}}"#));
    assert_eq!(registry.examine(&mut event("Seen")), Verdict::Take);
    assert!(matches!(registry.examine(&mut event("Other")), Verdict::Reject(_)));
}

#[test]
fn traits_are_standardised_before_they_are_checked() {
    let rules = r#"{"traits":{"country":["country"],"firstName":["trim"]}}"#;
    let schema = json!({"properties":{"country":{"pattern":"^[A-Z]{2}$"},"firstName":{"maxLength":3}}});
    let registry = registry(rules, &[("identify", Policy::Reject, schema)]);
    let mut event = record(
        r#"{"type":"identify","userId":"1","messageId":"m","traits":{"country":"Germany","first_name":" Ada ","gone":null}}"#,
    );
    let sent = event.clone();
    assert_eq!(registry.examine(&mut event), Verdict::Take);
    assert_eq!(&event.traits[0].value[..], br#""DE""#);
    assert_eq!(
        (&event.properties, &event.body_hash),
        (&sent.properties, &sent.body_hash),
        "what was sent stays"
    );
    let mut bad = record(r#"{"type":"identify","userId":"1","traits":{"country":"Atlantis"}}"#);
    let Verdict::Reject(refused) = registry.examine(&mut bad) else { panic!("taken") };
    assert_eq!(refused.field, "/traits/country");
}

#[test]
fn traits_are_known_where_the_schema_of_identify_has_no_others() {
    let closed = json!({"properties": {"plan": {}, "email": {}}, "additionalProperties": false});
    let known = |key: &str, policy, schema| {
        let registry = registry("{}", &[(key, policy, schema)]);
        registry.traits().map(|names| names.map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    let both = Some(vec!["email".to_owned(), "plan".to_owned()]);
    assert_eq!(known("identify", Policy::Quarantine, closed.clone()), both);
    assert_eq!(known("identify", Policy::Reject, closed.clone()), both);
    assert_eq!(known("identify", Policy::Flag, closed.clone()), None, "what breaks it is taken");
    assert_eq!(known("group", Policy::Reject, closed), None, "traits of groups are others");
    for open in [
        json!(true),
        json!({"properties": {"plan": {}}}),
        json!({"properties": {"plan": {}}, "additionalProperties": {"type": "string"}}),
        json!({"patternProperties": {"^x_": {}}, "additionalProperties": false}),
    ] {
        assert_eq!(known("identify", Policy::Reject, open.clone()), None, "{open}");
    }
    assert_eq!(Registry::default().traits().map(Iterator::count), None);
}

#[test]
fn unknown_events_follow_the_default_policy() {
    let known = ("track:Seen", Policy::Reject, json!(true));
    let event =
        |name: &str| record(&format!(r#"{{"type":"track","event":"{name}","userId":"1","messageId":"m"}}"#));
    let verdict = |policy: &str, name: &str| {
        let rules = format!(r#"{{"unknown_events":"{policy}"}}"#);
        let mut event = event(name);
        (registry(&rules, std::slice::from_ref(&known)).examine(&mut event), event.notes)
    };
    assert_eq!(verdict("accept", "Typo"), (Verdict::Take, vec![]));
    assert_eq!(verdict("flag", "Typo"), (Verdict::Take, vec!["EVENT_UNKNOWN event".to_owned()]));
    assert!(
        matches!(verdict("reject", "Typo").0, Verdict::Reject(refused) if refused.reason == Reason::EventUnknown)
    );
    assert_eq!(verdict("reject", "Seen"), (Verdict::Take, vec![]));
    let rules = registry(r#"{"unknown_events":"reject"}"#, &[]);
    assert_eq!(
        rules.examine(&mut record(r#"{"type":"identify","userId":"1"}"#)),
        Verdict::Take,
        "of track alone"
    );
}
