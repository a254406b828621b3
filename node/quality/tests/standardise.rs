//! Whole documents of rules over traits: standardising twice is standardising once, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic, with the place")]

use isthmus_domain::{Value, record::TraitChange, value::json};
use isthmus_quality::{Policy, RULES_BYTES_MAX, TraitRules, note, read_document};
use proptest::prelude::*;

fn rules(text: &str) -> TraitRules {
    TraitRules::read(&read_document(text.as_bytes(), RULES_BYTES_MAX).unwrap()).unwrap()
}

fn change(name: &str, json: &str) -> TraitChange {
    TraitChange { name: name.to_owned(), value: json.as_bytes().to_vec().into() }
}

/// What becomes of one trait, and the notes.
fn standardised(rules: &TraitRules, name: &str, json: &str) -> (String, Vec<String>) {
    let (mut traits, mut notes) = (vec![change(name, json)], Vec::new());
    rules.standardise(&mut traits, &mut notes);
    (String::from_utf8(traits[0].value.to_vec()).unwrap(), notes)
}

#[test]
fn rules_are_applied_in_their_order_and_noted() {
    let rules = rules(
        r#"{"traits":{"plan":["trim",{"rule":"enumeration","values":{"pro":["professional"]}},{"rule":"case","to":"upper"}],
            "address.country":["country"],"odd.name":["trim"]}}"#,
    );
    let (made, notes) = standardised(&rules, "plan", r#"" Professional ""#);
    assert_eq!(
        (made.as_str(), notes),
        (r#""PRO""#, vec![r#"TRAIT_STANDARDISED traits.plan "PRO""#.to_owned()])
    );
    let (made, notes) = standardised(&rules, "address", r#"{"city":"Ulm","country":"Germany"}"#);
    assert_eq!(made, r#"{"city":"Ulm","country":"DE"}"#);
    assert_eq!(
        note::read(&notes[0]),
        (note::STANDARDISED, "traits.address.country", Some(Value::from("DE")))
    );
    assert_eq!(standardised(&rules, "odd.name", r#"" x""#).0, r#""x""#);
    assert_eq!(standardised(&rules, "plan", r#""PRO""#), (r#""PRO""#.to_owned(), vec![]), "nothing was done");
    assert_eq!(standardised(&rules, "other", r#"" x""#), (r#"" x""#.to_owned(), vec![]));
    assert_eq!(standardised(&rules, "plan", ""), (String::new(), vec![]), "what is removed stays removed");
}

#[test]
fn what_a_rule_cannot_take_stays_as_it_was_sent_and_is_flagged() {
    let rules = rules(r#"{"traits":{"phone":["trim",{"rule":"phone","region":"DE"}]}}"#);
    let (made, notes) = standardised(&rules, "phone", r#"" call me ""#);
    assert_eq!(
        (made.as_str(), notes),
        (r#"" call me ""#, vec![r#"TRAIT_NOT_STANDARDISED traits.phone "phone""#.to_owned()])
    );
}

#[test]
fn rules_that_do_not_come_to_rest_change_nothing() {
    let rules = rules(r#"{"traits":{"a":[{"rule":"pattern","regex":"a","replace":"aa"}]}}"#);
    let (made, notes) = standardised(&rules, "a", r#""a""#);
    assert_eq!(
        (made.as_str(), notes),
        (r#""a""#, vec![r#"TRAIT_NOT_STANDARDISED traits.a "pattern""#.to_owned()])
    );
}

#[test]
fn unknown_events_are_accepted_unless_the_rules_say_otherwise() {
    assert_eq!(rules("{}").unknown_events(), None);
    assert_eq!(rules(r#"{"unknown_events":"accept"}"#).unknown_events(), None);
    assert_eq!(rules(r#"{"unknown_events":"quarantine"}"#).unknown_events(), Some(Policy::Quarantine));
}

#[test]
fn a_document_that_makes_no_sense_is_refused_with_its_place() {
    for (text, at) in [
        (r#"{"trait":{}}"#, "/trait"),
        (r#"{"unknown_events":"drop"}"#, "/unknown_events"),
        (r#"{"traits":[]}"#, "/traits"),
        (r#"{"traits":{"a":"trim"}}"#, "/traits/a"),
        (r#"{"traits":{"a":[]}}"#, "/traits/a"),
        (r#"{"traits":{"":["trim"]}}"#, "/traits/"),
        (r#"{"traits":{"a/b":["trim","tirm"]}}"#, "/traits/a~1b/1"),
    ] {
        let read = TraitRules::read(&read_document(text.as_bytes(), RULES_BYTES_MAX).unwrap());
        assert_eq!(read.err().map(|fault| fault.at).as_deref(), Some(at), "{text}");
    }
}

/// Rules of all kinds, some that fight each other.
fn any_rule() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        r#""trim""#,
        r#"{"rule":"case","to":"lower"}"#,
        r#"{"rule":"case","to":"upper"}"#,
        r#""email""#,
        r#""phone""#,
        r#"{"rule":"phone","region":"DE"}"#,
        r#""date""#,
        r#"{"rule":"date","formats":["%d.%m.%Y","%m/%d/%y","%H:%M %d.%m.%Y"]}"#,
        r#""country""#,
        r#"{"rule":"country","to":"alpha3"}"#,
        r#""currency""#,
        r#""number""#,
        r#"{"rule":"number","decimal":","}"#,
        r#"{"rule":"enumeration","values":{"de":["Germany","DEU"],"A":["b"],"C ":["c2 "],"1":["eins"]}}"#,
        r#"{"rule":"pattern","regex":"[0-9]+"}"#,
        r#"{"rule":"pattern","regex":"a","replace":"aa"}"#,
        r#"{"rule":"pattern","regex":"([a-z])([0-9])","replace":"$2 $1"}"#,
    ])
}

fn any_value() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "0171 1234567",
        "+491711234567",
        "+1 212 555 0123",
        "Germany",
        "deu",
        "A@b.De",
        "31.12.1990",
        "12/31/90",
        "1.234,5",
        "1,234.5",
        "1234.5",
        "eur",
        "a ",
        "B",
        "2024-05-31T20:00:00+02:00",
        "07:05 01.02.2003",
        "İ",
        "ß",
        "a1",
    ]);
    prop_oneof![
        4 => texts.prop_map(Value::from),
        3 => "[ +0-9.,:/()-]{0,14}".prop_map(Value::from),
        2 => "[a-zA-ZÄß0-9@. \u{301}\u{2003}]{0,10}".prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<i32>().prop_map(|n| Value::Float(f64::from(n) / 8.0)),
        1 => Just(Value::List(vec![Value::from(" x ")])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn standardising_twice_is_standardising_once(
        specs in prop::collection::vec(any_rule(), 1..4), value in any_value(),
    ) {
        let rules = rules(&format!(r#"{{"traits":{{"t":[{}]}}}}"#, specs.join(",")));
        let sent = String::from_utf8(value.to_json()).unwrap();
        let (once, notes) = standardised(&rules, "t", &sent);
        prop_assert!(notes.len() <= 1);
        let (twice, again) = standardised(&rules, "t", &once);
        prop_assert_eq!(&twice, &once);
        match notes.first().map(|note| note::read(note)) {
            Some((note::STANDARDISED, _, made)) => {
                prop_assert_eq!(made, json::parse(once.as_bytes()).ok());
                prop_assert!(once != sent && again.is_empty());
            }
            // Unchanged: what the rules left alone, and what they could not take.
            _ => prop_assert!(once == sent && again == notes),
        }
    }
}
