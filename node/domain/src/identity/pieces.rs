//! What a fold stores, in pieces small enough for rows of a control store.
//!
//! | key | value |
//! | --- | --- |
//! | `0` | head: how far the fold is |
//! | `1`, [`RowKey`] (48 bytes) | a row |
//! | `2`, facet (16 bytes) | the flag that an identifier is shared |
//! | `3`, number of facts folded (8 bytes, big endian) | a state that earlier versions kept; deleted with the next write |
//!
//! Values are protobuf messages. Tags never change their meaning.
//!
//! - *head*: `uint64` version of the rules = 1; `uint64` number of facts folded = 2; the last of them = 3, a link fact,
//!   absent when there is none; `bool` whether there are changes that nobody has taken = 4; `bool` whether
//!   something of it came late and is not folded yet = 5; `uint64` how much = 6.
//! - *row*: a [`LinkRow`] = 1; of a row without a fact, the last that it had = 2 (so that its ends stay known).
//! - *flag*: `uint64` version = 1; `bool` shared = 2.

use std::sync::Arc;

use prost::Message;

use crate::error::Error;
use crate::hash::FacetId;
use crate::link::{LinkFact, LinkRow};

/// Names a row: the facets of both ends, and what tells rows of one pair apart. Nothing else is known of a row whose
/// fact was retracted before anybody heard of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RowKey {
    /// The facet of the primary identifier.
    pub a: FacetId,
    /// The facet of the counterpart.
    pub b: FacetId,
    /// A hash of source and kind; which one is the caller's choice.
    pub source_and_kind: [u8; 16],
}

/// A piece to put, or to delete when it has no value. Keys are relative to whatever the fold belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// See the module's table.
    pub key: Vec<u8>,
    /// What to store; `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// The name of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum PieceKey {
    Head,
    Row(RowKey),
    Flag(FacetId),
    Saved(u64),
}

const BAD_KEY: Error = Error::Invalid { what: "piece of a fold", why: "its key is none" };

impl RowKey {
    /// 48 bytes: the primary's facet, the counterpart's, the hash.
    pub fn to_bytes(self) -> [u8; 48] {
        let mut out = [0; 48];
        out[..16].copy_from_slice(self.a.as_bytes());
        out[16..32].copy_from_slice(self.b.as_bytes());
        out[32..].copy_from_slice(&self.source_and_kind);
        out
    }

    /// Reads [`Self::to_bytes`] back; `None` unless there are exactly 48 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (a, rest) = bytes.split_at_checked(16)?;
        let (b, hash) = rest.split_at_checked(16)?;
        Some(Self {
            a: FacetId::from_slice(a)?,
            b: FacetId::from_slice(b)?,
            source_and_kind: hash.try_into().ok()?,
        })
    }
}

impl PieceKey {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Head => vec![0],
            Self::Row(key) => [&[1][..], &key.to_bytes()].concat(),
            Self::Flag(facet) => [&[2][..], facet.as_bytes()].concat(),
            Self::Saved(folded) => [&[3][..], &folded.to_be_bytes()].concat(),
        }
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        match bytes {
            [0] => Some(Self::Head),
            [1, key @ ..] => RowKey::from_slice(key).map(Self::Row),
            [2, facet @ ..] => FacetId::from_slice(facet).map(Self::Flag),
            [3, folded @ ..] => folded.try_into().ok().map(u64::from_be_bytes).map(Self::Saved),
            _ => None,
        }
        .ok_or(BAD_KEY)
    }
}

/// The row that a piece holds, to be shipped to another root; `None` for a piece of another sort.
pub fn fold_row(key: &[u8], value: &[u8]) -> Result<Option<(RowKey, LinkRow)>, Error> {
    match PieceKey::from_slice(key)? {
        PieceKey::Row(key) => {
            let row = StoredRow::decode(value)?;
            Ok(Some((key, LinkRow::of(row.fact.as_deref().cloned(), row.version))))
        }
        PieceKey::Head | PieceKey::Flag(_) | PieceKey::Saved(_) => Ok(None),
    }
}

/// How far a fold is.
#[derive(Clone, PartialEq)]
pub(super) struct Head {
    pub(super) rules_version: u64,
    pub(super) folded: u64,
    pub(super) last: Option<Arc<LinkFact>>,
    pub(super) untaken: bool,
    /// How much came late and is not folded yet.
    pub(super) late: u64,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let last = self.last.as_ref().map(|fact| fact.encode());
        let Self { rules_version, folded, untaken, late, .. } = *self;
        wire::Head { rules_version, folded, last, untaken, stale: late > 0, late }.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let sent = wire::Head::decode(bytes).map_err(Error::decode("head of a fold"))?;
        let last = sent.last.map(|fact| LinkFact::decode(&fact).map(Arc::new)).transpose()?;
        let wire::Head { rules_version, folded, untaken, stale, late, .. } = sent;
        // An earlier version said only whether there is something.
        Ok(Self { rules_version, folded, last, untaken, late: late.max(u64::from(stale)) })
    }
}

/// A row as a fold keeps it.
#[derive(Clone, PartialEq, Default)]
pub(super) struct StoredRow {
    pub(super) version: u64,
    pub(super) fact: Option<Arc<LinkFact>>,
    /// The last fact of a row that has none now.
    pub(super) withdrawn: Option<Arc<LinkFact>>,
}

impl StoredRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let row = LinkRow::of(self.fact.as_deref().cloned(), self.version).encode();
        wire::Row { row, withdrawn: self.withdrawn.as_ref().map(|fact| fact.encode()) }.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let sent = wire::Row::decode(bytes).map_err(Error::decode("row of a fold"))?;
        let row = LinkRow::decode(&sent.row)?;
        let withdrawn = sent.withdrawn.map(|fact| LinkFact::decode(&fact).map(Arc::new)).transpose()?;
        Ok(Self { version: row.version(), fact: row.fact().cloned().map(Arc::new), withdrawn })
    }
}

/// Whether an identifier is shared, as its own slot says.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Flag {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(bool, tag = "2")]
    pub(super) shared: bool,
}

impl Flag {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes).map_err(Error::decode("flag of a fold"))
    }
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Head {
        #[prost(uint64, tag = "1")]
        pub(super) rules_version: u64,
        #[prost(uint64, tag = "2")]
        pub(super) folded: u64,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(super) last: Option<Vec<u8>>,
        #[prost(bool, tag = "4")]
        pub(super) untaken: bool,
        #[prost(bool, tag = "5")]
        pub(super) stale: bool,
        #[prost(uint64, tag = "6")]
        pub(super) late: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Row {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) row: Vec<u8>,
        #[prost(bytes = "vec", optional, tag = "2")]
        pub(super) withdrawn: Option<Vec<u8>>,
    }
}
