//! Values and times between protobuf and the domain.

use isthmus_domain::value::{Map, Value};
use isthmus_proto::v1::{ListValue, MapValue, Null, Value as Wire, value::Kind};
use prost_types::Timestamp;

/// A value as a client sent it. Whether it can be kept is for the domain to say; protobuf's own bound on nesting
/// bounds the recursion.
pub fn from_wire(wire: &Wire) -> Value {
    match &wire.kind {
        None | Some(Kind::NullValue(Null {})) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::IntValue(value)) => Value::Int(*value),
        Some(Kind::UintValue(value)) => Value::from_u64(*value),
        Some(Kind::DoubleValue(value)) => Value::Float(*value),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        Some(Kind::TimestampValue(value)) => Value::Timestamp(micros(value)),
        Some(Kind::ListValue(list)) => Value::List(list.values.iter().map(from_wire).collect()),
        Some(Kind::MapValue(map)) => Value::Map(map_from_wire(&map.fields)),
    }
}

/// An object as a client sent it.
pub fn map_from_wire(fields: &std::collections::BTreeMap<String, Wire>) -> Map {
    fields.iter().map(|(name, value)| (name.clone(), from_wire(value))).collect()
}

/// A value as a client gets it.
pub fn to_wire(value: Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(Null {}),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Int(value) => Kind::IntValue(value),
        Value::UInt(value) => Kind::UintValue(value),
        Value::Float(value) => Kind::DoubleValue(value),
        Value::String(value) => Kind::StringValue(value),
        Value::Timestamp(value) => Kind::TimestampValue(timestamp(value)),
        Value::List(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(to_wire).collect() })
        }
        Value::Map(map) => Kind::MapValue(MapValue {
            fields: map.into_iter().map(|(name, value)| (name, to_wire(value))).collect(),
        }),
    };
    Wire { kind: Some(kind) }
}

/// Microseconds since 1970, fractions of them cut. What lies beyond is the largest or smallest number, which the
/// domain refuses as out of range.
pub fn micros(time: &Timestamp) -> i64 {
    let whole = time.seconds.saturating_mul(1_000_000);
    whole.saturating_add(i64::from(time.nanos).div_euclid(1_000))
}

/// The time of so many microseconds since 1970.
pub fn timestamp(micros: i64) -> Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_the_same_there_and_back(at: i64) {
            let time = timestamp(at);
            prop_assert!((0..1_000_000_000).contains(&time.nanos));
            prop_assert_eq!(micros(&time), at);
        }

        #[test]
        fn integers_stay_exact_there_and_back(n: u64, m: i64) {
            for value in [Value::from_u64(n), Value::Int(m)] {
                prop_assert_eq!(from_wire(&to_wire(value.clone())), value);
            }
        }
    }

    #[test]
    fn a_time_beyond_all_bounds_is_none_that_can_be_kept() {
        let beyond = Value::Timestamp(micros(&Timestamp { seconds: i64::MAX, nanos: 0 }));
        assert!(beyond.check().is_err());
    }
}
