//! Connections to other nodes' coordinators, one for each address, made when first used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use isthmus_proto::internal::v1::{
    JoinRequest, JoinResponse, ProposeRequest, ProposeResponse, ReadViewRequest, ReadViewResponse,
    ReportRequest, ReportResponse, WatchRequest, WatchResponse,
    coordinator_service_client::CoordinatorServiceClient,
};
use parking_lot::Mutex;
use tonic::{
    Request, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    error::{Error, Result},
    status::from_status,
};

/// The largest message: a view with thousands of shards and sources.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

type Client = CoordinatorServiceClient<Channel>;

/// Clients by address. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Channels(Arc<Mutex<BTreeMap<String, Client>>>);

impl Channels {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets go of connections to addresses that are no node's any more.
    pub(crate) fn retain(&self, addresses: &BTreeSet<&str>) {
        self.0.lock().retain(|address, _| addresses.contains(address.as_str()));
    }

    fn client(&self, address: &str) -> Result<Client> {
        if let Some(client) = self.0.lock().get(address) {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Error::malformed("node's address"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let client = Client::new(endpoint.connect_lazy())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        self.0.lock().insert(address.to_owned(), client.clone());
        Ok(client)
    }

    pub(crate) async fn join(
        &self,
        address: &str,
        join: JoinRequest,
        timeout: Duration,
    ) -> Result<JoinResponse> {
        let mut client = self.client(address)?;
        answered(client.join(limited(join, timeout)), timeout).await
    }

    pub(crate) async fn propose(
        &self,
        address: &str,
        propose: ProposeRequest,
        timeout: Duration,
    ) -> Result<ProposeResponse> {
        let mut client = self.client(address)?;
        answered(client.propose(limited(propose, timeout)), timeout).await
    }

    pub(crate) async fn read_view(
        &self,
        address: &str,
        read: ReadViewRequest,
        timeout: Duration,
    ) -> Result<ReadViewResponse> {
        let mut client = self.client(address)?;
        answered(client.read_view(limited(read, timeout)), timeout).await
    }

    pub(crate) async fn report(
        &self,
        address: &str,
        report: ReportRequest,
        timeout: Duration,
    ) -> Result<ReportResponse> {
        let mut client = self.client(address)?;
        answered(client.report(limited(report, timeout)), timeout).await
    }

    /// Opens a watch; `timeout` is for the opening alone.
    pub(crate) async fn watch(
        &self,
        address: &str,
        watch: WatchRequest,
        timeout: Duration,
    ) -> Result<Streaming<WatchResponse>> {
        let mut client = self.client(address)?;
        answered(client.watch(Request::new(watch)), timeout).await
    }
}

fn limited<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

async fn answered<T>(
    call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
    timeout: Duration,
) -> Result<T> {
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(Error::OutcomeUnknown),
    }
}
