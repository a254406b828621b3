//! `isthmus_multiply`, `isthmus_divide`: products and quotients as segments round them.

use std::sync::Arc;

use arrow::{
    array::{AsArray, Decimal256Builder},
    datatypes::{DataType, Decimal256Type},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use isthmus_segment::sql::{divide, multiply};

use crate::values::{WIDE, of_wide, to_wide};

const TYPE: DataType = DataType::Decimal256(WIDE.0, WIDE.1);

/// One of the two.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Arithmetic {
    divides: bool,
    signature: Signature,
}

impl Arithmetic {
    pub(super) fn all() -> [Self; 2] {
        [false, true].map(|divides| Self {
            divides,
            signature: Signature::exact(vec![TYPE, TYPE], Volatility::Immutable),
        })
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &'static str {
        if self.divides { "isthmus_divide" } else { "isthmus_multiply" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(TYPE)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let [left, right] = args.args.as_slice() else {
            return exec_err!("{} takes two numbers", self.name());
        };
        let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
        let (Some(left), Some(right)) =
            (left.as_primitive_opt::<Decimal256Type>(), right.as_primitive_opt::<Decimal256Type>())
        else {
            return exec_err!("{} takes decimals", self.name());
        };
        let mut out = Decimal256Builder::with_capacity(rows).with_data_type(TYPE);
        for (a, b) in left.iter().zip(right) {
            let both = a.and_then(of_wide).zip(b.and_then(of_wide));
            let made = both.and_then(|(a, b)| if self.divides { divide(&a, &b) } else { multiply(&a, &b) });
            out.append_option(made.and_then(|made| to_wide(&made)));
        }
        let made = out.finish();
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(made))
        })
    }
}
