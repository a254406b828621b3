//! `isthmus_id(number)`: the text of a profile's name. For the engine itself, see [`crate::ids`].

use std::sync::Arc;

use arrow::{
    array::AsArray,
    datatypes::{DataType, Decimal128Type, Field, FieldRef},
};
use datafusion::{
    common::{Result, exec_err, internal_err},
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
    },
};

use crate::ids;

/// The function.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Id {
    signature: Signature,
}

impl Id {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![ids::number_type()], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Id {
    fn name(&self) -> &'static str {
        "isthmus_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("isthmus_id is asked for its field")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [numbers] = args.args.as_slice() else { return exec_err!("isthmus_id takes one number") };
        let numbers = numbers.to_array(args.number_rows)?;
        match numbers.as_primitive_opt::<Decimal128Type>() {
            Some(numbers) => Ok(ColumnarValue::Array(ids::texts(numbers)?)),
            None => exec_err!("isthmus_id takes a number"),
        }
    }
}
