//! `QueryService`: SQL over gRPC.
//!
//! What can be wrong with a statement is answered before the stream begins; from then on an error ends the stream. Pieces
//! are made as the client takes them: a query whose rows nobody takes stands still, and costs what is on the way.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use arrow::{
    array::{Array as _, RecordBatch, StringArray},
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::Stream};
use isthmus_proto::v1::{
    Consistency, ListTablesRequest, ListTablesResponse, QueryColumn, QueryEnd, QueryFormat, QueryParameter,
    QueryPlan, QueryRequest, QueryResponse, QueryRows, QueryServiceExplainRequest,
    QueryServiceExplainResponse, QueryStart, QueryTable, query_response::Part,
    query_service_server::QueryService, value::Kind,
};
use isthmus_query::{DESCRIPTION, ParamValues, QueryError, ScalarValue, TableInfo};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use super::{
    deadline,
    hub::{Hub, read_level},
    status::{Refusal, status},
};
use crate::query::{Ask, Running, json};

/// The most parameters of a statement.
const PARAMETERS_MAX: usize = 1_000;
/// Bytes of a piece of an answer, about.
const PIECE_BYTES: usize = 1 << 20;
/// Rows of a piece in JSON.
const PIECE_ROWS: usize = 4_096;
/// The most text of plans that is kept to answer with.
const PLAN_BYTES_MAX: usize = 4 << 20;

/// The stream that `Query` answers with.
pub type QueryStream = Pin<Box<dyn Stream<Item = Result<QueryResponse, Status>> + Send>>;

/// The service.
pub struct Query {
    hub: Arc<Hub>,
}

impl Query {
    /// The service of a node.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Begins to run a statement.
    async fn run(&self, sql: &str, parameters: Vec<QueryParameter>, ask: &Ask) -> Result<Running, Status> {
        let parameters = values(parameters)?;
        let statement = self.hub.queries.prepare(sql).await.map_err(|error| status(&error))?;
        Ok(self.hub.queries.run(&statement, parameters, ask).await?)
    }
}

/// How a statement is to be run.
fn ask(
    consistency: Option<&Consistency>,
    timeout: Option<&prost_types::Duration>,
    metadata: &MetadataMap,
) -> Result<Ask, Refusal> {
    let asked = timeout.map(|timeout| {
        let wrong = || {
            Refusal::field("INVALID_TIMEOUT", "timeout", "must be more than nothing, and no thousand years")
        };
        Duration::try_from(*timeout).ok().filter(|timeout| !timeout.is_zero()).ok_or_else(wrong)
    });
    let given = deadline::given(metadata);
    let timeout = match (asked.transpose()?, given) {
        (Some(asked), Some(given)) => Some(asked.min(given)),
        (asked, given) => asked.or(given),
    };
    Ok(Ask { level: read_level(consistency)?, timeout, ..Ask::default() })
}

/// The values of parameters, by place or by name.
fn values(parameters: Vec<QueryParameter>) -> Result<ParamValues, Refusal> {
    let refused = |what: String| Refusal::field("INVALID_PARAMETER", "parameters", what);
    if parameters.len() > PARAMETERS_MAX {
        return Err(refused(format!("there may be at most {PARAMETERS_MAX}")));
    }
    let named = parameters.iter().filter(|parameter| !parameter.name.is_empty()).count();
    if named != 0 && named != parameters.len() {
        return Err(refused("either all have names or none".to_owned()));
    }
    let mut found = Vec::with_capacity(parameters.len());
    for (parameter, place) in parameters.into_iter().zip(1..) {
        let kind = parameter.value.and_then(|value| value.kind);
        let value = scalar(kind).map_err(|what| refused(format!("number {place} {what}")))?;
        found.push((parameter.name, value));
    }
    if named == 0 {
        return Ok(ParamValues::from(found.into_iter().map(|(_, value)| value).collect::<Vec<_>>()));
    }
    let mut names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        return Err(refused("two have the same name".to_owned()));
    }
    Ok(ParamValues::from(found))
}

fn scalar(kind: Option<Kind>) -> Result<ScalarValue, &'static str> {
    Ok(match kind {
        None | Some(Kind::NullValue(_)) => ScalarValue::Null,
        Some(Kind::BoolValue(value)) => ScalarValue::Boolean(Some(value)),
        Some(Kind::IntValue(value)) => ScalarValue::Int64(Some(value)),
        Some(Kind::UintValue(value)) => match i64::try_from(value) {
            Ok(value) => ScalarValue::Int64(Some(value)),
            Err(_) => ScalarValue::UInt64(Some(value)),
        },
        Some(Kind::DoubleValue(value)) if value.is_finite() => ScalarValue::Float64(Some(value)),
        Some(Kind::DoubleValue(_)) => return Err("is no finite number"),
        Some(Kind::StringValue(value)) => ScalarValue::Utf8(Some(value)),
        Some(Kind::TimestampValue(value)) => {
            let micros = value.seconds.checked_mul(1_000_000);
            let micros = micros.and_then(|micros| micros.checked_add(i64::from(value.nanos) / 1_000));
            let micros = micros.filter(|_| (0..1_000_000_000).contains(&value.nanos));
            ScalarValue::TimestampMicrosecond(Some(micros.ok_or("is no time")?), Some("UTC".into()))
        }
        Some(Kind::ListValue(_) | Kind::MapValue(_)) => return Err("is a list or a map, which none can be"),
    })
}

fn columns(schema: &Schema) -> Vec<QueryColumn> {
    let column = |field: &Arc<arrow::datatypes::Field>| QueryColumn {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        description: field.metadata().get(DESCRIPTION).cloned().unwrap_or_default(),
    };
    schema.fields().iter().map(column).collect()
}

fn table(info: TableInfo) -> QueryTable {
    let description = info.columns.metadata().get(DESCRIPTION).cloned().unwrap_or_default();
    QueryTable { columns: columns(&info.columns), schema: info.schema, name: info.name, description }
}

/// What writes the rows of an answer.
enum Writing {
    Json(SchemaRef),
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

/// An answer under way.
struct Answering {
    running: Running,
    writing: Writing,
    ready: VecDeque<Part>,
    begun: Instant,
    ended: bool,
}

impl Answering {
    fn begin(running: Running, format: QueryFormat, begun: Instant) -> Result<Self, ArrowError> {
        let schema = running.schema();
        let (named, writing) = match format {
            QueryFormat::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), &schema)?;
                (schema, Writing::Arrow(Box::new(writer)))
            }
            _ => {
                let named = json::distinct(&schema);
                (named.clone(), Writing::Json(named))
            }
        };
        let version = running.cut().map(|cut| cut.to_string()).unwrap_or_default();
        let start = QueryStart { version, columns: columns(&named) };
        let ready = VecDeque::from([Part::Start(start)]);
        let mut answering = Self { running, writing, ready, begun, ended: false };
        // The schema goes out at once, not with the first rows.
        answering.take_bytes();
        Ok(answering)
    }

    /// Makes pieces of what the writer has.
    fn take_bytes(&mut self) {
        if let Writing::Arrow(writer) = &mut self.writing {
            let mut bytes = Bytes::from(std::mem::take(writer.get_mut()));
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                self.ready.push_back(Part::Arrow(piece));
            }
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match &mut self.writing {
            Writing::Arrow(writer) => {
                writer.write(batch)?;
                self.take_bytes();
            }
            Writing::Json(schema) => {
                let (mut piece, mut bytes) = (Vec::new(), 0);
                for row in json::rows(batch, schema)? {
                    bytes += row.len();
                    piece.push(row);
                    if bytes >= PIECE_BYTES || piece.len() >= PIECE_ROWS {
                        bytes = 0;
                        self.ready.push_back(Part::Rows(QueryRows { rows: std::mem::take(&mut piece) }));
                    }
                }
                if !piece.is_empty() {
                    self.ready.push_back(Part::Rows(QueryRows { rows: piece }));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ArrowError> {
        if let Writing::Arrow(writer) = &mut self.writing {
            writer.finish()?;
        }
        self.take_bytes();
        let elapsed = prost_types::Duration::try_from(self.begun.elapsed()).ok();
        let end = QueryEnd { rows: self.running.rows(), bytes: self.running.bytes(), elapsed };
        self.ready.push_back(Part::End(end));
        self.ended = true;
        Ok(())
    }

    /// The next piece; nothing behind the last one.
    async fn next(&mut self) -> Result<Option<Part>, Status> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Some(part));
            }
            if self.ended {
                return Ok(None);
            }
            let made = match self.running.next().await {
                Some(Ok(batch)) => self.write(&batch),
                Some(Err(error)) => return Err(status(&error)),
                None => self.finish(),
            };
            made.map_err(unwritable)?;
        }
    }
}

/// Rows that can't be put into the format that was asked for.
fn unwritable(error: ArrowError) -> Status {
    let message =
        format!("the rows can't be written so: ask in another format, or cast the columns to text: {error}");
    Refusal::new(Code::Unimplemented, "UNSUPPORTED_TYPE", message).into()
}

/// The plans in an answer of EXPLAIN.
async fn plans(mut running: Running) -> Result<Vec<QueryPlan>, Status> {
    let (mut plans, mut bytes) = (Vec::new(), 0_usize);
    while let Some(batch) = running.next().await {
        let batch = batch.map_err(|error| status(&error))?;
        let text = |column: usize| batch.columns().get(column)?.as_any().downcast_ref::<StringArray>();
        let (Some(kinds), Some(texts)) = (text(0), text(1)) else {
            let error = QueryError::Internal("EXPLAIN answers with other columns than it should".to_owned());
            return Err(status(&error));
        };
        for (kind, text) in kinds.iter().zip(texts) {
            let (kind, text) = (kind.unwrap_or_default(), text.unwrap_or_default());
            bytes = bytes.saturating_add(text.len());
            if bytes > PLAN_BYTES_MAX {
                let message = format!("the plans take more than {PLAN_BYTES_MAX} bytes");
                return Err(Refusal::new(Code::ResourceExhausted, "QUERY_LIMIT", message)
                    .with("limit", "bytes")
                    .into());
            }
            plans.push(QueryPlan { kind: kind.to_owned(), text: text.to_owned() });
        }
    }
    Ok(plans)
}

#[tonic::async_trait]
impl QueryService for Query {
    type QueryStream = QueryStream;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<QueryStream>, Status> {
        let begun = Instant::now();
        let (metadata, _, request) = request.into_parts();
        let format = QueryFormat::try_from(request.format).map_err(|_| {
            Refusal::field("INVALID_FORMAT", "format", "is none that this version of the hub knows")
        })?;
        let mut ask = ask(request.consistency.as_ref(), request.timeout.as_ref(), &metadata)?;
        (ask.rows_max, ask.bytes_max) = (request.rows_max, request.bytes_max);
        let running = self.run(&request.sql, request.parameters, &ask).await?;
        let answering = Answering::begin(running, format, begun).map_err(unwritable)?;
        let pieces = stream::try_unfold(answering, |mut answering| async move {
            let part = answering.next().await?;
            Ok(part.map(|part| (QueryResponse { part: Some(part) }, answering)))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn explain(
        &self,
        request: Request<QueryServiceExplainRequest>,
    ) -> Result<Response<QueryServiceExplainResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let ask = ask(request.consistency.as_ref(), request.timeout.as_ref(), &metadata)?;
        // On a line of its own, so that the statement's columns stay what they are.
        let verb = if request.analyze { "EXPLAIN ANALYZE" } else { "EXPLAIN" };
        let sql = format!("{verb}\n{}", request.sql);
        let parameters = values(request.parameters)?;
        let prepared = self.hub.queries.prepare(&sql).await.map_err(|error| status(&a_line_up(error)))?;
        let running = self.hub.queries.run(&prepared, parameters, &ask).await?;
        Ok(Response::new(QueryServiceExplainResponse { plans: plans(running).await? }))
    }

    async fn list_tables(
        &self,
        _request: Request<ListTablesRequest>,
    ) -> Result<Response<ListTablesResponse>, Status> {
        let tables = self.hub.queries.tables().map_err(|error| status(&error))?;
        Ok(Response::new(ListTablesResponse { tables: tables.into_iter().map(table).collect() }))
    }
}

/// The place of an error in what was sent, of a statement that a line was put in front of.
fn a_line_up(error: QueryError) -> QueryError {
    match error {
        QueryError::Invalid { message, line, column } => {
            QueryError::Invalid { message, line: line.map(|line| line.saturating_sub(1).max(1)), column }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use isthmus_proto::v1::{ListValue, Null, Value};

    use super::*;

    fn parameter(name: &str, kind: Kind) -> QueryParameter {
        QueryParameter { name: name.to_owned(), value: Some(Value { kind: Some(kind) }) }
    }

    #[test]
    fn parameters_are_by_place_or_by_name() {
        let by_place =
            values(vec![parameter("", Kind::IntValue(5)), parameter("", Kind::NullValue(Null {}))]);
        assert!(matches!(by_place.unwrap(), ParamValues::List(list) if list.len() == 2));
        let by_name = values(vec![parameter("a", Kind::IntValue(5)), parameter("b", Kind::IntValue(6))]);
        assert!(matches!(by_name.unwrap(), ParamValues::Map(map) if map.len() == 2));
        for wrong in [
            vec![parameter("a", Kind::IntValue(5)), parameter("", Kind::IntValue(6))],
            vec![parameter("a", Kind::IntValue(5)), parameter("a", Kind::IntValue(6))],
            vec![parameter("", Kind::ListValue(ListValue::default()))],
            vec![parameter("", Kind::DoubleValue(f64::NAN))],
            vec![parameter("", Kind::BoolValue(true)); PARAMETERS_MAX + 1],
        ] {
            assert!(values(wrong).is_err());
        }
    }

    #[test]
    fn the_shorter_of_two_timeouts_holds() {
        let mut metadata = MetadataMap::new();
        let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let timeout = |metadata: &MetadataMap, given: Option<i64>| {
            ask(None, given.map(seconds).as_ref(), metadata).map(|ask| ask.timeout)
        };
        assert_eq!(timeout(&metadata, None).unwrap(), None);
        assert_eq!(timeout(&metadata, Some(900)).unwrap(), Some(Duration::from_secs(900)));
        metadata.insert("grpc-timeout", "10S".parse().unwrap());
        assert_eq!(timeout(&metadata, Some(2)).unwrap(), Some(Duration::from_secs(2)));
        assert!(timeout(&metadata, Some(900)).unwrap().unwrap() < Duration::from_secs(10));
        assert!(timeout(&metadata, Some(0)).is_err() && timeout(&metadata, Some(-1)).is_err());
    }
}
