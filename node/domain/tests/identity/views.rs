//! From events to what is shown: any order of the same events gives the same profiles, to the byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use isthmus_domain::identity::{IdentityRules, Ledger};
use isthmus_domain::value::json;
use isthmus_domain::{
    AcceptContext, BlockedValues, EventRecord, FacetId, FacetSummary, Limits, Namespace, Profile, RawItem,
    SourceView, Stamp, accept,
};
use proptest::prelude::*;

use super::KEY;

/// Which user, cookie and mail an event carries (0: none), when, and what.
type Sent = ((u8, u8, u8), u8, u8);

fn sent() -> impl Strategy<Value = Sent> {
    ((0..4_u8, 0..4_u8, 0..3_u8), 0..8_u8, 0..4_u8)
}

fn record(&((user, cookie, mail), when, what): &Sent, message: usize) -> Option<EventRecord> {
    let mut fields = vec![
        format!(r#""messageId":"m{message}""#),
        format!(r#""timestamp":{}"#, u32::from(when) * 1_000),
        match what {
            0 => r#""type":"track","event":"Order Completed","properties":{"revenue":"1.10"}"#.to_owned(),
            1 => r#""type":"alias","previousId":"u2""#.to_owned(),
            _ => format!(r#""type":"identify","traits":{{"plan":{what}}}"#),
        },
    ];
    if user > 0 {
        fields.push(format!(r#""userId":"u{user}""#));
    }
    if cookie > 0 {
        fields.push(format!(r#""anonymousId":"a{cookie}""#));
    }
    if mail > 0 {
        fields.push(format!(r#""context":{{"externalIds":[{{"type":"email","id":"e{mail}@x.de"}}]}}"#));
    }
    let item = json::parse(format!("{{{}}}", fields.join(",")).as_bytes()).unwrap();
    let source = SourceView::new("web");
    let ctx = AcceptContext {
        source: &source,
        key: &KEY,
        now_micros: 10_000_000,
        sent_at: None,
        limits: Limits::default(),
        blocked: &BlockedValues::default(),
        make_message_id: &|| unreachable!("every event has one"),
    };
    // An event that names nobody is refused.
    accept(RawItem::Typed(item.as_map().unwrap().clone()), &ctx).ok().map(|accepted| accepted.record)
}

/// What a hub with these events shows.
fn shown(records: &[EventRecord]) -> Vec<String> {
    let rules = IdentityRules::default().with_limit(Namespace::EMAIL, 1).with_shared_above(2);
    let mut ledger = Ledger::new(KEY, Arc::new(rules));
    let mut facets: BTreeMap<FacetId, FacetSummary> = BTreeMap::new();
    let mut stored = std::collections::BTreeSet::new();
    for record in records.iter().filter(|record| stored.insert(record.dedup_key())) {
        ledger.seen(&record.identifier().unwrap(), record.timestamp);
        for fact in record.link_facts() {
            ledger.accept(fact.unwrap()).unwrap();
        }
        ledger.fold_mut().settle();
        facets.entry(record.facet_id()).or_default().absorb(record);
    }
    let nothing = FacetSummary::default();
    let profiles = ledger.profiles().into_iter().map(|named| {
        let members = named.component.members().iter();
        let members = members.map(|m| (m.identifier.clone(), facets.get(&m.facet).unwrap_or(&nothing)));
        let profile = Profile::fold(&KEY, members, "USD", Stamp(1)).unwrap();
        assert_eq!(profile.profile_id, named.profile_id, "root and home give the same name");
        String::from_utf8(profile.to_json()).unwrap()
    });
    profiles.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_events_gives_the_same_views(
        sent in prop::collection::vec(sent(), 1..14),
        places in prop::collection::vec(any::<prop::sample::Index>(), 18),
    ) {
        let records: Vec<EventRecord> = sent.iter().enumerate().filter_map(|(i, s)| record(s, i)).collect();
        let mut other: Vec<EventRecord> = Vec::new();
        for (record, place) in records.iter().chain(records.iter().take(4)).zip(&places) {
            other.insert(place.index(other.len() + 1), record.clone());
        }
        prop_assert_eq!(shown(&other), shown(&records));
    }
}
