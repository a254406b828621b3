//! Flight SQL, as a client speaks it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    ipc::{CompressionType, writer::IpcWriteOptions},
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightInfo, Ticket,
    encode::FlightDataEncoderBuilder,
    sql::{
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandGetDbSchemas,
        CommandGetPrimaryKeys, CommandGetTables, CommandPreparedStatementQuery, ProstMessageExt, SqlInfo,
        client::FlightSqlServiceClient,
    },
    utils::batches_to_flight_data,
};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use isthmus_tests::ask;
use prost::Message as _;
use tonic::{Code, Status, transport::Channel};

use crate::Hub;

/// A client of a node.
pub fn client(node: &Channel) -> FlightSqlServiceClient<Channel> {
    FlightSqlServiceClient::new(node.clone())
}

/// The rows behind a FlightInfo, read through another node perhaps.
pub async fn got(
    node: &Channel,
    info: FlightInfo,
) -> Result<Vec<RecordBatch>, arrow_flight::error::FlightError> {
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        assert!(endpoint.location.is_empty(), "any node serves it");
        let ticket: Ticket = endpoint.ticket.unwrap();
        let stream = client(node)
            .do_get(ticket)
            .await
            .map_err(|error| arrow_flight::error::FlightError::ExternalError(Box::new(error)))?;
        batches.extend(stream.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}

/// The rows of a statement: asked for at one node, its ticket taken to another.
pub async fn asked(node: &Channel, statement: &str) -> Vec<RecordBatch> {
    let info = client(node).execute(statement.to_owned(), None).await.unwrap();
    got(node, info).await.unwrap()
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

pub async fn a_client_finds_its_way_around(hub: &Hub) {
    for (index, node) in hub.nodes.iter().enumerate() {
        let mut flight = client(node);
        // Whoever sends a name and a password is let in like everybody, and is told no lie.
        let token = flight.handshake("ann", "secret").await.unwrap();
        assert_eq!(String::from_utf8_lossy(&token), "nobody-is-told-apart");
        let other = &hub.nodes[(index + 1) % 3];
        let info = flight.get_catalogs().await.unwrap();
        assert_eq!(rows(&got(node, info).await.unwrap()), 1);
        let wanted = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: Some("pub%".to_owned()) };
        let info = flight.get_db_schemas(wanted).await.unwrap();
        assert_eq!(rows(&got(other, info).await.unwrap()), 1);
        let wanted = CommandGetTables {
            catalog: Some("isthmus".to_owned()),
            db_schema_filter_pattern: None,
            table_name_filter_pattern: Some("event%".to_owned()),
            table_types: Vec::new(),
            include_schema: true,
        };
        let info = flight.get_tables(wanted).await.unwrap();
        let tables = got(other, info).await.unwrap();
        assert_eq!((rows(&tables), tables[0].num_columns()), (1, 5));
        let info = flight.get_table_types().await.unwrap();
        assert!(rows(&got(node, info).await.unwrap()) >= 1);
        let info = flight.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
        assert_eq!(rows(&got(node, info).await.unwrap()), 1);
        for (table, key) in [
            ("profiles", &["profile_id"][..]),
            ("events", &["event_key"]),
            ("identifiers", &["namespace", "value"]),
            ("nowhere", &[]),
        ] {
            let wanted = CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.to_owned() };
            let info = flight.get_primary_keys(wanted).await.unwrap();
            let told = got(other, info).await.unwrap();
            let columns = told.iter().flat_map(|batch| {
                let columns = batch.column(3).as_any().downcast_ref::<StringArray>().unwrap();
                columns.iter().map(|column| column.unwrap().to_owned()).collect::<Vec<_>>()
            });
            assert_eq!(columns.collect::<Vec<_>>(), key, "{table}");
        }
        // A ticket is served by any node.
        let statement = "SELECT message_id FROM events WHERE name = 'Same'".to_owned();
        let info = flight.execute(statement, None).await.unwrap();
        assert_eq!(rows(&got(other, info).await.unwrap()), 60);
    }
}

pub async fn values_are_bound_to_prepared_statements(hub: &Hub) {
    let node = &hub.nodes[1];
    let statement =
        "SELECT message_id FROM events WHERE name = $1 AND message_id >= $2 ORDER BY 1".to_owned();
    let mut prepared = client(node).prepare(statement, None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 2);
    let bound = |from: &str| {
        let columns: [(&str, ArrayRef); 2] = [
            ("1", Arc::new(StringArray::from(vec!["Same"]))),
            ("2", Arc::new(StringArray::from(vec![from]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    for (from, expected) in [("Same-0050", 10), ("Same-0000", 60), ("Same-9999", 0)] {
        prepared.set_parameters(bound(from)).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(rows(&got(node, info).await.unwrap()), expected, "{from}");
    }
    let several: ArrayRef = Arc::new(StringArray::from(vec!["Same", "Other"]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    prepared.set_parameters(RecordBatch::try_from_iter([("1", several), ("2", number)]).unwrap()).unwrap();
    let refused = prepared.execute().await.unwrap_err().to_string();
    assert!(refused.contains("one row"), "{refused}");
    prepared.close().await.unwrap();
}

/// Values that are damaged, and tickets that the hub hasn't written, are refused; and the node goes on.
pub async fn what_is_damaged_is_refused(hub: &Hub) {
    let node = &hub.nodes[2];
    let mut flight = client(node);
    let query = "SELECT message_id FROM events WHERE name = $1".to_owned();
    let wanted = ActionCreatePreparedStatementRequest { query, transaction_id: None };
    let action = Action::new("CreatePreparedStatement", wanted.as_any().encode_to_vec());
    let mut answer = flight.inner_mut().do_action(action).await.unwrap().into_inner();
    let answer = Any::decode(answer.try_next().await.unwrap().unwrap().body).unwrap();
    let prepared: ActionCreatePreparedStatementResult = answer.unpack().unwrap().unwrap();
    let prepared_statement_handle = prepared.prepared_statement_handle;
    let command = CommandPreparedStatementQuery { prepared_statement_handle }.as_any().encode_to_vec();
    let name: ArrayRef = Arc::new(StringArray::from(vec!["Same"]));
    let row = RecordBatch::try_from_iter([("1", name)]).unwrap();
    let whole = batches_to_flight_data(&row.schema(), vec![row.clone()]).unwrap();
    let sent = |mut data: Vec<FlightData>| {
        data[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command.clone()));
        let mut flight = client(node);
        async move {
            let answer = flight.inner_mut().do_put(stream::iter(data)).await?;
            answer.into_inner().try_collect::<Vec<_>>().await.map(|_| ())
        }
    };
    sent(whole.clone()).await.unwrap();
    // There is less than the header says; the header ends too soon; and lengths are said that would be believed.
    let (mut short, mut cut) = (whole.clone(), whole);
    short.last_mut().unwrap().data_body = Bytes::new();
    let header = &mut cut.last_mut().unwrap().data_header;
    header.truncate(header.len() / 2);
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let compressed = FlightDataEncoderBuilder::new().with_options(options);
    let compressed = compressed.build(stream::iter([Ok(row)])).try_collect().await.unwrap();
    for data in [short, cut, compressed] {
        let status = sent(data).await.unwrap_err();
        assert_eq!(
            (status.code(), ask::reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_PARAMETER"),
            "{status}"
        );
    }
    let info = flight.execute("SELECT 1".to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut changed = ticket.ticket.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let status = flight.inner_mut().do_get(Ticket::new(changed)).await.unwrap_err();
    assert_eq!(
        (status.code(), ask::reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_TICKET"),
        "{status}"
    );
    assert_eq!(rows(&got(node, info).await.unwrap()), 1);
}

/// What a node answers to an action.
async fn action(node: &Channel, name: &str, body: Vec<u8>) -> Result<(), Status> {
    let mut flight = client(node);
    let answer = flight.inner_mut().do_action(Action::new(name, body)).await?;
    answer.into_inner().try_collect::<Vec<_>>().await.map(|_| ())
}

pub async fn what_is_not_served_is_refused(hub: &Hub) {
    let node = &hub.nodes[0];
    let refused = |answer: Result<(), Status>| {
        let status = answer.unwrap_err();
        (status.code(), ask::reason(&status))
    };
    let unknown = refused(action(node, "DropEverything", Vec::new()).await);
    assert_eq!(unknown, (Code::Unimplemented, "UNSUPPORTED".to_owned()));
    let unreadable = refused(action(node, "CancelFlightInfo", b"\xff\xff".to_vec()).await);
    assert_eq!(unreadable, (Code::InvalidArgument, "MALFORMED".to_owned()));
    let mut flight = client(node);
    let ticket = Ticket::new(b"made up".to_vec());
    let status = flight.inner_mut().do_get(ticket).await.unwrap_err();
    assert_eq!(
        (status.code(), ask::reason(&status).as_str()),
        (Code::InvalidArgument, "MALFORMED"),
        "{status}"
    );
    let closed =
        client(node).execute_update("DELETE FROM events".to_owned(), None).await.unwrap_err().to_string();
    assert!(closed.contains("BAD_QUERY") || closed.to_lowercase().contains("delete"), "{closed}");
}
