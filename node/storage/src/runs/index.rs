//! The index file beside a run's data file: everything a look-up needs to know before it reads.
//!
//! It holds the filter, the first key of every page or block, where pages lie, and the checksums of the data file's
//! chunks. It is small (1 to 2% of the data), read whole at open, and stays in memory. A data file is complete without
//! it: a Parquet file is read by anything that reads Parquet.
//!
//! Format: `ISTHIDX1 | protobuf | XXH3-128 of the protobuf`. Tags never change their meaning.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::disk::{Disk, read_all};
use super::filter::StoredPart;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"ISTHIDX1";
/// Version of the contents.
pub(crate) const FORMAT: u32 = 1;
/// An index of this length would belong to a run of more than 100 GB.
const INDEX_BYTES_MAX: u64 = 2 << 30;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredIndex {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// XXH3-128 of the data file: this index is of that file and no other.
    #[prost(bytes = "bytes", tag = "2")]
    pub data_xxh3: Bytes,
    #[prost(uint64, tag = "3")]
    pub rows: u64,
    /// As in [`Sums`](super::checked::Sums).
    #[prost(bytes = "bytes", tag = "4")]
    pub chunks: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub filter: Vec<StoredPart>,
    /// Bytes of a sort key.
    #[prost(uint32, tag = "6")]
    pub key_width: u32,
    /// The first key of every page (columnar) or block (flat), side by side.
    #[prost(bytes = "bytes", tag = "7")]
    pub first_keys: Bytes,
    /// Rows of a page or a block; the last one has fewer.
    #[prost(uint32, tag = "8")]
    pub unit_rows: u32,
    /// Columnar: pages of a row group; the last one has fewer.
    #[prost(uint32, tag = "9")]
    pub group_pages: u32,
    /// Columnar: columns of the file; a table may have got more since.
    #[prost(uint32, tag = "10")]
    pub columns: u32,
    /// Columnar: 0 none, 1 LZ4_RAW, 2 ZSTD.
    #[prost(uint32, tag = "11")]
    pub compression: u32,
    /// Columnar: row groups one after the other, in each the columns in order.
    #[prost(message, repeated, tag = "12")]
    pub column_chunks: Vec<StoredChunk>,
    /// Flat: bytes of a row.
    #[prost(uint32, tag = "13")]
    pub row_len: u32,
}

/// Where the pages of one column of one row group lie.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredChunk {
    /// Offset of the dictionary page.
    #[prost(uint64, tag = "1")]
    pub dictionary_offset: u64,
    /// Its bytes; 0: there is none.
    #[prost(uint32, tag = "2")]
    pub dictionary_bytes: u32,
    /// Offset of the first data page; the others follow without gaps.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Ends of the data pages, counted from `offset`.
    #[prost(uint32, repeated, tag = "4")]
    pub ends: Vec<u32>,
}

impl StoredIndex {
    pub fn to_file(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let sum = xxh3_128(&body).to_be_bytes();
        [MAGIC.as_slice(), &body, &sum].concat()
    }

    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let wrong = |what: &str| Error::corrupt_at(path, 0, what);
        let bytes = Bytes::from(read_all(disk, path, INDEX_BYTES_MAX)?);
        if bytes.len() < MAGIC.len() + 16 || !bytes.starts_with(MAGIC) {
            return Err(wrong("this is no index of a run"));
        }
        let body = bytes.slice(MAGIC.len()..bytes.len() - 16);
        if bytes[bytes.len() - 16..] != xxh3_128(&body).to_be_bytes() {
            return Err(wrong("the checksum of the index does not fit"));
        }
        let index = Self::decode(body).map_err(|_| wrong("the index can't be decoded"))?;
        if index.format > FORMAT {
            let part = "a run's index".to_string();
            return Err(Error::NewerFormat { path: path.into(), part, found: index.format, known: FORMAT });
        }
        let keys = index.rows.div_ceil(u64::from(index.unit_rows.max(1)));
        if index.first_keys.len() as u128 != u128::from(keys) * u128::from(index.key_width) {
            return Err(wrong("the index has not one first key for each page"));
        }
        Ok(index)
    }
}
