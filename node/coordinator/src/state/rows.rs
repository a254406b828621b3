//! The state as control rows: small, many, one for each thing, so that none outgrows what a row may hold.
//!
//! Keys are ordered bytes `table (1) | id …`, without the store's prefix, which the storage puts in front. Stored:
//! tables and tags never change their meaning.
//!
//! | table | id | value |
//! | --- | --- | --- |
//! | `0x01` | none | what there is one of |
//! | `0x02` | node id, 4 bytes | a member |
//! | `0x03` | node id, 4 bytes | a removed node's public key, 32 bytes |
//! | `0x04` | shard id, 8 bytes | a shard: its slots, peers, and when it was placed |
//! | `0x05` | name | a source: `SourceRecord` |
//! | `0x06` | kind, 1 byte; version, 8 bytes; name | a version of a document: `DocumentRecord` without its content |
//! | `0x07` | kind, 1 byte; version, 8 bytes; piece, 4 bytes; name | a piece of its content, at most 48 KiB |

use std::collections::BTreeMap;

use bytes::Bytes;
use isthmus_domain::{ReplicaId, ShardEntry, ShardId, SlotRanges};
use isthmus_proto::internal::v1::{DocumentRecord, NodeInfo, SourceRecord};
use prost::Message as _;

use super::{Member, MetaState};

const HEADER: u8 = 0x01;
const MEMBER: u8 = 0x02;
const RETIRED: u8 = 0x03;
const SHARD: u8 = 0x04;
const SOURCE: u8 = 0x05;
const DOCUMENT: u8 = 0x06;
const PIECE: u8 = 0x07;

/// How much of a document goes into one row, well below what a row may hold.
const PIECE_BYTES: usize = 48 << 10;

/// A stored row is not what was written, or of a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata row of table {table:#04x}: {what}")]
pub struct DamagedRow {
    /// The table, as in the module's list.
    pub table: u8,
    /// What doesn't fit.
    pub what: String,
}

/// What there is one of.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(bytes = "bytes", tag = "2")]
    cluster_id: Bytes,
    #[prost(uint64, tag = "3")]
    config_version: u64,
    #[prost(uint32, tag = "4")]
    replicas: u32,
    #[prost(uint32, tag = "5")]
    last_generation: u32,
    #[prost(uint64, tag = "6")]
    shard_map_version: u64,
    #[prost(fixed64, repeated, tag = "7")]
    metadata_peers: Vec<u64>,
    #[prost(uint64, tag = "8")]
    metadata_placed_at: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberRow {
    #[prost(message, optional, tag = "1")]
    info: Option<NodeInfo>,
    #[prost(bytes = "bytes", tag = "2")]
    sealed_identity_key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DocumentRow {
    /// Without its content.
    #[prost(message, optional, tag = "1")]
    record: Option<DocumentRecord>,
    /// How long the content is.
    #[prost(uint64, tag = "2")]
    content_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShardRow {
    /// As `SlotRanges::to_bounds` gives them.
    #[prost(uint32, repeated, tag = "1")]
    bounds: Vec<u32>,
    #[prost(fixed64, repeated, tag = "2")]
    replicas: Vec<u64>,
    #[prost(uint64, tag = "3")]
    placed_at: u64,
}

impl MetaState {
    /// All rows. Empty before the cluster was made.
    pub fn to_rows(&self) -> BTreeMap<Vec<u8>, Bytes> {
        let mut rows = BTreeMap::new();
        if !self.is_initialised() {
            return rows;
        }
        let mut put =
            |table: u8, id: &[u8], value: Vec<u8>| rows.insert([&[table], id].concat(), Bytes::from(value));
        let header = Header {
            version: self.version,
            cluster_id: Bytes::copy_from_slice(&self.cluster_id),
            config_version: self.config_version,
            replicas: self.replicas,
            last_generation: self.last_generation,
            shard_map_version: self.shard_map.version,
            metadata_peers: self.metadata_peers.iter().map(|peer| peer.0).collect(),
            metadata_placed_at: self.metadata_placed_at,
        };
        put(HEADER, &[], header.encode_to_vec());
        for (id, member) in &self.nodes {
            let row = MemberRow {
                info: Some(member.info.clone()),
                sealed_identity_key: member.sealed_identity_key.clone(),
            };
            put(MEMBER, &id.to_be_bytes(), row.encode_to_vec());
        }
        for (id, key) in &self.retired {
            put(RETIRED, &id.to_be_bytes(), key.to_vec());
        }
        for shard in &self.shard_map.shards {
            let row = ShardRow {
                bounds: shard.ranges.to_bounds(),
                replicas: shard.replicas.iter().map(|peer| peer.0).collect(),
                placed_at: self.placed_at.get(&shard.id.0).copied().unwrap_or_default(),
            };
            put(SHARD, &shard.id.0.to_be_bytes(), row.encode_to_vec());
        }
        for (name, source) in &self.sources {
            put(SOURCE, name.as_bytes(), source.encode_to_vec());
        }
        for document in self.documents.values().flatten() {
            // Kinds are small numbers.
            let front = [&[document.kind as u8][..], &document.version.to_be_bytes()[..]].concat();
            let name = document.name.as_bytes();
            let row = DocumentRow {
                record: Some(DocumentRecord { content: Bytes::new(), ..document.clone() }),
                content_bytes: document.content.len() as u64,
            };
            put(DOCUMENT, &[&front[..], name].concat(), row.encode_to_vec());
            for (piece, content) in (0_u32..).zip(document.content.chunks(PIECE_BYTES)) {
                put(PIECE, &[&front[..], &piece.to_be_bytes()[..], name].concat(), content.to_vec());
            }
        }
        rows
    }

    /// Reads [`Self::to_rows`] back, and checks the invariants. No rows are a cluster that was not made yet.
    ///
    /// # Errors
    /// Which row can't be read, or what the rows contradict.
    pub fn from_rows<'a>(rows: impl Iterator<Item = (&'a [u8], Bytes)>) -> Result<Self, DamagedRow> {
        let mut state = Self::new();
        let mut any = false;
        let mut contents = BTreeMap::new();
        for (key, value) in rows {
            any = true;
            let (table, id) = key.split_first().ok_or_else(|| damaged(0, "a key of no bytes"))?;
            match *table {
                PIECE => read_piece(&mut contents, id, &value)?,
                table => state.read_row(table, id, value)?,
            }
        }
        for document in state.documents.values_mut().flatten() {
            let key = (document.kind, document.version, document.name.clone());
            let content = contents.remove(&key).unwrap_or_default();
            // The row of the document says how long it is, in place of it.
            if document.content.as_ref() != (content.len() as u64).to_be_bytes() {
                return Err(damaged(PIECE, "a document is not whole"));
            }
            document.content = content.into();
        }
        if any && !state.is_initialised() {
            return Err(damaged(HEADER, "it is missing"));
        }
        state.check().map_err(|violation| damaged(HEADER, violation.to_string()))?;
        Ok(state)
    }

    fn read_row(&mut self, table: u8, id: &[u8], value: Bytes) -> Result<(), DamagedRow> {
        let undecodable = |error: prost::DecodeError| damaged(table, error.to_string());
        match table {
            HEADER => {
                let header = Header::decode(value).map_err(undecodable)?;
                self.version = header.version;
                self.cluster_id = fixed(table, &header.cluster_id)?;
                self.config_version = header.config_version;
                self.replicas = header.replicas;
                self.last_generation = header.last_generation;
                self.shard_map.version = header.shard_map_version;
                self.metadata_peers = header.metadata_peers.into_iter().map(ReplicaId).collect();
                self.metadata_placed_at = header.metadata_placed_at;
            }
            MEMBER => {
                let row = MemberRow::decode(value).map_err(undecodable)?;
                let info = row.info.ok_or_else(|| damaged(table, "a member without a description"))?;
                let member = Member { info, sealed_identity_key: row.sealed_identity_key };
                self.nodes.insert(u32::from_be_bytes(fixed(table, id)?), member);
            }
            RETIRED => {
                self.retired.insert(u32::from_be_bytes(fixed(table, id)?), fixed(table, &value)?);
            }
            SHARD => {
                let row = ShardRow::decode(value).map_err(undecodable)?;
                let id = u64::from_be_bytes(fixed(table, id)?);
                let ranges =
                    SlotRanges::from_bounds(&row.bounds).map_err(|e| damaged(table, e.to_string()))?;
                let replicas = row.replicas.into_iter().map(ReplicaId).collect();
                // Rows come in key order, which is the order of ids.
                self.shard_map.shards.push(ShardEntry { id: ShardId(id), ranges, replicas });
                self.placed_at.insert(id, row.placed_at);
            }
            SOURCE => {
                let source = SourceRecord::decode(value).map_err(undecodable)?;
                self.sources.insert(source.name.clone(), source);
            }
            DOCUMENT => {
                let row = DocumentRow::decode(value).map_err(undecodable)?;
                let mut document =
                    row.record.ok_or_else(|| damaged(table, "a document without a description"))?;
                document.content = Bytes::copy_from_slice(&row.content_bytes.to_be_bytes());
                // Rows come in key order: of one document by rising version.
                self.documents.entry((document.kind, document.name.clone())).or_default().push(document);
            }
            _ => return Err(damaged(table, "a table that this version does not know")),
        }
        Ok(())
    }
}

/// The contents that were read so far, by kind, version and name.
type Contents = BTreeMap<(i32, u64, String), Vec<u8>>;

/// Appends a piece to its document's content: pieces come in their order.
fn read_piece(contents: &mut Contents, id: &[u8], value: &[u8]) -> Result<(), DamagedRow> {
    let (Some(kind), Some(version), Some(name)) = (id.first(), id.get(1..9), id.get(13..)) else {
        return Err(damaged(PIECE, "a key that is too short"));
    };
    let name = String::from_utf8(name.to_vec()).map_err(|_| damaged(PIECE, "a name that is not Unicode"))?;
    let key = (i32::from(*kind), u64::from_be_bytes(fixed(PIECE, version)?), name);
    contents.entry(key).or_default().extend_from_slice(value);
    Ok(())
}

fn damaged(table: u8, what: impl Into<String>) -> DamagedRow {
    DamagedRow { table, what: what.into() }
}

fn fixed<const N: usize>(table: u8, bytes: &[u8]) -> Result<[u8; N], DamagedRow> {
    bytes.try_into().map_err(|_| damaged(table, format!("{} bytes instead of {N}", bytes.len())))
}
