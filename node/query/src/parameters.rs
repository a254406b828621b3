//! Values for `$1`, `$2`, …, or for `$name`.

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
    let names = &statement.names;
    let values: Vec<&ScalarAndMetadata> = match values {
        ParamValues::List(values) if names.is_empty() => values.iter().collect(),
        ParamValues::List(values) if values.is_empty() => Vec::new(),
        ParamValues::List(_) => {
            return Err(QueryError::invalid("parameters have names here: give each value its own"));
        }
        ParamValues::Map(values) => {
            if let Some(unknown) = values.keys().find(|name| !names.contains(name)) {
                return Err(QueryError::invalid(format!("the statement has no parameter ${unknown}")));
            }
            names.iter().filter_map(|name| values.get(name)).collect()
        }
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
        return Ok(LogicalPlan::clone(&statement.plan));
    }
    let mut cast = Vec::with_capacity(values.len());
    for (at, (value, ty)) in values.into_iter().zip(wanted).enumerate() {
        cast.push(match ty {
            Some(ty) if value.value.data_type() != *ty => {
                let brought = value.value.cast_to(ty).map_err(|_| {
                    // The value itself is nobody's business.
                    let name = names.get(at).cloned().unwrap_or_else(|| (at + 1).to_string());
                    QueryError::invalid(format!("the value of ${name} is no {ty}"))
                })?;
                ScalarAndMetadata::from(brought)
            }
            _ => value.clone(),
        });
    }
    let cast = match names.is_empty() {
        true => ParamValues::List(cast),
        false => ParamValues::Map(names.iter().cloned().zip(cast).collect()),
    };
    let bound = LogicalPlan::clone(&statement.plan).with_param_values(cast);
    bound.map_err(|error| from_datafusion(&error, &statement.sql))
}
