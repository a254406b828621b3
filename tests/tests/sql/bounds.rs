//! What makes no sense, what asks for too much, and what nobody waits for any more.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use arrow_flight::CancelFlightInfoRequest;
use futures::TryStreamExt as _;
use isthmus_client::{Error, Query, Reason, Refusal};
use isthmus_tests::{ask, cluster::PATIENCE};
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;

use crate::{Hub, flight};

/// More than any node can do in the time that it is given.
const ENDLESS: &str = "SELECT count(*) FROM events a, events b, events c, events d, events e, events f \
                       WHERE a.message_id || b.message_id || c.message_id || d.message_id || e.message_id || f.message_id = 'x'";

/// How often something that is waited for is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(10);

/// What a statement is refused with.
pub async fn refused(hub: &Hub, node: usize, query: impl Into<Query>) -> Refusal {
    let failed = async {
        let rows = hub.clients[node].query(query).await?;
        rows.try_collect::<Vec<_>>().await
    };
    match failed.await {
        Err(Error::Refused(refusal)) => *refusal,
        other => panic!("{other:?}"),
    }
}

pub async fn what_makes_no_sense_is_told_with_its_place(hub: &Hub) {
    for (sql, place) in [
        ("SELEC 1", Some(("1", "1"))),
        ("SELECT 1,\n       emial\nFROM profiles", Some(("2", "8"))),
        ("SELECT * FROM nowhere", Some(("1", "15"))),
        ("SELECT 1; SELECT 2", None),
        ("", None),
        ("DELETE FROM events", None),
        ("CREATE TABLE t AS SELECT 1", None),
        ("SET datafusion.execution.batch_size = 1", None),
    ] {
        for node in 0..3 {
            let refusal = refused(hub, node, sql).await;
            assert_eq!(
                (refusal.code, &refusal.reason),
                (Code::InvalidArgument, &Reason::BadQuery),
                "{sql}: {refusal}"
            );
            if let Some((line, column)) = place {
                let told = (refusal.metadata.get("line"), refusal.metadata.get("column"));
                assert_eq!(told, (Some(&line.to_owned()), Some(&column.to_owned())), "{sql}: {refusal}");
            }
        }
    }
    let printed = hub.cli.run(&hub.cluster.endpoints(), &["sql", "SELECT 1,\n       emial\nFROM profiles"]);
    assert_eq!((printed.code, printed.out.as_str()), (1, ""));
    let lines: Vec<&str> = printed.err.lines().collect();
    assert!(lines.contains(&"  line 2:        emial"), "{}", printed.err);
    assert!(lines.contains(&"                 ^"), "{}", printed.err);
}

pub async fn too_many_rows_are_refused_and_what_came_is_no_answer(hub: &Hub) {
    let query = Query::new("SELECT message_id FROM events WHERE name = 'Same'").rows_max(59);
    let refusal = refused(hub, 0, query).await;
    assert_eq!((refusal.code, &refusal.reason), (Code::ResourceExhausted, &Reason::QueryLimit));
    assert_eq!(refusal.metadata.get("limit").map(String::as_str), Some("rows"));
    let above = Query::new("SELECT 1").rows_max(u64::MAX);
    assert_eq!(refused(hub, 0, above).await.reason.as_str(), "INVALID_LIMIT");
}

/// The head of a page of the console about a statement.
fn in_the_console(address: SocketAddr, statement: &str) -> String {
    let (_, page) = ask::http(address, "/sql");
    let (_, token) = page.split_once("name=\"token\" value=\"").unwrap();
    let form =
        format!("token={}&statement={}", token.split('"').next().unwrap(), statement.replace(' ', "+"));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /sql HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: close\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(page.contains("<textarea"), "the statement can be changed: {page}");
    head.to_owned()
}

pub async fn what_runs_away_is_stopped(hub: &Hub) {
    let address = hub.cluster.nodes[0].http;
    let beside = tokio::task::spawn_blocking(move || in_the_console(address, ENDLESS));
    let refusal = refused(hub, 1, ENDLESS).await;
    assert_eq!((refusal.code, &refusal.reason), (Code::ResourceExhausted, &Reason::QueryLimit), "{refusal}");
    let head = beside.await.unwrap();
    assert!(head.starts_with("HTTP/1.1 422 ") && !head.to_lowercase().contains("retry-after"), "{head}");
    // What only makes no sense is what the page is for.
    let head = tokio::task::spawn_blocking(move || in_the_console(address, "SELEC 1")).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // The node serves as before.
    assert_eq!(crate::rows(&hub.clients[1], "SELECT 1 AS one").await, [r#"{"one":1}"#]);
}

/// A number of a node's metrics.
fn metric(hub: &Hub, node: usize, name: &str) -> u64 {
    let (code, text) = ask::http(hub.cluster.nodes[node].http, "/metrics");
    assert_eq!(code, 200);
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until a number of a node's metrics is this.
async fn comes_to(hub: &Hub, node: usize, name: &str, value: u64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let seen = metric(hub, node, name);
        if seen == value {
            return;
        }
        assert!(Instant::now() < until, "{name} of node {node} is {seen} and does not come to {value}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

const RUNNING: &str = "isthmus_query_running_queries ";
const CANCELLED: &str = "isthmus_query_queries_total{outcome=\"cancelled\"}";

pub async fn who_hangs_up_ends_the_work(hub: &Hub) {
    let before = metric(hub, 2, CANCELLED);
    let client = hub.clients[2].clone();
    // Its columns come at once; who lets go of them has hung up already.
    let asking = tokio::spawn(async move {
        let rows = client.query(ENDLESS).await?;
        rows.try_collect::<Vec<_>>().await
    });
    comes_to(hub, 2, RUNNING, 1).await;
    asking.abort();
    comes_to(hub, 2, RUNNING, 0).await;
    comes_to(hub, 2, CANCELLED, before + 1).await;
}

pub async fn a_ticket_can_be_cancelled(hub: &Hub) {
    let node = hub.nodes[0].clone();
    let info = flight::client(&node).execute(ENDLESS.to_owned(), None).await.unwrap();
    let reading = tokio::spawn({
        let (node, info) = (node.clone(), info.clone());
        async move { flight::got(&node, info).await.map(|_| ()) }
    });
    comes_to(hub, 0, RUNNING, 1).await;
    let body = CancelFlightInfoRequest { info: Some(info) }.encode_to_vec();
    let action = arrow_flight::Action::new("CancelFlightInfo", body);
    let mut client = flight::client(&node);
    let answer = client.inner_mut().do_action(action).await.unwrap().into_inner();
    let answers: Vec<_> = answer.try_collect().await.unwrap();
    let told = arrow_flight::CancelFlightInfoResult::decode(answers[0].body.as_ref()).unwrap();
    assert_eq!(told.status, arrow_flight::CancelStatus::Cancelled as i32);
    let ended = reading.await.unwrap().unwrap_err().to_string();
    assert!(ended.contains("cancelled"), "{ended}");
    comes_to(hub, 0, RUNNING, 0).await;
}
