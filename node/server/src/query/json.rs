//! Rows as JSON: an object each, as `proto/isthmus/v1/query.proto` says.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, RecordBatch},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    error::ArrowError,
    json::{
        EncoderFactory, EncoderOptions, LineDelimitedWriter, WriterBuilder,
        writer::{Encoder, NullableEncoder},
    },
    util::display::{ArrayFormatter, FormatOptions},
};

/// Columns under names that differ: of those with one name all but the first get a number behind it.
pub fn distinct(schema: &Schema) -> SchemaRef {
    let mut taken: BTreeSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut seen = BTreeSet::new();
    let fields: Vec<FieldRef> = schema
        .fields()
        .iter()
        .map(|field| {
            if seen.insert(field.name().clone()) {
                return field.clone();
            }
            let names = (2_u64..).map(|number| format!("{}_{number}", field.name()));
            // There are more numbers than columns.
            let name = names.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
            taken.insert(name.clone());
            Arc::new(Field::clone(field).with_name(name))
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// The rows of a batch, whose columns get the names of `schema`.
///
/// # Errors
/// A column's type that JSON has nothing for.
pub fn rows(batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<String>, ArrowError> {
    if schema.fields().is_empty() {
        return Ok(vec!["{}".to_owned(); batch.num_rows()]);
    }
    let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Decimals));
    let mut writer: LineDelimitedWriter<Vec<u8>> = builder.build(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner())
        .map_err(|_| ArrowError::JsonError("a row is not UTF-8".to_owned()))?;
    // A line feed within a text is written as `\n`.
    Ok(text.lines().map(str::to_owned).collect())
}

/// Decimals are texts: as numbers most readers would round them.
#[derive(Debug)]
struct Decimals;

struct Quoted<'a>(ArrayFormatter<'a>);

impl Encoder for Quoted<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.0.value(index).to_string().as_bytes());
        out.push(b'"');
    }
}

impl EncoderFactory for Decimals {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        static PLAIN: FormatOptions<'static> = FormatOptions::new();
        let decimal = matches!(
            array.data_type(),
            DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
        );
        if !decimal {
            return Ok(None);
        }
        let formatter = ArrayFormatter::try_new(array, &PLAIN)?;
        Ok(Some(NullableEncoder::new(Box::new(Quoted(formatter)), array.nulls().cloned())))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{
            ArrayRef, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray,
            TimestampMicrosecondArray, UInt64Array,
        },
        datatypes::TimeUnit,
    };

    use super::*;

    #[test]
    fn a_row_is_an_object_in_which_nothing_is_rounded() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![i64::MIN]))),
            ("n", Arc::new(UInt64Array::from(vec![u64::MAX]))),
            ("n_2", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("d", Arc::new(Decimal128Array::from(vec![-4_402]).with_precision_and_scale(38, 2).unwrap())),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![852_076_800_000_500]).with_timezone("UTC"))),
            ("s", Arc::new(StringArray::from(vec!["a\n\"b\""]))),
            ("z", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("b", Arc::new(FixedSizeBinaryArray::try_from_iter([[0_u8, 255]].into_iter()).unwrap())),
        ];
        let fields = columns.iter().map(|(name, of)| Field::new(*name, of.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        assert_eq!(
            *schema.field(4).data_type(),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        );
        let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, of)| of).collect());
        let rows = rows(&batch.unwrap(), &distinct(&schema)).unwrap();
        assert_eq!(
            rows,
            [concat!(
                r#"{"n":-9223372036854775808,"n_3":18446744073709551615,"n_2":null,"d":"-44.02","#,
                r#""t":"1997-01-01T00:00:00.000500Z","s":"a\n\"b\"","z":null,"b":"00ff"}"#
            )]
        );
    }
}
