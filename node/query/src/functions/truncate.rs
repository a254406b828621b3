//! `date_trunc(unit, time)` of times in UTC, in which all tables tell theirs.
//!
//! DataFusion's own looks the time zone's rules up for each row, and takes a date apart and puts it together. In UTC a day is
//! a day, and the rest of the calendar follows from the number of days: Howard Hinnant's *chrono-compatible low-level date
//! algorithms* (howardhinnant.github.io/date_algorithms.html). All that isn't a column of microseconds in UTC is left to
//! DataFusion.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, AsArray, PrimitiveArray},
    datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::Result,
    functions::datetime,
    logical_expr::{
        ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
        Signature,
        sort_properties::{ExprProperties, SortProperties},
    },
};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// Times nearer than this to the year 1970, some 190,000 years, have beginnings and ends within what can be told.
const FAR: i64 = 6_000_000_000_000_000_000;
/// A Monday: 1970-01-05.
const MONDAY: i64 = 4;

/// What a time is cut off to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Hour,
    Day,
    Week,
    /// So many at a time, counted from January.
    Months(i64),
}

impl Unit {
    fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            _ => return None,
        })
    }

    /// The hour, day, … that a time is in, microseconds from 1970 on.
    fn around(self, time: i64) -> Range<i64> {
        let even = |length: i64, from: i64| {
            let start = (time - from).div_euclid(length) * length + from;
            start..start + length
        };
        match self {
            Self::Hour => even(HOUR, 0),
            Self::Day => even(DAY, 0),
            Self::Week => even(7 * DAY, MONDAY * DAY),
            Self::Months(many) => {
                let (year, month) = month_of(time.div_euclid(DAY));
                let first = year * 12 + (month - 1) / many * many;
                let day = |months: i64| first_of(months.div_euclid(12), months.rem_euclid(12) + 1) * DAY;
                day(first)..day(first + many)
            }
        }
    }
}

/// Year and month of a day from 1970-01-01 on.
fn month_of(day: i64) -> (i64, i64) {
    // Years that begin in March, in eras of 400 years.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i64::from(month <= 2), month)
}

/// The first day of a month.
fn first_of(year: i64, month: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The function.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Truncate {
    /// DataFusion's.
    plain: Arc<ScalarUDF>,
}

impl Truncate {
    pub(super) fn new() -> Self {
        Self { plain: datetime::date_trunc() }
    }
}

impl ScalarUDFImpl for Truncate {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn aliases(&self) -> &[String] {
        self.plain.aliases()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.plain.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match in_utc(&args.args) {
            Some(made) => Ok(made),
            None => self.plain.invoke_with_args(args),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.plain.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.plain.documentation()
    }
}

fn in_utc(args: &[ColumnarValue]) -> Option<ColumnarValue> {
    let [ColumnarValue::Scalar(unit), ColumnarValue::Array(times)] = args else { return None };
    let unit = Unit::of(unit.try_as_str().flatten()?)?;
    let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = times.data_type() else { return None };
    if !matches!(&**zone, "UTC" | "+00:00") {
        return None;
    }
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // Where there is no value, what stands there is of no account.
    let is_far = |row: usize, time: i64| !(-FAR..FAR).contains(&time) && times.is_valid(row);
    if times.values().iter().enumerate().any(|(row, time)| is_far(row, *time)) {
        return None;
    }
    // Rows that follow each other are often of one month.
    let mut last = 0..0;
    let made = times.values().iter().map(|time| {
        if !last.contains(time) {
            last = unit.around((*time).clamp(-FAR, FAR));
        }
        last.start
    });
    let made = PrimitiveArray::<TimestampMicrosecondType>::new(made.collect(), times.nulls().cloned());
    Some(ColumnarValue::Array(Arc::new(made.with_timezone(Arc::clone(zone)))))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;
    use datafusion::common::{ScalarValue, config::ConfigOptions};
    use proptest::prelude::*;

    use super::*;

    fn asked(function: &dyn ScalarUDFImpl, unit: &str, times: &[Option<i64>]) -> Vec<Option<i64>> {
        let zone = Some("UTC".into());
        let times = PrimitiveArray::<TimestampMicrosecondType>::from(times.to_vec()).with_timezone("UTC");
        let ty = DataType::Timestamp(TimeUnit::Microsecond, zone);
        let field = |ty: &DataType| Arc::new(Field::new("it", ty.clone(), true));
        let args = ScalarFunctionArgs {
            number_rows: times.len(),
            args: vec![ColumnarValue::Scalar(ScalarValue::from(unit)), ColumnarValue::Array(Arc::new(times))],
            arg_fields: vec![field(&DataType::Utf8), field(&ty)],
            return_field: field(&ty),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let made = function.invoke_with_args(args).unwrap().into_array(1).unwrap();
        assert_eq!(*made.data_type(), ty);
        made.as_primitive::<TimestampMicrosecondType>().iter().collect()
    }

    proptest! {
        #[test]
        fn times_are_cut_off_as_datafusion_does(
            times in prop::collection::vec(prop::option::of(-9_000_000_000_000_000..9_000_000_000_000_000_i64), 1..40),
            unit in prop::sample::select(vec!["hour", "Day", "week", "month", "quarter", "YEAR", "minute", "millisecond"]),
        ) {
            let function = Truncate::new();
            let own = asked(&function, unit, &times);
            prop_assert_eq!(own, asked(function.plain.inner().as_ref(), unit, &times));
        }

        #[test]
        fn each_day_is_in_its_month(day in -80_000_000..80_000_000_i64) {
            let (year, month) = month_of(day);
            prop_assert!((1..=12).contains(&month));
            let next = first_of(year + month / 12, month % 12 + 1);
            prop_assert!(first_of(year, month) <= day && day < next && next - first_of(year, month) <= 31);
        }
    }
}
