//! Segments as SQL.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use isthmus_segment::{Document, Known, Plan, sql};
use sqlparser::{dialect::GenericDialect, parser::Parser};

fn queries(json: &str) -> Vec<String> {
    let document = Document::from_json(json.as_bytes()).unwrap();
    let known = Known { traits: None, currency: "EUR".to_owned() };
    let plan = Plan::compile(&document, &known).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let segments = plan.definitions().iter().filter(|definition| definition.is_segment);
    let queries = segments.map(|segment| sql::members(&plan, segment, 1_700_000_000_000_000).unwrap());
    queries
        .inspect(|query| {
            Parser::parse_sql(&GenericDialect {}, query).unwrap_or_else(|error| panic!("{error}: {query}"));
        })
        .collect()
}

#[test]
fn a_segment_is_one_query_over_profiles_and_events() {
    let json = r#"{"segments": [{"name": "a", "expression":
        "plan = 'it''s' AND events('A', '1 day', x > 1.5) >= 3 AND last_seen < now() - INTERVAL '1 day' AND sequence('A', NOT event('B', \"properties\" = 'x'), within => '1 hour')"}]}"#;
    assert_eq!(
        queries(json),
        ["SELECT p.profile_id
FROM profiles p
LEFT JOIN (
  SELECT profile_id,
    count(*) FILTER (WHERE type = 'track' AND name IN ('A') AND (isthmus_number(properties, 'x') > CAST('1.50' AS DECIMAL(76, 20))) AND CAST(timestamp AS BIGINT) > 1699913600000000) AS c0
  FROM events GROUP BY profile_id
) e ON e.profile_id = p.profile_id
LEFT JOIN (
  SELECT DISTINCT e0.profile_id, TRUE AS v FROM events e0 LEFT JOIN events e1 ON e1.profile_id = e0.profile_id AND CAST(e1.timestamp AS BIGINT) > CAST(e0.timestamp AS BIGINT) AND CAST(e1.timestamp AS BIGINT) <= CAST(e0.timestamp AS BIGINT) + 3600000000 AND e1.type = 'track' AND e1.name IN ('B') AND (isthmus_text(e1.properties, 'properties') = 'x') WHERE e0.type = 'track' AND e0.name IN ('A') AND CAST(e0.timestamp AS BIGINT) + 3600000000 <= 1700000000000000 AND e1.profile_id IS NULL
) j0 ON j0.profile_id = p.profile_id
WHERE p.last_seen IS NOT NULL AND ((isthmus_text(p.traits, 'plan') = 'it''s') AND (CAST(coalesce(e.c0, 0) AS DECIMAL(76, 20)) >= CAST('3.00' AS DECIMAL(76, 20))) AND (CAST(p.last_seen AS BIGINT) < (CAST(1700000000000000 AS BIGINT) - CAST(86400000000 AS BIGINT))) AND coalesce(j0.v, FALSE))"]
    );
}

#[test]
fn every_part_of_the_language_has_its_sql() {
    let expressions = [
        "sum(x, 'A') > 1 AND avg(x, 'A', '1 day') <= 2 AND count(DISTINCT s, ('A', 'B')) <> 3",
        "first(s, 'A') = 'x' OR last(s, 'A') LIKE '%x' OR min(x, 'A') < 1 OR max(x, 'A') > 1",
        "most_frequent(s, 'A', '1 day') = 'x' AND contains(distinct_list(s, 'A', limit => 3), 'y')",
        "contains(tags, 'x') AND consent('ads') AND revenue > 1 AND revenue('USD') = 0",
        "address.city IN ('a', 'b') AND x BETWEEN 1 AND 2 AND plan IS NOT NULL AND (vip IS TRUE) IS NOT FALSE",
        "coalesce(age, 0) * 2 + 1 / 3 - 1 > -x AND NOT (last_seen - first_seen > INTERVAL '1 day')",
        "sequence('A', 'B', event('C', x > 1), within => '1 day', window => '2 days') AND s ILIKE 'a_'",
        "segment('s0') AND NOT segment('s1') AND events(type => 'any') > 0",
    ];
    let segments: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(n, text)| format!(r#"{{"name": "s{n}", "expression": "{text}"}}"#))
        .collect();
    let queries = queries(&format!(r#"{{"segments": [{}]}}"#, segments.join(",")));
    assert_eq!(queries.len(), expressions.len());
}

#[test]
fn a_computed_trait_is_no_segment_and_what_would_grow_without_end_is_refused() {
    let mut segments = vec![r#"{"name": "s0", "expression": "a = 'x' OR b = 'y'"}"#.to_owned()];
    for level in 1..16 {
        let below = format!("segment('s{}')", level - 1);
        let all = [below.as_str(); 6].join(" AND ");
        segments.push(format!(r#"{{"name": "s{level}", "expression": "{all}"}}"#));
    }
    let json = format!(
        r#"{{"computed_traits": [{{"name": "t", "aggregate": "count", "events": ["A"]}}], "segments": [{}]}}"#,
        segments.join(",")
    );
    let plan = Plan::compile(&Document::from_json(json.as_bytes()).unwrap(), &Known::default()).unwrap();
    let fault = |at: usize| sql::members(&plan, &plan.definitions()[at], 0).unwrap_err().to_string();
    assert_eq!(fault(0), "segment t: this is a computed trait, not a segment");
    assert_eq!(fault(16), "segment s15: as SQL it is too long: let it build on fewer segments");
}
