//! The receiving ends: Raft messages handed to their groups, snapshots staged on disk and checked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use futures::{Stream, stream};
use isthmus_proto::internal::v1::{
    RaftStreamRequest, RaftStreamResponse, SendRequest, SendResponse, SnapshotChunk, SnapshotHeader,
    raft_service_server::RaftService, send_request::Part, snapshot_service_server::SnapshotService,
};
use tokio::{fs::File, io::AsyncWriteExt as _, time::timeout};
use tonic::{Request, Response, Status, Streaming};
use xxhash_rust::xxh3::Xxh3;

use super::{GroupMessage, Shared};
use crate::{
    machine::SnapshotFile,
    transport::{IncomingSnapshot, SnapshotLost},
    types::PeerId,
};

/// Receives Raft messages.
pub struct RaftReceiver {
    shared: Arc<Shared>,
}

impl RaftReceiver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<RaftStreamResponse, Status>> + Send>>;

/// One stream from a peer. Reading it is driven by whoever polls for answers, so it needs no task of its own.
struct Reading {
    shared: Arc<Shared>,
    frames: Streaming<RaftStreamRequest>,
    from_node: Option<u32>,
    delivered: u64,
}

impl Reading {
    /// Delivers frames until it is time to acknowledge; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<RaftStreamResponse>, Status> {
        const ACKNOWLEDGE_EVERY: u64 = 4096;
        let acknowledged = self.delivered / ACKNOWLEDGE_EVERY;
        while self.delivered / ACKNOWLEDGE_EVERY == acknowledged {
            let frame = tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return Ok(None),
                frame = self.frames.message() => frame?,
            };
            let Some(frame) = frame else { return Ok(None) };
            let from_node = match self.from_node {
                Some(node) => node,
                None => *self.from_node.insert(self.shared.check(frame.hello.as_ref())?),
            };
            if frame.messages.is_empty() {
                continue;
            }
            self.delivered += frame.messages.len() as u64;
            let messages = frame.messages.into_iter().map(|message| GroupMessage {
                group: message.group,
                from: PeerId(message.from_peer),
                to: PeerId(message.to_peer),
                message: message.message,
            });
            self.shared.inbound()?.deliver(from_node, messages.collect());
        }
        Ok(Some(RaftStreamResponse { delivered: self.delivered }))
    }
}

#[tonic::async_trait]
impl RaftService for RaftReceiver {
    type StreamStream = Answers;

    async fn stream(
        &self,
        request: Request<Streaming<RaftStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let reading = Reading {
            shared: self.shared.clone(),
            frames: request.into_inner(),
            from_node: None,
            delivered: 0,
        };
        // At once: the caller's call waits for it.
        let answers = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(reading))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Receives snapshots.
pub struct SnapshotReceiver {
    shared: Arc<Shared>,
}

impl SnapshotReceiver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl SnapshotService for SnapshotReceiver {
    async fn send(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<SendResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = self.part(&mut parts).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its header"));
        };
        let from_node = self.shared.check(header.hello.as_ref())?;
        check_files(&header)?;
        let inbound = self.shared.inbound()?.clone();
        let (from, to) = (PeerId(header.from_peer), PeerId(header.to_peer));
        let dir = inbound.stage(header.group, from, to, header.snapshot_id).map_err(refused)?;
        let mut staging = Staging::new(dir, &header);
        while let Some(part) = self.part(&mut parts).await? {
            let Part::Chunk(chunk) = part else {
                return Err(Status::invalid_argument("a snapshot has one header"));
            };
            staging.take(chunk).await?;
        }
        let (dir, received_bytes) = staging.finish().await?;
        let files = header.files.into_iter();
        let files = files.map(|file| SnapshotFile { name: file.name, bytes: file.length_bytes }).collect();
        let arrived = IncomingSnapshot { group: header.group, from, to, message: header.message, dir, files };
        inbound.snapshot(from_node, arrived).map_err(refused)?;
        Ok(Response::new(SendResponse { received_bytes }))
    }
}

impl SnapshotReceiver {
    async fn part(&self, parts: &mut Streaming<SendRequest>) -> Result<Option<Part>, Status> {
        let next = timeout(self.shared.options.snapshot_idle_timeout, parts.message());
        let request = tokio::select! {
            biased;
            () = self.shared.stopping.cancelled() => return Err(Status::unavailable("the node is stopping")),
            request = next => request.map_err(|_| Status::deadline_exceeded("the snapshot doesn't go on"))??,
        };
        match request {
            None => Ok(None),
            Some(SendRequest { part: Some(part) }) => Ok(Some(part)),
            Some(SendRequest { part: None }) => Err(Status::invalid_argument("an empty part")),
        }
    }
}

fn refused(error: SnapshotLost) -> Status {
    Status::failed_precondition(error.reason)
}

fn failed(error: std::io::Error) -> Status {
    Status::unavailable(format!("staging failed: {error}"))
}

/// Names that stay within their directory, each once.
fn check_files(header: &SnapshotHeader) -> Result<(), Status> {
    const FILES_MAX: usize = 65_536;
    const NAME_BYTES_MAX: usize = 200;
    let mut names = BTreeSet::new();
    let fine = header.files.len() <= FILES_MAX
        && header.files.iter().all(|file| {
            let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
            !file.name.is_empty()
                && file.name.len() <= NAME_BYTES_MAX
                && !file.name.starts_with('.')
                && file.name.chars().all(plain)
                && names.insert(&file.name)
        });
    if fine { Ok(()) } else { Err(Status::invalid_argument("a snapshot's files have odd names")) }
}

/// A snapshot on its way to the disk. Unless it is finished, its directory goes with it.
struct Staging<'a> {
    dir: Option<PathBuf>,
    header: &'a SnapshotHeader,
    /// The file that is being written, its position in the list, its length so far.
    open: Option<(File, Xxh3)>,
    file: usize,
    offset: u64,
    received_bytes: u64,
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            crate::snapshot::remove(dir);
        }
    }
}

impl<'a> Staging<'a> {
    fn new(dir: PathBuf, header: &'a SnapshotHeader) -> Self {
        Self { dir: Some(dir), header, open: None, file: 0, offset: 0, received_bytes: 0 }
    }

    fn path(&self) -> &Path {
        self.dir.as_deref().unwrap_or_else(|| Path::new(""))
    }

    async fn take(&mut self, chunk: SnapshotChunk) -> Result<(), Status> {
        // Files without bytes have no chunks.
        while self.file < chunk.file as usize {
            self.close_file().await?;
        }
        let length = self.header.files.get(self.file).map_or(0, |file| file.length_bytes);
        let bytes = chunk.data.len() as u64;
        if chunk.file as usize != self.file || chunk.offset != self.offset || bytes > length - self.offset {
            return Err(Status::invalid_argument("a snapshot's bytes out of order"));
        }
        self.open_file().await?;
        if let Some((file, hash)) = &mut self.open {
            file.write_all(&chunk.data).await.map_err(failed)?;
            hash.update(&chunk.data);
        }
        self.offset += bytes;
        self.received_bytes += bytes;
        Ok(())
    }

    async fn open_file(&mut self) -> Result<(), Status> {
        if self.open.is_none()
            && let Some(file) = self.header.files.get(self.file)
        {
            let created = File::create_new(self.path().join(&file.name)).await.map_err(failed)?;
            self.open = Some((created, Xxh3::new()));
        }
        Ok(())
    }

    /// Syncs the present file if it is what the header says.
    async fn close_file(&mut self) -> Result<(), Status> {
        self.open_file().await?;
        let (Some((mut written, hash)), Some(file)) = (self.open.take(), self.header.files.get(self.file))
        else {
            return Err(Status::invalid_argument("a chunk of no file"));
        };
        if self.offset != file.length_bytes || file.xxh3.as_ref() != hash.digest128().to_be_bytes() {
            return Err(Status::data_loss("a snapshot's file is not what it was"));
        }
        written.flush().await.map_err(failed)?;
        written.sync_all().await.map_err(failed)?;
        self.file += 1;
        self.offset = 0;
        Ok(())
    }

    async fn finish(mut self) -> Result<(PathBuf, u64), Status> {
        while self.file < self.header.files.len() {
            self.close_file().await?;
        }
        File::open(self.path()).await.map_err(failed)?.sync_all().await.map_err(failed)?;
        let dir = self.dir.take().ok_or_else(|| Status::internal("a snapshot finished twice"))?;
        Ok((dir, self.received_bytes))
    }
}
