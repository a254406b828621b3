//! `isthmus_named(home, founder)`: whether a profile has another name than its home's. For the engine itself.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray},
    datatypes::DataType,
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use crate::profiles::founder_of;

/// The function.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Named {
    signature: Signature,
}

impl Named {
    pub(super) fn new() -> Self {
        let types = vec![DataType::FixedSizeBinary(16), DataType::Binary];
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &'static str {
        "isthmus_named"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [homes, founders] = args.args.as_slice() else { return exec_err!("isthmus_named takes two ids") };
        let (homes, founders) = (homes.to_array(args.number_rows)?, founders.to_array(args.number_rows)?);
        let (Some(homes), Some(founders)) =
            (homes.as_fixed_size_binary_opt(), founders.as_binary_opt::<i32>())
        else {
            return exec_err!("isthmus_named takes ids");
        };
        let differs = |row: usize| {
            let founder = founders.is_valid(row).then(|| founder_of(founders.value(row))).flatten();
            founder.is_some_and(|founder| founder.as_bytes() != homes.value(row))
        };
        let made: BooleanArray = (0..homes.len()).map(|row| Some(differs(row))).collect();
        Ok(ColumnarValue::Array(Arc::new(made)))
    }
}
