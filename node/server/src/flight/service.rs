//! The protocol's calls, each led to where it is answered.

use std::{panic::AssertUnwindSafe, pin::Pin};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{DataType, Field, Schema},
    ipc::root_as_message,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    FlightInfo, HandshakeRequest, HandshakeResponse, Ticket,
    decode::FlightRecordBatchStream,
    flight_service_server::FlightService,
    sql::{
        ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
        ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
        ActionCreatePreparedStatementResult, Any, Command, CommandGetCatalogs, CommandGetCrossReference,
        CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
        CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
        CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
        CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, SqlInfo,
        TicketStatementQuery,
        server::{FlightSqlService, PeekableFlightDataStream},
    },
};
use futures::{FutureExt as _, Stream, TryStreamExt as _, stream};
use isthmus_query::{ParamValues, ScalarValue};
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    Flight, catalog,
    credentials::{self, NOBODY},
    info, opened,
    ticket::{Named, kept},
    unsupported, whole,
};
use crate::grpc::status::{Refusal, status};

/// Bytes of values that may be bound to a statement.
const BOUND_BYTES_MAX: usize = 1 << 20;
/// The most facts about the hub that may be asked for at once: all are less.
const FACTS_MAX: usize = 1_000;
/// The action that cancels what a FlightInfo names.
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";

/// What a call is answered with where it gives rows.
type Rows<T> = Result<Response<<T as FlightService>::DoGetStream>, Status>;
/// What a call is answered with that says where rows are to be had.
type Info = Result<Response<FlightInfo>, Status>;

/// A command about which the descriptor says where its answer is to be had: its columns are those of an answer.
fn told(
    command: &impl arrow_flight::sql::ProstMessageExt,
    columns: &RecordBatch,
    request: Request<FlightDescriptor>,
) -> Info {
    let (metadata, descriptor) = opened(request);
    credentials::look(&metadata)?;
    info(command, &columns.schema(), descriptor)
}

/// The one row that a client binds, if any.
async fn bound(request: Request<PeekableFlightDataStream>) -> Result<Vec<u8>, Status> {
    let refused = |what: String| Refusal::new(Code::InvalidArgument, "INVALID_PARAMETER", what);
    let (metadata, data) = opened(request);
    credentials::look(&metadata)?;
    let mut bytes = 0_usize;
    let counted = data.map_err(arrow_flight::error::FlightError::from).and_then(move |data| {
        bytes = bytes.saturating_add(data.data_body.len() + data.data_header.len());
        let what = if bytes > BOUND_BYTES_MAX {
            format!("the values take more than {BOUND_BYTES_MAX} bytes")
        } else if is_compressed(&data.data_header) {
            "the values are compressed: send them as they are".to_owned()
        } else {
            return std::future::ready(Ok(data));
        };
        let refusal = Refusal::new(Code::InvalidArgument, "INVALID_PARAMETER", what);
        std::future::ready(Err(arrow_flight::error::FlightError::Tonic(Box::new(refusal.into()))))
    });
    // What reads batches panics on some that are damaged.
    let read = FlightRecordBatchStream::new_from_flight_data(counted).try_collect();
    let batches: Vec<RecordBatch> = AssertUnwindSafe(read)
        .catch_unwind()
        .await
        .map_err(|_| refused("the values can't be read: they are damaged".to_owned()))?
        .map_err(|error| match error {
            arrow_flight::error::FlightError::Tonic(status) => *status,
            other => refused(format!("the values can't be read: {other}")).into(),
        })?;
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let one = concat_batches(&first.schema(), &batches).map_err(|error| refused(error.to_string()))?;
    Ok(kept(Some(&one))?)
}

/// Whether a message says that its body is compressed: then its lengths would be believed before they are looked at.
fn is_compressed(header: &[u8]) -> bool {
    let Ok(message) = root_as_message(header) else { return false };
    let batch = message.header_as_record_batch();
    let batch = batch.or_else(|| message.header_as_dictionary_batch().and_then(|batch| batch.data()));
    batch.is_some_and(|batch| batch.compression().is_some())
}

/// The parameters of a statement as columns; of those whose type nobody knows it is null.
fn parameter_schema(parameters: &[Option<DataType>]) -> Schema {
    let fields = parameters.iter().zip(1_u32..);
    let fields =
        fields.map(|(of, place)| Field::new(format!("${place}"), of.clone().unwrap_or(DataType::Null), true));
    Schema::new(fields.collect::<Vec<_>>())
}

fn no_values() -> ParamValues {
    ParamValues::from(Vec::<ScalarValue>::new())
}

impl Flight {
    /// Cancels what a FlightInfo names; whether any of it was under way.
    fn cancel(&self, info: Option<FlightInfo>) -> bool {
        let endpoints = info.map(|info| info.endpoint).unwrap_or_default();
        let mut cancelled = false;
        for ticket in endpoints.into_iter().filter_map(|endpoint| endpoint.ticket) {
            let command = Any::decode(&*ticket.ticket).ok().and_then(|any| Command::try_from(any).ok());
            if let Some(Command::TicketStatementQuery(ticket)) = command
                && let Ok(named) = Named::decode(&ticket.statement_handle, &self.hub.identity_key)
            {
                cancelled |= self.under_way.cancel(&named.id());
            }
        }
        cancelled
    }
}

#[tonic::async_trait]
impl FlightSqlService for Flight {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        credentials::look(request.metadata())?;
        let answer = HandshakeResponse { protocol_version: 0, payload: NOBODY.into() };
        let answers: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream::iter([Ok(answer)]));
        let mut response = Response::new(answers);
        if let Ok(token) = format!("Bearer {NOBODY}").parse() {
            response.metadata_mut().insert("authorization", token);
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let (metadata, descriptor) = opened(request);
        credentials::look(&metadata)?;
        let statement = self.prepare(&query.query).await?;
        self.to_be_had(&statement, Vec::new(), descriptor)
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let (metadata, descriptor) = opened(request);
        credentials::look(&metadata)?;
        let statement = self.statements.get(&query.prepared_statement_handle)?;
        self.to_be_had(&statement.prepared, statement.parameters, descriptor)
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::catalogs(query)?, request)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::schemas(query.clone(), &[])?, request)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::tables(query.clone(), &[])?, request)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::table_types(query, &[])?, request)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let none = self.about.record_batch([0]).map_err(Status::from)?;
        told(&query, &none, request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::primary_keys(&query, &[])?, request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::foreign_keys(), request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::foreign_keys(), request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Info {
        told(&query, &catalog::foreign_keys(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let none = catalog::types()?.record_batch(query.data_type).map_err(Status::from)?;
        told(&query, &none, request)
    }

    async fn do_get_statement(&self, query: TicketStatementQuery, request: Request<Ticket>) -> Rows<Self> {
        credentials::look(request.metadata())?;
        let named = Named::decode(&query.statement_handle, &self.hub.identity_key)?;
        self.rows(named, request.metadata()).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Rows<Self> {
        credentials::look(request.metadata())?;
        let statement = self.statements.get(&query.prepared_statement_handle)?;
        let named = Named::new(statement.prepared.sql.clone(), statement.parameters);
        self.rows(named, request.metadata()).await
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _request: Request<Ticket>) -> Rows<Self> {
        whole(catalog::catalogs(query))
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _request: Request<Ticket>) -> Rows<Self> {
        whole(catalog::schemas(query, &self.hub.queries.tables().map_err(|error| status(&error))?))
    }

    async fn do_get_tables(&self, query: CommandGetTables, _request: Request<Ticket>) -> Rows<Self> {
        whole(catalog::tables(query, &self.hub.queries.tables().map_err(|error| status(&error))?))
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, _request: Request<Ticket>) -> Rows<Self> {
        whole(catalog::table_types(query, &self.hub.queries.tables().map_err(|error| status(&error))?))
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _request: Request<Ticket>) -> Rows<Self> {
        if query.info.len() > FACTS_MAX {
            let what = format!("at most {FACTS_MAX} facts may be asked for");
            return Err(Refusal::field("TOO_MANY", "info", what).into());
        }
        whole(self.about.record_batch(query.info).map_err(Status::from))
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        _request: Request<Ticket>,
    ) -> Rows<Self> {
        let tables = self.hub.queries.tables().map_err(|error| status(&error))?;
        whole(catalog::primary_keys(&query, &tables))
    }

    async fn do_get_exported_keys(
        &self,
        _query: CommandGetExportedKeys,
        _request: Request<Ticket>,
    ) -> Rows<Self> {
        whole(Ok(catalog::foreign_keys()))
    }

    async fn do_get_imported_keys(
        &self,
        _query: CommandGetImportedKeys,
        _request: Request<Ticket>,
    ) -> Rows<Self> {
        whole(Ok(catalog::foreign_keys()))
    }

    async fn do_get_cross_reference(
        &self,
        _query: CommandGetCrossReference,
        _request: Request<Ticket>,
    ) -> Rows<Self> {
        whole(Ok(catalog::foreign_keys()))
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _request: Request<Ticket>,
    ) -> Rows<Self> {
        whole(catalog::types()?.record_batch(query.data_type).map_err(Status::from))
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        credentials::look(request.metadata())?;
        let statement = self.prepare(&command.query).await?;
        self.update(&statement, no_values(), request.metadata()).await
    }

    async fn do_put_statement_ingest(
        &self,
        _command: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(unsupported("rows can't be put into tables"))
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let parameters = bound(request).await?;
        self.statements.bind(&query.prepared_statement_handle, parameters)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let metadata = request.metadata().clone();
        let parameters = bound(request).await?;
        let statement = self.statements.get(&query.prepared_statement_handle)?.prepared;
        let values = Named::new(statement.sql.clone(), parameters).parameters()?;
        self.update(&statement, values, &metadata).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        credentials::look(request.metadata())?;
        let prepared = self.prepare(&query.query).await?;
        let dataset_schema = catalog::schema_bytes(&prepared.schema)?;
        let parameter_schema = catalog::schema_bytes(&parameter_schema(&prepared.parameters))?;
        let handle = self.statements.keep(prepared)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.to_vec().into(),
            dataset_schema,
            parameter_schema,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        self.statements.close(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_begin_transaction(
        &self,
        _query: ActionBeginTransactionRequest,
        _request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        Err(unsupported("there are no transactions"))
    }

    async fn do_action_begin_savepoint(
        &self,
        _query: ActionBeginSavepointRequest,
        _request: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        Err(unsupported("there are no transactions"))
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        /// The protocol's numbers.
        const CANCELLED: i32 = 1;
        const NOT_CANCELLABLE: i32 = 3;
        let cancelled = self.cancel(FlightInfo::decode(query.info).ok());
        Ok(ActionCancelQueryResult { result: if cancelled { CANCELLED } else { NOT_CANCELLABLE } })
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description = "Ends a query under way at this node.\n\
                           Request Message: CancelFlightInfoRequest\n\
                           Response Message: CancelFlightInfoResult";
        let cancel =
            ActionType { r#type: CANCEL_FLIGHT_INFO.to_owned(), description: description.to_owned() };
        Some(vec![Ok(cancel)])
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let action = request.into_inner();
        if action.r#type != CANCEL_FLIGHT_INFO {
            return Err(unsupported("there is no such action"));
        }
        let request = CancelFlightInfoRequest::decode(action.body).map_err(|_| {
            Refusal::new(
                Code::InvalidArgument,
                "MALFORMED",
                "the action's body is no CancelFlightInfoRequest",
            )
        })?;
        let cancelled = self.cancel(request.info);
        let status = if cancelled { CancelStatus::Cancelled } else { CancelStatus::NotCancellable };
        let body = CancelFlightInfoResult { status: status.into() }.encode_to_vec();
        let answers = stream::iter([Ok(arrow_flight::Result { body: body.into() })]);
        Ok(Response::new(Box::pin(answers)))
    }

    /// What the hub says of itself is said at its start.
    async fn register_sql_info(&self, _id: i32, _result: &SqlInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_by_their_places() {
        let schema = parameter_schema(&[Some(DataType::Utf8), None]);
        let shown: Vec<String> =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        assert_eq!(shown, ["$1 Utf8", "$2 Null"]);
    }
}
