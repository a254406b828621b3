//! Queries of the fake node: answers from the script, in the format that is asked for.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array},
    ipc::writer::StreamWriter,
};
use isthmus_client::proto::{self, QueryFormat, query_response::Part, query_service_server::QueryService};
use tonic::{Request, Response, Status};

use super::{Services, refusal};

/// What a query brings.
pub struct Answer {
    /// Its rows as JSON.
    pub rows: Vec<String>,
    /// Its rows in Arrow.
    pub batch: RecordBatch,
    /// How it ends; `None`: as it should.
    pub end: Option<Status>,
}

impl Answer {
    /// Three rows with what is difficult to print.
    pub fn difficult() -> Self {
        let times = TimestampMicrosecondArray::from(vec![Some(852_076_800_000_500), None, Some(0)]);
        let columns: [(&str, ArrayRef); 4] = [
            ("name", Arc::new(StringArray::from(vec![Some("Müller, \"A\""), Some(""), None]))),
            ("seen", Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(-5), None]))),
            ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
            ("at", Arc::new(times.with_timezone("UTC"))),
        ];
        let rows = [
            r#"{"name":"Müller, \"A\"","seen":9223372036854775807,"big":18446744073709551615,"at":"1997-01-01T00:00:00.000500Z"}"#,
            r#"{"name":"","seen":-5,"big":0,"at":null}"#,
            r#"{"name":null,"seen":null,"big":null,"at":"1970-01-01T00:00:00Z"}"#,
        ];
        Self { rows: rows.map(str::to_owned).into(), batch: batch(columns), end: None }
    }

    /// What EXPLAIN answers.
    pub fn plan() -> Self {
        let columns: [(&str, ArrayRef); 2] = [
            ("plan_type", Arc::new(StringArray::from(vec!["logical_plan", "Plan with Metrics"]))),
            (
                "plan",
                Arc::new(StringArray::from(vec!["Projection: 1\n  Empty", "Scan, metrics=[rows=1]\u{1b}"])),
            ),
        ];
        Self { rows: Vec::new(), batch: batch(columns), end: None }
    }
}

pub fn batch(columns: impl IntoIterator<Item = (&'static str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, of)| (name, of, true)))
        .expect("columns of one length")
}

/// The batch as pieces of a stream, cut where it hurts.
fn pieces(batch: &RecordBatch) -> Vec<Part> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a schema");
    writer.write(batch).expect("a batch");
    let bytes = writer.into_inner().expect("an end");
    bytes.chunks(100).map(|piece| Part::Arrow(piece.to_vec().into())).collect()
}

#[tonic::async_trait]
impl QueryService for Services {
    type QueryStream = futures::stream::Iter<std::vec::IntoIter<Result<proto::QueryResponse, Status>>>;

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        self.begin("query", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        let answer = state.answers.pop_front();
        let format = request.format();
        state.queries.push(request);
        let Some(Answer { rows, batch, end }) = answer else {
            return Err(refusal(tonic::Code::Internal, "INTERNAL", "the script has no more answers"));
        };
        let start = proto::QueryStart { version: "000000000000001f".to_owned(), columns: Vec::new() };
        let mut parts = vec![Part::Start(start)];
        match format {
            QueryFormat::Arrow => parts.extend(pieces(&batch)),
            _ => {
                parts.extend(rows.chunks(2).map(|rows| Part::Rows(proto::QueryRows { rows: rows.to_vec() })))
            }
        }
        if end.is_none() {
            parts.push(Part::End(proto::QueryEnd::default()));
        }
        let parts = parts.into_iter().map(|part| Ok(proto::QueryResponse { part: Some(part) }));
        let said: Vec<_> = parts.chain(end.map(Err)).collect();
        Ok(Response::new(futures::stream::iter(said)))
    }

    async fn explain(
        &self,
        request: Request<proto::QueryServiceExplainRequest>,
    ) -> Result<Response<proto::QueryServiceExplainResponse>, Status> {
        self.begin("explain_query", &request).await?;
        let plan = proto::QueryPlan { kind: "logical_plan".to_owned(), text: "EmptyRelation".to_owned() };
        Ok(Response::new(proto::QueryServiceExplainResponse { plans: vec![plan] }))
    }

    async fn list_tables(
        &self,
        request: Request<proto::ListTablesRequest>,
    ) -> Result<Response<proto::ListTablesResponse>, Status> {
        self.begin("list_tables", &request).await?;
        Ok(Response::new(proto::ListTablesResponse { tables: self.state().tables.clone() }))
    }
}
