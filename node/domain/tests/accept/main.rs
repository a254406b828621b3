//! What accepting makes of good events.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod profiles;
mod random;

use isthmus_domain::record::Link;
use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, EventType, FacetId, IdentityKey, Limits, LinkKind, Namespace,
    RawItem, RecordView, SourceView, Value, accept,
    group::{GroupId, said_of_group},
    value::json,
};

/// 2024-05-31T18:00:00Z.
const NOW: i64 = 1_717_178_400_000_000;
const KEY: IdentityKey = IdentityKey::new([3; 32]);

fn accept_from(source: &SourceView, item: &str, now_micros: i64, sent_at: Option<i64>) -> EventRecord {
    let ctx = AcceptContext {
        source,
        key: &KEY,
        now_micros,
        sent_at,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &|| "made".to_owned(),
    };
    let accepted = accept(RawItem::Json(item.as_bytes()), &ctx).unwrap();
    let Value::Map(typed) = json::parse(item.as_bytes()).unwrap() else { unreachable!() };
    assert!(accept(RawItem::Typed(typed), &ctx).unwrap() == accepted, "both ways in agree");
    assert_eq!(EventRecord::from_bytes(accepted.record.to_bytes()).unwrap(), accepted.record);
    assert_eq!(accepted.record.identifier().map(|i| FacetId::of(&KEY, &i)), Ok(accepted.facet));
    let later = AcceptContext { now_micros: now_micros + 60_000_000, sent_at: None, ..ctx };
    assert_told_again(&accepted.record, &later);
    accepted.record
}

/// A record's JSON, accepted again at another time, is the same event.
fn assert_told_again(record: &EventRecord, ctx: &AcceptContext<'_>) {
    let again = accept(RawItem::Json(&record.to_json()), ctx).unwrap().record;
    let same = |r: &EventRecord| {
        let mut context = json::parse(if r.context.is_empty() { b"{}" } else { &r.context }).unwrap();
        if let Value::Map(fields) = &mut context {
            // The time as it was sent has given way to the corrected one.
            fields.remove("timestamp");
        }
        (
            r.facet_id(),
            r.dedup_key(),
            r.kind,
            r.name.clone(),
            r.timestamp,
            r.links.clone(),
            r.group.clone(),
            r.properties.clone(),
            context.to_json(),
        )
    };
    assert!(same(&again) == same(record), "{again:?} instead of {record:?}");
}

fn record(item: &str) -> EventRecord {
    accept_from(&SourceView::new("web"), item, NOW, None)
}

fn primary(record: &EventRecord) -> String {
    record.identifier().unwrap().to_string()
}

fn links(record: &EventRecord) -> Vec<String> {
    let show = |l: &Link| {
        format!("{}:{}{}", l.namespace, l.value, if l.kind() == LinkKind::Alias { " alias" } else { "" })
    };
    record.links.iter().map(show).collect()
}

fn text(blob: &[u8]) -> &str {
    std::str::from_utf8(blob).unwrap()
}

#[test]
fn a_track_event_becomes_a_record_and_loses_nothing() {
    let item = r#"{"type":"track","event":" Order Completed ","messageId":"m1","userId":"u1","anonymousId":"A-1",
        "timestamp":"2024-05-31T10:00:00Z","sentAt":"2024-05-31T10:00:01Z","receivedAt":"x","writeKey":"secret",
        "properties":{"revenue":44.02,"currency":"eur","items":[2,1]},"context":{"ip":"1.2.3.4"},"own":{"b":1,"a":2}}"#;
    let record = record(item);
    assert_eq!((primary(&record).as_str(), record.slot()), ("user_id:u1", record.facet_id().slot()));
    assert_eq!(links(&record), ["anonymous_id:A-1"]);
    assert_eq!(
        (record.kind(), record.name.as_str(), record.message_id.as_str()),
        (EventType::Track, "Order Completed", "m1")
    );
    assert_eq!(
        (record.timestamp, record.sent_at),
        (NOW - 8 * 3_600_000_000, Some(NOW - 8 * 3_600_000_000 + 1_000_000))
    );
    assert_eq!(
        (record.revenue.as_ref().unwrap().to_string().as_str(), record.currency.as_str()),
        ("44.02", "EUR")
    );
    assert_eq!(text(&record.properties), r#"{"currency":"eur","items":[2,1],"revenue":44.02}"#);
    // What the record holds in the same form is not kept twice; the untrimmed name and all else is.
    assert_eq!(
        text(&record.context),
        r#"{"context":{"ip":"1.2.3.4"},"event":" Order Completed ","own":{"a":2,"b":1}}"#
    );
    assert!(record.notes.is_empty() && record.traits.is_empty());
    let shown = format!("{record:?}");
    assert!(!["u1", "A-1", "1.2.3.4", "m1"].iter().any(|personal| shown.contains(personal)), "{shown}");
}

#[test]
fn both_spellings_are_one_event() {
    let camel = record(
        r#"{"type":"track","event":"E","messageId":"m","userId":"U","anonymousId":"a","originalTimestamp":"2024-05-30"}"#,
    );
    let snake = record(
        r#"{"type":"track","event":"E","message_id":"m","user_id":"U","anonymous_id":"a","original_timestamp":"2024-05-30"}"#,
    );
    assert_eq!(camel, snake);
}

#[test]
fn an_identify_sets_and_removes_traits() {
    let record = record(
        r#"{"type":"identify","messageId":"m","userId":7,"traits":{"email":"A@B.de","phone":"0049 1/2","plan":null,"last_name":"","address":{"b":1,"a":null}}}"#,
    );
    assert_eq!(
        (primary(&record).as_str(), links(&record)),
        ("user_id:7", vec!["email:a@b.de".to_owned(), "phone:+4912".to_owned()])
    );
    let traits: Vec<(&str, &str)> = record.traits.iter().map(|t| (t.name.as_str(), text(&t.value))).collect();
    let expected = [
        ("address", r#"{"a":null,"b":1}"#),
        ("email", "\"A@B.de\""),
        ("lastName", "\"\""),
        ("phone", "\"0049 1/2\""),
        ("plan", ""),
    ];
    assert_eq!(traits, expected);
    assert!(record.traits[4].is_removed());
    assert_eq!(
        text(&record.properties),
        r#"{"address":{"a":null,"b":1},"email":"A@B.de","last_name":"","phone":"0049 1/2","plan":null}"#
    );
    assert_eq!(text(&record.context), r#"{"userId":7}"#, "the id as it was sent, since it was a number");
}

#[test]
fn a_group_keeps_its_id_and_traits_and_is_about_the_user() {
    let record = record(
        r#"{"type":"group","messageId":"m","userId":"u","groupId":"g","traits":{"email":"info@firm.de"},"context":{"traits":{"email":"u@firm.de"}}}"#,
    );
    assert_eq!(
        (primary(&record).as_str(), links(&record)),
        ("user_id:u", vec!["email:u@firm.de".to_owned()])
    );
    assert_eq!(text(&record.properties), r#"{"groupId":"g","traits":{"email":"info@firm.de"}}"#);
    assert!(record.traits.is_empty());
    let named = record.group.clone().unwrap();
    assert_eq!((named.value.as_str(), &named.facet[..]), ("g", &group("g").as_bytes()[..]));
    let bytes = record.to_bytes();
    let said = said_of_group(&RecordView::read(&bytes).unwrap()).unwrap().unwrap();
    assert_eq!(
        (said.facet_id(), said.namespace.as_str(), said.value.as_str()),
        (group("g"), "group_id", "g")
    );
    assert_eq!((said.timestamp, said.kind()), (record.timestamp, EventType::Group));
    let traits: Vec<(&str, &str)> = said.traits.iter().map(|t| (t.name.as_str(), text(&t.value))).collect();
    assert_eq!(traits, [("email", r#""info@firm.de""#)]);
    assert!(said.links.is_empty() && said.properties.is_empty(), "nothing of the user's");
}

fn group(name: &str) -> FacetId {
    GroupId::normalise(name).unwrap().facet(&KEY)
}

#[test]
fn a_group_is_named_as_identifiers_are_and_a_placeholder_names_none() {
    let with =
        |id: &str| record(&format!(r#"{{"type":"group","messageId":"m","userId":"u","groupId":{id}}}"#));
    assert_eq!(with(r#"" acme ""#).group.unwrap().value, "acme");
    assert_eq!(with("42").group.unwrap().value, "42");
    assert_eq!(with("\"e\u{301}\"").group.unwrap().facet, with("\"\u{e9}\"").group.unwrap().facet);
    let none = with(r#""undefined""#);
    assert_eq!((none.group, none.notes), (None, vec!["GROUP_BLOCKED groupId".to_owned()]));
    assert_eq!(record(r#"{"type":"page","messageId":"m","userId":"u","groupId":"g"}"#).group, None);
}

#[test]
fn an_alias_links_the_previous_id_in_both_its_meanings() {
    let with_user =
        record(r#"{"type":"alias","messageId":"m","userId":"new","previousId":"old","anonymousId":"old"}"#);
    assert_eq!(primary(&with_user), "user_id:new");
    assert_eq!(links(&with_user), ["user_id:old alias", "anonymous_id:old alias"]);
    let kinds: Vec<LinkKind> = with_user.link_facts().map(|f| f.unwrap().kind).collect();
    assert_eq!(kinds, [LinkKind::Alias, LinkKind::Alias]);
    let anonymous = record(r#"{"type":"alias","messageId":"m","anonymousId":"a","previousId":"old"}"#);
    assert_eq!(
        (primary(&anonymous).as_str(), links(&anonymous)),
        ("user_id:old", vec!["anonymous_id:a alias".to_owned(), "anonymous_id:old alias".to_owned()])
    );
    let same = record(r#"{"type":"alias","messageId":"m","userId":"x","previousId":"x"}"#);
    assert_eq!(links(&same), ["anonymous_id:x alias"]);
}

#[test]
fn external_ids_are_identifiers_of_their_own_kind() {
    let record = record(
        r#"{"type":"screen","messageId":"m","anonymousId":"a","context":{"externalIds":[
            {"type":"ios.idfa","id":"i","collection":"users","encoding":"none"},
            {"type":"email","id":"ab12","encoding":"sha256"},
            {"type":"crmId","id":"c"},
            {"type":"account","id":"x","collection":"accounts"}]}}"#,
    );
    assert_eq!(primary(&record), "crm_id:c", "others by name");
    assert_eq!(links(&record), ["email_sha256:ab12", "ios_idfa:i", "anonymous_id:a"]);
    assert_eq!(record.notes, ["EXTERNAL_ID_NOT_OF_A_PERSON context.externalIds[3]"]);
}

#[test]
fn an_id_is_kept_as_it_was_sent_where_it_could_be_taken_for_another() {
    let two = r#"{"type":"page","messageId":"m","userId":"u","context":{"externalIds":[{"type":"user_id","id":"a"}]}}"#;
    assert!(text(&record(two).context).contains(r#""userId":"u""#));
    let outside =
        record(r#"{"type":"page","messageId":"m","context":{"externalIds":[{"type":"user_id","id":"a"}]}}"#);
    assert!(!text(&outside.to_json()).contains("userId"));
    assert_eq!(record(r#"{"type":"page","messageId":"m","userId":"u","anonymousId":"a"}"#).context, "");
}

#[test]
fn the_sources_order_chooses_the_primary() {
    let item = r#"{"type":"page","messageId":"m","userId":"u","anonymousId":"a","context":{"traits":{"email":"e@e"}}}"#;
    let of = |order: &[Namespace]| {
        let source = SourceView { primary_order: order.to_vec(), ..SourceView::new("web") };
        primary(&accept_from(&source, item, NOW, None))
    };
    assert_eq!(of(&[Namespace::EMAIL, Namespace::USER_ID]), "email:e@e");
    assert_eq!(of(&[Namespace::ANONYMOUS_ID]), "anonymous_id:a");
    assert_eq!(of(&[]), "email:e@e", "by name, anonymous_id last");
}

#[test]
fn nulls_blanks_and_placeholders_are_left_out_and_noted() {
    let record = record(
        r#"{"type":"identify","userId":"undefined","anonymousId":"a","context":{"externalIds":[{"type":"crm","id":null},{"type":"crm","id":" "}]},"traits":{"email":{},"phone":null}}"#,
    );
    assert_eq!(
        (primary(&record).as_str(), record.message_id.as_str(), record.links.len()),
        ("anonymous_id:a", "made", 0)
    );
    assert_eq!(
        record.notes,
        [
            "MESSAGE_ID_MADE messageId",
            "IDENTIFIER_BLOCKED userId",
            "IDENTIFIER_NULL context.externalIds[0].id",
            "IDENTIFIER_BLANK context.externalIds[1].id",
            "IDENTIFIER_NOT_TEXT traits.email",
        ]
    );
}

#[test]
fn clock_skew_is_corrected_only_when_the_client_gave_both_times() {
    let at = |fields: &str, batch: Option<i64>| {
        let item = format!(r#"{{"type":"page","userId":"u"{fields}}}"#);
        accept_from(&SourceView::new("web"), &item, NOW, batch).timestamp - NOW
    };
    const HOUR: i64 = 3_600_000_000;
    // The client's clock is a year behind; the event lay two hours before it was sent.
    let both = r#","sentAt":"2023-05-31T18:00:00Z","originalTimestamp":"2023-05-31T16:00:00Z","timestamp":"2001-01-01""#;
    assert_eq!(at(both, None), -2 * HOUR);
    assert_eq!(
        at(r#","originalTimestamp":"2024-05-31T16:00:00Z""#, Some(NOW - HOUR)),
        -HOUR,
        "a batch's sentAt"
    );
    assert_eq!(at(r#","timestamp":"2024-05-31T17:00:00Z","sentAt":"2023-05-31T18:00:00Z""#, None), -HOUR);
    assert_eq!(at(r#","originalTimestamp":"2024-05-31T16:00:00Z""#, None), -2 * HOUR);
    assert_eq!(at(r#","timestamp":1717174800000"#, None), -HOUR, "milliseconds");
    assert_eq!(at("", None), 0);
}

#[test]
fn revenue_is_exact_and_has_a_currency() {
    let of = |properties: &str| {
        let record =
            record(&format!(r#"{{"type":"track","event":"E","userId":"u","properties":{properties}}}"#));
        (record.revenue.map(|r| r.to_string()), record.currency)
    };
    let usd = |text: &str| (Some(text.to_owned()), "USD".to_owned());
    assert_eq!(of(r#"{"revenue":0.1}"#), usd("0.10"));
    assert_eq!(
        of(r#"{"revenue":"12345678901234567890.123","currency":null}"#),
        usd("12345678901234567890.123")
    );
    assert_eq!(of(r#"{"revenue":-5,"currency":" usd "}"#), usd("-5.00"));
    assert_eq!(of(r#"{"revenue":0}"#), usd("0.00"));
    assert_eq!(of(r#"{"revenue":" "}"#), (None, String::new()));
    assert_eq!(of("{}"), (None, String::new()));
}

#[test]
fn the_body_hash_is_of_what_the_client_said_alone() {
    let item = |event: &str, sent: &str, id: &str| {
        format!(
            r#"{{"type":"track","event":"{event}","userId":"u","originalTimestamp":"2024-05-31T10:00:00Z"{sent}{id}}}"#
        )
    };
    let source = SourceView::new("web");
    let of = |item: String, now| accept_from(&source, &item, now, None);
    let first = of(item("E", r#","sentAt":"2024-05-31T10:00:01Z""#, r#","messageId":"m""#), NOW);
    let again = of(
        item("E", r#","sentAt":"2024-05-31T10:09:01Z","receivedAt":"x""#, r#","messageId":"m""#),
        NOW + 60_000_000,
    );
    assert_ne!(first.timestamp, again.timestamp, "corrected by another delay");
    assert_eq!((first.body_hash(), first.dedup_key()), (again.body_hash(), again.dedup_key()));
    let other = of(item("F", "", r#","messageId":"m""#), NOW);
    assert_ne!(first.body_hash(), other.body_hash());
    assert_eq!(first.dedup_key(), other.dedup_key());
    let unnamed = of(item("E", "", ""), NOW);
    assert_eq!(first.body_hash(), unnamed.body_hash(), "the message id is not part of it");
    assert_ne!(first.dedup_key(), unnamed.dedup_key());
    let elsewhere = accept_from(&SourceView::new("app"), &item("E", "", r#","messageId":"m""#), NOW, None);
    assert_ne!(first.dedup_key(), elsewhere.dedup_key(), "another source");
}

#[test]
fn link_facts_name_both_ends_and_their_place() {
    let record = record(
        r#"{"type":"page","messageId":"m","userId":"u","anonymousId":"a","context":{"traits":{"email":"e@e"}}}"#,
    );
    let facts: Vec<_> = record.link_facts().map(Result::unwrap).collect();
    assert!(facts.is_sorted());
    let ends: Vec<String> = facts.iter().map(|f| format!("{} {} {}", f.position, f.a, f.b)).collect();
    assert_eq!(ends, ["0 user_id:u email:e@e", "1 user_id:u anonymous_id:a"]);
    for (link, fact) in record.links.iter().zip(&facts) {
        assert_eq!(link.facet_id(), FacetId::of(&KEY, &fact.b));
    }
}

#[test]
fn a_record_that_is_damaged_is_refused() {
    let good = record(r#"{"type":"page","messageId":"m","userId":"u","anonymousId":"a"}"#);
    let broken: [fn(&mut EventRecord); 6] = [
        |r| r.facet = r.facet.slice(1..),
        |r| r.kind = 0,
        |r| r.kind = 99,
        |r| r.message_id.clear(),
        |r| r.timestamp = -1,
        |r| r.links[0].facet.clear(),
    ];
    for break_it in broken {
        let mut record = good.clone();
        break_it(&mut record);
        assert!(EventRecord::from_bytes(record.to_bytes()).is_err());
    }
}
