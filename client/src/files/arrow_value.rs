//! One value of an Arrow array as a value of ours.

use arrow::{
    array::{Array, AsArray as _},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
        Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType,
        Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use jiff::{Span, Timestamp, civil};

use super::{cell::to_proto, record::value as of};
use crate::proto::{self, value::Kind};

/// Why values of a type are refused, if they are: it, or something in it, is no text and no number.
pub(super) fn refused(kind: &DataType) -> Option<&'static str> {
    match kind {
        DataType::Binary | DataType::FixedSizeBinary(_) => Some("holds binary data"),
        DataType::List(inner) | DataType::Map(inner, _) => refused(inner.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|field| refused(field.data_type())),
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Time32(TimeUnit::Millisecond)
        | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => None,
        _ => Some("holds values of a type that isn't taken, such as intervals"),
    }
}

/// The value at an index. What [`refused`] refuses comes as text in hexadecimal digits, or as its type's name.
pub(super) fn value(array: &dyn Array, index: usize) -> proto::Value {
    if array.is_null(index) {
        return of(Kind::NullValue(proto::Null {}));
    }
    let int = |value: i64| Kind::IntValue(value);
    of(match array.data_type() {
        DataType::Null => Kind::NullValue(proto::Null {}),
        DataType::Boolean => Kind::BoolValue(array.as_boolean().value(index)),
        DataType::Int8 => int(array.as_primitive::<Int8Type>().value(index).into()),
        DataType::Int16 => int(array.as_primitive::<Int16Type>().value(index).into()),
        DataType::Int32 => int(array.as_primitive::<Int32Type>().value(index).into()),
        DataType::Int64 => int(array.as_primitive::<Int64Type>().value(index)),
        DataType::UInt8 => int(array.as_primitive::<UInt8Type>().value(index).into()),
        DataType::UInt16 => int(array.as_primitive::<UInt16Type>().value(index).into()),
        DataType::UInt32 => int(array.as_primitive::<UInt32Type>().value(index).into()),
        DataType::UInt64 => {
            let value = array.as_primitive::<UInt64Type>().value(index);
            i64::try_from(value).map_or(Kind::UintValue(value), Kind::IntValue)
        }
        DataType::Float16 => double(array.as_primitive::<Float16Type>().value(index).into()),
        // By way of its digits: 0.1 stays 0.1.
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(index);
            double(value.to_string().parse().unwrap_or(f64::from(value)))
        }
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(index)),
        DataType::Utf8 => Kind::StringValue(array.as_string::<i32>().value(index).to_owned()),
        DataType::Decimal128(..) => {
            Kind::StringValue(array.as_primitive::<Decimal128Type>().value_as_string(index))
        }
        DataType::Decimal256(..) => {
            Kind::StringValue(array.as_primitive::<Decimal256Type>().value_as_string(index))
        }
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(index)),
        DataType::Time32(_) => {
            let millis = i64::from(array.as_primitive::<Time32MillisecondType>().value(index));
            time_of_day(millis.saturating_mul(1_000_000))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            time_of_day(array.as_primitive::<Time64NanosecondType>().value(index))
        }
        DataType::Time64(_) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(index);
            time_of_day(micros.saturating_mul(1_000))
        }
        DataType::Timestamp(unit, _) => timestamp(array, index, unit),
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(index);
            let values = (0..list.len()).map(|index| value(&list, index)).collect();
            Kind::ListValue(proto::ListValue { values })
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let fields =
                fields.iter().zip(columns).map(|(field, of)| (field.name().clone(), value(of, index)));
            let fields = fields.filter(|(_, value)| !is_null(value)).collect();
            Kind::MapValue(proto::MapValue { fields })
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(index);
            let named = |at| (text(&value(entries.column(0), at)), value(entries.column(1), at));
            let fields = (0..entries.len()).map(named).collect();
            Kind::MapValue(proto::MapValue { fields })
        }
        DataType::Binary => Kind::StringValue(hex(array.as_binary::<i32>().value(index))),
        DataType::FixedSizeBinary(_) => Kind::StringValue(hex(array.as_fixed_size_binary().value(index))),
        other => Kind::StringValue(other.to_string()),
    })
}

/// Whether a value is null.
pub(super) fn is_null(value: &proto::Value) -> bool {
    matches!(value.kind, None | Some(Kind::NullValue(_)))
}

/// A double; nothing for NaN, and the name of an infinity, which no number column takes.
fn double(value: f64) -> Kind {
    match value {
        value if value.is_nan() => Kind::NullValue(proto::Null {}),
        value if value.is_infinite() => Kind::StringValue(value.to_string()),
        value => Kind::DoubleValue(value),
    }
}

/// Days since 1970 as a date.
fn date(days: i32) -> Kind {
    let date = Span::new().try_days(days).and_then(|days| civil::date(1970, 1, 1).checked_add(days));
    date.map_or_else(|_| Kind::IntValue(days.into()), |date| Kind::StringValue(date.to_string()))
}

/// Nanoseconds since midnight as a time of day.
fn time_of_day(nanos: i64) -> Kind {
    let time =
        Span::new().try_nanoseconds(nanos).and_then(|nanos| civil::Time::midnight().checked_add(nanos));
    time.map_or_else(|_| Kind::IntValue(nanos), |time| Kind::StringValue(time.to_string()))
}

fn timestamp(array: &dyn Array, index: usize, unit: &TimeUnit) -> Kind {
    let (count, time) = match unit {
        TimeUnit::Second => {
            let count = array.as_primitive::<TimestampSecondType>().value(index);
            (count, Timestamp::from_second(count))
        }
        TimeUnit::Millisecond => {
            let count = array.as_primitive::<TimestampMillisecondType>().value(index);
            (count, Timestamp::from_millisecond(count))
        }
        TimeUnit::Microsecond => {
            let count = array.as_primitive::<TimestampMicrosecondType>().value(index);
            (count, Timestamp::from_microsecond(count))
        }
        TimeUnit::Nanosecond => {
            let count = array.as_primitive::<TimestampNanosecondType>().value(index);
            (count, Timestamp::from_nanosecond(count.into()))
        }
    };
    // Beyond the years -9999 to 9999 there is only the count.
    time.map_or(Kind::IntValue(count), |time| Kind::TimestampValue(to_proto(time)))
}

/// A key of a map as text.
fn text(value: &proto::Value) -> String {
    match &value.kind {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => serde_json::to_string(&crate::json::Value(value)).unwrap_or_default(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
