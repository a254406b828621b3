//! What expressions may say, and what is said of those that can't be taken.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use isthmus_segment::{
    Type,
    parse::{DEPTH_MAX, Names, TEXT_BYTES_MAX, expression, filter},
};
use proptest::prelude::*;

fn names() -> Names {
    Names { segments: ["loyal".to_owned()].into(), currency: "EUR".to_owned(), ..Names::default() }
}

fn fault(text: &str) -> String {
    expression(text, &names()).expect_err(text).to_string()
}

#[test]
fn the_language_is_taken() {
    for text in [
        "plan = 'pro' AND events('Order Completed', '30 days') >= 3 AND NOT did('Support Ticket', '7 days') AND \
         last_seen < now() - INTERVAL '90 days'",
        "sequence('Product Added', 'Order Completed', within => '1 day')",
        "sequence('Product Added', NOT 'Order Completed', within => '1 hour', window => '30 days')",
        "sequence(event('A', price > 5), ('B', 'C'), 'D', within => INTERVAL '2 days')",
        "sum(total, 'Order Completed', '90 days', country = 'DE' AND total > 10.50) > 1000",
        "avg(total, 'Order Completed') / 2 < 10 OR count(DISTINCT category, 'Viewed', '400 days') = 0",
        "\"last_seen\" IS NULL AND address.city IN ('Berlin', 'Köln') AND \"my trait\" <> 'x'",
        "consent('advertising') AND segment('loyal') IS NOT TRUE",
        "CAST(age AS NUMERIC) BETWEEN 18 AND 65 AND age::INTEGER > 20",
        "last(sku, ('A', 'B'), window => '1 day', filter => price > 1) LIKE 'SKU-%'",
        "events(type => 'page', window => '1 day') > 2 AND did('Home', '1 day', type => 'page')",
        "contains(tags, 'vip') OR 'vip' = ANY(tags) OR contains(distinct_list(sku, 'A', limit => 5), 'x')",
        "coalesce(sum(total, 'Order Completed'), 0) < 100 AND revenue > 1 AND revenue('USD') > 1",
        "birthday > DATE '1990-01-01' AND last_seen - first_seen > INTERVAL '1' DAY AND vip",
        "last_seen >= '2024-05-31' AND now() > TIMESTAMP '2024-05-31T12:00:00Z'",
        "(((a = 'b')))",
    ] {
        if let Err(fault) = expression(text, &names()) {
            panic!("{text}: {fault}");
        }
    }
}

#[test]
fn faults_have_their_place_and_a_word_on_what_to_do() {
    let cases = [
        ("", "line 1, column 1: there is no expression: write one, such as plan = 'pro'"),
        ("plan = ", "line 1, column 7: Expected: an expression, found: EOF"),
        (
            "plan = 'pro' plan",
            "line 1, column 14: plan is not expected here: an expression ends in front of it",
        ),
        ("plan = 'pro", "line 1, column 8: Unterminated string literal"),
        ("plan", ""),
        ("events('A')", "line 1, column 1: this is a number, and a boolean is needed here"),
        (
            "did('A') AND\n  events('A') > 'x'",
            "line 2, column 17: this is a text, and a number is needed here: write the number without quotes",
        ),
        (
            "did('A') AND did('B', '-1 days')",
            "line 1, column 23: a window has a positive length: write a duration such as '30 days'",
        ),
        (
            "did('B', '401 days')",
            "line 1, column 10: a window has at most 400 days: write a shorter one, or none for all time",
        ),
        ("did('B', '1 month')", "line 1, column 10: a month has no fixed length: write days"),
        (
            "did('B', 'soon')",
            "line 1, column 10: 'soon' is no duration: write a whole number and a unit, such as '30 days'",
        ),
        ("event('A') > 1", "line 1, column 1: event(…) is a step of a sequence: write did(…) or events(…)"),
        ("evens('A') > 1", "line 1, column 1: there is no function evens; did you mean events?"),
        ("segment('loyla')", "line 1, column 1: there is no segment loyla; did you mean loyal?"),
        (
            "a = b",
            "line 1, column 1: nothing here says what type this is: write CAST(… AS TEXT), NUMERIC, BOOLEAN or TIMESTAMP",
        ),
        ("a = NULL", "line 1, column 5: comparing with NULL is never true: write IS NULL or IS NOT NULL"),
        (
            "a > 5 AND (SELECT 1) = 2",
            "line 1, column 12: this is SQL that segments don't have: write comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, LIKE, arithmetic, and functions such as events('Name', '30 days')",
        ),
        (
            "a || 'b' = 'c'",
            "line 1, column 1: segments have no operator ||: there are = <> < <= > >= + - * /",
        ),
        (
            "last_seen > 'soon'",
            "line 1, column 13: 'soon' is no time: write one such as '2024-05-31T18:00:00Z', or a date",
        ),
        (
            "sum(total, 'A', '1 day', now() > t) > 1",
            "line 1, column 26: a filter knows the event alone: now is not there; compare properties",
        ),
        (
            "sequence('A', within => '1 day')",
            "line 1, column 1: a sequence has 2 to 8 steps; with NOT, it has 2: sequence('A', 'B', within => '1 day'), or NOT 'B' for the last",
        ),
        (
            "sequence('A', 'B')",
            "line 1, column 1: the arguments don't fit: write sequence('A', 'B', within => '1 day'), or NOT 'B' for the last",
        ),
        (
            "sequence('A', NOT 'B', within => '2 days', window => '1 day')",
            "line 1, column 1: the window must be longer than within, or nothing is ever in it",
        ),
        (
            "did('A', windw => '1 day')",
            "line 1, column 1: there is no argument windw: write did('Name', 'window', filter)",
        ),
        ("a LIKE b", "line 1, column 8: LIKE needs a pattern in quotes, such as '%@example.com'"),
        ("contains(last_seen, 'x')", "line 1, column 10: this is a time, and a list is needed here"),
        ("count(*) > 1", "line 1, column 1: * is no argument: write a name in quotes, or type => 'page'"),
        (
            "a = 1e999",
            "line 1, column 5: 1e999 is a decimal number with more than 40 digits before or after the point",
        ),
    ];
    for (text, expected) in cases {
        if expected.is_empty() {
            expression(text, &names()).expect(text);
        } else {
            assert_eq!(fault(text), expected, "{text}");
        }
    }
}

#[test]
fn registered_traits_have_their_types_and_no_others_are_known() {
    let traits = BTreeMap::from([("plan".to_owned(), Type::Text), ("age".to_owned(), Type::Number)]);
    let names = Names { traits: Some(traits), ..names() };
    expression("age > 18 AND plan = 'pro'", &names).unwrap();
    let fault = |text: &str| expression(text, &names).unwrap_err().to_string();
    assert_eq!(fault("pln = 'pro'"), "line 1, column 1: there is no trait pln; did you mean plan?");
    assert_eq!(
        fault("age > '18'"),
        "line 1, column 7: this is a text, and a number is needed here: write the number without quotes"
    );
}

#[test]
fn what_would_take_the_stack_is_refused() {
    let deep = [
        format!("{}a = 'b'{}", "(".repeat(900), ")".repeat(900)),
        format!("{}1 > 0", "1 + ".repeat(900)),
        format!("a = {}1", "- ".repeat(900)),
        format!("{}1{} > 1", "coalesce(0, ".repeat(300), ")".repeat(300)),
    ];
    for text in &deep {
        let fault = expression(text, &names()).expect_err(&text[..20]);
        assert!(fault.place.is_some() && fault.what.contains("nested too deeply"), "{fault}");
    }
    // The parser takes the word that is too deep for a name.
    assert!(expression(&("NOT ".repeat(1_500) + "a"), &names()).is_err());
    let long = format!("a = '{}'", "x".repeat(TEXT_BYTES_MAX));
    assert!(fault(&long).contains("are the most"));
    assert!(fault(&"a = 'b' OR ".repeat(700)).contains("words and signs"));
    // As deep as may be, and as long a chain.
    let allowed = format!("{}a = 'b'{}", "(".repeat(DEPTH_MAX - 2), ")".repeat(DEPTH_MAX - 2));
    expression(&allowed, &names()).unwrap();
    expression(&("a = 'b' OR ".repeat(300) + "c = 'd'"), &names()).unwrap();
}

/// Words and signs that expressions are made of, and a few that they aren't.
const SOUP: [&str; 72] = [
    "a",
    "plan",
    "\"a b\"",
    "'x'",
    "'1 day'",
    "'2024-01-01'",
    "1",
    "2.5",
    "1e3",
    "(",
    ")",
    ",",
    ".",
    "=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "::",
    "=>",
    "[",
    "]",
    "{",
    "}",
    ":",
    ";",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "TRUE",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "ESCAPE",
    "CAST",
    "AS",
    "TEXT",
    "NUMERIC",
    "TIMESTAMP",
    "INTERVAL",
    "DAY",
    "ANY",
    "ARRAY",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "SELECT",
    "FROM",
    "EXISTS",
    "DISTINCT",
    "now()",
    "events",
    "did",
    "sum",
    "sequence",
    "event",
    "segment",
    "coalesce",
    "contains",
    "last_seen",
    "within",
    "\n",
    "ü",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn token_soup_is_taken_or_refused_with_a_place(
        words in prop::collection::vec(prop::sample::select(&SOUP[..]), 0..40),
        glue in prop::bool::ANY,
    ) {
        let text = words.join(if glue { " " } else { "" });
        for result in [expression(&text, &names()), filter(&text)] {
            if let Err(fault) = result {
                let place = fault.place.expect("a place");
                let lines: Vec<&str> = text.split('\n').collect();
                let line = lines.get(place.line as usize - 1).expect("a line of the text");
                prop_assert!(place.column as usize <= line.chars().count() + 1, "{}: {}", text, fault);
                prop_assert!(!fault.what.is_empty());
            }
        }
    }

    #[test]
    fn any_text_is_taken_or_refused(text in "\\PC{0,60}") {
        if let Err(fault) = expression(&text, &names()) {
            prop_assert!(fault.place.is_some());
        }
    }
}
