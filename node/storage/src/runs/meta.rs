//! What is known of a run without opening it: its row in the manifest.

use bytes::Bytes;

/// The number of a run's files: unique on a node, never used twice, so a file name never means two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The manifest's row of one run. Stored: tags never change their meaning.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RunMeta {
    /// [`RunId`].
    #[prost(uint64, tag = "1")]
    pub run: u64,
    /// [`TableId`](super::TableId) (0..=255).
    #[prost(uint32, tag = "2")]
    pub table: u32,
    /// 0: written out; n + 1: merged from runs of level n.
    #[prost(uint32, tag = "3")]
    pub level: u32,
    /// Rows in it.
    #[prost(uint64, tag = "4")]
    pub rows: u64,
    /// Smallest point key, 16 bytes; empty in a run without rows.
    #[prost(bytes = "bytes", tag = "5")]
    pub min_point: Bytes,
    /// Largest point key, 16 bytes; empty in a run without rows.
    #[prost(bytes = "bytes", tag = "6")]
    pub max_point: Bytes,
    /// Bytes of the data file.
    #[prost(uint64, tag = "7")]
    pub bytes: u64,
    /// XXH3-128 of the data file, big-endian, 16 bytes.
    #[prost(bytes = "bytes", tag = "8")]
    pub xxh3: Bytes,
    /// The write-out that its newest row comes from: newer runs have larger numbers.
    #[prost(uint64, tag = "9")]
    pub created_from: u64,
    /// Bytes of the index file.
    #[prost(uint64, tag = "10")]
    pub index_bytes: u64,
    /// XXH3-128 of the index file, big-endian, 16 bytes.
    #[prost(bytes = "bytes", tag = "11")]
    pub index_xxh3: Bytes,
}

impl RunMeta {
    /// The run's number.
    pub fn id(&self) -> RunId {
        RunId(self.run)
    }
}

/// A file of an export: what a receiver checks it against.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FileEntry {
    /// The name in the export's directory: no separators.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Bytes of the file.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// XXH3-128 of the file, big-endian, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub xxh3: Bytes,
}
