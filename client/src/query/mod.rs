//! SQL over all that the hub keeps.
//!
//! [`Client::query`] brings rows as JSON; [`Client::query_arrow`] record batches of Arrow, with the feature `arrow`. A query is
//! tried again at another node until its answer begins. From then on it is not: rows that were handed on can't be taken
//! back, and a cut is not met twice. An answer that breaks off ends with an error, never as if it were whole. Letting go of
//! an answer ends the query's work on all nodes.

#[cfg(feature = "arrow")]
mod batches;
mod rows;

use std::time::Duration;

use tonic::Streaming;

#[cfg(feature = "arrow")]
pub use self::batches::QueryBatches;
pub use self::rows::{QueryRow, QueryRows};
use crate::{
    Client, Error, Refusal,
    client::{ANSWER_BYTES_MAX, random_id},
    proto::{self, QueryFormat, query_response::Part, query_service_client::QueryServiceClient as Queries},
    retry::{self, Ending, Kind},
};

/// A statement with all that goes with it.
///
/// ```
/// use isthmus_client::Query;
///
/// let query = Query::new("SELECT count(*) FROM events WHERE name = $1 AND received_at > $2")
///     .parameter("Order Completed")
///     .parameter(jiff::Timestamp::UNIX_EPOCH);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Query {
    request: proto::QueryRequest,
}

impl Query {
    /// One statement, without parameters, linearizable, within the client's deadline.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { request: proto::QueryRequest { sql: sql.into(), ..Default::default() } }
    }

    /// The value of the next parameter: `$1`, `$2`, …
    pub fn parameter(self, value: impl Into<Parameter>) -> Self {
        self.named(String::new(), value)
    }

    /// The value of the parameter `$name`. A statement has either names or numbers.
    pub fn named(mut self, name: impl Into<String>, value: impl Into<Parameter>) -> Self {
        let Parameter(value) = value.into();
        self.request.parameters.push(proto::QueryParameter { name: name.into(), value: Some(value) });
        self
    }

    /// How fresh the answer has to be. Default: it sees every write that was acknowledged before.
    pub fn consistency(mut self, consistency: proto::Consistency) -> Self {
        self.request.consistency = Some(consistency);
        self
    }

    /// How long the hub may work on it. Default: the client's deadline.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = prost_types::Duration::try_from(timeout).ok();
        self
    }

    /// Fails with `QUERY_LIMIT` after so many rows.
    pub fn rows_max(mut self, rows: u64) -> Self {
        self.request.rows_max = rows;
        self
    }
}

impl From<&str> for Query {
    fn from(sql: &str) -> Self {
        Self::new(sql)
    }
}

impl From<String> for Query {
    fn from(sql: String) -> Self {
        Self::new(sql)
    }
}

/// The value of a parameter.
#[derive(Clone, Debug)]
pub struct Parameter(pub proto::Value);

/// Makes parameters of what Rust has for each kind of value.
macro_rules! parameters {
    ($($of:ty => $value:ident, $kind:expr;)+) => {
        $(impl From<$of> for Parameter {
            fn from($value: $of) -> Self {
                Self(proto::Value { kind: Some($kind) })
            }
        })+
    };
}

use proto::value::Kind as Is;
parameters! {
    bool => value, Is::BoolValue(value);
    i32 => value, Is::IntValue(value.into());
    i64 => value, Is::IntValue(value);
    u64 => value, Is::UintValue(value);
    f64 => value, Is::DoubleValue(value);
    &str => value, Is::StringValue(value.to_owned());
    String => value, Is::StringValue(value);
    jiff::Timestamp => value, Is::TimestampValue(prost_types::Timestamp {
        // The nanoseconds of times before 1970 count backwards there, and forwards here.
        seconds: value.as_nanosecond().div_euclid(1_000_000_000) as i64,
        nanos: value.as_nanosecond().rem_euclid(1_000_000_000) as i32,
    });
}

impl From<proto::Value> for Parameter {
    fn from(value: proto::Value) -> Self {
        Self(value)
    }
}

/// What is absent is null.
impl<T: Into<Self>> From<Option<T>> for Parameter {
    fn from(value: Option<T>) -> Self {
        let null = || Self(proto::Value { kind: Some(Is::NullValue(proto::Null {})) });
        value.map_or_else(null, Into::into)
    }
}

impl Client {
    /// Runs a statement. Its rows come as JSON objects, as the hub makes them: 64-bit integers stay exact.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = isthmus_node::dev::Temporary::start().await?;
    /// # let (endpoint, write_key) = (hub.endpoint(), isthmus_node::dev::WRITE_KEY);
    /// # let client = isthmus_client::Client::builder().endpoints([endpoint]).write_key(write_key).connect_lazy()?;
    /// # client.ingest_one(serde_json::json!({"type": "track", "event": "Seen", "userId": "42"})).await?;
    /// use futures::TryStreamExt as _;
    /// use isthmus_client::Query;
    ///
    /// let query = Query::new("SELECT count(*) AS seen FROM events WHERE name = $1").parameter("Seen");
    /// let mut rows = client.query(query).await?;
    /// while let Some(row) = rows.try_next().await? {
    ///     assert_eq!(row.as_json(), r#"{"seen":1}"#);
    /// }
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `BAD_QUERY` for a statement that makes no sense: `line` and `column` of the refusal's metadata say where.
    /// `QUERY_LIMIT` for one that needs too much. Others as for every read.
    pub async fn query(&self, query: impl Into<Query>) -> Result<QueryRows, Error> {
        let (start, pieces) = self.begin(query.into(), QueryFormat::Json).await?;
        Ok(QueryRows::new(start, pieces))
    }

    /// The same, as record batches.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    #[cfg(feature = "arrow")]
    pub async fn query_arrow(&self, query: impl Into<Query>) -> Result<QueryBatches, Error> {
        let (start, pieces) = self.begin(query.into(), QueryFormat::Arrow).await?;
        QueryBatches::begin(start, pieces).await
    }

    /// How a statement would be carried out, or was.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn explain_query(
        &self,
        request: proto::QueryServiceExplainRequest,
    ) -> Result<Vec<proto::QueryPlan>, Error> {
        let send = |channel, request| async move {
            Queries::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).explain(request).await
        };
        let client = self.with_long_tries();
        Ok(client.call(Kind::Read, self.deadline(), &request, send).await?.plans)
    }

    /// The tables that there are.
    ///
    /// # Errors
    /// As every read.
    pub async fn tables(&self) -> Result<Vec<proto::QueryTable>, Error> {
        let send = |channel, request| async move {
            Queries::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).list_tables(request).await
        };
        Ok(self.call(Kind::Read, self.deadline(), &proto::ListTablesRequest {}, send).await?.tables)
    }

    /// Begins a query: what its first piece says, and the others.
    async fn begin(&self, query: Query, format: QueryFormat) -> Result<(proto::QueryStart, Pieces), Error> {
        let mut request = query.request;
        request.format = format.into();
        let send = |channel, request| async move {
            Queries::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX).query(request).await
        };
        // A query may take all the time that there is: a node that doesn't answer is found out by pings.
        let client = self.with_long_tries();
        let stream = client.call(kind(&request.sql), self.deadline(), &request, send).await?;
        let mut pieces = Pieces { stream, ended: false };
        match pieces.next().await? {
            Some(Part::Start(start)) => Ok((start, pieces)),
            _ => Err(Error::BadAnswer("a query's answer has no beginning")),
        }
    }
}

/// What doing a statement twice would do. COPY writes files.
fn kind(sql: &str) -> Kind {
    let statement = behind_comments(sql);
    let end = statement.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(statement.len());
    let is_copy = statement.get(..end).is_some_and(|first| first.eq_ignore_ascii_case("copy"));
    // What stands in a comment of this kind, the hub carries out like any other text.
    if is_copy || statement.starts_with("/*!") { Kind::OnceWrite } else { Kind::Read }
}

/// A text from where its first statement begins: behind space, comments and empty statements.
fn behind_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = if rest.starts_with("--") {
            rest.split_once('\n').map_or("", |(_, behind)| behind)
        } else if rest.starts_with("/*") && !rest.starts_with("/*!") {
            behind_comment(rest)
        } else {
            return rest;
        };
    }
}

/// What stands behind a comment in `/* … */`, which may have others inside; nothing when it doesn't end.
fn behind_comment(text: &str) -> &str {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(pair) = text.as_bytes().get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return text.get(at..).unwrap_or_default();
        }
    }
    ""
}

/// The pieces of an answer, as they come.
struct Pieces {
    stream: Streaming<proto::QueryResponse>,
    ended: bool,
}

impl Pieces {
    /// The next piece; nothing behind the last one.
    async fn next(&mut self) -> Result<Option<Part>, Error> {
        if self.ended {
            return Ok(None);
        }
        let piece = self.stream.message().await;
        match piece.map_err(|status| broken(&status))? {
            Some(proto::QueryResponse { part: Some(part) }) => {
                self.ended = matches!(part, Part::End(_));
                Ok(Some(part))
            }
            Some(_) => Err(Error::BadAnswer("a piece of a query's answer holds nothing")),
            // Else what is cut short would look whole.
            None => Err(Error::BadAnswer("a query's answer has no end")),
        }
    }
}

/// What ended an answer under way.
fn broken(status: &tonic::Status) -> Error {
    let refusal = Refusal::of(status, &random_id());
    match retry::ending_of(status) {
        Ending::Answered => Error::Refused(Box::new(refusal)),
        _ => Error::Deadline(format!("the answer broke off: {}", refusal.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_values_in_their_order() {
        let before_1970: jiff::Timestamp = "1969-12-31T23:59:58.5Z".parse().unwrap();
        let query = Query::new("SELECT 1").parameter(5).parameter(None::<&str>).named("at", before_1970);
        let [one, two, three] = &query.request.parameters[..] else { panic!() };
        let kind = |parameter: &proto::QueryParameter| parameter.value.clone().unwrap().kind.unwrap();
        assert_eq!((kind(one), kind(two)), (Is::IntValue(5), Is::NullValue(proto::Null {})));
        let at = prost_types::Timestamp { seconds: -2, nanos: 500_000_000 };
        assert_eq!((three.name.as_str(), kind(three)), ("at", Is::TimestampValue(at)));
    }

    #[test]
    fn what_writes_files_is_not_repeated() {
        for read in [
            "  select 1",
            "-- COPY\nSELECT 1",
            "-- COPY",
            "/* COPY */ SELECT 1",
            "/* /* */ COPY",
            "copy_of",
            "\"copy\"",
            "é",
            "",
        ] {
            assert_eq!(kind(read), Kind::Read, "{read}");
        }
        for copy in [
            "\nCopy (SELECT 1) TO 'a.parquet'",
            "COPY(SELECT 1) TO 'a.parquet'",
            "-- note\nCOPY events TO 'a.parquet'",
            "--\n --é\r\n\tcopy events TO 'a.parquet'",
            "/* */COPY events TO 'a.parquet'",
            "/**//* a /* b */ - /***/ */ -- c\nCOPY/**/events TO 'a.parquet'",
            " ; ;COPY events TO 'a.parquet'",
            "/*! COPY events TO 'a.parquet' */",
        ] {
            assert_eq!(kind(copy), Kind::OnceWrite, "{copy}");
        }
    }
}
