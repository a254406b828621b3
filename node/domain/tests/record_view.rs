//! A record read in place says what the decoded record says, and takes no bytes that decoding refuses.

use bytes::Bytes;
use isthmus_domain::{
    EventRecord, FacetSummary, RecordView, Summary,
    record::{GroupRef, Link, TraitChange},
};
use proptest::prelude::*;
use prost::Message as _;

fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), length).prop_map(Bytes::from)
}

fn sixteen() -> impl Strategy<Value = Bytes> {
    // Now and then a hash of another length, which must be refused.
    prop_oneof![40 => bytes(16..17), 1 => bytes(0..18)]
}

fn record() -> impl Strategy<Value = EventRecord> {
    let text = || "[a-zé]{0,6}";
    let some = || prop_oneof![40 => "[a-zé]{1,6}", 1 => Just(String::new())];
    let amount = prop::option::of("-?[0-9]{1,25}\\.[0-9]{2,4}");
    let change = (text(), bytes(0..4)).prop_map(|(name, value)| TraitChange { name, value });
    let link = (text(), text(), -1..4_i32, sixteen()).prop_map(|(namespace, value, kind, facet)| Link {
        namespace,
        value,
        kind,
        facet,
    });
    let time = || prop_oneof![20 => 0..i64::MAX, 1 => any::<i64>()];
    let identity = (sixteen(), some(), some(), some(), text());
    let event = (prop_oneof![20 => 1..7_i32, 1 => -1..9_i32], text(), time(), sixteen(), sixteen());
    let money = (amount, text());
    let json = || prop_oneof![40 => "[{}a-zé]{0,6}".prop_map(Bytes::from), 1 => bytes(0..9)];
    let parts = (
        prop::collection::vec(change, 0..4),
        json(),
        json(),
        prop::collection::vec(link, 0..4),
        prop::collection::vec(text(), 0..4),
        prop::option::of(any::<i64>()),
        prop::option::of((text(), sixteen()).prop_map(|(value, facet)| GroupRef { value, facet })),
    );
    (identity, event, money, parts).prop_map(|(identity, event, money, parts)| EventRecord {
        facet: identity.0,
        namespace: identity.1,
        value: identity.2,
        message_id: identity.3,
        source: identity.4,
        kind: event.0,
        name: event.1,
        timestamp: event.2,
        body_hash: event.3,
        dedup_key: event.4,
        revenue: money.0.map(|text| text.parse().expect("a decimal")),
        currency: money.1,
        traits: parts.0,
        properties: parts.1,
        context: parts.2,
        links: parts.3,
        notes: parts.4,
        sent_at: parts.5,
        group: parts.6,
    })
}

fn assert_same(view: &RecordView<'_>, record: &EventRecord) {
    let texts = |r: &EventRecord| {
        [&r.namespace, &r.value, &r.message_id, &r.source, &r.name, &r.currency].map(|text| text.to_owned())
    };
    assert_eq!(
        [view.namespace, view.value, view.message_id, view.source, view.name, view.currency],
        texts(record).each_ref().map(|text| text.as_str())
    );
    assert_eq!((view.facet, view.kind), (record.facet_id(), record.kind()));
    assert_eq!((view.timestamp, view.sent_at), (record.timestamp, record.sent_at));
    assert_eq!((view.body_hash, view.dedup_key), (record.body_hash(), record.dedup_key()));
    assert_eq!(view.revenue, record.revenue);
    assert_eq!((view.properties, view.context), (&record.properties[..], &record.context[..]));
    assert!(view.traits().eq(record.traits.iter().map(|change| (change.name.as_str(), &change.value[..]))));
    assert!(view.notes().eq(record.notes.iter().map(String::as_str)));
    let group = record.group.as_ref().map(|group| (group.value.as_str(), &group.facet[..]));
    assert_eq!(view.group.as_ref().map(|group| (group.value, &group.facet.as_bytes()[..])), group);
    assert_eq!(view.links_len(), record.links.len());
    let links = record.links.iter().map(|l| (l.namespace.as_str(), l.value.as_str(), l.kind(), l.facet_id()));
    assert!(view.links().map(|link| (link.namespace, link.value, link.kind, link.facet)).eq(links));
    let facts = |found: Vec<Result<_, _>>| found;
    assert_eq!(facts(view.link_facts().collect()), facts(record.link_facts().collect()));
    let mut links = Vec::new();
    view.encode_links(&mut links);
    let alone = EventRecord { links: record.links.clone(), ..EventRecord::default() };
    assert_eq!(links, alone.encode_to_vec());
    let mut borrowed = Summary::default();
    borrowed.absorb_view(view);
    assert_eq!(borrowed.to_bytes(), FacetSummary::of(record).to_bytes());
    let mut copied = FacetSummary::default();
    copied.absorb_copy(view);
    assert_eq!(copied, borrowed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_view_says_what_the_record_says(record in record()) {
        let bytes = record.to_bytes();
        let view = RecordView::read(&bytes);
        prop_assert_eq!(view.is_ok(), record.check().is_ok());
        if let Ok(view) = view {
            prop_assert_eq!(view.as_bytes(), &bytes[..]);
            assert_same(&view, &record);
        }
    }

    #[test]
    fn of_damaged_bytes_only_those_are_taken_that_decode(
        record in record(),
        other in record(),
        change in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        // Two records behind each other are one to protobuf: fields come twice.
        let mut bytes = record.to_bytes().to_vec();
        if twice {
            bytes.extend_from_slice(&other.to_bytes());
        }
        prop_assume!(!bytes.is_empty());
        for (at, byte) in &change {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if !change.is_empty() {
            bytes.truncate(bytes.len() - cut.index(bytes.len()).min(3));
        }
        if let Ok(view) = RecordView::read(&bytes) {
            assert_same(&view, &EventRecord::from_bytes(bytes.clone().into()).unwrap());
        } else if change.is_empty() {
            prop_assert!(EventRecord::from_bytes(bytes.into()).is_err());
        }
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if RecordView::read(&bytes).is_ok() {
            prop_assert!(EventRecord::from_bytes(bytes.into()).is_ok());
        }
    }
}

/// Found by fuzzing: such a record was applied, and could then never be written out.
#[test]
fn what_is_stored_in_columns_of_texts_is_text() {
    let sixteen = || Bytes::from_static(&[1; 16]);
    let record = EventRecord {
        facet: sixteen(),
        namespace: "user_id".to_owned(),
        value: "42".to_owned(),
        message_id: "m".to_owned(),
        kind: 2,
        body_hash: sixteen(),
        dedup_key: sixteen(),
        ..EventRecord::default()
    };
    let damaged = Bytes::from_static(b"{\"previ\x91\":1}");
    let of_properties = EventRecord { properties: damaged.clone(), ..record.clone() };
    let of_context = EventRecord { context: damaged, ..record.clone() };
    assert!(record.check().is_ok() && RecordView::read(&record.to_bytes()).is_ok());
    for record in [of_properties, of_context] {
        let bytes = record.to_bytes();
        let told = RecordView::read(&bytes).err().expect("taken").to_string();
        assert!(told.contains("are no text"), "{told}");
        assert_eq!(EventRecord::from_bytes(bytes).expect_err("taken").to_string(), told);
    }
}
