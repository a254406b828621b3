//! Documents of definitions: what they look like, and what is found wrong with them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use isthmus_segment::{
    Document, Known, LEVELS_MAX, Plan,
    definition::{ComputedTrait, Segment},
};

fn known() -> Known {
    Known { traits: None, currency: "EUR".to_owned() }
}

fn segments(pairs: &[(&str, &str)]) -> Document {
    let segment = |(name, expression): &(&str, &str)| Segment {
        name: (*name).to_owned(),
        expression: (*expression).to_owned(),
        ..Segment::default()
    };
    Document { segments: pairs.iter().map(segment).collect(), ..Document::default() }
}

fn faults(document: &Document) -> Vec<String> {
    Plan::compile(document, &known()).expect_err("a fault").iter().map(ToString::to_string).collect()
}

const JSON: &str = r#"{
  "computed_traits": [
    {"name": "orders_90d", "aggregate": "count", "events": ["Order Completed"], "window": "90 days"},
    {"name": "favourite", "aggregate": "most_frequent", "of": "product.category", "type": "text",
     "events": ["Product Viewed"], "filter": "price > 10"}
  ],
  "segments": [
    {"name": "loyal", "version": 3, "expression": "orders_90d >= 3 AND favourite = 'shoes'"},
    {"name": "not-loyal", "expression": "NOT segment('loyal')", "description": "all others"}
  ]
}"#;

const TOML: &str = r#"
[[computed_traits]]
name = "orders_90d"
aggregate = "count"
events = ["Order Completed"]
window = "90 days"

[[computed_traits]]
name = "favourite"
aggregate = "most_frequent"
of = "product.category"
type = "text"
events = ["Product Viewed"]
filter = "price > 10"

[[segments]]
name = "loyal"
version = 3
expression = "orders_90d >= 3 AND favourite = 'shoes'"

[[segments]]
name = "not-loyal"
expression = "NOT segment('loyal')"
description = "all others"
"#;

#[test]
fn json_and_toml_are_two_forms_of_one_document() {
    let document = Document::from_json(JSON.as_bytes()).unwrap();
    assert_eq!(toml::from_str::<Document>(TOML).unwrap(), document);
    assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
    let plan = Plan::compile(&document, &known()).unwrap();
    let names: Vec<&str> = plan.definitions().iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(names, ["orders_90d", "favourite", "loyal", "not-loyal"]);
    let fault = Document::from_json(br#"{"segment": []}"#).unwrap_err().to_string();
    assert!(fault.contains("unknown field `segment`") && fault.contains("line 1 column 10"), "{fault}");
}

#[test]
fn segments_come_behind_those_that_they_build_on_and_circles_are_shown() {
    let chain = segments(&[("c", "segment('b')"), ("b", "segment('a') OR x = 'y'"), ("a", "p = 'q'")]);
    let plan = Plan::compile(&chain, &known()).unwrap();
    let names: Vec<&str> = plan.definitions().iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let circle =
        segments(&[("a", "x = 'y' AND\n segment('b')"), ("b", "segment('a')"), ("c", "segment('c')")]);
    assert_eq!(
        faults(&circle),
        [
            "segment a: expression, line 2, column 2: segments build on each other in a circle: a -> b -> a; take one of \
             them out",
            "segment c: expression, line 1, column 1: segments build on each other in a circle: c -> c; take one of them \
             out"
        ]
    );
    let mut pairs = vec![("s0".to_owned(), "x = 'y'".to_owned())];
    for level in 1..=LEVELS_MAX {
        pairs.push((format!("s{level}"), format!("segment('s{}')", level - 1)));
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert!(faults(&segments(&pairs))[0].contains("in more than 16 levels"));
    Plan::compile(&segments(&pairs[..LEVELS_MAX]), &known()).unwrap();
}

#[test]
fn questions_that_differ_in_how_far_they_look_back_share_what_is_kept() {
    let terms = |pairs: &[(&str, &str)]| {
        let plan = Plan::compile(&segments(pairs), &known()).unwrap();
        plan.terms().map(|(_, term)| (term.window(), term.description())).collect::<Vec<_>>()
    };
    let day = 86_400_000_000;
    let wide = terms(&[("a", "sum(x, 'A', '9 days') > 1"), ("b", "sum(x, 'A', '30 days') > 1")]);
    assert_eq!(wide, terms(&[("b", "sum(x, 'A', '30 days') > 1")]));
    assert_eq!(wide.iter().map(|(window, _)| *window).collect::<Vec<_>>(), [Some(30 * day)]);
    // Other events, another property or another bound are other questions.
    assert_eq!(terms(&[("a", "sum(x, 'A', '9 days') > 1"), ("b", "sum(y, 'A', '30 days') > 1")]).len(), 2);
    assert_eq!(terms(&[("a", "did('A', '9 days')"), ("b", "did('B', '30 days')")]).len(), 2);
    let sequences = [("a", "sequence('A', 'B', within => '1 day')"), ("b", "did('A', '30 days')")];
    let found = terms(&sequences);
    assert!(found.iter().any(|(window, text)| window.is_none() && text.contains('A')), "{found:?}");
}

#[test]
fn what_another_plan_knows_already_is_not_gathered_again() {
    let plan = |pairs: &[(&str, &str)]| Plan::compile(&segments(pairs), &known()).unwrap();
    let before = plan(&[("a", "events('A') > 1"), ("b", "segment('a')"), ("c", "did('C')")]);
    let same = plan(&[("d", "events('A') > 2"), ("a", "events('A') > 1"), ("b", "segment('a')")]);
    assert!(same.beyond(&before).is_none());
    let names = |plan: &Plan, other: &Plan| -> Vec<String> {
        plan.unlike(other).iter().map(|index| plan.definitions()[index].name.clone()).collect()
    };
    assert_eq!(names(&same, &before), ["d"]);
    // What builds on something that has changed has changed.
    let changed = plan(&[("a", "sum(x, 'A') > 2"), ("b", "segment('a')"), ("c", "did('C')")]);
    assert_eq!(names(&changed, &before), ["a", "b"]);
    let reads = changed.beyond(&before).unwrap().reads();
    assert!(reads.properties && !reads.traits && !reads.context, "{reads:?}");
    assert!(!before.reads().properties);
}

#[test]
fn each_definition_that_can_not_be_taken_is_named() {
    let mut document =
        segments(&[("a", "x = "), ("a b", "x = 'y'"), ("b", "segment('z')"), ("c", "y"), ("c", "y")]);
    let computed = |name: &str, aggregate: &str| ComputedTrait {
        name: name.to_owned(),
        aggregate: aggregate.to_owned(),
        events: vec!["A".to_owned()],
        ..ComputedTrait::default()
    };
    let of = |computed: ComputedTrait| ComputedTrait { of: Some("x".to_owned()), ..computed };
    document.computed_traits = vec![
        computed("t1", "cuont"),
        computed("t2", "sum"),
        of(computed("t3", "min")),
        of(computed("t4", "count")),
        ComputedTrait { window: Some("-3 days".to_owned()), ..computed("t5", "count") },
        ComputedTrait { filter: Some("x >".to_owned()), ..computed("t6", "count") },
        ComputedTrait { bound: Some(10_001), ..computed("t7", "count") },
        computed("revenue", "count"),
        ComputedTrait { events: Vec::new(), ..computed("t8", "count") },
        ComputedTrait { of_type: Some("text".to_owned()), ..of(computed("t9", "sum")) },
        ComputedTrait { of: Some("x + 1".to_owned()), ..computed("t10", "sum") },
        ComputedTrait { limit: Some(5), ..computed("t11", "count") },
        ComputedTrait { event_type: Some("pages".to_owned()), ..computed("t12", "count") },
    ];
    assert_eq!(
        faults(&document),
        [
            "computed trait t1: aggregate: cuont is none of count, sum, average, min, max, first, last, most_frequent, \
             distinct_count, distinct_list; did you mean count?",
            "computed trait t2: of: name the property, such as amount",
            "computed trait t3: type: min needs to know: number, text, boolean or time",
            "computed trait t4: of: count counts events; to count values, write distinct_count",
            "computed trait t5: window: a window has a positive length: write a duration such as '30 days'",
            "computed trait t6: filter, line 1, column 4: Expected: an expression, found: EOF",
            "computed trait t7: bound: 10001 is not from 1 to 10000",
            "computed trait revenue: name: revenue has a meaning of its own: choose another name",
            "computed trait t8: events: name the events, or say of which type they are with event_type",
            "computed trait t9: type: only numbers can be added up",
            "computed trait t10: of, line 1, column 1: this is no name of a property: write its name, such as amount or \
             product.category",
            "computed trait t11: limit: only distinct_list has a limit",
            "computed trait t12: event_type: a type is track, identify, page, screen, group, alias or any",
            "segment a: expression, line 1, column 4: Expected: an expression, found: EOF",
            "segment a b: name: a name is a letter, then letters, digits, _ and -, at most 100 in all",
            "segment b: expression, line 1, column 1: there is no segment z",
            "segment c: name: this name is there twice",
        ]
    );
}

#[test]
fn the_same_question_is_kept_once_and_found_again_under_its_name() {
    let plan = |pairs: &[(&str, &str)]| Plan::compile(&segments(pairs), &known()).unwrap();
    let one = plan(&[
        ("a", "events('A', '1 day', x > 1) > 2"),
        ("b", "did('A', '24 hours', x>1) AND plan = 'pro'"),
    ]);
    assert_eq!(one.terms().count(), 2);
    // What is stored is found by these names: a change here loses the states of all clusters.
    let names: Vec<(String, u64)> = one.terms().map(|(id, term)| (term.description(), id.0)).collect();
    assert_eq!(
        names,
        [
            (r#"times 86400000000 10000 (track "A" (> (number "x") 1.00))"#.to_owned(), TIMES_ID),
            (r#"trait "plan""#.to_owned(), TRAIT_ID)
        ]
    );
}

const TIMES_ID: u64 = 13_006_089_284_032_152_399;
const TRAIT_ID: u64 = 2_960_104_285_869_845_984;
