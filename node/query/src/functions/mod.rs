//! Functions besides those of DataFusion: JSON by datafusion-functions-json (`->`, `->>`, `json_get`, …), and those that
//! segments' SQL is written with ([`isthmus_segment::sql`] says what they give).

mod arithmetic;
mod named;
mod read;

use std::sync::Arc;

use datafusion::{
    common::Result,
    execution::{FunctionRegistry, SessionState},
    logical_expr::ScalarUDF,
};

/// Makes all functions known to a session.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    datafusion_functions_json::register_all(state)?;
    for function in all() {
        state.register_udf(function)?;
    }
    Ok(())
}

fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<ScalarUDF> = read::Read::all().into_iter().map(ScalarUDF::from).collect();
    all.extend(arithmetic::Arithmetic::all().map(ScalarUDF::from));
    all.push(named());
    all.into_iter().map(Arc::new).collect()
}

/// Whether a home's founder is another facet.
pub(crate) fn named() -> ScalarUDF {
    ScalarUDF::from(named::Named::new())
}
