//! Three engines with their workers on loopback, and one engine with everything.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::DataType, util::display::ArrayFormatter};
use futures::StreamExt;
use isthmus_query::{Answer, Engine, EngineOptions, ParamValues, QueryError, RunOptions, ScalarValue};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;

use crate::{
    fake::{Node, SHARDS, Store},
    world::World,
};

/// Engines, and what they read.
pub struct Cluster {
    pub engines: Vec<Engine>,
    pub store: Arc<Store>,
    pub nodes: Vec<Arc<Node>>,
    pub folder: TempDir,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

pub fn options(folder: PathBuf) -> EngineOptions {
    EngineOptions { batch_rows: 512, ..EngineOptions::spilling_into(folder) }
}

impl Cluster {
    /// Three nodes, with 3, 2 and 2 shards.
    pub async fn of_three(world: &World) -> Self {
        Self::with(world, options).await
    }

    pub async fn with(world: &World, options: impl Fn(PathBuf) -> EngineOptions) -> Self {
        let layout: Vec<(u64, u32)> = (0..SHARDS).map(|shard| (shard, 1 + (shard % 3) as u32)).collect();
        Self::of(Store::of(world), layout, options).await
    }

    /// One node with one shard, which has everything.
    pub async fn of_one(world: &World) -> Self {
        Self::of(Store::of(world).in_one(), vec![(0, 1)], options).await
    }

    /// Two nodes, of which the one that is asked has nothing.
    pub async fn of_another(world: &World) -> Self {
        Self::of(Store::of(world).in_one(), vec![(0, 2)], options).await
    }

    async fn of(
        store: Arc<Store>,
        layout: Vec<(u64, u32)>,
        options: impl Fn(PathBuf) -> EngineOptions,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("export")).unwrap();
        let count = layout.iter().map(|(_, node)| *node).max().unwrap();
        let (mut engines, mut nodes, mut servers, mut peers) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for id in 1..=count {
            let node = Arc::new(Node {
                id,
                store: Arc::clone(&store),
                layout: layout.clone(),
                peers: Mutex::new(Vec::new()),
            });
            let mut options = options(folder.path().join(format!("spill-{id}")));
            options.export_dir = Some(folder.path().join("export"));
            let engine = Engine::start(Arc::clone(&node) as _, options).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            peers.push((id, format!("http://{}", listener.local_addr().unwrap())));
            let routes = engine.add_worker_to(Routes::builder()).routes();
            servers.push(tokio::spawn(async move {
                let server = tonic::transport::Server::builder().add_routes(routes);
                server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
            }));
            engines.push(engine);
            nodes.push(node);
        }
        for node in &nodes {
            (*node.peers.lock().unwrap()).clone_from(&peers);
        }
        Self { engines, store, nodes, folder, servers }
    }

    pub async fn answer(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
        options: RunOptions,
    ) -> Result<Answer, QueryError> {
        answer(&self.engines[0], sql, values, options).await
    }

    /// The rows of a query as texts.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_rows(sql, vec![]).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}"))
    }

    pub async fn try_rows(
        &self,
        sql: &str,
        values: Vec<ScalarValue>,
    ) -> Result<Vec<Vec<String>>, QueryError> {
        collect(self.answer(sql, values, RunOptions::default()).await?).await
    }

    /// The error of a query.
    pub async fn error(&self, sql: &str) -> QueryError {
        match self.try_rows(sql, vec![]).await {
            Err(error) => error,
            Ok(rows) => panic!("{sql} gave {} rows", rows.len()),
        }
    }
}

pub async fn answer(
    engine: &Engine,
    sql: &str,
    values: Vec<ScalarValue>,
    options: RunOptions,
) -> Result<Answer, QueryError> {
    let prepared = engine.prepare(sql).await?;
    engine.run(&prepared, ParamValues::from(values), options).await
}

pub async fn collect(mut answer: Answer) -> Result<Vec<Vec<String>>, QueryError> {
    let mut rows = Vec::new();
    while let Some(batch) = answer.batches.next().await {
        rows.extend(texts(&batch?));
    }
    Ok(rows)
}

/// Numbers with a fraction are rounded: sums of doubles depend on the order of their parts.
fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    let columns: Vec<(ArrayFormatter<'_>, bool)> = batch
        .columns()
        .iter()
        .map(|column| {
            let is_double = *column.data_type() == DataType::Float64;
            (ArrayFormatter::try_new(column, &options).unwrap(), is_double)
        })
        .collect();
    let cell = |(format, is_double): &(ArrayFormatter<'_>, bool), row| {
        let text = format.value(row).to_string();
        match text.parse::<f64>() {
            Ok(number) if *is_double => format!("{number:.6}"),
            _ => text,
        }
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

/// Waits for something that is to come about by itself.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never came about that {what}"));
}
