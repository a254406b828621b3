//! Arrow Flight SQL, on the port of gRPC: for ADBC, JDBC, and all that speaks it.
//!
//! **What it promises.** It gives the rows that `QueryService` gives, of one cut, under the same bounds. The cut stands in
//! the metadata of the first message of an answer, and in the header `isthmus-version`; the headers `isthmus-min-version`
//! and `isthmus-max-staleness-ms` of a call ask for less than what is linearizable. A ticket holds its statement with the
//! values of its parameters ([`ticket`]), so any node can serve it, and nothing is kept until somebody comes with it.
//!
//! **How.** `arrow-flight` has the protocol; [`service`] is its trait. What is kept is bounded and goes by itself:
//! prepared statements with their bound values ([`statements`]), and the names of queries under way, for whoever cancels
//! them ([`under_way`]). Both are this node's: a client keeps to the node on which it has prepared.
//!
//! **What it leaves out.** Everything that writes (only COPY does, as an update), transactions, Substrait. Reads need no
//! credentials until access control exists: those that come are looked at for their form alone ([`credentials`]).

mod catalog;
mod credentials;
mod service;
mod statements;
pub(crate) mod ticket;
mod under_way;

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{Array as _, Int64Array, UInt64Array},
    error::ArrowError,
};
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_server::FlightServiceServer,
    sql::{ProstMessageExt, TicketStatementQuery, metadata::SqlInfoData},
};
use futures::{StreamExt as _, TryStreamExt as _};
use isthmus_domain::Stamp;
use isthmus_query::{Kind, ParamValues, Prepared};
use isthmus_router::ReadLevel;
use prost::Message as _;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use self::{statements::Statements, ticket::Named, under_way::UnderWay};
use crate::{
    grpc::{
        REQUEST_BYTES_MAX, deadline,
        hub::Hub,
        status::{Refusal, status},
    },
    query::{Ask, Running},
};

/// Bytes of a message of an answer, about.
const MESSAGE_BYTES: usize = 1 << 20;
/// The longest staleness that a read may ask for, in milliseconds.
const STALENESS_MS_MAX: u64 = 3_600_000;

/// Rows of an answer, as they go out.
type Rows = std::pin::Pin<Box<dyn futures::Stream<Item = Result<FlightData, Status>> + Send>>;

/// The service of a node.
pub struct Flight {
    hub: Arc<Hub>,
    statements: Statements,
    under_way: UnderWay,
    about: SqlInfoData,
}

/// The service of a node, as gRPC serves it.
///
/// # Errors
/// When what it tells of itself can't be written: a defect.
pub fn service(hub: Arc<Hub>) -> Result<FlightServiceServer<Flight>, ArrowError> {
    let statements = Statements::new(hub.queries.options().prepared as usize);
    let flight = Flight { hub, statements, under_way: UnderWay::default(), about: catalog::about()? };
    Ok(FlightServiceServer::new(flight).max_decoding_message_size(REQUEST_BYTES_MAX))
}

/// Something that the protocol has and this hub has not.
fn unsupported(what: &str) -> Status {
    let message = format!("{what}: the hub is read by SQL, and written to by events");
    Refusal::new(Code::Unimplemented, "UNSUPPORTED", message).into()
}

/// What could not be put into Arrow's format.
fn unwritable(error: ArrowError) -> Status {
    let message = format!("the answer can't be written: {error}");
    Refusal::new(Code::Internal, "INTERNAL", message).into()
}

/// How fresh a call wants its answer, by its headers, and how long it waits.
fn ask(metadata: &MetadataMap) -> Result<Ask, Refusal> {
    let header = |name: &str| metadata.get(name).map(|value| value.to_str().unwrap_or_default());
    let level = match (header("isthmus-min-version"), header("isthmus-max-staleness-ms")) {
        (None, None) => ReadLevel::Linearizable,
        (Some(version), None) => {
            let stamp = version.parse::<Stamp>();
            ReadLevel::AtLeast(stamp.map_err(|_| {
                let what = "must be a version token: sixteen hexadecimal digits";
                Refusal::field("INVALID_VERSION", "isthmus-min-version", what)
            })?)
        }
        (None, Some(age)) => {
            let age = age.parse().ok().filter(|age| (1..=STALENESS_MS_MAX).contains(age));
            ReadLevel::Stale(Duration::from_millis(age.ok_or_else(|| {
                let what = format!("must be 1 to {STALENESS_MS_MAX}");
                Refusal::field("INVALID_STALENESS", "isthmus-max-staleness-ms", what)
            })?))
        }
        (Some(_), Some(_)) => {
            let what = "can't go with isthmus-max-staleness-ms";
            return Err(Refusal::field("INVALID_VERSION", "isthmus-min-version", what));
        }
    };
    Ok(Ask { level, timeout: deadline::given(metadata), ..Ask::default() })
}

impl Flight {
    async fn prepare(&self, sql: &str) -> Result<Prepared, Status> {
        self.hub.queries.prepare(sql).await.map_err(|error| status(&error))
    }

    /// Where the rows of a statement are to be had: here or at any other node.
    fn to_be_had(
        &self,
        statement: &Prepared,
        parameters: Vec<u8>,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        let named = Named::new(statement.sql.clone(), parameters);
        let command = TicketStatementQuery { statement_handle: named.encode(&self.hub.identity_key).into() };
        info(&command, &statement.schema, descriptor)
    }

    /// Runs what a ticket holds.
    async fn rows(&self, named: Named, metadata: &MetadataMap) -> Result<Response<Rows>, Status> {
        let ask = ask(metadata)?;
        let parameters = named.parameters()?;
        let entered = self.under_way.enter(named.id())?;
        let statement = self.prepare(named.sql()).await?;
        let running = self.hub.queries.run(&statement, parameters, &ask).await?.until(entered.cancelled());
        let version = running.cut().map(|cut| cut.to_string()).unwrap_or_default();
        let encoder = FlightDataEncoderBuilder::new()
            .with_schema(running.schema())
            .with_metadata(version.clone().into())
            .with_max_flight_data_size(MESSAGE_BYTES);
        let batches = running.map_err(|error| FlightError::Tonic(Box::new(status(&error))));
        // Its name is given back with the stream.
        let data = encoder.build(batches).map_err(Status::from).map(move |data| {
            let _held = &entered;
            data
        });
        let mut response = Response::new(data.boxed() as Rows);
        if let Ok(value) = version.parse() {
            response.metadata_mut().insert("isthmus-version", value);
        }
        Ok(response)
    }

    /// Carries out what is no query, and says how many rows it was about.
    async fn update(
        &self,
        statement: &Prepared,
        parameters: ParamValues,
        metadata: &MetadataMap,
    ) -> Result<i64, Status> {
        if statement.kind != Kind::Copy {
            return Err(unsupported("only COPY is an update; anything else is asked for as a query"));
        }
        let running = self.hub.queries.run(statement, parameters, &ask(metadata)?).await?;
        counted(running).await
    }
}

/// The number that an answer of COPY holds.
async fn counted(mut running: Running) -> Result<i64, Status> {
    let mut count = 0_i64;
    while let Some(batch) = running.next().await {
        let batch = batch.map_err(|error| status(&error))?;
        let Some(column) = batch.columns().first() else { continue };
        let numbers: Vec<i64> = if let Some(column) = column.as_any().downcast_ref::<UInt64Array>() {
            column.iter().flatten().map(|number| i64::try_from(number).unwrap_or(i64::MAX)).collect()
        } else if let Some(column) = column.as_any().downcast_ref::<Int64Array>() {
            column.iter().flatten().collect()
        } else {
            Vec::new()
        };
        count = numbers.into_iter().fold(count, i64::saturating_add);
    }
    Ok(count)
}

/// Where the answer to a command is to be had: over the same connection, or at any other node.
fn info(
    command: &impl ProstMessageExt,
    schema: &arrow::datatypes::Schema,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(command.as_any().encode_to_vec());
    let endpoint = FlightEndpoint::new().with_ticket(ticket);
    let info = FlightInfo::new().try_with_schema(schema).map_err(unwritable)?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(descriptor)))
}

/// A batch as an answer.
fn whole(batch: Result<arrow::array::RecordBatch, Status>) -> Result<Response<Rows>, Status> {
    let batch = batch?;
    let encoder = FlightDataEncoderBuilder::new().with_schema(batch.schema());
    let data = encoder.build(futures::stream::iter([Ok(batch)])).map_err(Status::from);
    Ok(Response::new(data.boxed()))
}

/// A request's metadata, with what it says.
fn opened<T>(request: Request<T>) -> (MetadataMap, T) {
    let (metadata, _, message) = request.into_parts();
    (metadata, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_how_fresh() {
        let asked = |headers: &[(&'static str, &str)]| {
            let mut metadata = MetadataMap::new();
            for (name, value) in headers {
                metadata.insert(*name, value.parse().unwrap());
            }
            ask(&metadata).map(|ask| ask.level)
        };
        assert_eq!(asked(&[]).unwrap(), ReadLevel::Linearizable);
        assert_eq!(
            asked(&[("isthmus-min-version", "00000000000000ff")]).unwrap(),
            ReadLevel::AtLeast(Stamp(255))
        );
        let stale = asked(&[("isthmus-max-staleness-ms", "250")]).unwrap();
        assert_eq!(stale, ReadLevel::Stale(Duration::from_millis(250)));
        for wrong in [
            &[("isthmus-min-version", "ff")][..],
            &[("isthmus-max-staleness-ms", "0")],
            &[("isthmus-max-staleness-ms", "3600001")],
            &[("isthmus-max-staleness-ms", "5"), ("isthmus-min-version", "00000000000000ff")],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }
}
