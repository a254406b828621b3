//! `COPY` to an object store: one with the interface of Amazon S3, served by moto.

use std::{collections::BTreeSet, path::PathBuf};

use isthmus_client::Reason;
use isthmus_tests::{
    cli::Ended,
    cluster::PATIENCE,
    program::{self, Program},
    tools::{folder, skipped},
};
use tokio::time::Instant;
use tonic::Code;

use crate::{Hub, bounds::refused};

/// How often something that is waited for is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// A store that runs beside the cluster. Dropping it ends it.
pub struct Store {
    port: u64,
    _serving: Program,
}

fn python() -> PathBuf {
    folder().join("python/bin/python")
}

/// The script that serves a store, and looks into it.
fn script() -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sdks/store.py").display().to_string()
}

impl Store {
    /// Serves the empty bucket `hub`; nothing where what serves it is not installed.
    pub fn serve() -> Option<Self> {
        let import =
            std::process::Command::new(python()).args(["-c", "import moto.server, pyarrow"]).output();
        if !import.is_ok_and(|ended| ended.status.success()) {
            skipped("moto");
            return None;
        }
        let mut serving = Program::start(&python().display().to_string(), &[&script(), "serve", "hub"], &[]);
        let told: serde_json::Value = serde_json::from_str(&serving.line_with("port")).unwrap();
        Some(Self { port: told["port"].as_u64().unwrap(), _serving: serving })
    }

    /// What nodes have to know of it: only their environment tells them.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let set = |name, value: &str| (name, value.to_owned());
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            set("AWS_ALLOW_HTTP", "true"),
            set("AWS_ACCESS_KEY_ID", "testing"),
            set("AWS_SECRET_ACCESS_KEY", "testing"),
            set("AWS_REGION", "us-east-1"),
            set("ISTHMUS_QUERY__EXPORT_URLS", "s3://hub/exports/, s3://nowhere/"),
        ]
    }

    /// The objects below a folder of the bucket, and the rows of the Parquet files among them.
    async fn look(&self, folder: &'static str) -> (Vec<String>, Vec<serde_json::Value>) {
        let port = self.port.to_string();
        let look = move || {
            let (python, place) = (python().display().to_string(), format!("hub/{folder}"));
            program::run(&python, &[&script(), "look", &port, &place], &[])
        };
        let ended: Ended = tokio::task::spawn_blocking(look).await.unwrap();
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        let mut told = ended.last();
        (
            serde_json::from_value(told["objects"].take()).unwrap(),
            serde_json::from_value(told["rows"].take()).unwrap(),
        )
    }
}

pub async fn rows_are_written_into_an_object_store(hub: &Hub) {
    let Some(store) = &hub.store else { return };
    hub.fill("Stored", 90).await;
    let all = "SELECT message_id FROM events WHERE name = 'Stored'";
    let copy = format!("COPY ({all}) TO 's3://hub/exports/orders/' STORED AS PARQUET");
    let told = crate::rows(&hub.clients[1], copy.as_str()).await;
    let (objects, rows) = store.look("exports/orders/").await;
    // How many nodes write depends on who leads what.
    assert!(
        objects[0] == "_SUCCESS" && objects[1..].iter().all(|name| name.starts_with("part-")),
        "{objects:?}"
    );
    assert_eq!(told, [format!(r#"{{"rows":90,"files":{}}}"#, objects.len() - 1)]);
    let stored: BTreeSet<&str> = rows.iter().map(|row| row["message_id"].as_str().unwrap()).collect();
    assert_eq!((rows.len(), stored.len()), (90, 90), "each row once");
    // Nothing is written over.
    assert_eq!(refused(hub, 0, copy.as_str()).await.reason, Reason::BadQuery);
    // More than one request carries: 24 MiB.
    let large = format!(
        "COPY (SELECT message_id, repeat('x', 1048576) AS x FROM ({all} ORDER BY 1 LIMIT 24)) TO 's3://hub/exports/large.csv'"
    );
    assert_eq!(crate::rows(&hub.clients[2], large.as_str()).await, [r#"{"rows":24,"files":1}"#]);
    assert_eq!(store.look("exports/").await.0.iter().filter(|name| *name == "large.csv").count(), 1);
    assert_eq!(refused(hub, 0, large.as_str()).await.reason, Reason::BadQuery);
}

pub async fn what_a_store_refuses_is_told_and_leaves_nothing(hub: &Hub) {
    let Some(store) = &hub.store else { return };
    let all = "SELECT message_id FROM events WHERE name = 'Stored'";
    for place in ["s3://hub/x.csv", "s3://other/x.csv", "gs://hub/exports/x.csv"] {
        let refusal = refused(hub, 1, format!("COPY ({all}) TO '{place}'").as_str()).await;
        assert_eq!((refusal.code, &refusal.reason), (Code::InvalidArgument, &Reason::BadQuery), "{refusal}");
    }
    for place in ["s3://nowhere/orders/", "s3://nowhere/orders.csv"] {
        let refusal = refused(hub, 1, format!("COPY ({all}) TO '{place}' STORED AS CSV").as_str()).await;
        assert_eq!((refusal.code, &refusal.reason), (Code::InvalidArgument, &Reason::BadQuery), "{refusal}");
        assert!(refusal.message.contains("NoSuchBucket"), "{refusal}");
    }
    // A statement that fails after some nodes have written.
    let fails = "COPY (SELECT message_id, 1 / (number - 50) AS x FROM (SELECT message_id, CAST(properties ->> 'number' AS BIGINT) AS number \
                 FROM events WHERE name = 'Stored')) TO 's3://hub/exports/failed/' STORED AS CSV";
    refused(hub, 1, fails).await;
    // What a node had on its way when another failed is removed, too, once it lies there.
    let until = Instant::now() + PATIENCE;
    loop {
        let left = store.look("exports/failed/").await.0;
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{left:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
