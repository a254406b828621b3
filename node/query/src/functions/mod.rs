//! Functions besides those of DataFusion: JSON by datafusion-functions-json (`->`, `->>`, `json_get`, …), those that segments'
//! SQL is written with ([`isthmus_segment::sql`] says what they give), and one that is faster for what our tables have.

mod arithmetic;
mod fold;
mod id;
mod named;
mod newest;
mod profile;
mod read;
mod truncate;

use std::sync::Arc;

use datafusion::{
    common::Result,
    execution::{FunctionRegistry, SessionState},
    logical_expr::{AggregateUDF, ScalarUDF},
};

use crate::{seam::ColumnType, tables::ProfileColumn};

/// Makes all functions known to a session.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    datafusion_functions_json::register_all(state)?;
    for function in all() {
        state.register_udf(function)?;
    }
    for function in [fold(), fold_identifiers(), newest()] {
        state.register_udaf(Arc::new(function))?;
    }
    Ok(())
}

fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<ScalarUDF> = read::Read::all().into_iter().map(ScalarUDF::from).collect();
    all.extend(arithmetic::Arithmetic::all().map(ScalarUDF::from));
    all.extend(profile::OfProfile::all().map(ScalarUDF::from));
    all.extend([named(), id(), ScalarUDF::from(truncate::Truncate::new())]);
    all.into_iter().map(Arc::new).collect()
}

/// Whether a home's founder is another facet.
pub(crate) fn named() -> ScalarUDF {
    ScalarUDF::from(named::Named::new())
}

/// The text of a profile's number.
pub(crate) fn id() -> ScalarUDF {
    ScalarUDF::from(id::Id::new())
}

/// What summaries of facets come to.
pub(crate) fn fold() -> AggregateUDF {
    AggregateUDF::from(fold::Fold::new(fold::Kind::Summary))
}

/// What identifiers of facets come to.
pub(crate) fn fold_identifiers() -> AggregateUDF {
    AggregateUDF::from(fold::Fold::new(fold::Kind::Identifiers))
}

/// What was said last about a trait, of what each facet has.
pub(crate) fn newest() -> AggregateUDF {
    AggregateUDF::from(newest::Newest::new())
}

/// A sum of money.
pub(crate) fn money() -> ScalarUDF {
    ScalarUDF::from(profile::OfProfile::new(profile::Kind::Money))
}

/// The newest value of a trait.
pub(crate) fn latest(ty: ColumnType) -> ScalarUDF {
    ScalarUDF::from(profile::OfProfile::new(profile::Kind::Latest(ty)))
}

/// A column that is JSON.
pub(crate) fn shown(column: &ProfileColumn) -> ScalarUDF {
    ScalarUDF::from(profile::OfProfile::new(profile::Kind::Shown(column.clone())))
}
