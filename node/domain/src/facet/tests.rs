//! The encoding against the one that it replaced: a message with B-tree maps, derived by `prost`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(uint64, tag = "3")]
    events: u64,
    #[prost(int64, tag = "4")]
    first_seen: i64,
    #[prost(int64, tag = "5")]
    last_seen: i64,
    #[prost(btree_map = "string, uint64", tag = "6")]
    sources: BTreeMap<String, u64>,
    #[prost(btree_map = "string, uint64", tag = "7")]
    event_counts: BTreeMap<String, u64>,
    #[prost(btree_map = "int32, uint64", tag = "8")]
    type_counts: BTreeMap<i32, u64>,
    #[prost(btree_map = "string, message", tag = "9")]
    revenue: BTreeMap<String, Amount>,
    #[prost(btree_map = "string, message", tag = "10")]
    traits: BTreeMap<String, ModelTrait>,
}

proptest! {
    #[test]
    fn maps_by_themselves_come_to_what_the_summaries_do(one in model(), other in model()) {
        let read = |model: &Model| FacetSummary::from_bytes(&model.encode_to_vec()).unwrap();
        let (one, other) = (read(&one), read(&other));
        let mut whole = one.clone();
        whole.merge(&other);
        for map in
            [SummaryMap::Sources, SummaryMap::EventCounts, SummaryMap::TypeCounts, SummaryMap::Revenue, SummaryMap::Traits]
        {
            let mut part = one.clone().only(map);
            part.merge(&other.clone().only(map));
            prop_assert_eq!(part, whole.clone().only(map), "{:?}", map);
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ModelTrait {
    #[prost(int64, tag = "1")]
    timestamp: i64,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    message_id: String,
    #[prost(bytes = "vec", tag = "4")]
    value: Vec<u8>,
}

fn map<K: Ord + fmt::Debug, V: fmt::Debug>(
    keys: impl Strategy<Value = K>,
    values: impl Strategy<Value = V>,
) -> impl Strategy<Value = BTreeMap<K, V>> {
    prop::collection::btree_map(keys, values, 0..6)
}

/// Summaries with whatever fields can hold, empty and zero keys and values included.
fn model() -> impl Strategy<Value = Model> {
    let count = || prop_oneof![Just(0), 1..500_u64, any::<u64>()];
    let name = || "[a-zé]{0,3}";
    let amount = prop_oneof![Just("0".to_owned()), "-?[0-9]{1,30}\\.[0-9]{1,3}"];
    let state =
        (prop_oneof![Just(0), any::<i64>()], name(), name(), prop::collection::vec(any::<u8>(), 0..3))
            .prop_map(|(timestamp, source, message_id, value)| ModelTrait {
                timestamp,
                source,
                message_id,
                value,
            });
    let maps = (
        map(name(), count()),
        map(name(), count()),
        map(-3..8_i32, count()),
        map(name(), amount.prop_map(|text| text.parse().unwrap())),
        map(name(), state),
    );
    (name(), name(), count(), any::<i64>(), any::<i64>(), maps).prop_map(
        |(namespace, value, events, first_seen, last_seen, maps)| {
            let (sources, event_counts, type_counts, revenue, traits) = maps;
            Model {
                namespace,
                value,
                events,
                first_seen,
                last_seen,
                sources,
                event_counts,
                type_counts,
                revenue,
                traits,
            }
        },
    )
}

fn assert_same(summary: &Summary<'_>, model: &Model) {
    let counters = |map: &Texts<'_, u64>| -> BTreeMap<String, u64> {
        map.iter().map(|(key, n)| (key.to_string(), *n)).collect()
    };
    let traits = summary.traits.iter().map(|(name, state)| {
        let state = ModelTrait {
            timestamp: state.timestamp,
            source: state.source.to_string(),
            message_id: state.message_id.to_string(),
            value: state.value.to_vec(),
        };
        (name.to_string(), state)
    });
    let seen = Model {
        namespace: summary.namespace.to_string(),
        value: summary.value.to_string(),
        events: summary.events,
        first_seen: summary.first_seen,
        last_seen: summary.last_seen,
        sources: counters(&summary.sources),
        event_counts: counters(&summary.event_counts),
        type_counts: summary.type_counts.iter().map(|(kind, n)| (*kind, *n)).collect(),
        revenue: summary.revenue.iter().map(|(code, sum)| (code.to_string(), sum.clone())).collect(),
        traits: traits.collect(),
    };
    assert_eq!(seen, *model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_bytes_are_those_of_prost_maps(model in model()) {
        let bytes = model.encode_to_vec();
        let summary = Summary::read(&bytes).unwrap();
        assert_same(&summary, &model);
        prop_assert_eq!(summary.encoded_len(), bytes.len());
        prop_assert_eq!(&summary.to_bytes(), &bytes);
        let owned = FacetSummary::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&owned, &summary);
        prop_assert!(owned.weight_bytes() >= bytes.len());
    }

    #[test]
    fn maps_out_of_order_are_read_as_prost_reads_them(model in model(), other in model()) {
        // One message behind the other is a merge of both: maps are out of order and keys come twice.
        let bytes = [model.encode_to_vec(), other.encode_to_vec()].concat();
        let model = Model::decode(bytes.as_slice()).unwrap();
        let summary = Summary::read(&bytes).unwrap();
        assert_same(&summary, &model);
        prop_assert_eq!(summary.to_bytes(), model.encode_to_vec());
    }

    #[test]
    fn damaged_bytes_do_not_panic_and_are_refused_as_prost_refuses_them(
        model in model(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = model.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        match (Summary::read(&bytes), Model::decode(bytes.as_slice())) {
            (Ok(summary), Ok(model)) => assert_same(&summary, &model),
            (Ok(_), Err(error)) => prop_assert!(false, "prost refuses it: {error}"),
            // A group may be skipped there.
            (Err(_), _) => {}
        }
    }

    #[test]
    fn sharing_and_copying_merge_to_the_same(a in model(), b in model(), c in model()) {
        let bytes = [a, b, c].map(|mut model| {
            model.events = model.events.max(1);
            // An event has an identifier; which of two wins is settled for those that do.
            model.namespace.push('n');
            model.encode_to_vec()
        });
        let parts = bytes.each_ref().map(|bytes| Summary::read(bytes).unwrap());
        let mut copied = FacetSummary::default();
        parts.iter().for_each(|part| copied.merge(part));
        let mut shared = Summary::default();
        shared.merge_shared(&parts[2]);
        shared.clear();
        [2, 0, 1].iter().for_each(|i| shared.merge_shared(&parts[*i]));
        prop_assert_eq!(&shared, &copied);
        prop_assert_eq!(shared.to_bytes(), copied.to_bytes());
        let keys: Vec<_> = shared.sources.keys().collect();
        prop_assert!(keys.is_sorted_by(|a, b| a < b));
    }
}
