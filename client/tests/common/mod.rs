//! A node as the client sees it: all services over gRPC on a port of its own, with answers from a script.
//!
//! Without a script, `Ingest` keeps message ids in memory and judges JSON lines roughly as the hub does, so that
//! counts and repetitions can be checked. It says nothing about the real node.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod query;
pub mod segment;
pub mod stream;

use std::{
    collections::{BTreeSet, VecDeque},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

use isthmus_client::proto::{
    self, IngestItem, ItemOutcome, ItemResult, cluster_service_server as cluster, ingest_item::Body,
    ingest_service_server as ingest, profile_service_server as profile,
    quarantine_service_server as quarantine, query_service_server::QueryServiceServer,
    segment_service_server as segments, source_service_server as source,
};
use tokio::sync::{Notify, oneshot};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{ServerTlsConfig, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the next call meets.
pub enum Step {
    /// This error, before anything happens.
    Fail(Status),
    /// Everything happens, and then this error: the answer is lost.
    LoseAnswer(Status),
    /// These outcomes instead of the real ones; nothing is stored.
    Outcomes(Vec<(ItemOutcome, bool)>),
    /// No answer until the test says so.
    Hold(Arc<Notify>),
}

#[derive(Default)]
pub struct State {
    pub script: VecDeque<Step>,
    /// Names of the calls received, in order.
    pub calls: Vec<String>,
    pub request_ids: Vec<String>,
    /// Batches as received.
    pub batches: Vec<proto::IngestRequest>,
    /// What is stored.
    pub message_ids: BTreeSet<String>,
    pub profiles: Vec<proto::Profile>,
    pub events: Vec<proto::TimelineEvent>,
    pub entries: Vec<proto::QuarantineEntry>,
    pub status: VecDeque<proto::StatusResponse>,
    pub nodes: Vec<proto::Node>,
    pub replicas: Vec<proto::Replica>,
    pub sources: Vec<proto::Source>,
    /// What each watch brings, and whether it ends with an error; it ends without a word otherwise.
    pub watches: VecDeque<(Vec<proto::WatchResponse>, Option<Status>)>,
    /// What watches asked for.
    pub watched: Vec<proto::WatchRequest>,
    /// How the next ingest streams go; the default when there is none.
    pub plans: VecDeque<stream::Plan>,
    pub streamed: stream::Streamed,
    /// What each query brings.
    pub answers: VecDeque<query::Answer>,
    /// What was asked.
    pub queries: Vec<proto::QueryRequest>,
    pub tables: Vec<proto::QueryTable>,
    /// The versions of definitions that answer, as they are asked for; the last one stays.
    pub live_versions: VecDeque<u64>,
    /// What watches of segments asked for.
    pub segments_watched: Vec<proto::SegmentServiceWatchRequest>,
}

/// A running fake; stops when dropped.
pub struct Fake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Services(Arc<Mutex<State>>);

impl Fake {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// One that is reached over TLS alone.
    pub fn start_tls(tls: ServerTlsConfig) -> Self {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let services = Services(state.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let incoming =
                    TcpIncoming::from(tokio::net::TcpListener::from_std(listener).expect("a listener"));
                let mut server = tonic::transport::Server::builder();
                if let Some(tls) = tls {
                    server = server.tls_config(tls).expect("keys that fit");
                }
                let serving = server
                    .add_service(ingest::IngestServiceServer::new(services.clone()))
                    .add_service(profile::ProfileServiceServer::new(services.clone()))
                    .add_service(cluster::ClusterServiceServer::new(services.clone()))
                    .add_service(source::SourceServiceServer::new(services.clone()))
                    .add_service(QueryServiceServer::new(services.clone()))
                    .add_service(segments::SegmentServiceServer::new(services.clone()))
                    .add_service(quarantine::QuarantineServiceServer::new(services))
                    .serve_with_incoming(incoming);
                tokio::select! { result = serving => result.expect("serves"), _ = stopped => {} }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state().script.extend(steps);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An error as the hub answers it.
pub fn refusal(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "isthmus.v1", [] as [(String, String); 0]);
    Status::with_error_details(code, message, details)
}

/// A port that nothing listens on.
pub fn dead_endpoint() -> String {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .to_string()
}

impl Services {
    /// Notes the call, and carries out the script's next step.
    async fn begin<T>(&self, name: &str, request: &Request<T>) -> Result<Option<Step>, Status> {
        let step = {
            let mut state = self.0.lock().expect("not poisoned");
            state.calls.push(name.to_owned());
            let id =
                request.metadata().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
            state.request_ids.push(id.to_owned());
            assert!(request.metadata().contains_key("grpc-timeout"), "every call has a deadline");
            // A status is asked for besides, whenever a client likes: what holds an answer back is for another call.
            match state.script.front() {
                Some(Step::Hold(_)) if name == "status" => None,
                _ => state.script.pop_front(),
            }
        };
        match step {
            Some(Step::Fail(status)) => Err(status),
            Some(Step::Hold(release)) => {
                release.notified().await;
                Ok(None)
            }
            step => Ok(step),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }
}

fn result(outcome: ItemOutcome, reason: &str) -> ItemResult {
    let message = if reason.is_empty() { String::new() } else { "see the documentation".to_owned() };
    ItemResult { outcome: outcome.into(), reason: reason.into(), message, ..Default::default() }
}

/// The message id of an item; else why it is quarantined.
fn judge(item: &IngestItem) -> Result<String, &'static str> {
    match &item.body {
        Some(Body::Event(event)) if event.user_id.is_empty() && event.anonymous_id.is_empty() => {
            Err("NO_IDENTIFIER")
        }
        Some(Body::Event(event)) => Ok(event.message_id.clone()),
        Some(Body::Json(text)) => {
            let value: serde_json::Value = serde_json::from_slice(text).map_err(|_| "MALFORMED")?;
            value["userId"].as_str().ok_or("NO_IDENTIFIER")?;
            value["messageId"].as_str().map(str::to_owned).ok_or("NO_MESSAGE_ID")
        }
        Some(Body::Unreadable(_)) | None => Err("MALFORMED"),
    }
}

#[tonic::async_trait]
impl ingest::IngestService for Services {
    async fn ingest(
        &self,
        request: Request<proto::IngestRequest>,
    ) -> Result<Response<proto::IngestResponse>, Status> {
        let step = self.begin("ingest", &request).await?;
        let batch = request.into_inner();
        let mut state = self.state();
        state.batches.push(batch.clone());
        if batch.write_key == "wrong" {
            return Err(refusal(Code::Unauthenticated, "WRITE_KEY_UNKNOWN", "the write key is not in force"));
        }
        let results = match &step {
            Some(Step::Outcomes(outcomes)) => outcomes
                .iter()
                .map(|&(outcome, retryable)| ItemResult {
                    outcome: outcome.into(),
                    retryable,
                    ..Default::default()
                })
                .collect(),
            _ => {
                let mut one = |item| match judge(item) {
                    Err(reason) => result(ItemOutcome::Quarantined, reason),
                    Ok(id) if state.message_ids.insert(id.clone()) => result(ItemOutcome::Accepted, ""),
                    Ok(_) => result(ItemOutcome::Duplicate, ""),
                };
                batch.items.iter().map(&mut one).collect()
            }
        };
        match step {
            Some(Step::LoseAnswer(status)) => Err(status),
            _ => {
                let version = format!("{:016x}", state.batches.len());
                Ok(Response::new(proto::IngestResponse { results, version }))
            }
        }
    }

    type IngestStreamStream = stream::Responses;

    async fn ingest_stream(
        &self,
        request: Request<Streaming<proto::IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "a stream goes on for ever");
        Ok(Response::new(stream::serve(self.0.clone(), request.into_inner())))
    }
}

/// A page of a list: the cursor is the position.
fn page<T: Clone>(all: &[T], limit: u32, cursor: &str) -> (Vec<T>, String) {
    let from = cursor.parse::<usize>().unwrap_or(0);
    let to = all.len().min(from + limit as usize);
    (all[from..to].to_vec(), if to < all.len() { to.to_string() } else { String::new() })
}

fn not_found() -> Status {
    refusal(Code::NotFound, "NOT_FOUND", "nothing is known under it")
}

#[tonic::async_trait]
impl profile::ProfileService for Services {
    async fn get(&self, request: Request<proto::GetRequest>) -> Result<Response<proto::GetResponse>, Status> {
        self.begin("get", &request).await?;
        let profile = self.state().profiles.first().cloned().ok_or_else(not_found)?;
        Ok(Response::new(proto::GetResponse { profile: Some(profile) }))
    }

    async fn batch_get(
        &self,
        request: Request<proto::BatchGetRequest>,
    ) -> Result<Response<proto::BatchGetResponse>, Status> {
        self.begin("batch_get", &request).await?;
        let entry = |_| proto::BatchGetEntry { profile: None };
        let entries = request.into_inner().keys.iter().map(entry).collect();
        Ok(Response::new(proto::BatchGetResponse { entries }))
    }

    async fn list(
        &self,
        request: Request<proto::ProfileServiceListRequest>,
    ) -> Result<Response<proto::ProfileServiceListResponse>, Status> {
        self.begin("list", &request).await?;
        let request = request.into_inner();
        let (profiles, next_cursor) = page(&self.state().profiles, request.limit, &request.cursor);
        Ok(Response::new(proto::ProfileServiceListResponse { profiles, next_cursor }))
    }

    async fn timeline(
        &self,
        request: Request<proto::TimelineRequest>,
    ) -> Result<Response<proto::TimelineResponse>, Status> {
        self.begin("timeline", &request).await?;
        let request = request.into_inner();
        let (events, next_cursor) = page(&self.state().events, request.limit, &request.cursor);
        Ok(Response::new(proto::TimelineResponse { events, next_cursor }))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        self.begin("explain", &request).await?;
        Ok(Response::new(proto::ExplainResponse { together: true, ..Default::default() }))
    }

    type WatchStream = futures::stream::Iter<std::vec::IntoIter<Result<proto::WatchResponse, Status>>>;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        assert!(!request.metadata().contains_key("grpc-timeout"), "a watch goes on for ever");
        let mut state = self.state();
        state.watched.push(request.into_inner());
        let (responses, end) = state.watches.pop_front().expect("the script has another watch");
        if responses.is_empty()
            && let Some(end) = end
        {
            return Err(end);
        }
        let said: Vec<_> = responses.into_iter().map(Ok).chain(end.map(Err)).collect();
        Ok(Response::new(futures::stream::iter(said)))
    }

    async fn split(
        &self,
        request: Request<proto::SplitRequest>,
    ) -> Result<Response<proto::SplitResponse>, Status> {
        self.begin("split", &request).await?;
        Ok(Response::new(proto::SplitResponse { id: request.into_inner().id, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl cluster::ClusterService for Services {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        self.begin("status", &request).await?;
        let mut state = self.state();
        // The last one stays.
        let status =
            if state.status.len() > 1 { state.status.pop_front() } else { state.status.front().cloned() };
        status.map(Response::new).ok_or_else(not_found)
    }

    async fn nodes(
        &self,
        request: Request<proto::NodesRequest>,
    ) -> Result<Response<proto::NodesResponse>, Status> {
        self.begin("nodes", &request).await?;
        Ok(Response::new(proto::NodesResponse { nodes: self.state().nodes.clone() }))
    }

    async fn shards(
        &self,
        request: Request<proto::ShardsRequest>,
    ) -> Result<Response<proto::ShardsResponse>, Status> {
        self.begin("shards", &request).await?;
        Ok(Response::new(proto::ShardsResponse { replicas: self.state().replicas.clone() }))
    }

    async fn transfer(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        self.begin("transfer", &request).await?;
        Ok(Response::new(proto::TransferResponse { leader: request.into_inner().to_node }))
    }

    async fn remove(
        &self,
        request: Request<proto::RemoveRequest>,
    ) -> Result<Response<proto::RemoveResponse>, Status> {
        self.begin("remove", &request).await?;
        let node_id = request.into_inner().node_id;
        self.state().nodes.retain(|node| node.node_id != node_id);
        Ok(Response::new(proto::RemoveResponse { replicas_left: 7 }))
    }
}

#[tonic::async_trait]
impl source::SourceService for Services {
    async fn create(
        &self,
        request: Request<proto::CreateRequest>,
    ) -> Result<Response<proto::CreateResponse>, Status> {
        self.begin("create", &request).await?;
        let request = request.into_inner();
        let mut state = self.state();
        if state.sources.iter().any(|source| source.name == request.name) {
            return Err(refusal(Code::AlreadyExists, "ALREADY_EXISTS", "the name is taken"));
        }
        let source = proto::Source { name: request.name, key_prefix: "k1".into(), ..Default::default() };
        state.sources.push(source.clone());
        Ok(Response::new(proto::CreateResponse { source: Some(source), write_key: "k1-secret".into() }))
    }

    async fn list(
        &self,
        request: Request<proto::SourceServiceListRequest>,
    ) -> Result<Response<proto::SourceServiceListResponse>, Status> {
        self.begin("sources", &request).await?;
        Ok(Response::new(proto::SourceServiceListResponse { sources: self.state().sources.clone() }))
    }

    async fn disable(
        &self,
        request: Request<proto::DisableRequest>,
    ) -> Result<Response<proto::DisableResponse>, Status> {
        self.begin("disable", &request).await?;
        let source = proto::Source { name: request.into_inner().name, disabled: true, ..Default::default() };
        Ok(Response::new(proto::DisableResponse { source: Some(source) }))
    }

    async fn rotate(
        &self,
        request: Request<proto::RotateRequest>,
    ) -> Result<Response<proto::RotateResponse>, Status> {
        self.begin("rotate", &request).await?;
        let source = proto::Source { name: request.into_inner().name, ..Default::default() };
        Ok(Response::new(proto::RotateResponse { source: Some(source), write_key: "k2-secret".into() }))
    }
}

#[tonic::async_trait]
impl quarantine::QuarantineService for Services {
    async fn list(
        &self,
        request: Request<proto::QuarantineServiceListRequest>,
    ) -> Result<Response<proto::QuarantineServiceListResponse>, Status> {
        self.begin("quarantine", &request).await?;
        let request = request.into_inner();
        let (entries, next_cursor) = page(&self.state().entries, request.limit, &request.cursor);
        Ok(Response::new(proto::QuarantineServiceListResponse { entries, next_cursor }))
    }

    async fn show(
        &self,
        request: Request<proto::ShowRequest>,
    ) -> Result<Response<proto::ShowResponse>, Status> {
        self.begin("show", &request).await?;
        let id = request.into_inner().id;
        let entry =
            self.state().entries.iter().find(|entry| entry.id == id).cloned().ok_or_else(not_found)?;
        Ok(Response::new(proto::ShowResponse { entry: Some(entry) }))
    }

    async fn counts(
        &self,
        _: Request<proto::CountsRequest>,
    ) -> Result<Response<proto::CountsResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn mend(&self, _: Request<proto::MendRequest>) -> Result<Response<proto::MendResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn replay(
        &self,
        _: Request<proto::ReplayRequest>,
    ) -> Result<Response<proto::ReplayResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }

    async fn drop(&self, _: Request<proto::DropRequest>) -> Result<Response<proto::DropResponse>, Status> {
        Err(Status::unimplemented("no test asks for it"))
    }
}
