//! The sending end of a snapshot's transfer.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use isthmus_proto::internal::v1::{
    SendRequest, SnapshotChunk, SnapshotFile as FileHeader, SnapshotHeader, send_request::Part,
    snapshot_service_client::SnapshotServiceClient,
};
use tokio::{fs::File, io::AsyncReadExt as _};
use tonic::transport::Endpoint;
use xxhash_rust::xxh3::Xxh3;

use super::Shared;
use crate::{
    machine::SnapshotFile,
    transport::{OutgoingSnapshot, SnapshotLost},
};

const CHUNK_BYTES: usize = 256 << 10;

/// Sends all files, on a connection of its own. `Ok` once the receiver has them and passed the message on.
pub(super) async fn send(
    shared: &Shared,
    endpoint: Endpoint,
    snapshot: OutgoingSnapshot,
) -> Result<(), SnapshotLost> {
    let (dir, files) = (snapshot.dir.clone(), snapshot.files.clone());
    let hashed = tokio::task::spawn_blocking(move || files.iter().map(|file| hash(&dir, file)).collect());
    let files: Result<Vec<FileHeader>, std::io::Error> = hashed.await.map_err(SnapshotLost::new)?;
    let header = SnapshotHeader {
        hello: Some(shared.hello(snapshot.to.node())),
        group: snapshot.group,
        from_peer: snapshot.from.0,
        to_peer: snapshot.to.0,
        snapshot_id: snapshot.id,
        message: snapshot.message,
        files: files.map_err(SnapshotLost::new)?,
    };
    let length_bytes: u64 = header.files.iter().map(|file| file.length_bytes).sum();
    let channel = endpoint.connect().await.map_err(SnapshotLost::new)?;
    let reading = Reading { dir: snapshot.dir, files: snapshot.files, file: 0, open: None, offset: 0 };
    let parts =
        stream::once(async { SendRequest { part: Some(Part::Header(header)) } }).chain(reading.chunks());
    let answer = SnapshotServiceClient::new(channel).send(parts).await;
    let received = answer.map_err(|status| SnapshotLost::new(status.message()))?.into_inner().received_bytes;
    if received == length_bytes { Ok(()) } else { Err(SnapshotLost::new("the receiver counts other bytes")) }
}

fn hash(dir: &Path, file: &SnapshotFile) -> std::io::Result<FileHeader> {
    let mut reader = std::fs::File::open(dir.join(&file.name))?;
    let (mut hash, mut buffer, mut length_bytes) = (Xxh3::new(), vec![0; CHUNK_BYTES], 0);
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        length_bytes += read as u64;
    }
    let xxh3 = Bytes::copy_from_slice(&hash.digest128().to_be_bytes());
    Ok(FileHeader { name: file.name.clone(), length_bytes, xxh3 })
}

/// The files on their way out.
struct Reading {
    dir: PathBuf,
    files: Vec<SnapshotFile>,
    file: usize,
    open: Option<File>,
    offset: u64,
}

impl Reading {
    /// Ends early if a file can't be read: the receiver then misses bytes and refuses.
    fn chunks(self) -> impl futures::Stream<Item = SendRequest> + Send + 'static {
        stream::unfold(self, |mut reading| async move {
            match reading.next().await {
                Ok(chunk) => chunk.map(|chunk| (SendRequest { part: Some(Part::Chunk(chunk)) }, reading)),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot's file can't be read");
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> std::io::Result<Option<SnapshotChunk>> {
        while let Some(file) = self.files.get(self.file) {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => File::open(self.dir.join(&file.name)).await?,
            };
            let mut data = BytesMut::with_capacity(CHUNK_BYTES);
            if open.read_buf(&mut data).await? > 0 {
                let (offset, data) = (self.offset, data.freeze());
                self.offset += data.len() as u64;
                self.open = Some(open);
                // At most 65,536 files: the receiver sees to that.
                return Ok(Some(SnapshotChunk { file: self.file as u32, offset, data }));
            }
            self.file += 1;
            self.offset = 0;
        }
        Ok(None)
    }
}
