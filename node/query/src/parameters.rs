//! Values for `$1`, `$2`, ….

use datafusion::{
    common::{ParamValues, metadata::ScalarAndMetadata},
    logical_expr::LogicalPlan,
};

use crate::{
    answer::Prepared,
    error::{QueryError, from_datafusion},
};

/// The statement's plan with values in place of its parameters, each brought to the type that its use asks for.
pub(crate) fn bind(statement: &Prepared, values: &ParamValues) -> Result<LogicalPlan, QueryError> {
    let ParamValues::List(values) = values else {
        return Err(QueryError::invalid("parameters are numbered: give their values in order"));
    };
    let wanted = &statement.parameters;
    if wanted.len() != values.len() {
        let message = format!(
            "the statement has {} parameters, and {} values came with it",
            wanted.len(),
            values.len()
        );
        return Err(QueryError::invalid(message));
    }
    if wanted.is_empty() {
        return Ok(statement.plan.clone());
    }
    let mut cast = Vec::with_capacity(values.len());
    for (at, (value, ty)) in values.iter().zip(wanted).enumerate() {
        cast.push(match ty {
            Some(ty) if value.value.data_type() != *ty => {
                let brought = value.value.cast_to(ty).map_err(|_| {
                    // The value itself is nobody's business.
                    QueryError::invalid(format!("the value of ${} is no {ty}", at + 1))
                })?;
                ScalarAndMetadata::from(brought)
            }
            _ => value.clone(),
        });
    }
    let bound = statement.plan.clone().with_param_values(ParamValues::List(cast));
    bound.map_err(|error| from_datafusion(&error, &statement.sql))
}
