//! From records to profiles: what a person is shown.

use isthmus_domain::{EventType, FacetId, FacetSummary, Identifier, Profile, Stamp};

use crate::{KEY, record, text};

#[test]
fn a_profile_is_one_json_object() {
    let records = [
        record(
            r#"{"type":"identify","messageId":"1","userId":"u","timestamp":"2024-05-01","traits":{"plan":"x","old":1}}"#,
        ),
        record(
            r#"{"type":"identify","messageId":"2","userId":"u","timestamp":"2024-05-02","traits":{"old":null}}"#,
        ),
        record(
            r#"{"type":"track","event":"E","messageId":"3","userId":"u","timestamp":"2024-05-03","properties":{"revenue":"1.5"}}"#,
        ),
        record(
            r#"{"type":"track","event":"E","messageId":"4","userId":"u","timestamp":"2024-05-04","properties":{"revenue":2,"currency":"EUR"}}"#,
        ),
    ];
    let mut facet = FacetSummary::default();
    records.iter().for_each(|r| facet.absorb(r));
    let id = Identifier::parse("user_id:u").unwrap();
    let profile = Profile::fold(&KEY, [(id.clone(), &facet)], "USD", Stamp(255)).unwrap();
    assert_eq!(
        text(&profile.to_json()),
        format!(
            r#"{{"profile_id":"{}","identifiers":[{{"namespace":"user_id","value":"u"}}],"traits":{{"plan":"x"}},"event_counts":{{"E":2}},"revenue":"1.50","revenue_by_currency":{{"EUR":"2.00","USD":"1.50"}},"first_seen":"2024-05-01T00:00:00Z","last_seen":"2024-05-04T00:00:00Z","sources":["web"],"version":"00000000000000ff"}}"#,
            FacetId::of(&KEY, &id)
        )
    );
    assert_eq!(profile.type_counts.get(&EventType::Identify), Some(&2));
    assert_eq!(facet.traits().len(), 2, "the removal is kept in the facet");
    assert!(facet.weight_bytes() > facet.to_bytes().len());
}

#[test]
fn the_founding_identifier_is_the_oldest_then_the_first_by_priority() {
    let of = |item: &str| FacetSummary::of(&record(item));
    let old = of(r#"{"type":"page","messageId":"1","anonymousId":"a","timestamp":"2024-05-01"}"#);
    let young = of(r#"{"type":"page","messageId":"1","userId":"u","timestamp":"2024-05-02"}"#);
    let tied = of(r#"{"type":"page","messageId":"2","userId":"u","timestamp":"2024-05-01"}"#);
    let silent = FacetSummary::default();
    let [a, u, e] = ["anonymous_id:a", "user_id:u", "email:e@e"].map(|t| Identifier::parse(t).unwrap());
    let name = |members: Vec<(Identifier, &FacetSummary)>| {
        Profile::fold(&KEY, members, "USD", Stamp(1)).map(|p| p.profile_id)
    };
    assert_eq!(
        name(vec![(u.clone(), &young), (a.clone(), &old), (e.clone(), &silent)]),
        Some(FacetId::of(&KEY, &a))
    );
    assert_eq!(name(vec![(u.clone(), &tied), (a, &old)]), Some(FacetId::of(&KEY, &u)));
    assert_eq!(name(vec![(e.clone(), &silent)]), Some(FacetId::of(&KEY, &e)));
    assert_eq!(name(vec![]), None);
}
