//! `isthmus_any`, `isthmus_boolean`, …: values under keys of JSON texts.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanBuilder, Decimal256Builder, Int64Builder, ListBuilder, StringArray,
        StringBuilder,
    },
    compute::cast,
    datatypes::{DataType, Field},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use isthmus_segment::{
    Scalar, Type,
    sql::{read, read_texts},
};

use crate::values::{WIDE, to_wide};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Any,
    Boolean,
    Number,
    Text,
    Time,
    Texts,
}

/// One of the functions.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Read {
    kind: Kind,
    signature: Signature,
}

impl Read {
    pub(super) fn all() -> [Self; 6] {
        [Kind::Any, Kind::Boolean, Kind::Number, Kind::Text, Kind::Time, Kind::Texts]
            .map(|kind| Self { kind, signature: Signature::variadic_any(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Read {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Any => "isthmus_any",
            Kind::Boolean => "isthmus_boolean",
            Kind::Number => "isthmus_number",
            Kind::Text => "isthmus_text",
            Kind::Time => "isthmus_time",
            Kind::Texts => "isthmus_texts",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if types.is_empty() {
            return plan_err!("{} wants a JSON text, and the keys of a value in it", self.name());
        }
        if let Some(wrong) = types.iter().find(|ty| !(ty.is_string() || ty.is_null())) {
            return plan_err!("{} takes texts, not {wrong}", self.name());
        }
        Ok(match self.kind {
            Kind::Any | Kind::Boolean => DataType::Boolean,
            Kind::Number => DataType::Decimal256(WIDE.0, WIDE.1),
            Kind::Text => DataType::Utf8,
            Kind::Time => DataType::Int64,
            Kind::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut columns = args.args.into_iter();
        let Some(json) = columns.next() else { return exec_err!("{} wants a JSON text", self.name()) };
        let mut keys = Vec::new();
        for key in columns {
            match key {
                ColumnarValue::Scalar(value) => match value.try_as_str() {
                    Some(Some(key)) => keys.push(key.to_owned()),
                    _ => return exec_err!("{} takes constant keys", self.name()),
                },
                ColumnarValue::Array(_) => return exec_err!("{} takes constant keys", self.name()),
            }
        }
        let is_scalar = matches!(json, ColumnarValue::Scalar(_));
        let json = cast(&json.into_array(if is_scalar { 1 } else { args.number_rows })?, &DataType::Utf8)?;
        let made = self.of(json.as_string(), &keys)?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
        } else {
            ColumnarValue::Array(made)
        })
    }
}

impl Read {
    fn of(&self, texts: &StringArray, keys: &[String]) -> Result<ArrayRef> {
        let rows = texts.len();
        let value = |json: Option<&str>, ty| json.and_then(|json| read(json, keys, ty));
        let boolean = |ty| {
            let mut out = BooleanBuilder::with_capacity(rows);
            for json in texts {
                out.append_option(match value(json, ty) {
                    Some(Scalar::Boolean(b)) => Some(b),
                    _ => None,
                });
            }
            Arc::new(out.finish()) as ArrayRef
        };
        Ok(match self.kind {
            Kind::Any => boolean(Type::Any),
            Kind::Boolean => boolean(Type::Boolean),
            Kind::Number => {
                let ty = DataType::Decimal256(WIDE.0, WIDE.1);
                let mut out = Decimal256Builder::with_capacity(rows).with_data_type(ty);
                for json in texts {
                    out.append_option(match value(json, Type::Number) {
                        Some(Scalar::Number(n)) => to_wide(&n),
                        _ => None,
                    });
                }
                Arc::new(out.finish())
            }
            Kind::Text => {
                let mut out = StringBuilder::with_capacity(rows, rows * 16);
                for json in texts {
                    match value(json, Type::Text) {
                        Some(Scalar::Text(text)) => out.append_value(text),
                        _ => out.append_null(),
                    }
                }
                Arc::new(out.finish())
            }
            Kind::Time => {
                let mut out = Int64Builder::with_capacity(rows);
                for json in texts {
                    out.append_option(match value(json, Type::Time) {
                        Some(Scalar::Time(micros)) => Some(micros),
                        _ => None,
                    });
                }
                Arc::new(out.finish())
            }
            Kind::Texts => {
                let mut out = ListBuilder::new(StringBuilder::new());
                for json in texts {
                    match json.and_then(|json| read_texts(json, keys)) {
                        None => out.append_null(),
                        Some(items) => {
                            for item in items {
                                if let Scalar::Text(text) = item {
                                    out.values().append_value(text);
                                }
                            }
                            out.append(true);
                        }
                    }
                }
                Arc::new(out.finish())
            }
        })
    }
}
