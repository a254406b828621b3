//! From text to a statement that may run.
//!
//! One statement at a time, and only what reads: `SELECT` and its like, `SHOW`, `DESCRIBE`, `EXPLAIN`, and `COPY … TO`.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::datatypes::{DataType, Field},
    common::{DataFusionError, Result},
    execution::{SessionState, context::SQLOptions},
    logical_expr::{LogicalPlan, LogicalPlanBuilder, col, lit},
    sql::parser::{CopyToSource, CopyToStatement, DFParserBuilder, Statement},
};
use sqlparser::{
    ast::{Query, SetExpr, Statement as Ast},
    dialect::GenericDialect,
};

use crate::{
    answer::{Kind, Prepared},
    copy::{self, Target},
    error::{QueryError, from_datafusion},
    opaque::Opaque,
};

/// How deep a statement may nest.
const DEPTH_MAX: usize = 64;

/// Understands a statement.
pub(crate) async fn prepare(state: &SessionState, sql: &str) -> std::result::Result<Prepared, QueryError> {
    let fault = |error: DataFusionError| from_datafusion(&error, sql);
    let statement = parse(sql).map_err(fault)??;
    let kind = kind_of(&statement)?;
    let (statement, copy) = match statement {
        Statement::CopyTo(copy) => {
            let (query, target) = copied(copy)?;
            (query, Some(target))
        }
        other => (other, None),
    };
    let plan = state.statement_to_plan(statement).await.and_then(described).map_err(fault)?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|_| QueryError::invalid("queries read: what writes isn't run here"))?;
    let schema =
        if copy.is_some() { copy::answer_schema() } else { crate::tables::told(plan.schema().as_arrow()) };
    let (names, parameters) = parameters_of(&plan).map_err(fault)?;
    Ok(Prepared { sql: sql.to_owned(), names, parameters, schema, kind, plan: Opaque::new(plan), copy })
}

type Parsed = std::result::Result<Statement, QueryError>;

fn parse(sql: &str) -> Result<Parsed> {
    let dialect = GenericDialect {};
    let mut parser =
        DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(DEPTH_MAX).build()?;
    let mut statements = parser.parse_statements()?;
    Ok(match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(QueryError::invalid("there is no statement")),
        (Some(_), false) => Err(QueryError::invalid("there are several statements: send one at a time")),
    })
}

fn kind_of(statement: &Statement) -> std::result::Result<Kind, QueryError> {
    match statement {
        Statement::CopyTo(_) => Ok(Kind::Copy),
        Statement::Explain(explain) => match kind_of(&explain.statement)? {
            Kind::Query => Ok(Kind::Explain),
            _ => Err(QueryError::invalid("EXPLAIN takes a query")),
        },
        Statement::Statement(ast) => match &**ast {
            Ast::Query(query) => reads(query).map(|()| Kind::Query),
            Ast::Explain { .. } => Ok(Kind::Explain),
            Ast::ExplainTable { .. }
            | Ast::ShowTables { .. }
            | Ast::ShowColumns { .. }
            | Ast::ShowVariable { .. }
            | Ast::ShowFunctions { .. } => Ok(Kind::Query),
            other => Err(refused(&other.to_string())),
        },
        other => Err(refused(&other.to_string())),
    }
}

fn refused(text: &str) -> QueryError {
    let word = text.split_whitespace().next().unwrap_or_default().to_uppercase();
    let message = format!("{word} isn't run here: statements read, and COPY (…) TO writes files");
    QueryError::Invalid { message, line: Some(1), column: Some(1) }
}

fn reads(query: &Query) -> std::result::Result<(), QueryError> {
    match &*query.body {
        SetExpr::Insert(ast) | SetExpr::Update(ast) | SetExpr::Delete(ast) => Err(refused(&ast.to_string())),
        _ => Ok(()),
    }
}

/// What `DESCRIBE` gives, as rows of the statement itself: only a session of DataFusion's own would run it.
fn described(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::DescribeTable(table) = plan else { return Ok(plan) };
    let row = |field: &Arc<Field>| {
        let nullable = if field.is_nullable() { "YES" } else { "NO" };
        vec![lit(field.name().as_str()), lit(field.data_type().to_string()), lit(nullable)]
    };
    let names = ["column_name", "data_type", "is_nullable"];
    let columns = names.iter().zip(1..).map(|(name, at)| col(format!("column{at}")).alias(*name));
    LogicalPlanBuilder::values(table.schema.fields().iter().map(row).collect())?.project(columns)?.build()
}

/// The query of a `COPY`, and where its rows go.
fn copied(copy: CopyToStatement) -> std::result::Result<(Statement, Target), QueryError> {
    let target = Target::of(&copy)?;
    let query = match copy.source {
        CopyToSource::Query(query) => Statement::Statement(Box::new(Ast::Query(query))),
        CopyToSource::Relation(name) => {
            let sql = format!("SELECT * FROM {name}");
            parse(&sql).map_err(|error| from_datafusion(&error, &sql))??
        }
    };
    kind_of(&query)?;
    Ok((query, target))
}

/// The names of parameters where they have some, and the types of `$1`, `$2`, …, or in the order of the names.
fn parameters_of(plan: &LogicalPlan) -> Result<(Vec<String>, Vec<Option<DataType>>)> {
    let (mut named, mut numbered) = (BTreeMap::new(), BTreeMap::new());
    for (name, ty) in plan.get_parameter_types()? {
        // Texts are plain to people.
        let ty = ty.map(|ty| if ty == DataType::Utf8View { DataType::Utf8 } else { ty });
        let name = name.strip_prefix('$').unwrap_or(&name).to_owned();
        match name.parse::<usize>() {
            Ok(0) => return Err(DataFusionError::Plan("parameters are numbered from $1 on".to_owned())),
            Ok(number) => _ = numbered.insert(number, ty),
            Err(_) => _ = named.insert(name, ty),
        }
    }
    let last = numbered.last_key_value().map_or(0, |(last, _)| *last);
    if last.max(named.len()) > PARAMETERS_MAX {
        return Err(DataFusionError::Plan(format!("there may be {PARAMETERS_MAX} parameters")));
    }
    match (named.len(), last) {
        (0, _) => Ok((Vec::new(), (1..=last).map(|number| numbered.remove(&number).flatten()).collect())),
        (_, 0) => Ok(named.into_iter().unzip()),
        _ => Err(DataFusionError::Plan("parameters have either names or numbers".to_owned())),
    }
}

const PARAMETERS_MAX: usize = 1000;
